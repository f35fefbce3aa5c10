"""Score against kernel size for every head: the paper's Tables 1 to 4 at a glance."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.report.figures.families import RC, Style, against_k, canvas, family_legend, plain_variants
from study.report.figures.plate import Plate, Source

TITLE = "Score against kernel size"
CAPTION = (
    "Markers: means over seeds with 95 % intervals, families set slightly apart. Faint dots: single seeds. Dotted "
    "line: the 1x1 head. Each panel has its own y axis."
)


def draw(source: Source) -> Figure | None:
    """None if the main set has no score."""
    if source.leading.empty:
        return None
    return kernel_size(source.frame, source.summary, source.looks, source.metrics)


@mpl.rc_context(RC)
def kernel_size(frame: pd.DataFrame, summary: pd.DataFrame, look: dict[str, Style], names: dict[str, str]) -> Figure:
    """Score against k for every head: one panel per metric in ``names`` (metric -> title), the paper's panel last.

    ``frame`` and ``summary`` have families.VARIANT_COLUMNS. The y axes differ on purpose, as the scales of the data
    sets do.
    """
    means, seeds = plain_variants(summary[summary["data"] == "main"]), plain_variants(frame[frame["data"] == "main"])
    paper = means[(means["metric"] == "miou") & means["paper"].notna()].drop_duplicates("label")
    figure, axes = canvas(1, len(names) + (len(paper) > 0), 2.75)
    for ax, (metric, title) in zip(axes[0], names.items(), strict=False):
        ours = means[(means["metric"] == metric) & means["mean"].notna()].drop_duplicates("label")
        against_k(ax, ours, seeds[seeds["metric"] == metric].drop_duplicates(["label", "seed"]), look, "-")
        ax.set(title="this study", ylabel=f"{title} (%)")
    if len(paper):
        against_k(axes[0, -1], paper.assign(mean=paper["paper"], high=np.nan), None, look, "--")
        axes[0, -1].set(title="the paper, VOC 2012 val", ylabel="mean IoU (%)")
    family_legend(figure, means["head"], look)
    return figure


PLATE = Plate("kernel_size", TITLE, CAPTION, draw)
