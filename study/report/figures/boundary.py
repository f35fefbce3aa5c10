"""Accuracy near boundaries against accuracy inside objects (Table 5)."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.report.figures.families import GREY, RC, Style, canvas
from study.report.figures.plate import Plate, Source

TITLE = "Accuracy near boundaries against accuracy inside"
CAPTION = (
    "The rows of Table 5 with 95 % intervals over seeds. Higher is better near object boundaries, further right is "
    "better inside."
)


def draw(source: Source) -> Figure | None:
    """None if Table 5 has no boundary accuracy."""
    scored = source.scored
    if scored[(scored["table"] == "T5") & (scored["metric"] == "boundary_accuracy")].empty:
        return None
    return boundary(source.summary, source.looks)


@mpl.rc_context(RC)
def boundary(summary: pd.DataFrame, look: dict[str, Style]) -> Figure:
    """Boundary against internal accuracy of Table 5's rows, ours and the paper's. ``summary`` has
    families.VARIANT_COLUMNS."""
    table = summary[summary["table"] == "T5"]
    sides = [table[table["metric"] == f"{side}_accuracy"].set_index("row") for side in ("internal", "boundary")]
    figure, axes = canvas(1, 2, 2.5)
    for ax, source, title in zip(axes[0], ("mean", "paper"), ("this study", "the paper, VOC 2012 val"), strict=True):
        x, y = (side[source].dropna() * 100 for side in sides)
        ax.plot(x, y, color=GREY, lw=0.8, zorder=1)
        for row in x.index:
            variant = sides[0].loc[row]
            style = look[variant["head"]]
            # The paper has one training per row, hence no interval.
            halves = [np.nan_to_num(side.loc[row, "high"] - side.loc[row, "mean"]) * 100 for side in sides]
            errors = [0, 0] if source == "paper" else halves
            ax.errorbar(x[row], y[row], xerr=errors[0], yerr=errors[1], color=style.colour, marker=style.marker,
                        capsize=2, elinewidth=0.8, mfc="white" if variant["refine"] else style.colour)  # fmt: skip
            ax.annotate(row, (x[row], y[row]), (5, 4), textcoords="offset points", fontsize=7, color=style.colour)
        ax.margins(0.25)
        ax.set(title=title, xlabel="internal accuracy (%)", ylabel="boundary accuracy (%)")
    return figure


PLATE = Plate("boundary", TITLE, CAPTION, draw)
