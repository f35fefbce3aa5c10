"""The report's section on learning curves: drawn curves, last slopes, and the rule that judges them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from study.report.figures import learning_curves
from study.report.figures.families import styles
from study.report.figures.plate import saved
from study.spec.documents.plan import PlanFile
from study.statistics import results


def words(folder: Path, plan: PlanFile) -> list[dict[str, Any]]:
    """The learning-curve pages, one per data set: the drawn curves, the last slopes and the rule that judges them."""
    curves, look, pages = results.curves(plan, folder / "results"), styles(plan), []
    if curves.empty:
        return []
    slopes = results.last_slopes(curves)
    staged = slopes["data"].map(lambda name: plan["data"][name]["role"] == "stage")
    for name, table in slopes[~staged].groupby("data", sort=False):
        drawn = learning_curves.learning_curves(curves[curves["data"] == name], look)
        title, caption = learning_curves.TITLE, learning_curves.CAPTION
        pages.append(_page(name, table) | {"figure": saved(drawn, folder, f"curves_{name}", title, caption)})
    if staged.any():
        table = slopes[staged]
        pages.append(_page("stages", table.assign(label=table["data"] + ": " + table["label"])) | {"figure": None})
    return pages


def _page(name: str, table: pd.DataFrame) -> dict[str, Any]:
    """The last slopes of a data set's variants as text, with the rule that judges them."""
    rows = [
        {"improving": bool(row.improving), "cells": [
            row.label, f"{row.steps:,}", _signed(row.last * 100, ".1f"), _signed(row.slope, "+.2f"),
            f"{_signed(row.least, '+.2f')} to {_signed(row.greatest, '+.2f')}", _signed(row.loss_change, "+.1%"),
            "yes" if row.improving else "no",
        ]}
        for row in table.sort_values("slope", ascending=False, kind="stable").itertuples()
    ]  # fmt: skip
    return {
        "data": name, "rows": rows, "unknown": int(table["slope"].isna().sum()),
        "limits": sorted({f"{value:.2g}" for value in table["threshold"]}),
        "points": str(results.IMPROVING_POINTS), "share": f"{results.IMPROVING_SHARE:.0%}",
    }  # fmt: skip


def _signed(value: float, form: str) -> str:
    """A number with a true minus sign, a dash if there is none."""
    return "–" if math.isnan(value) else format(value, form).replace("-", "−")  # noqa: RUF001
