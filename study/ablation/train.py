"""Run a plan's trainings on the available workers, and collect every training's small results."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from pathlib import Path

from study.ablation import supervise
from study.ablation.optuna_study import Ablation, Order
from study.ablation.progress import Display
from study.ablation.queue import Event
from study.ablation.supervise import OpenEngine, Work
from study.ablation.workload import Workload
from study.config.execution import Execution
from study.plan import planner
from study.spec.documents.plan import PlanFile
from study.spec.documents.runs import Executed
from study.statistics import results
from study.store import machine
from study.store.runs import Store, first, read_json_or_none, write_json
from study.tracking import background, mlflow_access
from study.tracking.background import Target


def train_all(
    workload: Workload,
    todo: list[str],
    name: str,
    *,
    open_engine: OpenEngine = supervise.open_engine,
    ended: Callable[[str], None] = lambda key: None,
) -> None:
    """Train ``todo`` of the plan; ``name`` is the Optuna study's. A failure is recorded, and stops no other training.
    ``ended(key)`` is called when a training has ended, done or failed."""
    from study.ablation import device_check, foretell, room  # imports torch: only if something is trained
    from study.training.worker import train

    planned, manifest = workload.planned, workload.manifest
    execution, store, chosen = workload.execution, workload.store, planned.tier
    check_shared(planned, execution, todo)
    room.check(workload, todo)
    device_check.check(workload, todo)
    workload.read_again()
    kinds = foretell.trainings(workload, name)
    done = {}
    for key in manifest["trainings"].keys() - set(todo):
        run, frequent = store.run(key), manifest["data"][planned.data_of[key]]["frequent"]
        if not run.path("DONE").is_file():  # it failed at an earlier look
            continue
        _, value = results.leading(results.scores(run.folder, frequent))
        done[key] = (value, run.read("curve.json")["score"])
    log = store.study_log(chosen.name)
    with first(log.with_suffix(".lock")) as alone:
        ablation = Ablation(log, name, manifest["trainings"]) if alone else Order()
        if not alone:
            print("another driver keeps the Optuna study of this tier; both share its trainings", flush=True)
        ablation.start(done, todo)
        with (
            Display(store, manifest["trainings"], kinds, done, execution.workers) as display,
            Work(train, execution, store, chosen.name, begun=display.begin, open_engine=open_engine) as queue,
        ):

            def fill() -> None:
                while queue.free > 0 and (key := ablation.ask()):
                    after = {planned.init[key]} - done.keys() if key in planned.init else ()
                    queue.submit(key, workload.training(key, queue.stop), tuple(after))

            fill()
            for event in queue.ends():
                if event:
                    _settle(event, store, ablation, display)
                    ended(event.key)
                fill()  # a training that another driver runs leaves its slot to the next
                display.refresh()


def check_shared(planned: planner.Plan, execution: Execution, todo: Iterable[str]) -> None:
    """Raises InputError if several processes per training are set and one of ``todo`` cannot be shared (D100)."""
    if execution.processes > 1:
        from study.training import distributed

        for key in todo:
            distributed.check(planned.trainings[key], execution.processes, execution.device)


def _settle(event: Event, store: Store, ablation: Ablation | Order, display: Display) -> None:
    run = store.run(event.key)
    if event.failed:
        run.fail(event.kind, event.reason)
        ablation.fail(event.key, event.reason)
        display.end(event.key, None, event.reason)
    else:
        leading = results.leading(event.result)
        ablation.tell(event.key, leading[1], (run.read("curve.json") or {"score": []})["score"])
        display.end(event.key, leading)


def collect(manifest: PlanFile, target: Target) -> None:
    """Collect all trainings, and log those that the background process did not log before it ended."""
    for key in manifest["trainings"]:
        background.collect(key, target)
    with (
        mlflow_access.kept(target.place, target.tier),
        mlflow_access.writing(target.place, target.tier, target.store) as tracker,
    ):
        tracker.sweep()
        mlflow_access.trainings(manifest, target.folder, tracker)


def record(target: Path, kept: Path, execution: Execution, wall_s: float, trained: int) -> None:
    """Write to the folder ``target`` where and how trainings were executed, and for how long. If none ran, reuse the
    last record, from the file ``kept``: if this output does not change, later stages do not rerun."""
    found = None if trained else read_json_or_none(kept)
    if found is None:
        found = facts(execution, wall_s, trained)
        write_json(kept, found)
    write_json(target / "ablate.json", found)


def facts(execution: Execution, wall_s: float, trained: int) -> Executed:
    """Where and how ``trained`` trainings were executed, in ``wall_s`` seconds."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "engine": execution.engine,
        "workers": execution.workers,
        "device": execution.device,
        "wall_s": wall_s,
        "trained": trained,
        "hardware": {"cpu": cpu, "cores": machine.cores(), "memory_gb": round(machine.memory() / 2**30, 1)},
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []
