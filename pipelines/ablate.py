"""Stage ablate: train what the plan names and the store does not have; collect every training's small results."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from pipelines import view, weights
from study import commit, jobs, plan, results, schedule, stage, tier
from study.ablation import Ablation
from study.data import prepare
from study.jobs import Execution
from study.place import place
from study.progress import Display
from study.store import Store, write_json

COLLECTED = ("counts.npz", "curve.json", "result.json", "samples.npz", "training.json")


def main() -> None:
    params = tier.read()
    chosen, execution, store = tier.load(params), jobs.execution(params), Store()
    folder = stage.folder(chosen.name)
    manifest = stage.read_json(folder / "plan.json")
    planned = plan.build(chosen, manifest["data"], execution.device)
    if set(planned.trainings) != set(manifest["trainings"]):
        raise tier.InputError(f"{folder / 'plan.json'} must be the plan of this code and params.yaml; run `make repro`")
    began = time.monotonic()
    todo = [key for key in planned.trainings if not store.run(key).done()]
    at = place(params, store)
    view.checked(at, chosen.name, todo)
    if todo:
        train_all(planned, manifest, execution, store, todo, chosen.name)
    collect(manifest, store, folder / "results", f"make retry TIER={chosen.name}")
    weights.collect(manifest, store, folder / "weights")
    with view.kept(at, chosen.name):
        tracker = view.opened(at, chosen.name)
        tracker.sweep()
        view.trainings(manifest, folder / "results", tracker)
    write_json(folder / "results" / "ablate.json", facts(execution, time.monotonic() - began, len(todo)))


def train_all(
    planned: plan.Plan, manifest: dict[str, Any], execution: Execution, store: Store, todo: list[str], name: str
) -> None:
    """Train ``todo`` of the plan; ``name`` is the Optuna study's. A failure is marked, and stops no other training."""
    from study.worker import train  # torch, only where something is trained

    chosen, stands_at = planned.tier, commit.described()
    read_again(planned, manifest, store)
    done = {}
    for key in planned.trainings.keys() - set(todo):
        run, frequent = store.run(key), manifest["data"][planned.data_of[key]]["frequent"]
        _, value = results.leading(results.scores(run.folder, frequent))
        done[key] = (value, run.read("curve.json")["score"])
    ablation = Ablation(store.study_log(chosen.name), name, manifest["trainings"])
    ablation.start(done, todo)
    engine = jobs.open_engine(train, execution)
    try:
        with Display(store, manifest, set(done), execution.workers) as display:
            queue = schedule.Schedule(engine, jobs.slots(execution), display.begin)

            def fill() -> None:
                while queue.free > 0 and (next_ := ablation.ask()):
                    after = {planned.init[next_]} - done.keys() if next_ in planned.init else ()
                    queue.submit(next_, job_of(next_, planned, manifest, execution, store, stands_at), tuple(after))

            fill()
            for event in jobs.ends(queue):
                if event:
                    _settle(event, store, ablation, display)
                    fill()
                display.refresh()
    finally:
        engine.close()


def read_again(planned: plan.Plan, manifest: dict[str, Any], store: Store) -> None:
    """Make sure that the cached data (and features) are there, and are what the plan was made for."""
    from study.source import cache_features

    chosen = planned.tier
    for name in dict.fromkeys([*planned.data_of.values(), tier.MAIN]):
        setting = chosen.settings[name]
        tick = stage.ticker(f"reading {setting.data.name} ({name})")
        found = prepare(setting.data, setting.root, store.cache, chosen.band_px, tick, setting.stream)
        if found["fingerprint"] != manifest["data"][name]["fingerprint"]:
            raise tier.InputError(f"the data set {name} must not change under a plan; run `dvc repro --force data`")
        if setting.network.frozen:
            cache_features(setting.network, found, store.cache, setting.recipe.flip, tick)


def job_of(
    key: str, planned: plan.Plan, manifest: dict[str, Any], execution: Execution, store: Store, stands_at: str
) -> Any:
    """What a worker needs to know of a planned training."""
    from study.worker import Job

    setting = planned.data_of[key]
    return Job(
        key, planned.trainings[key], manifest["trainings"][key], manifest["data"][setting], store.root,
        execution.device, execution.checkpoint_s, planned.tier.samples, planned.init.get(key),
        manifest["data"][planned.origin(key)], planned.tier.settings[setting].root, execution.loaders, stands_at,
    )  # fmt: skip


def _settle(event: schedule.Event, store: Store, ablation: Ablation, display: Display) -> None:
    run = store.run(event.key)
    if event.failed:
        run.fail(event.kind, event.reason)
        ablation.fail(event.key, event.reason)
        display.end(event.key, None, event.reason)
    else:
        leading = results.leading(event.result)
        ablation.tell(event.key, leading[1], (run.read("curve.json") or {"score": []})["score"])
        display.end(event.key, leading)


def collect(manifest: dict[str, Any], store: Store, target: Path, retry: str) -> None:
    """Copy each planned training's small results (or its failure, with the command ``retry``) to the stage's output."""
    for key in manifest["trainings"]:
        run = store.run(key)
        if run.path("DONE").is_file():
            run.copy_products(target / key, COLLECTED)
        else:
            failure = run.failure() or {"kind": "Missing", "reason": "it did not run"}
            write_json(target / key / "failed.json", failure | {"retry": retry})


def facts(execution: Execution, wall_s: float, trained: int) -> dict[str, Any]:
    """Where and how trainings were execution, and for how long."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
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
        "hardware": {"cpu": cpu, "cores": os.cpu_count(), "memory_gb": round(pages / 2**30, 1)},
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


if __name__ == "__main__":
    sys.exit(stage.run(main))
