"""Stage evaluate: score trained networks with other inference methods (crops, scales, CRF), measure their receptive
fields and confusions, and describe their structure and costs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from study.ablation import evaluate
from study.ablation.workload import Workload
from study.config import kept_outputs, tiers
from study.config.execution import execution_of
from study.paper import headline
from study.plan import networks, planner
from study.plan.receptive_fields import looks
from study.spec.jobs import ReceptiveFieldJob
from study.statistics import per_class
from study.store import stage
from study.store.garbage import used
from study.store.runs import EVALUATED, RECEPTIVE, Store, write_json


def main() -> None:
    params = tiers.read()
    chosen, execution, store = tiers.load(params), execution_of(params), Store()
    kept_outputs.note(chosen.name)
    folder = stage.folder(chosen.name)
    manifest = stage.drawn_plan(folder)
    planned = planner.build(chosen, manifest["data"], execution.device)
    target = folder / "examined"
    workload = Workload(planned, manifest, execution, store)
    evaluate.ask(workload, _asks)
    for key in manifest["evaluations"]:
        run = store.run(key, EVALUATED)
        if run.path("DONE").is_file():
            run.copy_products(target / key, EVALUATED)
            used(run)
        else:
            failure = run.failure() or {"kind": "Missing", "reason": "it did not run"}
            write_json(target / key / "failed.json", failure | {"retry": f"make retry TIER={chosen.name}"})
    _receptive(workload, target)
    shutil.rmtree(target / per_class.CONFUSED, ignore_errors=True)
    for address, _, run in evaluate.confusions(workload):
        if run.path("DONE").is_file():
            (target / per_class.CONFUSED).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(
                run.path("confusion.npz"), target / per_class.CONFUSED / f"{headline.file_name(address)}.npz"
            )
            used(run)
    described = networks.remembered(planned, manifest, store)
    for name in ("anatomy", "costs"):
        write_json(target / f"{name}.json", described[name])


def _asks() -> evaluate.Asks:
    from study.inference.worker import ask  # imports torch: only if something is evaluated

    return ask


def _receptive(workload: Workload, target: Path) -> None:
    """Measure the receptive fields of Fig. 3 with the first seed whose trainings are all done."""
    chosen, store = workload.planned.tier, workload.store
    wanted = chosen.receptive
    for keys, probe, key in looks(wanted, chosen.seeds, workload.manifest):
        if wanted is None or not all(store.run(key).done() for key in keys.values()):
            continue
        run = store.run(key, RECEPTIVE)
        if not run.done():
            from study.inference.worker import look

            print("measuring valid receptive fields (Figure 3)", flush=True)
            workload.read_again()
            subjects = {label: workload.subject(key) for label, key in keys.items()}
            look(ReceptiveFieldJob(run.key, subjects, workload.context(), probe, wanted.images))
        run.copy_products(target, RECEPTIVE)
        used(run)
        return


if __name__ == "__main__":
    sys.exit(stage.run(main))
