"""Stage evaluate: counts -> scores.csv, a CSV per table, metrics and plots for DVC, and the provenance."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from study import audit, results, stage, tier
from study.paper import TABLES
from study.store import Store, file_digest, write_json
from study.tracking import Tracker

VERSIONS = ("torch", "torchvision", "numpy", "mlflow", "optuna", "ray", "dvc", "pandas", "seaborn", "typst", "timm")


def main() -> None:
    chosen = tier.load(tier.read())
    folder = stage.folder(chosen.name)
    plan, collected = stage.read_json(folder / "plan.json"), folder / "results"
    anatomy = stage.read_json(folder / "examined" / "anatomy.json")
    frame = results.frame(plan, collected, folder / "examined", computed=audit.counts(anatomy))
    frame.to_csv(folder / "scores.csv", index=False)
    summary = results.summary(frame)
    listed = {key: number for facts in plan["data"].values() for key, number in facts["listed"].items()}
    write_json(folder / "audit.json", audit.rows(TABLES, anatomy | {"listed": listed}))
    store = Store()
    Tracker(store.tracking_database, store.tracking_artifacts, chosen.name).cells(plan, frame, summary)
    for name, rows in summary.groupby("table", sort=False):
        (folder / "tables").mkdir(exist_ok=True)
        rows.drop(columns="table").to_csv(folder / "tables" / f"{name}.csv", index=False)
    write_json(folder / "metrics.json", _metrics(summary))
    (folder / "plots").mkdir(exist_ok=True)
    _kernel_sizes(plan, summary).to_csv(folder / "plots" / "kernel_size.csv", index=False)
    curves = results.curves(plan, collected)
    points = curves[(curves["kind"] == "score") & (curves["data"] == "main")]
    points = points.groupby(["label", "step"], sort=False)["value"].mean().reset_index()
    points.to_csv(folder / "plots" / "learning_curves.csv", index=False)
    write_json(folder / "provenance.json", _provenance(plan, collected, folder / "examined"))


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


def _provenance(plan: dict[str, Any], collected: Path, examined: Path) -> dict[str, Any]:
    runs: dict[str, dict[str, Any]] = {}
    seconds = {"train": 0.0, "evaluate": 0.0}
    for key in plan["trainings"]:
        runs[key] = {"status": results.status(collected / key)}
        if runs[key]["status"] == results.DONE:
            took = stage.read_json(collected / key / "result.json")["seconds"]
            runs[key] |= {"seconds": took, "sha256": file_digest(collected / key / "counts.npz")}
            seconds = {name: seconds[name] + took[name] for name in seconds}
    ablate = stage.read_json(collected / "ablate.json")
    states = [run["status"] for run in runs.values()]
    for key in plan["evaluations"]:
        runs[key] = {"status": results.status(examined / key)}
        if runs[key]["status"] == results.DONE:
            took = stage.read_json(examined / key / "result.json")["seconds"]["evaluate"]
            runs[key] |= {"seconds": {"evaluate": took}, "sha256": file_digest(examined / key / "counts.npz")}
            seconds["evaluate"] += took
    asked = [runs[key]["status"] for key in plan["evaluations"]]
    return {
        "tier": plan["tier"],
        "commit": _git("rev-parse", "HEAD"),
        "dirty": _dirty(),
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


def _dirty() -> bool:
    """Whether tracked files differ from the commit; the choice of a tier, which is an input, does not count."""
    if _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!params.yaml"):
        return True
    ours, committed = tier.read(), tier.content(_git("show", "HEAD:./params.yaml")) or {}
    return ours | {"tier": ""} != committed | {"tier": ""}


def _git(*words: str) -> str:
    try:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


if __name__ == "__main__":
    sys.exit(stage.run(main))
