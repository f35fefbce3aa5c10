"""Score against cost."""

from __future__ import annotations

import pandas as pd
import pytest

from study.report.figures import costs
from tests.report.figures.conftest import points

COLUMNS = ["label", "head", "kernel_size", "refine", "width", "data", "mean", "high", *costs.PANELS]
ROWS = [
    ["1x1", "1x1", 1, False, None, "main", 0.5, 0.51, 1_000, 2_000_000, 10.0, 500.0],
    ["GCN k=3", "GCN", 3, False, None, "main", 0.6, 0.62, 3_000, 5_000_000, 12.0, 510.0],
    ["GCN k=7", "GCN", 7, False, None, "main", 0.7, 0.72, 9_000, 9_000_000, None, 530.0],
]


def test_each_cost_panel_omits_what_was_not_measured(source):
    figure = costs.score_against_costs(pd.DataFrame(ROWS, columns=COLUMNS), source.looks)
    found = {ax.get_xlabel(): points(ax, source.looks["GCN"].marker).tolist() for ax in figure.axes}
    assert found == {
        "parameters of the heads": [[3_000, 60], [9_000, 70]],
        "multiply-adds of the network on one image, millions": [[5, 60], [9, 70]],
        "seconds per training": [[12, 60]],
        "peak memory per training, MiB": [[510, 60], [530, pytest.approx(70)]],
    }
    assert {ax.get_xscale() for ax in figure.axes} == {"log"}
