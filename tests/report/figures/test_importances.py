"""What decides the score."""

from __future__ import annotations

import pandas as pd
import pytest

from study.report.figures import importances


def test_a_bar_is_as_long_as_its_share():
    shares = pd.DataFrame({"parameter": ["BR", "lr", "kernel size"], "importance": [0.1, 0.3, 0.6]})
    (ax,) = importances.importances(shares).axes
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([10, 30, 60])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["BR", "learning rate", "kernel size"]
