"""Training loss and tune score against steps."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from study.report.figures.families import RC, Style, canvas, shades

TITLE = "Learning curves"
CAPTION = (
    "Training loss (log) and tune score against steps: one column per head family, one line per variant (mean over "
    "seeds). Darker: larger k; dashed: with BR."
)


@mpl.rc_context(RC)
def learning_curves(curves: pd.DataFrame, look: dict[str, Style]) -> Figure:
    """Training loss (log) above, tune score below; one column per head family, one line per variant, its mean over
    seeds."""
    families = [family for family in look if family in set(curves["head"])]
    order = curves.drop_duplicates("label").sort_values(["kernel_size", "refine", "label"])
    longest = order.groupby("head").size().max()
    height = 2.4 + 0.13 * longest
    figure, axes = canvas(2, len(families), height, sharex=True, sharey="row")
    means = curves.groupby(["label", "kind", "step"], as_index=False)["value"].mean()
    for (loss, score), family in zip(axes.T, families, strict=True):
        variants, handles = order[order["head"] == family], []
        for row, shade in zip(variants.itertuples(), shades(look[family], len(variants)), strict=True):
            line: dict[str, Any] = {"color": shade, "linestyle": "--" if row.refine else "-", "linewidth": 1}
            for ax, kind, scale in ((loss, "loss", 1), (score, "score", 100)):
                points = means[(means["label"] == row.label) & (means["kind"] == kind)]
                ax.plot(points["step"], points["value"] * scale, **line)
            handles.append(Line2D([], [], **line, label=row.label.removeprefix(f"{family} ")))
        loss.set(title=family, yscale="log")
        loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        loss.yaxis.set_major_formatter(ScalarFormatter())
        loss.yaxis.set_minor_locator(NullLocator())
        score.set(xlabel="step")
        legend = score.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.42), fontsize=6.5)
        # Long labels would make the layout narrow one column of axes, so room for the legends is kept below instead.
        legend.set_in_layout(False)
    below = (0.13 * longest + 0.15) / height
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, below, 1, 1 - below), wspace=0.06))
    axes[0, 0].set(ylabel="training loss")
    axes[1, 0].set(ylabel="tune mIoU (%)")
    return figure
