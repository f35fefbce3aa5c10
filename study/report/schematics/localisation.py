"""Fig. 1: classification, conventional segmentation and the Global Convolutional Network in cross-section."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from study.report.figures.plate import Plate, Source, anatomy
from study.report.schematics.block import extent, kernels
from study.report.schematics.canvas import GAP, QUIET, ROOM, TINTS, Point, Sketch, measure, render
from study.report.schematics.canvas import TITLE as TITLE_SIZE
from study.report.schematics.network import levels
from study.spec.documents.networks import Convolution, Description
from study.spec.errors import InputError

TITLE = "Figure 1. Classification, conventional segmentation, Global Convolutional Network"
CAPTION = (
    "A cross-section, drawn from the networks as the code builds them: ResNet-152 at 512x512. Maps are drawn as wide "
    "as the logarithm of their width; the classifier's lines lead to the cells that the score in the middle sees."
)
PITCH, FAN = 12.0, 46.0  # from map to map, and the height of the classifier's connections
SHOWN = 16  # about this many scores have their connections drawn
FAINT = "#dcdcdc"
TITLES = ("Classification", "Conventional segmentation", "Global convolutional network")


def draw(source: Source) -> Figure:
    """From examined/anatomy.json: the paper's network with the 1x1 head, and with GCN."""
    built = anatomy(source)
    return localisation(built["paper_local"], built["paper"])


def _coarsest(description: Description) -> tuple[int, list[list[Convolution]]]:
    """The number of the stage with the coarsest head, and that head's chains."""
    level = levels(description)[0]
    return [stage["name"] for stage in description["stages"]].index(level), description["heads"][level]


def reach(chains: list[list[Convolution]]) -> tuple[int, int]:
    """(height, width) in cells that one score of a head sees, by its largest chain; the kernels of a chain add up."""
    areas = [tuple(1 + sum(conv["kernel"][side] - 1 for conv in chain) for side in (0, 1)) for chain in chains]
    height, width = max(areas, key=lambda area: area[0] * area[1])
    return height, width


def _seen(cells: int, kernel: int, score: int | None = None) -> range:
    """The cells of a row that a score sees, by default the score in the middle."""
    score = cells // 2 if score is None else score
    return range(max(0, score - kernel // 2), min(cells, score + kernel // 2 + 1))


def _classifier_of(description: Description | None, size: list[int]) -> tuple[int, list[str]]:
    """How many cells across a classifier on a map of ``size`` reaches, and its description; None: pooling."""
    if description is None:
        height, width, first = 2 * size[0] + 1, 2 * size[1] + 1, "one score per class for the whole image,"
    else:
        chains = _coarsest(description)[1]
        (height, width), lines = reach(chains), kernels(chains)
        first = "head: " + " + ".join(f"({line})" if "," in line else line for line in lines)
    seen = extent((len(_seen(size[0], height)), len(_seen(size[1], width))))
    return width, [first, f"a score sees {seen} of {extent(size)} cells"]


def localisation(local: Description, dense: Description) -> Figure:
    """Fig. 1: A classification, B segmentation with the head of ``local``, C with that of ``dense``.

    A cross-section: maps are drawn as wide as the logarithm of their width in cells, and the classifier shows each cell
    of the coarsest head's map. Raises InputError if the two networks differ in more than their heads.
    """
    ups = [[step["size"] for step in told["steps"] if step["op"] == "up"] for told in (local, dense)]
    if (local["input"], local["stages"], ups[0]) != (dense["input"], dense["stages"], ups[1]):
        raise InputError(
            "the two networks of Fig. 1 must differ in their heads only, got other stages or deconvolutions; "
            "describe two variants of one network"
        )
    stages = local["stages"][: _coarsest(local)[0] + 1]
    downs = [("image", local["input"]), *((stage["name"], stage["size"]) for stage in stages)]
    size, scores = downs[-1][1], len(downs)
    named = [f"{name} {extent(found)}" for name, found in [*downs, *(("deconv", up) for up in ups[0])]]
    named.insert(scores, "scores")
    ys = [index * PITCH + (FAN - PITCH) * (index >= scores) for index in range(len(named))]
    classifiers = [_classifier_of(told, size) for told in (None, local, dense)]
    written = [measure(line) for _, lines in classifiers for line in lines] + [measure(t, 7) + 12 for t in TITLES]
    column = max(measure(line) for line in named) + 6
    panel = max((ROOM - column - 2 * GAP) / 3, *written)
    finest = max(found[1] for found in [*(found for _, found in downs), *ups[0]])

    def across(cells: int) -> float:
        return panel * (math.log2(cells) + 2) / (math.log2(finest) + 2)

    sketch = Sketch()
    for y, line in zip(ys, named, strict=True):
        sketch.words(column - 6, y, line, align="right", colour=QUIET)
    for index, (title, (kernel, lines)) in enumerate(zip(TITLES, classifiers, strict=True)):
        x, pooled = column + index * (panel + GAP) + panel / 2, index == 0
        sketch.words(x - panel / 2, -20, "ABC"[index], size=TITLE_SIZE, bold=True, align="left")
        sketch.words(x - panel / 2 + 12, -20, title, size=7, align="left")
        for y, (_, found) in zip(ys, downs[:-1], strict=False):
            sketch.box(x, y, across(found[1]), 8, "maps")
        _classifier(
            sketch, (x, ys[scores - 1]), across(size[1]), cells=size[1], scores=1 if pooled else size[1], kernel=kernel
        )
        for y, up in zip(ys[scores + 1 :], [] if pooled else ups[0], strict=False):
            sketch.box(x, y, across(up[1]), 8, "up")
        for position, line in enumerate(lines):
            sketch.words(x, ys[scores if pooled else -1] + 15 + 9 * position, line, colour=QUIET)
    return render(sketch)


def _classifier(sketch: Sketch, at: Point, width: float, cells: int, scores: int, kernel: int) -> None:
    """A row of cells, the scores FAN below, and between them what each score sees; the middle score is highlighted.

    ``scores`` is the number of cells, or 1.
    """
    (x, y), cell = at, width / cells
    xs = [x - width / 2 + (index + 0.5) * cell for index in range(cells)]
    middle, faint = cells // 2, range(0, cells if scores > 1 else 0, max(1, cells // SHOWN))
    for index in [*faint, middle]:
        target = xs[index] if scores > 1 else x
        colour, weight = (TINTS["seen"][1], 0.6) if index == middle else (FAINT, 0.35)
        for other in _seen(cells, kernel, index):
            sketch.line((xs[other], y + 4), (target, y + FAN - 4), arrow=False, colour=colour, width=weight)
    for index, left in enumerate(xs):
        sketch.box(left, y, cell, 8, "seen" if index in _seen(cells, kernel) else "maps")
        if scores > 1:
            sketch.box(left, y + FAN, cell, 8, "seen" if index == middle else "maps")
    if scores == 1:
        sketch.box(x, y + FAN, cell, 8, "seen")


PLATE = Plate("F1", TITLE, CAPTION, draw)
