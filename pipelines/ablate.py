"""Stage ablate: train what the plan names and the store does not have; collect every training's small results."""

from __future__ import annotations

import sys
import time

from study import beside, commit, kept, plan, stage, tier, train, view, weights, work
from study.beside import Target
from study.execution import execution_of
from study.place import place
from study.store import Store
from study.workload import Workload


def main(open_engine: train.OpenEngine = work.open_engine) -> None:
    params = tier.read()
    chosen, execution, store = tier.load(params), execution_of(params), Store()
    kept.note(chosen.name)
    folder = stage.folder(chosen.name)
    manifest = stage.read_json(folder / "plan.json")
    planned = plan.build(chosen, manifest["data"], execution.device)
    if set(planned.trainings) != set(manifest["trainings"]):
        raise tier.InputError(f"{folder / 'plan.json'} must be the plan of this code and params.yaml; run `make repro`")
    began = time.monotonic()
    todo = [key for key in planned.trainings if not store.run(key).done()]
    at = place(params, store)
    view.checked(at, chosen.name, todo)
    target = Target(store.root, (folder / "results").absolute(), f"make retry TIER={chosen.name}", at, chosen.name)
    if todo:
        commit.note()
        with beside.logging(manifest, target, len(todo)) as ended:
            workload = Workload(planned, manifest, execution, store)
            train.train_all(workload, todo, chosen.name, open_engine=open_engine, ended=ended)
    train.collect(manifest, target)
    weights.collect(manifest, store, folder / "weights")
    train.record(folder / "results", store.ablated(chosen.name), execution, time.monotonic() - began, len(todo))


if __name__ == "__main__":
    sys.exit(stage.run(main))
