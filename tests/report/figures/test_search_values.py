"""Tune score against a searched value."""

from __future__ import annotations

import pandas as pd

from study.report.figures import search_values

LABELS = {"label": "GCN k=3", "head": "GCN", "kernel_size": 3, "refine": False}


def test_best_and_shared_settings_are_marked(source):
    rates = {0.001: 0.5, 0.01: 0.7, 0.1: 0.6}
    trials = pd.DataFrame([LABELS | {"lr": lr, "score": s, "best": lr == 0.01} for lr, s in rates.items()])
    (ax,) = search_values.scores(trials, "lr", 0.1, source.looks).axes
    line, best = (line for line in ax.lines if line.get_marker() == "o")
    assert line.get_xydata().tolist() == [[lr, 100 * score] for lr, score in rates.items()]
    assert line.get_markerfacecolor() == "white" and best.get_xydata().tolist() == [[0.01, 70]]
    (shared,) = (line for line in ax.lines if line.get_linestyle() == ":")
    assert set(shared.get_xdata()) == {0.1} and ax.get_xlabel() == "learning rate"
