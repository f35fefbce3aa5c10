"""Stage evaluate: ask trained networks in other ways (crops, scales, CRF), see where they look and what they confuse,
read their anatomy."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from study.ablation.progress import Display
from study.ablation.supervise import Work
from study.ablation.workload import Workload
from study.config import kept_outputs, tiers
from study.config.execution import execution_of
from study.paper import headline
from study.plan import networks, planner
from study.plan.receptive_fields import looks
from study.spec.documents.plan import PlanFile
from study.spec.documents.reading import read
from study.spec.jobs import ConfusionJob, ReceptiveFieldJob
from study.statistics import per_class, results
from study.store import stage
from study.store.garbage import used
from study.store.keys import key_of_confusion
from study.store.runs import CONFUSION, EVALUATED, RECEPTIVE, Store, write_json


def main() -> None:
    params = tiers.read()
    chosen, execution, store = tiers.load(params), execution_of(params), Store()
    kept_outputs.note(chosen.name)
    folder = stage.folder(chosen.name)
    manifest = read(folder / "plan.json", PlanFile)
    planned = planner.build(chosen, manifest["data"], execution.device)
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
    _confusions(workload, target / per_class.CONFUSED)
    described = networks.remembered(planned, manifest, store)
    for name in ("anatomy", "costs"):
        write_json(target / f"{name}.json", described[name])


def _evaluate(workload: Workload) -> None:
    """Run what the store does not have, as the ablation runs trainings; a failure is a hole and stops no other."""
    planned, manifest = workload.planned, workload.manifest
    execution, store = workload.execution, workload.store
    todo = [key for key in planned.evaluations if not store.run(key, EVALUATED).done()]
    ready = [key for key in todo if store.run(planned.evaluations[key].training).done()]
    for key in set(todo) - set(ready):
        store.run(key, EVALUATED).fail(
            "NotRun", f"its training has no result ({planned.evaluations[key].training[:12]})"
        )
    if not ready:
        return
    from study.ablation import foretell  # torch, only where something is to be done
    from study.inference.worker import evaluate

    kinds = foretell.evaluations(workload)
    ready.sort(key=lambda key: kinds[key].left(), reverse=True)  # so that no long one is left alone at the end
    jobs = {key: manifest["evaluations"][key] for key in planned.evaluations if key in ready or key not in todo}
    done = jobs.keys() - set(ready)
    with (
        Display(store, jobs, kinds, done, execution.workers, noun="evaluation") as display,
        Work(evaluate, execution, store, planned.tier.name, begun=display.begin) as work,
    ):
        for key in ready:
            work.submit(key, workload.evaluation(key, work.stop))
        for event in work.ends():
            if event and event.failed:
                store.run(event.key, EVALUATED).fail(event.kind, event.reason)
                display.end(event.key, None, event.reason)
            elif event:
                display.end(event.key, results.leading(event.result))
            display.refresh()


def _receptive(workload: Workload, target: Path) -> None:
    """Fig. 3 of the first seed that has all of its trainings."""
    chosen, store = workload.planned.tier, workload.store
    wanted = chosen.receptive
    for keys, probe, key in looks(wanted, chosen.seeds, workload.manifest):
        if wanted is None or not all(store.run(key).done() for key in keys.values()):
            continue
        run = store.run(key, RECEPTIVE)
        if not run.done():
            from study.inference.worker import look

            print("looking at valid receptive fields (Figure 3)", flush=True)
            subjects = {label: workload.subject(key) for label, key in keys.items()}
            look(ReceptiveFieldJob(run.key, subjects, workload.context(), probe, wanted.images))
        run.copy_products(target, RECEPTIVE)
        used(run)
        return


def _confusions(workload: Workload, target: Path) -> None:
    """What the headline networks confuse, of each that was trained."""
    shutil.rmtree(target, ignore_errors=True)
    for address, training in headline.segmenting(workload.manifest).items():
        run = workload.store.run(key_of_confusion(training), CONFUSION)
        if not workload.store.run(training).done():
            continue
        if not run.done():
            from study.inference.worker import confuse

            print(f"counting what {address} confuses", flush=True)
            confuse(ConfusionJob(run.key, workload.subject(training), workload.context()))
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run.path("confusion.npz"), target / f"{headline.file_name(address)}.npz")
        used(run)


if __name__ == "__main__":
    sys.exit(stage.run(main))
