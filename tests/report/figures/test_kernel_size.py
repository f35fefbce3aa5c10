"""Score against kernel size."""

from __future__ import annotations

import numpy as np
import pytest

from study.paper.tables import TABLES
from study.report.figures import kernel_size
from study.report.figures.families import DODGE
from tests.report.figures.conftest import means_of, points


def test_scores_lie_at_their_own_kernel_size(source, nothing):
    ours, paper = kernel_size.draw(source).axes
    for head in ("GCN", "kxk", "stack"):
        expected = means_of(source, head)
        marked = points(ours, source.looks[head].marker)
        assert marked[:, 0] == pytest.approx(expected.index.to_numpy() + DODGE.get(head, 0))
        assert marked[:, 1] == pytest.approx(expected.to_numpy())
    printed = {c.variant.head.kernel_size: 100 * c.paper for c in TABLES["T1"].cells if c.variant.head.family == "GCN"}
    assert np.array_equal(points(paper, source.looks["GCN"].marker), sorted(printed.items()))
    assert kernel_size.draw(nothing) is None
