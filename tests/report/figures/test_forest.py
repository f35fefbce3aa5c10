"""The effects behind the verdicts."""

from __future__ import annotations

import pytest

from study.report.figures import forest
from study.report.figures.style import INK

ROW = {"claim": "br_gains", "verdict": "supported", "estimate": 2.0, "low": 1.0, "high": 3.0, "bounds": [0.5, None],
       "paper": 0.9}  # fmt: skip


def test_an_effect_its_interval_the_claim_and_the_papers_number_are_on_its_line():
    rows = [ROW, ROW | {"claim": "gcn_gains", "verdict": "contradicted", "estimate": -4.0, "low": -6.0, "high": -2.5}]
    figure = forest.forest(rows, {"supported": "shows here"})
    (ax,) = figure.axes
    bar, other = ax.patches
    assert bar.get_x() == 0.5 and bar.get_width() == pytest.approx(9.0 - 0.5), "to the end of the axis"
    diamonds = [line.get_xydata().tolist() for line in ax.lines if line.get_marker() == "D"]
    assert diamonds == [[[0.9, 0]], [[0.9, 1]]]
    effects = [(line.get_xydata().tolist(), line.get_color()) for line in ax.lines if line.get_marker() == "o"]
    assert effects == [([[2.0, 0]], forest.VERDICTS["supported"]), ([[-4.0, 1]], forest.VERDICTS["contradicted"])]
    spans = [sorted(part.vertices[:, 0] for part in bars.get_paths())[0].tolist() for bars in ax.collections]
    assert spans == [[1.0, 3.0], [-6.0, -2.5]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["br gains", "gcn gains"]
    told = [text.get_text() for text in figure.legends[0].texts]
    assert told[:2] == ["shows here", "contradicted"] and ax.lines[0].get_color() == INK
