"""Confusions of the headline networks: per cent of each class's pixels by predicted class (D132)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from study.paper.headline import HEADLINE, file_name
from study.report.figures.families import RC, canvas, literal
from study.report.figures.plate import Plate, Source
from study.report.figures.style import INK, WIDTH_IN
from study.statistics import per_class

MOST = 30  # classes shown; of more, the most frequent of the training split
NUMBERED = 24  # with more classes there is no room to write per cents
LONGEST = 26  # letters of a class's name
OTHERS = "all others"
SIDE_IN, LARGEST_PT = 0.3, 7.0  # largest side of a square, and largest type
TITLE = "Which class is taken for which: {}"
CAPTION = (
    "Per cent of the val pixels of each class (a row) that are predicted as each class (a column). The diagonal is "
    "correct; an empty square is below 0.5 %. One network, trained with the first seed. With more than 30 classes, the "
    "rarest of the training split are added up; confusion/ has the counts of all."
)


def drawn_for(address: str) -> Callable[[Source], Figure | None]:
    """A function that draws a headline cell's confusions, or returns None if they were not counted."""

    def draw(source: Source) -> Figure | None:
        matrix = per_class.confusions(source.plan, source.folder / "examined").get(address)
        if matrix is None:
            return None
        cell = next(cell for cell in source.plan["cells"] if cell["address"] == address)
        facts = source.plan["data"][cell["data"]]
        return confusion(*most_frequent(matrix, facts["classes"], facts["pixels"]))

    return draw


def most_frequent(
    matrix: np.ndarray, classes: Sequence[str], pixels: Sequence[int], most: int = MOST
) -> tuple[np.ndarray, list[str]]:
    """Counts (K, K) [label, prediction] and at most ``most`` classes; the rarest by ``pixels`` are added up."""
    if len(classes) <= most:
        return matrix, list(classes)
    kept = np.sort(np.argsort(-np.array(pixels), kind="stable")[: most - 1])
    rest = np.setdiff1d(np.arange(len(classes)), kept)
    parts = [np.array([label]) for label in kept] + [rest]
    added = np.array([[matrix[np.ix_(row, column)].sum() for column in parts] for row in parts])
    return added, [*(classes[label] for label in kept), OTHERS]


@mpl.rc_context(RC)
def confusion(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """One square per pair of classes, the darker the more of a row's pixels it holds. A row without pixels stays
    empty."""
    pixels = matrix.sum(1, keepdims=True)
    share = np.divide(100 * matrix, pixels, out=np.full(matrix.shape, np.nan), where=pixels > 0)
    number = len(classes)
    names = [literal(name if len(name) <= LONGEST else name[: LONGEST - 1] + "\u2026") for name in classes]
    longest = max(TextPath((0, 0), name, LARGEST_PT).get_extents().width for name in names)
    words = longest / 72 + 0.4  # inches for the names and the axis label
    side = min(SIDE_IN, (WIDTH_IN - words) / number)
    figure, axes = canvas(1, 1, side * number + words)
    ax = axes[0, 0]
    ax.imshow(share, cmap="Blues", vmin=0, vmax=100, interpolation="none")
    size = min(LARGEST_PT, 32 * side)
    ax.set_xticks(range(number), names, rotation=90, fontsize=size)
    ax.set_yticks(range(number), names, fontsize=size)
    ax.set(xlabel="predicted", ylabel="true")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.xaxis.set_label_position("top")
    ax.xaxis.tick_top()
    for row, column in np.argwhere(np.nan_to_num(share) >= 0.5) if number <= NUMBERED else ():
        colour = "white" if share[row, column] > 55 else INK
        ax.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", fontsize=size, color=colour)
    for row in np.flatnonzero(pixels[:, 0] == 0):
        ax.text(0, row, "not in val", va="center", fontsize=size, color="#8a8a8a")
    return figure


def _named(address: str) -> str:
    """A cell in words, without its column if there is only one score per row."""
    table, *parts = address.split("/")
    return ", ".join([f"Table {table.removeprefix('T')}", *(part for part in parts if part != "overall")])


PLATES = tuple(
    Plate(f"confusion-{file_name(address)}", TITLE.format(_named(address)), CAPTION, drawn_for(address))
    for address in HEADLINE
)
