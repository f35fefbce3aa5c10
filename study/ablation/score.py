"""Counts -> scores.csv, a CSV per table, verdicts, metrics and plots for DVC, and the provenance."""

from __future__ import annotations

import contextlib
import platform
import shutil
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from study.ablation.importances import importances
from study.config import git_state
from study.spec.documents.gpu_check import GpuCheckFile
from study.spec.documents.plan import PlanFile
from study.spec.documents.provenance import Page, ProvenanceFile, Ran, RanRun
from study.spec.documents.reading import read
from study.spec.documents.runs import Executed, Result
from study.spec.errors import InputError
from study.spec.words import counted
from study.statistics import outputs, per_class, results
from study.store import stage
from study.store.runs import file_digest, write_json

VERSIONS = ("torch", "torchvision", "numpy", "mlflow", "optuna", "ray", "dvc", "pandas", "seaborn", "typst", "timm")
Links = dict[str, Page]


def write(
    folder: Path, plan: PlanFile, ready: Callable[[str], bool] = lambda key: True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write every file of numbers below ``folder`` (reports/<tier>); return results.frame and results.summary.

    ``plan`` has only the drawn seeds. ``ready`` says which trainings and evaluations have ended: a claim whose look is
    not complete gets no verdict."""
    frame, summary = outputs.frames(folder, plan)
    for name in ("tables", "plots", per_class.CONFUSED):  # files of an earlier plan are no results of this one
        shutil.rmtree(folder / name, ignore_errors=True)
    for name, content in outputs.contents(folder, plan, frame, summary, importances, ready=ready).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return frame, summary


def provenance(folder: Path, plan: PlanFile, links: Links, at_best: Links, checked: Path) -> None:
    """Write ``folder``/provenance.json: what ran, where and on what. ``links`` are the MLflow pages of trainings by
    key, ``at_best`` those of the trainings with each variant at its best values. The file ``checked``, if it exists, is
    the last check of a device."""
    found: ProvenanceFile = {"version": 1, **_ran(plan, folder / "results", folder / "examined", links)}
    tuned = stage.tuned_plan(folder)
    if tuned is not None:
        found["tuned"] = _ran(tuned, folder / "tuning" / "results", folder / "examined", at_best)
    trained_on = " ".join(found["hardware"]["gpus"])
    with contextlib.suppress(InputError):  # none, a damaged one, or another version's
        known = read(checked, GpuCheckFile)
        if known["device"]["kind"] == "cuda" and known["device"]["name"] in trained_on:
            found["gpu_check"] = known
    write_json(folder / "provenance.json", found)


def _ran(plan: PlanFile, collected: Path, examined: Path, links: Links) -> Ran:
    runs: dict[str, RanRun] = {}
    gpus: Counter[str] = Counter()
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
            gpus[result.get("gpu") or ""] += 1
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
    kinds = [f"{name} ({counted(gpus[name], 'training')})" for name in sorted(gpus) if name]
    return {
        "tier": plan["tier"],
        "commit": git_state.head(),
        "dirty": git_state.dirty(),
        "lacking": git_state.lacking(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS},
        "hardware": {**ablate["hardware"], "device": ablate["device"], "gpus": kinds},
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
