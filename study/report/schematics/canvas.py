"""The parts of the schematic figures: boxes, arrows, sums and words.

A ``Sketch`` is a list of marks in points (1/72 inch, y downwards) that knows its own extent. Whatever is next to or
below it is placed by that extent, so nothing overlaps, whatever the network. A kind of operation has one colour in all
figures, light tints of seaborn's colour-blind palette; its words say the same without the colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

WIDTH_PT = 468.0  # 6.5 inches, the text width of the report
MARGIN, GAP, ARROW, RADIUS = 4.0, 16.0, 11.0, 5.0
ROOM = WIDTH_PT - 2 * MARGIN
TITLE, NAME, SMALL = 8.0, 6.5, 6.0  # type sizes; nothing is smaller than SMALL
INK, QUIET = "#3d3d3d", "#5f5f5f"
TINTS = {  # kind of operation -> (face, edge)
    "maps": ("#efefef", "#8a8a8a"),
    "conv": ("#cfe6f7", "#3c88b5"),
    "seen": ("#7db9e0", "#3c88b5"),
    "refine": ("#f0d9ec", "#a8609b"),
    "up": ("#f8f3b6", "#a1981f"),
    "norm": ("#ffffff", "#8a8a8a"),
    "relu": ("#cfe9df", "#2b8567"),
    "join": ("#ffffff", INK),
}
BY = "×"  # noqa: RUF001
ALIGNED = {"left": 0.0, "center": 0.5, "right": 1.0}  # the point of a line of text that is at x
Point = tuple[float, float]


class Mark(NamedTuple):
    """``points`` are what a mark covers: corners (box, words, sum), or the line itself."""

    what: str
    points: tuple[Point, ...]
    look: dict[str, Any]


def measure(words: str, size: float = SMALL, bold: bool = False) -> float:
    """Width of one line of text in points."""
    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    return text_to_path.get_text_width_height_descent(words, font, ismath=False)[0]


class Sketch:
    def __init__(self) -> None:
        self.marks: list[Mark] = []

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        xs, ys = zip(*(point for mark in self.marks for point in mark.points), strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def size(self) -> Point:
        left, top, right, bottom = self.bounds
        return right - left, bottom - top

    def words(self, x: float, y: float, text: str, *, size: float = SMALL, bold: bool = False, align: str = "center",
              colour: str = INK) -> None:  # fmt: skip
        """One line of text, centred vertically at ``y``; ``align`` says which part of it is at ``x``."""
        width = measure(text, size, bold)
        left = x - width * ALIGNED[align]
        corners = ((left, y - size * 0.6), (left + width, y + size * 0.6))
        self.marks.append(Mark("words", corners, {"text": text, "size": size, "bold": bold, "colour": colour,
                                                 "align": align}))  # fmt: skip

    def box(self, x: float, y: float, width: float, height: float, kind: str, lines: Sequence[str] = ()) -> None:
        """A box around (x, y) with its words, the first line in bold. A narrow one has sharp corners."""
        corners = ((x - width / 2, y - height / 2), (x + width / 2, y + height / 2))
        self.marks.append(Mark("box", corners, {"kind": kind}))
        for index, line in enumerate(lines):
            aside = (index - (len(lines) - 1) / 2) * (SMALL + 2)
            self.words(x, y + aside, line, size=SMALL if index else NAME, bold=index == 0)

    def strip(self, x: float, y: float, width: float, height: float, kind: str, text: str) -> None:
        """A box with one line of small text."""
        self.box(x, y, width, height, kind)
        self.words(x, y, text)

    def line(self, *points: Point, arrow: bool = True, colour: str = INK, width: float = 0.7) -> None:
        self.marks.append(Mark("line", points, {"arrow": arrow, "colour": colour, "width": width}))

    def plus(self, x: float, y: float, radius: float = RADIUS) -> None:
        """A sum; its rim is where arrows end."""
        self.marks.append(Mark("plus", ((x - radius, y - radius), (x + radius, y + radius)), {}))

    def free(self, corner: Point, opposite: Point) -> bool:
        """Whether no mark reaches into a rectangle."""
        spans = [tuple(zip(*mark.points, strict=True)) for mark in self.marks]
        return all(
            max(xs) <= corner[0] or min(xs) >= opposite[0] or max(ys) <= corner[1] or min(ys) >= opposite[1]
            for xs, ys in spans
        )

    def place(self, other: Sketch, x: float, y: float) -> None:
        """Put ``other`` with its upper left corner at (x, y)."""
        left, top, _, _ = other.bounds
        for mark in other.marks:
            self.marks.append(mark._replace(points=tuple((px - left + x, py - top + y) for px, py in mark.points)))


def titled(letter: str, title: str, body: Sketch, below: Iterable[str] = ()) -> Sketch:
    """A panel: its letter and title, the body under it, and lines of text at the end."""
    panel = Sketch()
    panel.words(0, 0, letter, size=TITLE, bold=True, align="left")
    panel.words(measure(letter, TITLE, True) + 5, 0, title, size=7, align="left")
    panel.place(body, 0, 11)
    bottom = panel.bounds[3]
    for index, line in enumerate(below):
        panel.words(body.size[0] / 2, bottom + 9 + 8.5 * index, line, colour=QUIET)
    return panel


def rows(panels: Sequence[Sketch], width: float = ROOM) -> Sketch:
    """Panels from left to right, in as many rows as needed; each row is centred."""
    lines: list[list[Sketch]] = [[]]
    for panel in panels:
        if lines[-1] and sum(p.size[0] + GAP for p in [*lines[-1], panel]) - GAP > width:
            lines.append([])
        lines[-1].append(panel)
    whole, y = Sketch(), 0.0
    for line in lines:
        spare = (width - sum(panel.size[0] for panel in line)) / max(len(line) - 1, 1)
        between = max(GAP, min(spare, 3 * GAP))
        x = max(0.0, (width - sum(panel.size[0] + between for panel in line) + between) / 2)
        for panel in line:
            whole.place(panel, x, y)
            x += panel.size[0] + between
        y += max(panel.size[1] for panel in line) + GAP
    return whole


def render(sketch: Sketch) -> Figure:
    """The figure, WIDTH_PT wide (wider only if a network needs it) and as high as its content."""
    page = Sketch()
    page.place(sketch, max(MARGIN, (WIDTH_PT - sketch.size[0]) / 2), MARGIN)
    width, height = max(WIDTH_PT, page.bounds[2] + MARGIN), page.bounds[3] + MARGIN
    figure = Figure(figsize=(width / 72, height / 72), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for depth, (what, points, look) in enumerate(page.marks):
        (left, top), (right, bottom) = points[0], points[-1]
        if what == "words":
            x = left + (right - left) * ALIGNED[look["align"]]
            axes.text(x, (top + bottom) / 2, look["text"], fontsize=look["size"], family=["DejaVu Sans"],
                      weight="bold" if look["bold"] else "normal", color=look["colour"], ha=look["align"],
                      va="center_baseline", zorder=1000 + depth, parse_math=False)  # fmt: skip
        elif what == "line" and not look["arrow"]:
            axes.plot(*zip(*points, strict=True), color=look["colour"], linewidth=look["width"], zorder=depth)
        elif what == "line":
            axes.add_patch(FancyArrowPatch(path=Path(points), arrowstyle="-|>,head_length=3,head_width=1.4",
                                           color=look["colour"], linewidth=look["width"], joinstyle="miter",
                                           capstyle="butt", mutation_scale=1, zorder=depth))  # fmt: skip
        elif what == "plus":
            x, y, radius = (left + right) / 2, (top + bottom) / 2, (right - left) / 2
            axes.add_patch(Circle((x, y), radius, facecolor="white", edgecolor=INK, linewidth=0.7, zorder=depth))
            for dx, dy in ((0.55 * radius, 0), (0, 0.55 * radius)):
                axes.plot((x - dx, x + dx), (y - dy, y + dy), color=INK, linewidth=0.9, zorder=depth)
        else:
            face, edge = TINTS[look["kind"]]
            rim = min(0.6, (right - left) / 8)  # rims of narrow cells would hide their colour
            shape = f"round,pad=0,rounding_size={1.5 if right - left > 9 else 0}"
            axes.add_patch(FancyBboxPatch((left, top), right - left, bottom - top, shape, facecolor=face,
                                          edgecolor=edge, linewidth=rim, zorder=depth))  # fmt: skip
    return figure
