"""Score against the weights of the heads."""

from __future__ import annotations

import numpy as np
import pytest

from study.paper.tables import TABLES
from study.report.figures import parameters
from tests.report.figures.conftest import means_of, points


def test_scores_lie_at_the_reported_parameter_counts(source, nothing):
    ours, paper = parameters.draw(source).axes
    for head, weights in (("GCN", 1000), ("stack", 3000)):  # for each unit of k, see fake_run
        expected = {(weights * k, round(mean, 6)) for k, mean in means_of(source, head).items()}
        assert expected <= {(x, round(y, 6)) for x, y in points(ours, source.looks[head].marker)}
    assert ours.get_xscale() == paper.get_xscale() == "log"
    cells = {cell.address: cell.paper for cell in TABLES["T2"].cells}
    printed = [(cells[f"T2/GCN params/{k}"], 100 * cells[f"T2/GCN/{k}"]) for k in (3, 5, 7, 9)]
    assert points(paper, source.looks["GCN"].marker) == pytest.approx(np.array(printed))
    assert parameters.draw(nothing) is None
