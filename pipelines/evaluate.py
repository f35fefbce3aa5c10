"""Stage evaluate: ask trained networks in other ways (crops, scales, CRF), see where they look and what they confuse,
read their anatomy."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from study.ablation.progress import Display
from study.ablation.queue import Event
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
from study.spec.words import counted
from study.statistics import per_class, results
from study.store import stage
from study.store.garbage import used
from study.store.keys import key_of_confusion
from study.store.runs import CONFUSION, EVALUATED, RECEPTIVE, Run, Store, write_json


def main() -> None:
    params = tiers.read()
    chosen, execution, store = tiers.load(params), execution_of(params), Store()
    kept_outputs.note(chosen.name)
    folder = stage.folder(chosen.name)
    manifest = read(folder / "plan.json", PlanFile)
    planned = planner.build(chosen, manifest["data"], execution.device)
    target = folder / "examined"
    workload = Workload(planned, manifest, execution, store)
    _ask(workload)
    for key in planned.evaluations:
        run = store.run(key, EVALUATED)
        if run.path("DONE").is_file():
            run.copy_products(target / key, EVALUATED)
            used(run)
        else:
            failure = run.failure() or {"kind": "Missing", "reason": "it did not run"}
            write_json(target / key / "failed.json", failure | {"retry": f"make retry TIER={chosen.name}"})
    _receptive(workload, target)
    shutil.rmtree(target / per_class.CONFUSED, ignore_errors=True)
    for address, _, run in _confusions(workload):
        if run.path("DONE").is_file():
            (target / per_class.CONFUSED).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(
                run.path("confusion.npz"), target / per_class.CONFUSED / f"{headline.file_name(address)}.npz"
            )
            used(run)
    described = networks.remembered(planned, manifest, store)
    for name in ("anatomy", "costs"):
        write_json(target / f"{name}.json", described[name])


def _ask(workload: Workload) -> None:
    """Run evaluations, and count confusions, that the store does not have, on the workers; a failure is a hole and
    stops no other."""
    planned, manifest = workload.planned, workload.manifest
    execution, store = workload.execution, workload.store
    todo = [key for key in planned.evaluations if not store.run(key, EVALUATED).done()]
    ready = [key for key in todo if store.run(planned.evaluations[key].training).done()]
    for key in set(todo) - set(ready):
        store.run(key, EVALUATED).fail(
            "NotRun", f"its training has no result ({planned.evaluations[key].training[:12]})"
        )
    confused = {
        run.key: (address, training)
        for address, training, run in _confusions(workload)
        if store.run(training).done() and not run.done()
    }
    if not ready and not confused:
        return
    from study.ablation import foretell  # torch, only where something is to be done
    from study.inference.worker import ask

    workload.read_again()
    with ExitStack() as stack:
        display = None
        if ready:
            kinds = foretell.evaluations(workload)
            ready.sort(key=lambda key: kinds[key].left(), reverse=True)  # so that no long one is left alone at the end
            jobs = {key: manifest["evaluations"][key] for key in planned.evaluations if key in ready or key not in todo}
            done = jobs.keys() - set(ready)
            display = stack.enter_context(Display(store, jobs, kinds, done, execution.workers, noun="evaluation"))

        def begun(key: str) -> None:
            if display and key not in confused:
                display.begin(key)

        work = stack.enter_context(Work(ask, execution, store, planned.tier.name, begun=begun))
        for key in ready:
            work.submit(key, workload.evaluation(key, work.stop))
        if confused:
            print(f"counting what {counted(len(confused), 'network')} confuse", flush=True)
        for key, (_, training) in confused.items():
            work.submit(key, ConfusionJob(key, workload.subject(training), workload.context(work.stop)))
        for event in work.ends():
            if event and event.key in confused:
                _tell(event, confused[event.key][0])
            elif event and display:
                if event.failed:
                    store.run(event.key, EVALUATED).fail(event.kind, event.reason)
                display.end(event.key, None if event.failed else results.leading(event.result), event.reason)
            if display:
                display.refresh()


def _confusions(workload: Workload) -> Iterator[tuple[str, str, Run]]:
    """Address, training and run of the confusions of each headline network."""
    for address, training in headline.segmenting(workload.manifest).items():
        yield address, training, workload.store.run(key_of_confusion(training), CONFUSION)


def _tell(event: Event, address: str) -> None:
    """Say what is odd about confusions that were counted."""
    if event.failed:
        print(f"note: what {address} confuses is not in the report: {event.reason}", flush=True)
    elif not event.result:
        print(f"note: what {address} confuses differs from its counts (another device?)", flush=True)


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
            workload.read_again()
            subjects = {label: workload.subject(key) for label, key in keys.items()}
            look(ReceptiveFieldJob(run.key, subjects, workload.context(), probe, wanted.images))
        run.copy_products(target, RECEPTIVE)
        used(run)
        return


if __name__ == "__main__":
    sys.exit(stage.run(main))
