"""Score against what a variant costs: weights, multiply-adds, seconds, memory."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from study.report.figures.families import RC, Style, canvas, family_legend, plain_variants
from study.report.figures.style import INK

TITLE = "Score against cost"
CAPTION = (
    "Small numbers: kernel size k, and width m of narrowed stacks. Bars: 95 % intervals over seeds. Seconds and memory "
    "were measured on this machine, with whatever else ran on it; memory is that of the whole process."
)
DECADE = 30  # ratio of the dearest to the cheapest below which an axis has more ticks than the powers of ten
PANELS = {  # cost -> (title of its axis, the axis's unit)
    "head_parameters": ("parameters of the heads", 1.0),
    "macs": ("multiply-adds of the network on one image, millions", 1e6),
    "train_s": ("seconds per training", 1.0),
    "peak_memory_mb": ("peak memory per training, MiB", 1.0),
}


@mpl.rc_context(RC)
def score_against_costs(points: pd.DataFrame, look: dict[str, Style]) -> Figure:
    """One panel per cost (PANELS, log x). ``points`` has one row per variant with VARIANT_COLUMNS, the costs, mean and
    high.

    Variants that differ only in head family and kernel size are joined in the order of k; others stand alone (hollow:
    with BR).
    """
    figure, axes = canvas(2, 2, 5.2, sharey=True)
    for ax, (cost, (title, unit)) in zip(axes.flat, PANELS.items(), strict=True):
        known = points.dropna(subset=cost).sort_values("kernel_size")
        for (family, refine), group in known.groupby(["head", "refine"], sort=False):
            style, plain = look[family], plain_variants(group)
            apart = group.drop(plain.index)
            ax.plot(plain[cost] / unit, plain["mean"] * 100, color=style.colour, lw=0.8)
            for part, face in ((plain, style.colour), (apart, "white" if refine else style.colour)):
                half = ((part["high"] - part["mean"]) * 100).fillna(0)
                ax.errorbar(part[cost] / unit, part["mean"] * 100, yerr=half, color=style.colour, marker=style.marker,
                            ls="none", capsize=2, elinewidth=0.8, markerfacecolor=face)  # fmt: skip
        for row in known.itertuples():
            place = (getattr(row, cost) / unit, row.mean * 100)
            narrow = "" if pd.isna(row.width) or row.width == 1 else f" m={row.width:.2g}"
            ax.annotate(f"{row.kernel_size}{narrow}", place, xytext=(3, 3), textcoords="offset points", fontsize=5.5,
                        color=look[row.head].colour)  # fmt: skip
        _logarithmic(ax, known[cost] / unit)
        ax.set(xlabel=title)
    for row in axes:
        row[0].set_ylabel("mean IoU (%)")
    hollow = Line2D([], [], color=INK, marker="o", markerfacecolor="white", ls="none", label="with BR")
    family_legend(figure, points["head"], look, [hollow] if points["refine"].any() else [])
    return figure


def _logarithmic(ax: Axes, values: pd.Series) -> None:
    ax.set_xscale("log")
    if len(values) and values.max() < DECADE * values.min():
        near = values.max() < 3 * values.min()
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7) if near else (1, 2, 5)))
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.xaxis.set_minor_locator(NullLocator())
