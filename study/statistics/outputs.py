"""Every file of numbers of a report as bytes: scores.csv, a CSV per table, classes, confusions, verdicts, audit, costs,
metrics and plots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from study.paper import audit
from study.paper.tables import TABLES
from study.spec.documents.networks import AnatomyFile
from study.spec.documents.plan import PlanFile
from study.spec.documents.reading import read
from study.spec.documents.search import SearchFile, Trial
from study.spec.documents.verdicts import VerdictRow
from study.statistics import at_best, equal_cost, per_class, results, verdicts
from study.store import stage
from study.store.runs import json_bytes

Importances = Callable[[list[Trial]], pd.DataFrame]  # of the search's trials, see ablation.importances


def frames(folder: Path, plan: PlanFile) -> tuple[pd.DataFrame, pd.DataFrame]:
    """results.frame and results.summary of ``plan``, from the counts collected in ``folder``."""
    anatomy = read(folder / "examined" / "anatomy.json", AnatomyFile)
    frame = results.frame(plan, folder / "results", folder / "examined", computed=audit.counts(anatomy["table11"]))
    return frame, results.summary(frame)


def contents(
    folder: Path,
    plan: PlanFile,
    frame: pd.DataFrame,
    summary: pd.DataFrame,
    importances: Importances,
    ready: Callable[[str], bool] = lambda key: True,
) -> dict[str, bytes]:
    """The bytes of every file of numbers, by its path below ``folder``: a function of the plan and the counts. ``plan``
    is restricted to what was drawn. The verdicts follow the whole plan, up to the looks that are ``ready``."""
    anatomy = read(folder / "examined" / "anatomy.json", AnatomyFile)
    tuned = stage.tuned_plan(folder)
    listed = {key: number for facts in plan["data"].values() for key, number in facts["listed"].items()}
    judged = verdicts.content(
        read(folder / "plan.json", PlanFile),
        folder / "results",
        folder / "examined",
        computed=audit.counts(anatomy["table11"]),
        tuned=tuned,
        tuned_folder=folder / "tuning" / "results",
        ready=ready,
    )
    found = {
        "scores.csv": _csv(frame),
        "audit.json": json_bytes(audit.rows(TABLES, {**anatomy, "listed": listed})),
        "metrics.json": json_bytes(_metrics(plan, summary, judged["rows"])),
        "verdicts.json": json_bytes(judged),
    }
    found |= {f"{name}.csv": _csv(rows) for name, rows in equal_cost.tables(folder, plan, frame).items()}
    found["per_class.csv"] = _csv(per_class.table(plan, folder / "results", folder / "examined"))
    found |= per_class.confusion_files(plan, folder / "examined")
    if tuned is not None:
        trials = read(folder / "tuning" / "search.json", SearchFile)["trials"]
        found["tables/tuned.csv"] = _csv(at_best.compared(frame, results.frame(tuned, folder / "tuning" / "results")))
        found["tables/search.csv"] = _csv(at_best.trials(trials))
        found["tables/importances.csv"] = _csv(importances(trials))
    for name, rows in summary.groupby("table", sort=False):
        found[f"tables/{name}.csv"] = _csv(rows.drop(columns="table"))
    curves = results.curves(plan, folder / "results")
    points = curves[(curves["kind"] == "score") & (curves["data"] == "main")]
    points = points.groupby(["label", "step"], sort=False)["value"].mean().reset_index()
    plots = {"kernel_size": kernel_sizes(plan, summary), "learning_curves": points}
    return found | {f"plots/{name}.csv": _csv(rows) for name, rows in plots.items()}


def _csv(rows: pd.DataFrame) -> bytes:
    return rows.to_csv(index=False).encode()


def _metrics(plan: PlanFile, summary: pd.DataFrame, judged: list[VerdictRow]) -> dict[str, object]:
    """A summary of the report for `dvc metrics` and `dvc exp show`: mean IoU (fractions, main data set) of the smallest
    and the largest kernel of each head, with and without BR; the number of verdicts by kind and of cells with
    failures."""
    cells = pd.DataFrame(plan["cells"])[
        ["address", "head", "kernel_size", "refine", "width", "data", "label", "inference"]
    ]
    rows = summary[summary["metric"] == "miou"].merge(cells, on="address")
    rows = rows[(rows["data"] == "main") & (rows["inference"] == "") & (rows["head"] != "classifier")]
    rows = rows[rows["mean"].notna()]
    rows = rows[_of_full_width(rows)].drop_duplicates("label")
    ends = [group.iloc[[0, -1]] for _, group in rows.sort_values("kernel_size").groupby(["head", "refine"], sort=False)]
    shown = pd.concat(ends) if ends else rows
    kinds = Counter(row["verdict"] for row in judged if not row["exploratory"])
    return {
        "miou": dict(zip(shown["label"], shown["mean"], strict=True)),
        "verdicts": dict(sorted(kinds.items())),
        "failed": int((summary["failed"] > 0).sum()),
    }


def _of_full_width(rows: pd.DataFrame) -> pd.Series:
    return rows["width"].isna() | (rows["width"].astype(float) == 1)


def kernel_sizes(plan: PlanFile, summary: pd.DataFrame) -> pd.DataFrame:
    """Mean mIoU by head and kernel size on the main data set (full width, without BR), one row per pair, for the
    template ``heads`` of `dvc plots`."""
    cells = pd.DataFrame(plan["cells"])[
        ["address", "head", "kernel_size", "refine", "width", "data", "label", "inference"]
    ]
    rows = summary[summary["metric"] == "miou"].merge(cells, on="address")
    rows = rows[(rows["data"] == "main") & (rows["inference"] == "") & ~rows["refine"] & _of_full_width(rows)]
    rows = rows.drop_duplicates("label")
    return rows[["head", "kernel_size", "mean"]].rename(columns={"mean": "miou"}).sort_values(["head", "kernel_size"])
