"""Stage evaluate: counts -> scores.csv, a CSV per table, verdicts, metrics and plots for DVC, and the provenance."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines import view
from study import audit, best, commit, kept, matched, results, stage, tier, verdicts
from study.paper import TABLES
from study.place import place
from study.store import Store, file_digest, json_bytes, write_json

VERSIONS = ("torch", "torchvision", "numpy", "mlflow", "optuna", "ray", "dvc", "pandas", "seaborn", "typst", "timm")
_Links = dict[str, dict[str, str]]


def main() -> None:
    params = tier.read()
    chosen = tier.load(params)
    kept.note(chosen.name)
    folder = stage.folder(chosen.name)
    plan = stage.read_json(folder / "plan.json")
    frame, summary = frames(folder, plan)
    for name in ("tables", "plots"):  # what an earlier plan left there is no result of this one
        shutil.rmtree(folder / name, ignore_errors=True)
    for name, content in contents(folder, plan, frame, summary).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    at, links, at_best = place(params, Store()), _Links(), _Links()
    tuned = stage.tuned_plan(folder)
    with view.kept(at, chosen.name), view.writing(at, chosen.name, Store().root) as tracker:
        tracker.cells(plan, frame, summary)
        links = tracker.links()
        if tuned is not None:
            at_best = view.opened(at, f"{chosen.name} tuned").links()
    found = _provenance(plan, folder / "results", folder / "examined", links)
    if tuned is not None:
        found["tuned"] = _provenance(tuned, folder / "tuning" / "results", folder / "examined", at_best)
    write_json(folder / "provenance.json", found)


def frames(folder: Path, plan: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """results.frame and results.summary of ``plan`` from the counts that were collected in ``folder``."""
    anatomy = stage.read_json(folder / "examined" / "anatomy.json")
    frame = results.frame(plan, folder / "results", folder / "examined", computed=audit.counts(anatomy))
    return frame, results.summary(frame)


def contents(folder: Path, plan: dict[str, Any], frame: pd.DataFrame, summary: pd.DataFrame) -> dict[str, bytes]:
    """The bytes of every file of numbers, by its path below ``folder``: a function of the plan and the counts."""
    anatomy = stage.read_json(folder / "examined" / "anatomy.json")
    tuned = stage.tuned_plan(folder)
    listed = {key: number for facts in plan["data"].values() for key, number in facts["listed"].items()}
    found = {
        "scores.csv": _csv(frame),
        "audit.json": json_bytes(audit.rows(TABLES, anatomy | {"listed": listed})),
        "metrics.json": json_bytes(_metrics(summary)),
        "verdicts.json": json_bytes(
            verdicts.content(
                plan, folder / "results", folder / "examined", computed=audit.counts(anatomy), tuned=tuned,
                tuned_folder=folder / "tuning" / "results",
            )
        ),
    }  # fmt: skip
    found |= {f"{name}.csv": _csv(rows) for name, rows in matched.tables(folder, plan, frame).items()}
    if tuned is not None:
        trials = stage.read_json(folder / "tuning" / "search.json")["trials"]
        found["tables/tuned.csv"] = _csv(best.compared(frame, results.frame(tuned, folder / "tuning" / "results")))
        found["tables/search.csv"] = _csv(best.trials(trials))
        found["tables/importances.csv"] = _csv(best.importances(trials))
    for name, rows in summary.groupby("table", sort=False):
        found[f"tables/{name}.csv"] = _csv(rows.drop(columns="table"))
    curves = results.curves(plan, folder / "results")
    points = curves[(curves["kind"] == "score") & (curves["data"] == "main")]
    points = points.groupby(["label", "step"], sort=False)["value"].mean().reset_index()
    plots = {"kernel_size": _kernel_sizes(plan, summary), "learning_curves": points}
    return found | {f"plots/{name}.csv": _csv(rows) for name, rows in plots.items()}


def _csv(rows: pd.DataFrame) -> bytes:
    return rows.to_csv(index=False).encode()


def _metrics(summary: pd.DataFrame) -> dict[str, Any]:
    """{address: {metric: mean}} of what was trained, for `dvc metrics`."""
    found: dict[str, Any] = {}
    for row in summary.itertuples():
        if row.status == results.DONE and row.seeds:
            found.setdefault(row.address, {})[row.metric] = row.mean
    return found


def _kernel_sizes(plan: dict[str, Any], summary: pd.DataFrame) -> pd.DataFrame:
    """Mean mIoU by head and kernel size on the main data set, for `dvc plots`."""
    cells = pd.DataFrame(plan["cells"])[["address", "head", "kernel_size", "refine", "data", "label"]]
    rows = summary[summary["metric"] == "miou"].merge(cells, on="address")
    rows = rows[(rows["data"] == "main") & ~rows["refine"]].drop_duplicates("label")
    return rows[["head", "kernel_size", "mean"]].rename(columns={"mean": "miou"}).sort_values(["head", "kernel_size"])


def _provenance(plan: dict[str, Any], collected: Path, examined: Path, links: _Links) -> dict[str, Any]:
    """What ran, where and on what; ``links`` are the tracker's pages of trainings, by key."""
    runs: dict[str, dict[str, Any]] = {}
    seconds = {"train": 0.0, "evaluate": 0.0}
    for key in plan["trainings"]:
        runs[key] = {"status": results.status(collected / key)}
        if runs[key]["status"] == results.DONE:
            result = stage.read_json(collected / key / "result.json")
            took = result["seconds"]
            runs[key] |= {"seconds": took, "sha256": file_digest(collected / key / "counts.npz")}
            runs[key]["tune_sha256"] = file_digest(collected / key / "tune.npz")
            runs[key] |= {"commit": result.get("commit", ""), "mlflow": links.get(key)}
            seconds = {name: seconds[name] + took[name] for name in seconds}
    ablate = stage.read_json(collected / "ablate.json")
    states = [run["status"] for run in runs.values()]
    for key in plan["evaluations"]:
        runs[key] = {"status": results.status(examined / key)}
        if runs[key]["status"] == results.DONE:
            result = stage.read_json(examined / key / "result.json")
            took = result["seconds"]["evaluate"]
            runs[key] |= {"seconds": {"evaluate": took}, "sha256": file_digest(examined / key / "counts.npz")}
            runs[key] |= {"commit": result.get("commit", "")}
            seconds["evaluate"] += took
    asked = [runs[key]["status"] for key in plan["evaluations"]]
    return {
        "tier": plan["tier"],
        "commit": commit.head(),
        "dirty": commit.dirty(),
        "lacking": commit.lacking(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS},
        "hardware": ablate["hardware"] | {"device": ablate["device"]},
        "seconds": seconds | {"wall": ablate["wall_s"]},
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
