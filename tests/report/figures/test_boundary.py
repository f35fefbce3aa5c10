"""Accuracy near boundaries against accuracy inside."""

from __future__ import annotations

import numpy as np
import pytest

from study.paper.tables import TABLES
from study.report.figures import boundary


def test_table_5_rows_lie_at_their_two_accuracies(source, nothing):
    ours, paper = boundary.draw(source).axes
    cells = {cell.address: cell.paper for cell in TABLES["T5"].cells}
    for row in ("baseline", "GCN", "GCN+BR"):
        label = next(text for text in paper.texts if text.get_text() == row)
        assert label.xy == pytest.approx((100 * cells[f"T5/{row}/internal"], 100 * cells[f"T5/{row}/boundary"]))
    table = source.summary[source.summary["table"] == "T5"].set_index(["row", "metric"])["mean"]
    label = next(text for text in ours.texts if text.get_text() == "GCN")
    assert label.xy == pytest.approx([100 * table["GCN", f"{side}_accuracy"] for side in ("internal", "boundary")])
    assert not np.allclose(*label.xy) and boundary.draw(nothing) is None
