"""Score against the number of weights of the heads, ours and the paper's (Tables 2 and 4)."""

from __future__ import annotations

import json
import math

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from study.report.figures.families import RC, VARIANT_COLUMNS, Style, bars, canvas, family_legend, plain_variants
from study.report.figures.plate import Plate, Source
from study.report.figures.style import INK
from study.spec.documents.plan import PlanFile, labels_of

TITLE = "Score against head parameters"
CAPTION = (
    "Small numbers: kernel size k, and width m of narrowed stacks. Bars: 95 % intervals over seeds. Our counts cover "
    "the heads at all levels of this tier's network, the paper's only the head on res-5."
)


def draw(source: Source) -> Figure | None:
    """None if the main set has no score."""
    if source.leading.empty:
        return None
    return parameters(weights(source), paper_weights(source.plan), source.looks, next(iter(source.metrics.values())))


def weights(source: Source) -> pd.DataFrame:
    """One row per variant with the head parameters that its trainings report."""
    counts = {}
    for key, training in source.plan["trainings"].items():
        path = source.folder / "results" / key / "result.json"
        if training["data"] == "main" and training["label"] not in counts and path.is_file():
            counts[training["label"]] = json.loads(path.read_text(encoding="utf-8"))["head_parameters"]
    points = source.leading.drop_duplicates("label")
    return points.assign(head_parameters=points["label"].map(counts)).dropna(subset="head_parameters")


def paper_weights(plan: PlanFile) -> pd.DataFrame:
    """One row per variant for which the paper prints both a score and a parameter count."""
    cells = [cell for cell in plan["cells"] if cell["paper"] is not None]
    counts = {cell["label"]: cell["paper"] for cell in cells if cell["metric"] == "parameters"}
    scored = {cell["label"]: cell for cell in cells if cell["metric"] == "miou" and cell["label"] in counts}
    rows = [
        labels_of(cell) | {"head_parameters": counts[label], "mean": cell["paper"], "high": math.nan}
        for label, cell in scored.items()
    ]
    return pd.DataFrame(rows, columns=[*VARIANT_COLUMNS, "head_parameters", "mean", "high"])


@mpl.rc_context(RC)
def parameters(ours: pd.DataFrame, paper: pd.DataFrame, look: dict[str, Style], title: str) -> Figure:
    """Score against the number of head parameters (log x). Both frames have one row per variant with VARIANT_COLUMNS,
    head_parameters, mean and high."""
    figure, axes = canvas(1, 1 + (len(paper) > 0), 2.9)
    for ax, points, line in zip(axes[0], (ours, paper), ("-", "--"), strict=False):
        for (family, refine), group in points.groupby(["head", "refine"], sort=False):
            plain, face = plain_variants(group), "white" if refine else look[family].colour
            bars(ax, plain, "head_parameters", look[family], line, linewidth=0.8)
            bars(ax, group.drop(plain.index), "head_parameters", look[family], "none", markerfacecolor=face)
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


PLATE = Plate("parameters", TITLE, CAPTION, draw)
