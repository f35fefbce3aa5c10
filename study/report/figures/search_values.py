"""Tune score against a value that was searched for each variant."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from study.report.figures.families import RC, Style, canvas, shades
from study.report.figures.style import INK

TITLE = "Tune score against {value}"
CAPTION = (
    "One line per variant, over the candidates that were trained to the end. Filled: the best that never fell behind. "
    "Dotted: the shared setting. One tuning seed unless the tier sets more."
)


@mpl.rc_context(RC)
def scores(trials: pd.DataFrame, value: str, shared: float, look: dict[str, Style]) -> Figure:
    """Last tune score against a searched ``value`` (log x): one panel per head family, one line per variant, its best
    filled. ``trials`` has one row per candidate that was trained to the end; ``shared`` is the value of the shared
    setting."""
    families = [family for family in look if family in set(trials["head"])]
    longest = trials.groupby("head")["label"].nunique().max()
    height = 2.6 + 0.13 * longest
    figure, axes = canvas(1, len(families), height, sharey=True)
    for ax, family in zip(axes[0], families, strict=True):
        members = trials[trials["head"] == family].sort_values(["kernel_size", "refine", "label"])
        labels, handles = list(dict.fromkeys(members["label"])), []
        for label, shade in zip(labels, shades(look[family], len(labels)), strict=True):
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
        legend.set_in_layout(False)  # long labels would narrow one panel, so room is kept below
    below = (0.13 * longest + 0.15) / height
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, below, 1, 1 - below), wspace=0.06))
    axes[0, 0].set_ylabel("tune mIoU (%)")
    return figure
