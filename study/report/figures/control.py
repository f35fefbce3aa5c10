"""Score against kernel size on the main set and on its controls."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from study.report.figures.families import RC, Style, against_k, canvas, family_legend, literal, plain_variants
from study.report.figures.plate import Plate, Source

TITLE = "The control: main set against control set"
CAPTION = "The same variants on each set. All y axes span the same number of points, so equal slopes look equal."


def draw(source: Source) -> Figure | None:
    """None unless both the main set and a control set have scores."""
    scored = source.scored[source.scored["metric"] == "miou"]
    listed = {"main", *(table["data"] for table in source.plan["tables"] if table["id"].startswith("C"))}
    sets = {name: data for name, data in source.plan["data"].items() if name in listed}
    scored = scored[scored["data"].isin(sets)]
    if source.leading.empty or scored[scored["data"] != "main"].empty:
        return None
    return control(scored, source.looks, {name: f"{name}: {data['name']}" for name, data in sets.items()})


@mpl.rc_context(RC)
def control(summary: pd.DataFrame, look: dict[str, Style], names: dict[str, str]) -> Figure:
    """Score by k on the main set and on each control set, for the variants of the control sets (``names``: data ->
    title). All axes have the same span, so that equal slopes look equal. ``summary`` has families.VARIANT_COLUMNS and
    one metric."""
    means = plain_variants(summary[summary["mean"].notna()]).drop_duplicates(["data", "label"])
    wanted = set(means[means["data"] != "main"]["label"])
    means = means[means["label"].isin(wanted)]
    figure, axes = canvas(1, len(names), 2.6)
    for ax, (data, title) in zip(axes[0], names.items(), strict=True):
        against_k(ax, means[means["data"] == data], None, look, "-")
        ax.set(title=literal(title), ylabel="mean IoU (%)")
    limits = [ax.get_ylim() for ax in axes[0]]
    span = max(high - low for low, high in limits)
    for ax, (low, high) in zip(axes[0], limits, strict=True):
        ax.set_ylim((low + high - span) / 2, (low + high + span) / 2)
    family_legend(figure, means["head"], look)
    return figure


PLATE = Plate("control", TITLE, CAPTION, draw)
