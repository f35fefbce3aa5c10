"""Stage score: counts -> scores.csv, a CSV per table, verdicts, metrics and plots for DVC, and the provenance."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from study.ablation.importances import importances
from study.config import git_state, kept_outputs, tiers
from study.config.mlflow_address import place
from study.spec.documents.plan import PlanFile
from study.spec.documents.provenance import Page, ProvenanceFile, Ran, RanRun
from study.spec.documents.reading import read
from study.spec.documents.runs import Executed, Result
from study.statistics import outputs, per_class, results
from study.store import stage
from study.store.runs import Store, file_digest, write_json
from study.tracking import mlflow_access

VERSIONS = ("torch", "torchvision", "numpy", "mlflow", "optuna", "ray", "dvc", "pandas", "seaborn", "typst", "timm")
_Links = dict[str, Page]


def main() -> None:
    params = tiers.read()
    chosen = tiers.load(params)
    kept_outputs.note(chosen.name)
    folder = stage.folder(chosen.name)
    plan = stage.drawn_plan(folder)
    frame, summary = outputs.frames(folder, plan)
    for name in ("tables", "plots", per_class.CONFUSED):  # what an earlier plan left there is no result of this one
        shutil.rmtree(folder / name, ignore_errors=True)
    for name, content in outputs.contents(folder, plan, frame, summary, importances).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    at, links, at_best = place(params, Store()), _Links(), _Links()
    tuned = stage.tuned_plan(folder)
    with mlflow_access.kept(at, chosen.name), mlflow_access.writing(at, chosen.name, Store().root) as tracker:
        tracker.cells(plan, frame, summary, per_class.confused(folder, plan))
        links = tracker.links()
        if tuned is not None:
            at_best = mlflow_access.opened(at, f"{chosen.name} tuned").links()
    found: ProvenanceFile = {"version": 1, **_provenance(plan, folder / "results", folder / "examined", links)}
    if tuned is not None:
        found["tuned"] = _provenance(tuned, folder / "tuning" / "results", folder / "examined", at_best)
    write_json(folder / "provenance.json", found)


def _provenance(plan: PlanFile, collected: Path, examined: Path, links: _Links) -> Ran:
    """What ran, where and on what; ``links`` are the tracker's pages of trainings, by key."""
    runs: dict[str, RanRun] = {}
    seconds = {"train": 0.0, "evaluate": 0.0}
    for key in plan["trainings"]:
        runs[key] = {"status": results.status(collected / key)}
        if runs[key]["status"] == results.DONE:
            result = read(collected / key / "result.json", Result)
            took = result["seconds"]
            runs[key] = {
                "status": results.DONE,
                "seconds": took,
                "sha256": file_digest(collected / key / "counts.npz"),
                "tune_sha256": file_digest(collected / key / "tune.npz"),
                "commit": result.get("commit", ""),
                "mlflow": links.get(key),
            }
            seconds = {name: seconds[name] + took[name] for name in seconds}
    ablate = read(collected / "ablate.json", Executed)
    states = [run["status"] for run in runs.values()]
    for key in plan["evaluations"]:
        runs[key] = {"status": results.status(examined / key)}
        if runs[key]["status"] == results.DONE:
            result = read(examined / key / "result.json", Result)
            took = {"evaluate": result["seconds"]["evaluate"]}
            runs[key] = {
                "status": results.DONE,
                "seconds": took,
                "sha256": file_digest(examined / key / "counts.npz"),
                "commit": result.get("commit", ""),
            }
            seconds["evaluate"] += took["evaluate"]
    asked = [runs[key]["status"] for key in plan["evaluations"]]
    return {
        "tier": plan["tier"],
        "commit": git_state.head(),
        "dirty": git_state.dirty(),
        "lacking": git_state.lacking(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS},
        "hardware": {**ablate["hardware"], "device": ablate["device"]},
        "seconds": {**seconds, "wall": ablate["wall_s"]},
        "workers": ablate["workers"],
        "engine": ablate["engine"],
        "trainings": {
            "planned": len(states),
            "executed": ablate["trained"],
            "done": states.count(results.DONE),
            "failed": len(states) - states.count(results.DONE),
        },
        "evaluations": {
            "planned": len(asked),
            "done": asked.count(results.DONE),
            "failed": len(asked) - asked.count(results.DONE),
        },
        "data": {name: facts["fingerprint"] for name, facts in plan["data"].items()},
        "runs": runs,
    }


if __name__ == "__main__":
    sys.exit(stage.run(main))
