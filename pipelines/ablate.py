"""Stage ablate: run the plan's trainings that the store does not have; collect every training's small results."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

from study.ablation import batches, evaluate, headline_models, supervise, train
from study.ablation.workload import Workload
from study.config import git_state, kept_outputs, places, tiers
from study.config.execution import execution_of
from study.config.mlflow_address import place
from study.plan import planner
from study.spec.documents.models import ModelFile, ModelOrigin
from study.spec.documents.plan import DrawnFile, PlanFile, restricted
from study.spec.documents.reading import read
from study.spec.errors import InputError
from study.spec.jobs import Context, Subject
from study.statistics import sequence
from study.store import stage
from study.store.runs import Store, write_json
from study.tracking import background, mlflow_access
from study.tracking.background import Target


def main(open_engine: supervise.OpenEngine = supervise.open_engine) -> None:
    params = tiers.read()
    chosen, execution, store = tiers.load(params), execution_of(params), Store()
    kept_outputs.note(chosen.name)
    folder = stage.folder(chosen.name)
    manifest = read(folder / "plan.json", PlanFile)
    planned = planner.build(chosen, manifest["data"], execution.device)
    if set(planned.trainings) != set(manifest["trainings"]):
        raise InputError(f"{folder / 'plan.json'} does not match this code and params.yaml; run `make repro`")
    began = time.monotonic()
    by_need, first = "sequence" in manifest, set(planned.trainings)
    if by_need:
        first = sequence.first_keys(manifest) | store.drawn(chosen.name)
    todo = [key for key in planned.trainings if key in first and not store.run(key).done()]
    trained = len(todo)
    places.check(params, store, chosen.name)
    at = place(params, store)
    mlflow_access.checked(at, chosen.name, todo)
    target = Target(store.root, (folder / "results").absolute(), f"make retry TIER={chosen.name}", at, chosen.name)
    workload = Workload(planned, manifest, execution, store)
    if todo:
        git_state.note()
    if by_need:
        course, trained = batches.run(workload, target, chosen.name, _asks, open_engine)
        manifest = restricted(manifest, course.drawn)
        drawn: DrawnFile = {"version": 1, "keys": sorted(course.drawn)}
        write_json(folder / "results" / stage.DRAWN, drawn)
    elif todo:
        with background.logging(manifest, target, len(todo), execution.workers) as ended:
            train.train_all(workload, todo, chosen.name, open_engine=open_engine, ended=ended)
    train.collect(manifest, target)
    workload = replace(workload, manifest=manifest)
    headline_models.collect(workload, folder / "results", folder / "weights", _export)
    with mlflow_access.kept(at, chosen.name), mlflow_access.writing(at, chosen.name, store.root) as tracker:
        mlflow_access.models(folder / "weights", tracker)
    train.record(folder / "results", store.ablated(chosen.name), execution, time.monotonic() - began, trained)


def _asks() -> evaluate.Asks:
    from study.inference.worker import ask  # imports torch: only if something is evaluated

    return ask


def _export(file: Path, subject: Subject, context: Context, origin: ModelOrigin) -> ModelFile:
    from study.inference.exported import export  # imports torch: only if a model is written

    return export(file, subject, context, origin)


if __name__ == "__main__":
    sys.exit(stage.run(main))
