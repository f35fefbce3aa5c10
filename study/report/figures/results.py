"""Tidy frames -> figures. Pure functions: no file is read, and only ``save`` writes.

Scores come as fractions and are drawn in per cent. A head family keeps its colour (seaborn's colour-blind palette) and
its marker in every figure; boundary refinement (BR) is a dashed line or a hollow marker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from study.report.figures import style as look
from study.report.figures.style import INK, WIDTH_IN

DODGE = {"kxk": 0.25, "stack": -0.25}
VARIANT_COLUMNS = ["label", "head", "kernel_size", "refine", "width", "data"]

BLUE, _ORANGE, _GREEN, _RED, _PINK, _BROWN, _ROSE, _GREY, _YELLOW, _SKY = sns.color_palette("colorblind").as_hex()
VERDICTS = {"supported": _GREEN, "contradicted": _RED, "undecided": _GREY}
_VOID = (0.72, 0.72, 0.72)
RC = sns.axes_style("whitegrid") | look.RC


class Style(NamedTuple):
    colour: str
    marker: str


def styles(plan: dict[str, Any]) -> dict[str, Style]:
    """Colour and marker of every head family of a plan; a family the paper does not have takes the next free pair."""
    known = {"1x1": Style(INK, "D"), "GCN": Style(BLUE, "o"), "kxk": Style(_ORANGE, "s"), "stack": Style(_GREEN, "^")}
    free = [Style(c, m) for c, m in zip((_PINK, _RED, _SKY, _BROWN), ("v", "P", "X", "<"), strict=True)]
    others = sorted({item["head"] for item in [*plan["cells"], *plan["trainings"].values()]} - set(known))
    return known | {family: free[index % len(free)] for index, family in enumerate(others)}


def described(frame: pd.DataFrame, plan: dict[str, Any]) -> pd.DataFrame:
    """``frame`` (anything with the column address) plus VARIANT_COLUMNS of each cell's variant."""
    cells = pd.DataFrame([{name: cell[name] for name in ["address", *VARIANT_COLUMNS]} for cell in plan["cells"]])
    return frame.merge(cells, on="address", how="left", validate="many_to_one")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as SVG; equal figures give equal bytes."""
    return look.save(figure, path, RC)


def canvas(rows: int, columns: int, height_in: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure with axes (rows, columns); call inside ``rc_context(RC)``."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout=ConstrainedLayoutEngine(wspace=0.06))
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    sns.despine(fig=figure)
    return figure, axes


def shades(style: Style, number: int) -> list[tuple[float, ...]]:
    """That many shades of a family's colour, from light to its own."""
    return list(sns.light_palette(style.colour, number + 2)[2:])


def _bars(ax: Axes, points: pd.DataFrame, x: str, style: Style, line: str = "-", **options: Any) -> None:
    """Means with their 95 % intervals (none where only one seed is left), all in per cent, joined in x's order."""
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


def _against_k(ax: Axes, means: pd.DataFrame, seeds: pd.DataFrame | None, look: dict[str, Style], line: str) -> None:
    """One line a family over k; the 1x1 head is a marker at k = 1 and a dotted level to compare with."""
    sizes = sorted(means["kernel_size"].unique())
    for family, points in means.groupby("head", sort=False):
        # Intervals of several families at one k would hide each other.
        aside = DODGE.get(family, 0.0)
        _bars(ax, points.assign(kernel_size=points["kernel_size"] + aside), "kernel_size", look[family], line)
        if family == "1x1":
            ax.axhline(float(points["mean"].iloc[0]) * 100, color=look[family].colour, lw=0.7, ls=":", zorder=1)
        if seeds is not None:
            dots = seeds[seeds["head"] == family]
            options: dict[str, Any] = {"s": 9, "color": look[family].colour, "alpha": 0.35, "linewidths": 0}
            ax.scatter(dots["kernel_size"] + aside, dots["value"] * 100, **options)
    ax.set_xticks(sizes if len(sizes) < 14 else sizes[::2])
    ax.set_xlabel("kernel size k")


@mpl.rc_context(RC)
def kernel_size(frame: pd.DataFrame, summary: pd.DataFrame, look: dict[str, Style], names: dict[str, str]) -> Figure:
    """Score against k for every head: one panel a metric in ``names`` (metric -> title), the paper's panel last.

    ``frame`` and ``summary`` are described. The y axes differ on purpose: the scales of the data sets do.
    """
    means, seeds = plain_variants(summary[summary["data"] == "main"]), plain_variants(frame[frame["data"] == "main"])
    paper = means[(means["metric"] == "miou") & means["paper"].notna()].drop_duplicates("label")
    figure, axes = canvas(1, len(names) + (len(paper) > 0), 2.75)
    for ax, (metric, title) in zip(axes[0], names.items(), strict=False):
        ours = means[(means["metric"] == metric) & means["mean"].notna()].drop_duplicates("label")
        _against_k(ax, ours, seeds[seeds["metric"] == metric].drop_duplicates(["label", "seed"]), look, "-")
        ax.set(title="this study", ylabel=f"{title} (%)")
    if len(paper):
        _against_k(axes[0, -1], paper.assign(mean=paper["paper"], high=np.nan), None, look, "--")
        axes[0, -1].set(title="the paper, VOC 2012 val", ylabel="mean IoU (%)")
    family_legend(figure, means["head"], look)
    return figure


@mpl.rc_context(RC)
def parameters(ours: pd.DataFrame, paper: pd.DataFrame, look: dict[str, Style], title: str) -> Figure:
    """Score against the number of head parameters (log x). Both frames have one row a variant with VARIANT_COLUMNS,
    head_parameters, mean and high."""
    figure, axes = canvas(1, 1 + (len(paper) > 0), 2.9)
    for ax, points, line in zip(axes[0], (ours, paper), ("-", "--"), strict=False):
        for (family, refine), group in points.groupby(["head", "refine"], sort=False):
            plain, face = plain_variants(group), "white" if refine else look[family].colour
            _bars(ax, plain, "head_parameters", look[family], line, linewidth=0.8)
            _bars(ax, group.drop(plain.index), "head_parameters", look[family], "none", markerfacecolor=face)
        for row in points.itertuples():
            narrow = "" if pd.isna(row.width) or row.width == 1 else f" m={row.width:.2g}"
            ax.annotate(f"{row.kernel_size}{narrow}", (row.head_parameters, row.mean * 100), xytext=(3, 3),
                        textcoords="offset points", fontsize=5.5, color=look[row.head].colour)  # fmt: skip
        ax.set(xscale="log", xlabel="parameters of the heads", ylabel="mean IoU (%)")
    for ax, name in zip(axes[0], ("this study", "the paper: Tables 2 and 4, head on res-5"), strict=False):
        ax.set_title(name)
    axes[0, 0].set_ylabel(f"{title} (%)")
    hollow = Line2D([], [], color=INK, marker="o", markerfacecolor="white", ls="none", label="with BR")
    family_legend(figure, {*ours["head"], *paper["head"]}, look, [hollow] if ours["refine"].any() else [])
    return figure


@mpl.rc_context(RC)
def boundary(summary: pd.DataFrame, look: dict[str, Style]) -> Figure:
    """Boundary against internal accuracy of Table 5's rows, ours and the paper's (``summary`` is described)."""
    table = summary[summary["table"] == "T5"]
    sides = [table[table["metric"] == f"{side}_accuracy"].set_index("row") for side in ("internal", "boundary")]
    figure, axes = canvas(1, 2, 2.5)
    for ax, source, title in zip(axes[0], ("mean", "paper"), ("this study", "the paper, VOC 2012 val"), strict=True):
        x, y = (side[source].dropna() * 100 for side in sides)
        ax.plot(x, y, color=_GREY, lw=0.8, zorder=1)
        for row in x.index:
            variant = sides[0].loc[row]
            style = look[variant["head"]]
            # The paper has one training a row, hence no interval.
            halves = [np.nan_to_num(side.loc[row, "high"] - side.loc[row, "mean"]) * 100 for side in sides]
            errors = [0, 0] if source == "paper" else halves
            ax.errorbar(x[row], y[row], xerr=errors[0], yerr=errors[1], color=style.colour, marker=style.marker,
                        capsize=2, elinewidth=0.8, mfc="white" if variant["refine"] else style.colour)  # fmt: skip
            ax.annotate(row, (x[row], y[row]), (5, 4), textcoords="offset points", fontsize=7, color=style.colour)
        ax.margins(0.25)
        ax.set(title=title, xlabel="internal accuracy (%)", ylabel="boundary accuracy (%)")
    return figure


@mpl.rc_context(RC)
def learning_curves(curves: pd.DataFrame, look: dict[str, Style]) -> Figure:
    """Training loss (log) above, tune score below; a column a head family, a line a variant's mean over seeds."""
    families = [family for family in look if family in set(curves["head"])]
    order = curves.drop_duplicates("label").sort_values(["kernel_size", "refine", "label"])
    longest = order.groupby("head").size().max()
    height = 3.0 + 0.13 * longest
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
        legend = score.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.31), fontsize=6.5)
        # Long labels would make the layout narrow one column of axes; room for the legends is kept below instead.
        legend.set_in_layout(False)
    below = (0.13 * longest + 0.15) / height
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, below, 1, 1 - below), wspace=0.06))
    axes[0, 0].set(ylabel="training loss")
    axes[1, 0].set(ylabel="tune mIoU (%)")
    return figure


@mpl.rc_context(RC)
def forest(rows: Sequence[dict[str, Any]], names: dict[str, str]) -> Figure:
    """A line a claim: the effect of its deciding part with its interval, what the claim says of it (the pale bar) and
    the paper's own number (the hollow diamond); all in points. ``rows`` are those of verdicts.json with an interval,
    ``names`` what verdicts are called, where not by their own name."""
    height = 0.55 + 0.2 * len(rows)
    figure, axes = canvas(1, 1, height)
    ax, reach = axes[0, 0], 1.5 * max(1.0, *(abs(row[name] or 0) for row in rows for name in ("low", "high", "paper")))
    for place, row in enumerate(rows):
        low, high = (reach * sign if bound is None else bound
                     for bound, sign in zip(row["bounds"], (-1, 1), strict=True))  # fmt: skip
        ax.barh(place, high - low, left=low, height=0.72, color="#eef3f7", zorder=0)
        colour = VERDICTS[row["verdict"]]
        ax.plot([row["paper"]], [place], marker="D", mfc="white", color=INK, markersize=3.5, ls="none", zorder=2)
        ends = [row["estimate"] - row["low"]], [row["high"] - row["estimate"]]
        ax.errorbar([row["estimate"]], [place], xerr=ends, color=colour, marker="o", capsize=2, elinewidth=1, zorder=3)
    ax.axvline(0, color=INK, lw=0.7)
    # Effects span two orders of magnitude: logarithmic beyond one point.
    ax.set_xscale("symlog", linthresh=1)
    ax.set(xlim=(-reach, reach), ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)), xlabel="points of per cent")
    ax.set_yticklabels([row["claim"].replace("_", " ") for row in rows])
    ticks = [tick for tick in (1, 3, 10, 30, 100) if tick < reach]
    ax.set_xticks([-tick for tick in ticks] + [0, *ticks])
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(False, axis="y")
    shown = [name for name in VERDICTS if any(row["verdict"] == name for row in rows)]
    handles: list[Any] = [
        Line2D([], [], color=VERDICTS[name], marker="o", label=names.get(name, name)) for name in shown
    ]
    handles += [Line2D([], [], color=INK, marker="D", mfc="white", ls="none", label="the paper's own number"),
                Patch(color="#dfe8ef", label="what the claim says")]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _literal(text: str) -> str:
    """A user's words as they are: between two dollars Matplotlib would set a formula."""
    return text.replace("$", r"\$")


def _colours(classes: int) -> np.ndarray:
    """(classes, 3) RGB in 0..1: the colour-blind palette first, then its darker and its lighter turns."""
    base = np.array(sns.color_palette([INK, _ORANGE, _SKY, _GREEN, _YELLOW, BLUE, _RED, _PINK, _BROWN, _ROSE]))
    return np.resize(np.concatenate([base, 0.55 * base[1:], 0.5 + base / 2]), (classes, 3))


@mpl.rc_context(RC)
def qualitative(
    images: np.ndarray, labels: np.ndarray, predictions: dict[str, np.ndarray], classes: Sequence[str]
) -> Figure:
    """Fig. 6: a row a sample, columns image, one a named prediction, truth.

    ``images`` (n, H, W, 3) uint8, ``labels`` and each prediction (n, H, W) uint8 with 255 for void (grey). What is
    predicted on padding (void to the end of the image) says nothing and is drawn as void.
    """
    inside = np.zeros(labels.shape, bool)
    for mask, label in zip(inside, labels != 255, strict=True):
        height, width = (np.flatnonzero(label.any(axis)).max(initial=-1) + 1 for axis in (1, 0))
        mask[:height, :width] = True
    columns = {name: np.where(inside, maps, 255) for name, maps in predictions.items()} | {"truth": labels}
    shown = np.unique(np.concatenate([maps.ravel() for maps in columns.values()]))
    shown = shown[shown < len(classes)]
    # Colours go to the classes in sight, in class order: few classes then keep to the colours that differ most.
    table = np.tile(np.array(_VOID), (256, 1))
    table[shown] = _colours(len(shown))
    ratio = images.shape[1] / images.shape[2]
    side = WIDTH_IN / (len(columns) + 1)
    handles = [Patch(color=table[index], label=_literal(classes[index])) for index in shown]
    handles += [Patch(color=_VOID, label="void")] if (labels == 255).any() else []
    longest = max(len(str(handle.get_label())) for handle in handles)
    abreast = min(len(handles), int(WIDTH_IN / (0.35 + 0.06 * longest)))  # inches of a legend entry
    lines = -(-len(handles) // abreast)
    figure, axes = canvas(len(images), len(columns) + 1, len(images) * side * ratio + 0.4 + 0.15 * lines)
    # Viewers smooth enlarged bitmaps, which would mix class colours: enlarge here, by whole pixels.
    times = max(1, 384 // images.shape[2])
    pictures = {"image": images, **{name: (table[maps] * 255).astype(np.uint8) for name, maps in columns.items()}}
    for column, (name, stack) in enumerate(pictures.items()):
        for row, picture in enumerate(stack):
            ax = axes[row, column]
            ax.imshow(picture.repeat(times, 0).repeat(times, 1), interpolation="none", aspect="auto")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        axes[0, column].set_title(name, loc="center", fontsize=7)
    figure.legend(handles=handles, loc="outside lower center", ncols=abreast, handlelength=1)
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0))
    return figure


@mpl.rc_context(RC)
def control(summary: pd.DataFrame, look: dict[str, Style], names: dict[str, str]) -> Figure:
    """Score by k on the main set and on each control set, for the variants of the control sets (``names``: data ->
    title). The axes have one span, so that equal slopes look equal. ``summary`` is described and of one metric."""
    means = plain_variants(summary[summary["mean"].notna()]).drop_duplicates(["data", "label"])
    wanted = set(means[means["data"] != "main"]["label"])
    means = means[means["label"].isin(wanted)]
    figure, axes = canvas(1, len(names), 2.6)
    for ax, (data, title) in zip(axes[0], names.items(), strict=True):
        _against_k(ax, means[means["data"] == data], None, look, "-")
        ax.set(title=_literal(title), ylabel="mean IoU (%)")
    limits = [ax.get_ylim() for ax in axes[0]]
    span = max(high - low for low, high in limits)
    for ax, (low, high) in zip(axes[0], limits, strict=True):
        ax.set_ylim((low + high - span) / 2, (low + high + span) / 2)
    family_legend(figure, means["head"], look)
    return figure
