"""What decides the tune score of the search."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from study.report.figures.families import BLUE, RC, canvas

TITLE = "What decides the score"
CAPTION = (
    "The share of each factor in the variance of the tune score over all combinations (fANOVA, main effects). The "
    "factors are kernel size ({factorial}; GCN, 1x1 for k = 1), BR and the searched values. The shares hold for these "
    "values only: a wider range gives a factor a larger share."
)


@mpl.rc_context(RC)
def importances(shares: pd.DataFrame) -> Figure:
    """The share of each ``parameter`` in the variance of the factorial's tune scores, in per cent."""
    shares = shares.sort_values("importance")
    figure, axes = canvas(1, 1, 0.75 + 0.26 * len(shares))
    names = [{"lr": "learning rate"}.get(name, name.replace("_", " ")) for name in shares["parameter"]]
    bars = axes[0, 0].barh(names, shares["importance"] * 100, color=BLUE, height=0.6)
    axes[0, 0].bar_label(bars, fmt="%.0f %%", padding=3, fontsize=7)
    axes[0, 0].set(xlabel="share of the variance of the tune score (fANOVA, %)", xlim=(0, 109))
    axes[0, 0].xaxis.set_major_formatter(ScalarFormatter())
    axes[0, 0].grid(False, axis="y")
    return figure
