"""The main set next to its control."""

from __future__ import annotations

import numpy as np
import pytest

from study.report.figures import control
from tests.report.figures.conftest import means_of, points


def test_both_panels_share_variants_and_axis_span(source, nothing):
    main, texture = control.draw(source).axes
    for ax, data in ((main, "main"), (texture, "texture")):
        expected = means_of(source, "GCN", data=data)
        assert points(ax, source.looks["GCN"].marker)[:, 1] == pytest.approx([expected[15]])
    assert np.ptp(main.get_ylim()) == pytest.approx(np.ptp(texture.get_ylim()))
    assert control.draw(nothing) is None
