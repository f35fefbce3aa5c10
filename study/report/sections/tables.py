"""The paper's tables with our scores next to its own, and the trainings that have none."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from study.paper.tables import TABLES
from study.spec.cells import COUNTED, SERVED
from study.spec.documents.plan import PlanFile, PlannedCell, PlannedEvaluation, PlannedTable, PlannedTraining
from study.statistics import results

MAX_COLUMNS, MAX_HEADER, MAX_REASON = 8, 70, 400


def failures(plan: PlanFile, folder: Path, partial: bool = False) -> dict[str, dict[str, Any]]:
    """By key, why a planned training or evaluation has no result and how to try again. For a ``partial`` run, only
    those that failed."""
    found, asked = {}, plan["evaluations"]
    places = {key: folder / "results" / key for key in plan["trainings"]}
    places |= {key: folder / "examined" / key for key in plan["evaluations"]}
    every: dict[str, PlannedTraining | PlannedEvaluation] = {**plan["trainings"], **plan["evaluations"]}
    for key, planned in every.items():
        state = results.status(places[key])
        if state == results.DONE or (partial and state != results.FAILED):
            continue
        told = {"kind": "missing", "reason": "no result was collected", "retry": "make repro"}
        if state == results.FAILED:
            told = json.loads((places[key] / "failed.json").read_text(encoding="utf-8"))
        reason = " ".join(str(told["reason"]).split()).rstrip(".")
        reason = reason if len(reason) <= MAX_REASON else reason[:MAX_REASON] + " ..."
        what = planned["label"] + ("" if planned["data"] == "main" else f" on {planned['data']}")
        what += f" ({asked[key]['inference']})" if key in asked else ""
        found[key] = {"what": what, "seed": planned["seed"]}
        found[key] |= {"reason": f"{told['kind']}: {reason}", "retry": told["retry"]}
    return found


def holes(failures: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """Failures for the reader: seeds of one variant that failed alike share an entry."""
    seeds: dict[tuple[str, str, str], list[int]] = {}
    for item in failures:
        seeds.setdefault((item["what"], item["reason"], item["retry"]), []).append(item["seed"])
    return [
        {"what": f"{what}, {'seed' if len(s) == 1 else 'seeds'} {', '.join(map(str, sorted(s)))}"}
        | {"reason": reason, "retry": retry}
        for (what, reason, retry), s in seeds.items()
    ]


def _value(row: Any | None, runs: dict[str, str]) -> dict[str, Any]:
    """One of our scores as text in per cent: mean, half-width, and whether it lacks some seeds; with the ``exact``
    mean, its seeds and the keys of its ``runs`` by seed."""
    if row is None or row.status == results.PRINTED:
        return {"kind": "none"}
    if row.status in (results.NOT_APPLICABLE, results.NOT_SUBMITTED):
        return {"kind": "absent", "main": "n/a" if row.status == results.NOT_APPLICABLE else row.status}
    if row.status == results.COUNTED:
        return {"kind": "whole", "main": f"{row.mean:,.0f}"}
    if math.isnan(row.mean):
        return {"kind": "hole", "main": "no result"}
    alone = "1 seed" if row.failed else ""
    side = f"± {(row.high - row.mean) * 100:.1f}" if row.seeds > 1 else alone
    exact = f"{row.mean * 100:.4f}, seeds {', '.join(runs)}" if runs else ""
    shown = {"kind": "ours", "main": f"{row.mean * 100:.1f}", "side": side, "partial": row.failed > 0}
    return shown | {"exact": exact, "keys": list(runs.values())}


def _lines(cells: Sequence[PlannedCell | None], found: dict[Any, Any], frequent: bool) -> list[Any]:
    """The lines of one table row: ours (twice if frequent classes are scored separately), then the paper's."""
    if any(cell and cell["metric"] == "parameters" for cell in cells):
        texts = [
            {"kind": "count", "main": f"{c['parameters']:,}", "side": f"{c['paper'] // 1000}K" if c["paper"] else ""}
            if c else {"kind": "none"} for c in cells
        ]  # fmt: skip
        return [{"source": "ours, paper's", "cells": texts}]
    own = [_value(found.get((c["address"], c["metric"])), c["runs"]) if c else {"kind": "none"} for c in cells]
    lines = [{"source": "ours", "cells": own}]
    if frequent:
        often = [
            _value(found.get((c["address"], "miou_frequent")), c["runs"]) if c else {"kind": "none"} for c in cells
        ]
        if any(value["kind"] != "none" for value in often):
            lines = [{"source": "ours, frequent", "cells": often}, {"source": "ours, all", "cells": own}]
    papers = [c["paper"] if c else None for c in cells]
    if any(paper is not None for paper in papers):
        printed: list[dict[str, Any]] = [
            {"kind": "none"} if p is None else
            {"kind": "whole", "main": f"{p:,.0f}"} if c and c["metric"] in COUNTED else
            {"kind": "paper", "main": f"{p * 100:.1f}", "side": "", "partial": False}
            for c, p in zip(cells, papers, strict=True)
        ]  # fmt: skip
        lines.append({"source": "paper", "cells": printed})
    return lines


def table(table: PlannedTable, plan: PlanFile, summary: pd.DataFrame, failed: dict[str, Any]) -> dict:
    """One table as text. A single row too wide for the page is turned on its side."""
    found = {(row.address, row.metric): row for row in summary.itertuples()}
    cells = {(c["row"], c["column"]): c for c in plan["cells"] if c["table"] == table["id"]}
    rows, columns = list(table["rows"]), list(table["columns"])
    turned = len(columns) > MAX_COLUMNS or sum(map(len, columns)) > MAX_HEADER
    if turned:
        rows, columns = columns, rows
        cells = {(column, row): cell for (row, column), cell in cells.items()}
    keys = dict.fromkeys(key for cell in cells.values() for key in cell["runs"].values() if key in failed)
    named = f"Table {table['id'].removeprefix('T')}"
    frequent = "miou_frequent" in plan["metrics"]
    return {
        "heading": f"{named}. {table['title']}", "columns": columns, "tall": turned, "paper": table["id"] in TABLES,
        "rows": [
            {"name": row, "lines": _lines([cells.get((row, column)) for column in columns], found, frequent)}
            for row in rows
        ],
        "note": table["note"], "page": table["page"], "data": table["data"],
        "served": all(cell["metric"] in SERVED for cell in cells.values()), "submitted": table["submitted"],
        "holes": holes(failed[key] for key in keys),
    }  # fmt: skip
