"""The look of every figure: text width, ink and matplotlib's settings; and the one function that writes a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

WIDTH_IN = 6.5
INK = "#3d3d3d"
RED = "#e3000f"
RC: dict[str, Any] = {
    "axes.edgecolor": "#8a8a8a", "axes.labelcolor": INK, "axes.linewidth": 0.6, "axes.titlelocation": "left",
    "axes.titlesize": 8, "axes.labelsize": 7.5, "font.family": ["DejaVu Sans"], "font.size": 7.5, "text.color": INK,
    "grid.color": "#e6e6e6", "grid.linewidth": 0.5, "legend.fontsize": 7, "legend.frameon": False, "xtick.color": INK,
    "lines.linewidth": 1.2, "lines.markersize": 4.5, "ytick.color": INK, "xtick.labelsize": 7, "ytick.labelsize": 7,
    # Text as outlines and ids from a fixed salt: the file depends neither on the machine's fonts nor on the time.
    "svg.fonttype": "path", "svg.hashsalt": "study",
}  # fmt: skip
mpl.rcdefaults()  # a user's own matplotlibrc would set what RC does not


def save(figure: Figure, path: Path, settings: dict[str, Any] = RC) -> Path:
    """Write a figure as SVG with matplotlib's ``settings``; equal figures give equal bytes."""
    with mpl.rc_context(settings):
        figure.savefig(path, format="svg", metadata={"Date": None})
    return path
