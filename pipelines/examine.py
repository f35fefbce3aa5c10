"""Stage examine: ask trained networks in other ways (crops, scales, CRF), see where they look, read their anatomy."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from study import code, identity, kept, plan, stage, tier
from study.execution import execution_of
from study.garbage import used
from study.jobs import ReceptiveFieldJob
from study.paper import FIGURES
from study.progress import named
from study.schema import Receptive
from study.spec import Inference, Network, Variant, dense, digest, freeze, gcn
from study.store import EVALUATED, RECEPTIVE, Store, read_json_or_none, write_json
from study.words import counted
from study.work import Work
from study.workload import Workload

COUNTED_AT = 224  # side of the input of Table 11
PAPER_NETWORK = Network(
    "resnet", ("res2", "res3", "res4", "res5"), freeze({"depth": 152, "weights": None, "frozen_norm": True})
)
PAPER_VARIANT, PAPER_CLASSES, PAPER_SIZE = Variant(gcn(15), refine=True), 21, (512, 512)


def main() -> None:
    params = tier.read()
    chosen, execution, store = tier.load(params), execution_of(params), Store()
    kept.note(chosen.name)
    folder = stage.folder(chosen.name)
    manifest = stage.read_json(folder / "plan.json")
    planned = plan.build(chosen, manifest["data"], execution.device)
    target = folder / "examined"
    workload = Workload(planned, manifest, execution, store)
    if planned.evaluations:
        _evaluate(workload)
    for key in planned.evaluations:
        run = store.run(key, EVALUATED)
        if run.path("DONE").is_file():
            run.copy_products(target / key, EVALUATED)
            used(run)
        else:
            failure = run.failure() or {"kind": "Missing", "reason": "it did not run"}
            write_json(target / key / "failed.json", failure | {"retry": f"make retry TIER={chosen.name}"})
    _receptive(workload, target)
    networks = _remembered(planned, manifest, store)
    for name in ("anatomy", "costs"):
        write_json(target / f"{name}.json", networks[name])


def _evaluate(workload: Workload) -> None:
    """Run what the store does not have, as the ablation runs trainings; a failure is a hole and stops no other."""
    from study.examiner import examine  # torch, only where something is to be done

    planned, manifest = workload.planned, workload.manifest
    execution, store = workload.execution, workload.store
    todo = [key for key in planned.evaluations if not store.run(key, EVALUATED).done()]
    ready = [key for key in todo if store.run(planned.evaluations[key].training).done()]
    ready.sort(key=lambda key: passes(planned.evaluations[key].inference), reverse=True)
    for key in set(todo) - set(ready):
        store.run(key, EVALUATED).fail(
            "NotRun", f"its training has no result ({planned.evaluations[key].training[:12]})"
        )
    if not ready:
        return
    print(f"{counted(len(ready), 'evaluation')} to run on {counted(execution.workers, 'worker')}", flush=True)
    tick = stage.ticker("evaluations")
    with Work(examine, execution, store, planned.tier.name) as work:
        for key in ready:
            work.submit(key, workload.evaluation(key, work.stop))
        for ended, event in enumerate(filter(None, work.ends()), 1):
            if event.failed:
                store.run(event.key, EVALUATED).fail(event.kind, event.reason)
                print(f"{named(manifest['evaluations'][event.key])} FAILED: {event.reason}", flush=True)
            tick(ended, len(ready))


def passes(asked: Inference) -> tuple[bool, int]:
    """A rank for starting long evaluations first: a CRF takes longer than all passes through the network."""
    return asked.crf is not None, len(asked.scales) * (1 + asked.flip) * math.prod(asked.crops)


def _receptive(workload: Workload, target: Path) -> None:
    """Fig. 3 of the first seed that has all of its trainings."""
    chosen, store = workload.planned.tier, workload.store
    wanted = chosen.receptive
    for keys, probe, key in looks(wanted, chosen.seeds, workload.manifest):
        if wanted is None or not all(store.run(key).done() for key in keys.values()):
            continue
        run = store.run(key, RECEPTIVE)
        if not run.done():
            from study.examiner import look

            print("looking at valid receptive fields (Figure 3)", flush=True)
            subjects = {label: workload.subject(key) for label, key in keys.items()}
            look(ReceptiveFieldJob(run.key, subjects, workload.context(), probe, wanted.images))
        run.copy_products(target, RECEPTIVE)
        used(run)
        return


def looks(
    wanted: Receptive | None, seeds: Iterable[int], manifest: dict[str, Any]
) -> Iterator[tuple[dict[str, str], dict[str, Any], str]]:
    """For each seed of a plan the trainings {label: key} of Fig. 3, how they are probed, and the key of its run."""
    cells = {cell["address"]: cell for cell in manifest["cells"]}
    drawn = [cells[address] for address in FIGURES["F3"].cells if address in cells]
    if wanted is None:
        return
    probe = {name: getattr(wanted, name) for name in ("occluder_px", "stride_px", "share", "mass")}
    probe["times"] = wanted.enlarge
    for seed in map(str, seeds):
        keys = {cell["label"]: cell["runs"][seed] for cell in drawn if seed in cell["runs"]}
        if keys:
            yield keys, probe, identity.key_of_look(keys, probe, wanted.images)


def _remembered(planned: plan.Plan, manifest: dict[str, Any], store: Store) -> dict[str, Any]:
    """What networks are and cost, from the store where it was counted before: it hangs on the code and the plan alone,
    and counting takes longer than all else here. `make verify` counts anew."""
    modules = code.imports("study.anatomy") | code.imports("study.costs")
    files = [Path(__file__), *filter(None, map(code.path_of, sorted(modules)))]
    texts = [path.read_text(encoding="utf-8") for path in files]
    sets = {name: [facts["classes"], facts["size"]] for name, facts in manifest["data"].items()}
    value = [texts, version("torch"), version("torchvision"), sorted(planned.trainings), sets]
    path = store.cache / f"networks-{digest(value)[:16]}.json"
    known = read_json_or_none(path)
    if known is None:
        known = {"anatomy": anatomy_of(planned.tier, manifest), "costs": costs_of(planned, manifest)}
        write_json(path, known)
    return known


def anatomy_of(chosen: tier.Tier, manifest: dict[str, Any]) -> dict[str, Any]:
    """What the networks are, read off the modules as they are built: the paper's own, and this tier's."""
    from study import anatomy

    main = manifest["data"][tier.MAIN]
    own = anatomy.describe(PAPER_VARIANT, chosen.main.network, len(main["classes"]), tuple(main["size"]))
    return {
        "paper": anatomy.describe(PAPER_VARIANT, PAPER_NETWORK, PAPER_CLASSES, PAPER_SIZE),
        "paper_local": anatomy.describe(Variant(dense(1)), PAPER_NETWORK, PAPER_CLASSES, PAPER_SIZE),
        "tier": own,
        "receptive": anatomy.receptive_fields(PAPER_NETWORK),
        "blocks": anatomy.blocks(),
        "table11": anatomy.table11(COUNTED_AT),
    }


def costs_of(planned: plan.Plan, manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """setting -> label -> what the network of these trainings costs on one whole image (D97)."""
    from study.costs import costs

    found: dict[str, dict[str, Any]] = {}
    for key, training in planned.trainings.items():
        name, label = planned.data_of[key], plan.labels(training.variant)["label"]
        if label not in found.setdefault(name, {}):
            facts = manifest["data"][name]
            size = tuple(facts["size"])
            found[name][label] = costs(training.variant, training.network, len(facts["classes"]), size)
    return found


if __name__ == "__main__":
    sys.exit(stage.run(main))
