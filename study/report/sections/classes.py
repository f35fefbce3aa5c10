"""The report's section on single classes: IoU and frequency, for the headline networks or, without any, for two
others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from study.paper import headline
from study.spec.constants import MAIN
from study.spec.documents.plan import PlanFile, PlannedCell
from study.statistics import per_class

MOST = 40  # classes in the table, the most frequent ones
LONGEST = 40  # letters of a class's name


def words(folder: Path, plan: PlanFile) -> list[dict[str, Any]]:
    """One table for each list of classes: networks as columns, classes as rows, the most frequent first."""
    rows = per_class.read_rows(folder / "per_class.csv")
    found: dict[tuple[str, ...], list[PlannedCell]] = {}
    for cell in _shown(plan):
        found.setdefault(tuple(plan["data"][cell["data"]]["classes"]), []).append(cell)
    return [_table(plan, cells, rows) for cells in found.values()]


def _shown(plan: PlanFile) -> list[PlannedCell]:
    """The cells of the headline networks; without any, the first and the last cell trained on the main data."""
    cells = [cell for cell in plan["cells"] if cell["runs"] and plan["data"][cell["data"]]["task"] == "segment"]
    known = {cell["address"]: cell for cell in cells}
    if own := [known[address] for address in headline.HEADLINE if address in known]:
        return own
    trained = [cell for cell in cells if cell["data"] == MAIN and not cell["inference"]]
    return [*trained[:1], *(cell for cell in trained[-1:] if cell["label"] != trained[0]["label"])]


def _table(plan: PlanFile, cells: list[PlannedCell], rows: pd.DataFrame) -> dict[str, Any]:
    facts = plan["data"][cells[0]["data"]]
    whole = sum(facts["pixels"])
    order = sorted(range(len(facts["classes"])), key=lambda number: -facts["pixels"][number])
    columns = []
    for cell in cells:
        own = rows[(rows["setting"] == cell["data"]) & (rows["variant"] == cell["label"])]
        columns.append([_value(row) for row in own[own["inference"] == cell["inference"]].itertuples()])
    return {
        "data": cells[0]["data"], "all": len(order), "headline": cells[0]["address"] in headline.HEADLINE,
        "columns": [cell["label"] + ("" if cell["data"] == MAIN else f" ({cell['data']})") for cell in cells],
        "rows": [
            {
                "name": _short(facts["classes"][number]), "images": f"{facts['images_with'][number]:,}",
                "share": _percent(facts["pixels"][number] / whole if whole else 0.0),
                "cells": [column[number] for column in columns],
            }
            for number in order[:MOST]
        ],
    }  # fmt: skip


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "\u2026"


def _percent(share: float) -> str:
    """Per cent with as many digits as a rare class needs."""
    return f"{100 * share:.1f}" if share >= 0.0995 else f"{100 * share:.2g}"


def _value(row: Any) -> dict[str, Any]:
    """IoU in per cent with half the width of its interval, and the fraction by which its cell is shaded."""
    if math.isnan(row.mean):
        return {"main": "\u2013", "side": "", "shade": 0.0}
    side = "" if math.isnan(row.low) else f"\u00b1 {(row.high - row.mean) * 100:.1f}"
    return {"main": f"{row.mean * 100:.1f}", "side": side, "shade": round(row.mean, 2)}
