"""Figures of the search for each variant's best values: score against each value, and what decides the score."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator, ScalarFormatter

from study.report.figures import results
from study.report.figures.results import RC, Style
from study.report.figures.style import INK


@mpl.rc_context(RC)
def scores(trials: pd.DataFrame, value: str, shared: float, look: dict[str, Style]) -> Figure:
    """Last tune score against a searched ``value`` (log x): a panel a head family, a line a variant, its best filled.
    ``trials`` has one row a candidate that was trained to its end; ``shared`` is the value of the shared setting."""
    families = [family for family in look if family in set(trials["head"])]
    longest = trials.groupby("head")["label"].nunique().max()
    height = 2.6 + 0.13 * longest
    figure, axes = results.canvas(1, len(families), height, sharey=True)
    for ax, family in zip(axes[0], families, strict=True):
        members = trials[trials["head"] == family].sort_values(["kernel_size", "refine", "label"])
        labels, handles = list(dict.fromkeys(members["label"])), []
        for label, shade in zip(labels, results.shades(look[family], len(labels)), strict=True):
            points = members[members["label"] == label].sort_values(value)
            line: dict[str, Any] = {"color": shade, "ls": "--" if points["refine"].iloc[0] else "-", "linewidth": 1}
            ax.plot(points[value], points["score"] * 100, marker="o", mfc="white", ms=3.5, **line)
            chosen = points[points["best"]]
            ax.plot(chosen[value], chosen["score"] * 100, marker="o", ms=4, color=shade, ls="none")
            handles.append(Line2D([], [], **line, label=label.removeprefix(f"{family} ")))
        ax.axvline(shared, color=INK, lw=0.7, ls=":")
        ax.set(title=family, xscale="log", xlabel={"lr": "learning rate"}.get(value, value.replace("_", " ")))
        ticks = sorted(trials[value].unique())
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks], rotation=45)
        ax.xaxis.set_minor_locator(NullLocator())
        legend = ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.32), fontsize=6.5)
        legend.set_in_layout(False)  # long labels would narrow one panel; room for them is kept below
    below = (0.13 * longest + 0.15) / height
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, below, 1, 1 - below), wspace=0.06))
    axes[0, 0].set_ylabel("tune mIoU (%)")
    return figure


@mpl.rc_context(RC)
def importances(shares: pd.DataFrame) -> Figure:
    """The share of each ``parameter`` in the variance of the factorial's tune scores, in per cent."""
    shares = shares.sort_values("importance")
    figure, axes = results.canvas(1, 1, 0.75 + 0.26 * len(shares))
    names = [{"lr": "learning rate"}.get(name, name.replace("_", " ")) for name in shares["parameter"]]
    bars = axes[0, 0].barh(names, shares["importance"] * 100, color=results.BLUE, height=0.6)
    axes[0, 0].bar_label(bars, fmt="%.0f %%", padding=3, fontsize=7)
    axes[0, 0].set(xlabel="share of the variance of the tune score (fANOVA, %)", xlim=(0, 109))
    axes[0, 0].xaxis.set_major_formatter(ScalarFormatter())
    axes[0, 0].grid(False, axis="y")
    return figure
