"""The effect behind each verdict, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator, ScalarFormatter

from study.report.figures.families import BROWN, GREEN, GREY, RC, RED, canvas
from study.report.figures.style import INK
from study.spec.documents.verdicts import VerdictRow

TITLE = "Effects behind the verdicts"
CAPTION = (
    "The deciding part of each claim that was tested, with its interval on these images; logarithmic beyond one "
    "point. Pale: where the claim says it lies. Hollow: the paper's own number, from other data."
)
VERDICTS = {"supported": GREEN, "contradicted": RED, "no difference": BROWN, "undecided": GREY}


@mpl.rc_context(RC)
def forest(rows: Sequence[VerdictRow], names: dict[str, str]) -> Figure:
    """A line a claim: the effect of its deciding part with its interval, what the claim says of it (the pale bar) and
    the paper's own number (the hollow diamond); all in points. ``rows`` are those of verdicts.json with an interval,
    ``names`` what verdicts are called, where not by their own name."""
    height = 0.55 + 0.2 * len(rows)
    figure, axes = canvas(1, 1, height)
    ends = [abs(end or 0) for row in rows for end in (row["low"], row["high"], row["paper"])]
    ax, reach = axes[0, 0], 1.5 * max(1.0, *ends)
    for place, row in enumerate(rows):
        low, high = (reach * sign if bound is None else bound
                     for bound, sign in zip(row["bounds"], (-1, 1), strict=True))  # fmt: skip
        ax.barh(place, high - low, left=low, height=0.72, color="#eef3f7", zorder=0)
        colour = VERDICTS[row["verdict"]]
        ax.plot([row["paper"]], [place], marker="D", mfc="white", color=INK, markersize=3.5, ls="none", zorder=2)
        effect, below, above = (end or 0.0 for end in (row["estimate"], row["low"], row["high"]))
        ax.errorbar(
            [effect],
            [place],
            xerr=([effect - below], [above - effect]),
            color=colour,
            marker="o",
            capsize=2,
            elinewidth=1,
            zorder=3,
        )
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
