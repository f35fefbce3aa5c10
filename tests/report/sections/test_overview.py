"""What was run, and which parts of the paper were not."""

from __future__ import annotations

from typing import Any

from study.report.sections import overview


def _plan(**changes: Any) -> dict[str, Any]:
    told = {"role": "main", "name": "scenes", "splits": {"train": 1200}}
    named = [("GCN k=3", "main"), ("1x1", "main"), ("1x1", "texture")]
    trainings = [(*one, seed) for one in named for seed in (0, 1)]
    return {
        "data": {"main": told, "texture": told | {"role": "control"}, "stage1": told | {"role": "stage"}},
        "trainings": {str(n): dict(zip(("label", "data", "seed"), t, strict=True)) for n, t in enumerate(trainings)},
        "cells": [_cell("T1", 3), _cell("T1", 5), _cell("T8", 3)], "scale": "mechanism",
        "tables": [{"id": "T1", "submitted": None}, {"id": "T8", "submitted": None}],
    } | changes  # fmt: skip


def _cell(table: str, column: int, reason: str | None = None) -> dict[str, Any]:
    return {"table": table, "row": "score", "column": column, "not_applicable": reason}


def _reasons(plan: dict[str, Any], drawn: list[str] = ["F3", "F6", "F7"]) -> dict[str, str]:  # noqa: B006
    return {row["what"]: row["reason"] for row in overview.not_run(plan, drawn)}


def test_the_summary_counts_variants_seeds_and_trainings() -> None:
    told = overview.summary(_plan(), {"trainings": {"done": 1003, "planned": 1004}})
    assert told == (
        "2 variants with 2 seeds each were trained on scenes (1,200 training images) and 1 in the setting texture, "
        "more in 1 other setting (stages, pretrainings); 1,003 of 1,004 planned trainings finished, for the 3 cells of "
        "2 tables."
    )


def test_the_summary_separates_seeds_for_open_claims() -> None:
    plan = _plan()
    plan["trainings"]["more"] = {"label": "1x1", "data": "main", "seed": 2}
    told = overview.summary(plan, {"trainings": {"done": 7, "planned": 7}})
    assert told.startswith("2 variants with 2 seeds (and up to 3 for open claims) were trained on scenes")


def test_skipped_tables_and_secret_labels_give_different_reasons() -> None:
    found = _reasons(_plan())
    assert found["Table 2"] == "Not among this tier's tables." and "Table 1" not in found
    assert found["Table 8"].startswith("VOC 2012 test: the labels are secret")
    served = _plan(tables=[{"id": "T8", "submitted": {"link": "https://example.com"}}])
    assert "Table 8" not in _reasons(served) and "Table 1" in _reasons(served)


def test_cells_with_equal_reasons_share_one_entry() -> None:
    cells = [_cell("T1", 3, "too large"), _cell("T1", 5, "too large"), _cell("T8", 3), _cell("T8", 5, "no data")]
    found = _reasons(_plan(cells=cells))
    assert found["Table 1"] == "Not applicable: too large" and found["Table 8: score, 5"] == "Not applicable: no data"


def test_undrawn_figures_and_unjudged_claims_are_listed() -> None:
    assert not {"Figure 3", "Figure 6", "Figure 7", "Verdicts on the claims"} & _reasons(_plan()).keys()
    assert {"Figure 3", "Figure 7"} <= _reasons(_plan(), ["F6"]).keys()
    assert "Verdicts on the claims" in _reasons(_plan(scale="none"))
