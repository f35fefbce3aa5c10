"""Colours, markers and axes that the figures of results share; the only module that imports seaborn.

Scores come as fractions and are drawn in per cent. A head family keeps its colour (seaborn's colour-blind palette) and
its marker in every figure; boundary refinement (BR) is a dashed line or a hollow marker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from study.report.figures import style
from study.report.figures.style import INK, WIDTH_IN
from study.spec.documents.plan import PlanFile

DODGE = {"kxk": 0.25, "stack": -0.25}
VARIANT_COLUMNS = ["label", "head", "kernel_size", "refine", "width", "data"]

BLUE, ORANGE, GREEN, RED, PINK, BROWN, ROSE, GREY, YELLOW, SKY = sns.color_palette("colorblind").as_hex()
RC = sns.axes_style("whitegrid") | style.RC


class Style(NamedTuple):
    colour: str
    marker: str


def styles(plan: PlanFile) -> dict[str, Style]:
    """Colour and marker of every head family of a plan; a family the paper does not have takes the next free pair."""
    known = {"1x1": Style(INK, "D"), "GCN": Style(BLUE, "o"), "kxk": Style(ORANGE, "s"), "stack": Style(GREEN, "^")}
    free = [Style(c, m) for c, m in zip((PINK, RED, SKY, BROWN), ("v", "P", "X", "<"), strict=True)]
    others = sorted({item["head"] for item in [*plan["cells"], *plan["trainings"].values()]} - set(known))
    return known | {family: free[index % len(free)] for index, family in enumerate(others)}


def described(frame: pd.DataFrame, plan: PlanFile) -> pd.DataFrame:
    """``frame`` (any frame with the column address) plus VARIANT_COLUMNS of each cell's variant."""
    cells = pd.DataFrame(plan["cells"])[["address", *VARIANT_COLUMNS]]
    return frame.merge(cells, on="address", how="left", validate="many_to_one")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as SVG; equal figures give equal bytes."""
    return style.save(figure, path, RC)


def canvas(rows: int, columns: int, height_in: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure with axes (rows, columns); call inside ``rc_context(RC)``."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout=ConstrainedLayoutEngine(wspace=0.06))
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    sns.despine(fig=figure)
    return figure, axes


def shades(style: Style, number: int) -> list[tuple[float, ...]]:
    """This many shades of a family's colour, from light to its own."""
    return list(sns.light_palette(style.colour, number + 2)[2:])


def bars(ax: Axes, points: pd.DataFrame, x: str, style: Style, line: str = "-", **options: Any) -> None:
    """Means with their 95 % intervals (none with a single seed), all in per cent, joined in the order of x."""
    points = points.sort_values(x)
    half = ((points["high"] - points["mean"]) * 100).fillna(0)
    look: dict[str, Any] = {
        "color": style.colour,
        "marker": style.marker,
        "linestyle": line,
        "capsize": 2,
        "elinewidth": 0.8,
    }
    ax.errorbar(points[x], points["mean"] * 100, yerr=half, **(look | options))


def family_legend(figure: Figure, families: Iterable[str], look: dict[str, Style], more: Sequence[Line2D] = ()) -> None:
    names = [family for family in look if family in set(families)]
    handles = [Line2D([], [], color=look[f].colour, marker=look[f].marker, label=f) for f in names]
    figure.legend(handles=[*handles, *more], loc="outside lower center", ncols=len(handles) + len(more))


def plain_variants(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of variants that differ in head family and kernel size only: no BR, full width, one head for all levels."""
    full = frame["width"].isna() | (frame["width"].astype(float) == 1)
    mixed = frame["label"].str.contains("(", regex=False)
    return frame[full & ~mixed & ~frame["refine"].astype(bool)]


def against_k(ax: Axes, means: pd.DataFrame, seeds: pd.DataFrame | None, look: dict[str, Style], line: str) -> None:
    """One line per family over k. The 1x1 head is a marker at k = 1 and a dotted line to compare with."""
    sizes = sorted(means["kernel_size"].unique())
    for family, points in means.groupby("head", sort=False):
        # Intervals of several families at one k would hide each other.
        aside = DODGE.get(family, 0.0)
        bars(ax, points.assign(kernel_size=points["kernel_size"] + aside), "kernel_size", look[family], line)
        if family == "1x1":
            ax.axhline(float(points["mean"].iloc[0]) * 100, color=look[family].colour, lw=0.7, ls=":", zorder=1)
        if seeds is not None:
            dots = seeds[seeds["head"] == family]
            options: dict[str, Any] = {"s": 9, "color": look[family].colour, "alpha": 0.35, "linewidths": 0}
            ax.scatter(dots["kernel_size"] + aside, dots["value"] * 100, **options)
    ax.set_xticks(sizes if len(sizes) < 14 else sizes[::2])
    ax.set_xlabel("kernel size k")


def literal(text: str) -> str:
    """A user's text as it is: Matplotlib would set text between two dollars as a formula."""
    return text.replace("$", r"\$")
