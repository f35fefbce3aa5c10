"""Training loss and tune score against steps."""

from __future__ import annotations

import numpy as np
import pytest

from study.report.figures import learning_curves
from study.statistics import results


def test_each_line_is_a_variants_mean_over_seeds(source):
    curves = results.curves(source.plan, source.folder / "results")
    curves = curves[curves["data"] == "main"]
    figure = learning_curves.learning_curves(curves, source.looks)
    families = [family for family in source.looks if family in set(curves["head"])]
    assert len(figure.axes) == 2 * len(families)
    for column, family in enumerate(families):
        loss, score = figure.axes[column], figure.axes[len(families) + column]
        members = curves[curves["head"] == family]
        for ax, kind, scale in ((loss, "loss", 1), (score, "score", 100)):
            means = members[members["kind"] == kind].groupby(["label", "step"])["value"].mean() * scale
            drawn = [line.get_ydata() for line in ax.lines]
            for label in members["label"].unique():
                assert any(np.allclose(line, means[label].to_numpy()) for line in drawn), label
        assert len(loss.lines) == members["label"].nunique() and loss.get_yscale() == "log"
    assert figure.axes[0].get_ylabel() == "training loss" and pytest.approx(0) != figure.axes[0].get_ylim()[0]
