"""Fig. 2 drawn from a network's description: the pipeline, its heads, its boundary refinement (BR), its numbers.

A ``Description`` is plain JSON, read off the built network: {"input": [H, W], "classes": K, "stages": [{"name",
"channels", "size": [h, w], "stride"}, ...] finest first, "levels": [...], "steps": [{"op": "head" | "refine" | "up" |
"add", "name", "level", "size": [h, w], "channels"}, ...] in order of execution, a head's own refinement right after it,
"heads": {level: [[{"kernel": [kh, kw], "in", "out"}, ...], ... chains]}, "refinement": [{"kernel", "in", "out",
"relu"}, ...] or None, "deconvolution": {"kernel", "stride", "channels"} or None, "parameters": {part: number}}.
Sizes are in cells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from matplotlib.figure import Figure

from study.report.figures.plate import Plate, Source, anatomy
from study.report.schematics import canvas
from study.report.schematics.block import block, extent, kernels
from study.report.schematics.canvas import ARROW, BY, GAP, NAME, QUIET, RADIUS, Sketch, measure
from study.spec.documents.networks import DecoderStep, Description

NOUNS = {"head": ("head", "heads"), "refine": ("boundary refinement (BR)", "boundary refinements (BR)"),
         "up": ("deconvolution", "deconvolutions"), "add": ("sum", "sums")}  # fmt: skip
COLUMN, HEADROOM = 360.0, 12.0  # height that panels next to A may fill; height of A's title
TALL, LINK = 13.0, 8.0  # a step of the decoder, and the arrow to the next one


@dataclass(eq=False)
class Row:
    """Everything at one size: a stage, the head on it, and the decoder's steps there from bottom to top."""

    name: str
    size: list[int]
    channels: int | None = None
    head: list[str] = field(default_factory=list)
    refined: bool = False
    steps: list[DecoderStep] = field(default_factory=list)

    def reach(self, upwards: bool) -> float:
        """How far the decoder's steps extend from the row's middle, which is at the sum if there is one."""
        sums = [index for index, step in enumerate(self.steps) if step["op"] == "add"]
        if not self.steps:
            return 0.0
        if not sums:
            return (len(self.steps) * (TALL + LINK) - LINK) / 2
        steps = len(self.steps) - 1 - sums[0] if upwards else sums[0]
        return steps * (TALL + LINK) + TALL / 2

    @property
    def half(self) -> float:
        """Half the height of the row's stage and head."""
        return (8 * max(2, len(self.head)) + 5) / 2


def laid_out(description: Description) -> list[Row]:
    """Rows from the image down: one per stage, and one more for each size that only the decoder has."""
    stages = [Row(s["name"], s["size"], s["channels"]) for s in description["stages"]]
    found = [Row("image", description["input"]), *stages]
    at = {row.name: row for row in stages}
    steps = description["steps"]
    row = at[_level(steps[0])]
    for index, step in enumerate(steps):
        if step["op"] == "head":
            at[_level(step)].head = ["head", *kernels(description["heads"][_level(step)])]
            continue
        if step["op"] == "refine" and steps[index - 1]["op"] == "head":
            at[_level(steps[index - 1])].refined = True
            continue
        if step["op"] == "add":
            row = at[_level(step)]
        elif step["op"] == "up":
            row = _row_of_up(found, row, steps[index:])
        row.steps.append(step)
    return found


def levels(description: Description) -> list[str]:
    """The levels of the heads, coarsest first."""
    return [_level(step) for step in description["steps"] if step["op"] == "head"]


def _level(step: DecoderStep) -> str:
    assert step["level"] is not None  # only a deconvolution and the BR after it have none
    return step["level"]


def _row_of_up(found: list[Row], below: Row, steps: list[DecoderStep]) -> Row:
    """The row where the deconvolution ``steps[0]`` ends: the level it is added to, else a row of its size, else a new
    row."""
    size = steps[0]["size"]
    later = next((s for s in steps[1:] if s["op"] in ("up", "add")), None)
    if later is not None and later["op"] == "add":
        return next(row for row in found if row.name == later["level"])
    above = found[: found.index(below)]
    same = [row for row in above if row.size == size]
    if not same:
        same = [Row("", size)]
        found.insert(sum(row.size[0] > size[0] for row in above), same[0])
    return same[-1]


def _maps(row: Row) -> str:
    return extent([*row.size, *([] if row.channels is None else [row.channels])])


def _box(lines: Iterable[str]) -> float:
    """Width of a box for these lines."""
    return max((measure(line, NAME, True) + 8 for line in lines), default=0.0)


def _heights(found: list[Row]) -> dict[Row, float]:
    """The middle of each row, such that neither stages and heads nor the decoder's steps of two rows overlap."""
    heights = {found[0]: 0.0}
    for above, below in pairwise(found):
        sides = above.half + below.half + (ARROW if below.name else 2)
        heights[below] = heights[above] + max(above.reach(False) + LINK + below.reach(True), sides)
    return heights


def pipeline(description: Description) -> Sketch:
    """Fig. 2A: the backbone down the left side, heads and their BR next to it, the decoder up the right side."""
    found, sketch = laid_out(description), Sketch()
    heights = _heights(found)
    deconvolution, last = description["deconvolution"], description["steps"][-1]
    labels = {"refine": "BR", "up": "" if deconvolution is None else f"deconv {BY}{deconvolution['stride']}"}
    widths = {op: _box([label]) for op, label in labels.items()}
    score = ["score map", extent([*last["size"], last["channels"]])]
    stage, head = _box(text for row in found for text in (row.name, _maps(row))), _box(t for r in found for t in r.head)
    trunk = stage + head + widths["refine"] + 6 * ARROW + _box(score) / 2

    stages = [row for row in found if row.name]
    for row in stages:
        sketch.box(stage / 2, heights[row], stage, height=21, kind="maps", lines=[row.name, _maps(row)])
    for above, below in pairwise(stages):
        sketch.line((stage / 2, heights[above] + 10.5), (stage / 2, heights[below] - 10.5))
    top: float | None = None  # upper edge of the decoder so far
    for row in reversed(found):
        y = heights[row]
        if row.head:
            x = stage + 2 * ARROW
            sketch.line((stage, y), (x, y))
            sketch.box(x + head / 2, y, head, height=8 * len(row.head) + 5, kind="conv", lines=row.head)
            x += head
            if row.refined:
                sketch.line((x, y), (x + ARROW, y))
                x += ARROW + widths["refine"]
                sketch.box(
                    x - widths["refine"] / 2, y, widths["refine"], height=TALL, kind="refine", lines=[labels["refine"]]
                )
            sketch.line((x, y), (trunk - (0 if top is None else RADIUS), y), arrow=top is not None)
        if row.steps or (row.head and top is None):
            words = extent([*row.size, description["classes"]])
            sketch.words(trunk + _box(score) / 2 + 4, y, words, align="left", colour=QUIET)
        top = y if row.head and top is None else top
        at = y + row.reach(False) - TALL / 2
        for step in row.steps:
            half = RADIUS if step["op"] == "add" else TALL / 2
            sketch.line((trunk, top or 0.0), (trunk, at + half))
            if step["op"] == "add":
                sketch.plus(trunk, at)
            else:
                sketch.box(trunk, at, widths[step["op"]], height=TALL, kind=step["op"], lines=[labels[step["op"]]])
            top, at = at - half, at - TALL - LINK
    top = top or 0.0
    sketch.line((trunk, top), (trunk, top - ARROW))
    sketch.box(trunk, top - ARROW - 10.5, _box(score), height=21, kind="maps", lines=score)
    return sketch


def _details(description: Description) -> list[tuple[str, Sketch, list[str]]]:
    """(title, body, words below): a panel for each kind of head, coarsest level first, and one for BR."""
    stages = {stage["name"]: stage for stage in description["stages"]}
    alike: dict[tuple[str, ...], list[str]] = {}
    for level in levels(description):
        alike.setdefault(tuple(kernels(description["heads"][level])), []).append(level)
    found = []
    for first, *others in alike.values():
        chains, size, inputs = description["heads"][first], stages[first]["size"], stages[first]["channels"]
        body = block(extent([*size, inputs]), chains, extent([*size, chains[0][-1]["out"]]), join="sum")
        below = [f"the same on {', '.join(others)},",
                 f"from {', '.join(str(stages[level]['channels']) for level in others)} channels"]  # fmt: skip
        found.append((f"Head on {first}", body, below if others else []))
    if description["refinement"] is not None:
        chain = description["refinement"]
        body = block(f"{chain[0]['in']} channels", [chain], f"{chain[-1]['out']} channels", skip="identity")
        found.append(("Boundary refinement (BR)", body, []))
    return found


def _numbers(description: Description) -> Sketch:
    """The number of each operation, in its colour, and the parameters of each part."""
    sketch, counts = Sketch(), Counter(step["op"] for step in description["steps"])
    sketch.box(7, 0, 14, 8, "maps")
    sketch.words(19, 0, f"maps: {extent(('height', 'width', 'channels'))}", align="left", colour=QUIET)
    y = 11.0
    for op, (one, several) in NOUNS.items():
        if not counts[op]:
            continue
        if op == "add":
            sketch.plus(7, y, 4)
        else:
            sketch.box(7, y, 14, 8, "conv" if op == "head" else op)
        up = description["deconvolution"]
        side = up["kernel"] if op == "up" and up else None
        words = f"{counts[op]} {one if counts[op] == 1 else several}" + (f", {extent((side, side))}" if side else "")
        sketch.words(19, y, words, align="left", colour=QUIET)
        y += 11
    parts = {name: f"{number:,}" for name, number in description["parameters"].items() if number}
    right = 19 + max((measure(name) + 8 + measure(number) for name, number in parts.items()), default=0.0)
    for index, (name, number) in enumerate({"parameters": "", **parts}.items() if parts else ()):
        sketch.words(19, y + 5 + 9.5 * index, name, align="left", bold=index == 0, colour=QUIET)
        if number:
            sketch.words(right, y + 5 + 9.5 * index, number, align="right", colour=QUIET)
    return sketch


def framework(description: Description) -> Figure:
    """Fig. 2: A the pipeline, then each kind of head and BR, and the numbers of its operations and parameters.

    The numbers are in the free corner between the backbone and the decoder, or below if it is not free.
    """
    left, numbers = canvas.titled("A", "The whole network", pipeline(description)), _numbers(description)
    corner = (left.marks[2].points[1][0] + 1.5 * ARROW, HEADROOM)
    if left.free(corner, (corner[0] + numbers.size[0] + 4, corner[1] + numbers.size[1])):
        left.place(numbers, *corner)
    else:
        left.place(numbers, 0, left.bounds[3] + GAP)
    panels = [canvas.titled(chr(ord("B") + n), *panel) for n, panel in enumerate(_details(description))]
    room, whole, y = canvas.ROOM - left.size[0] - GAP, Sketch(), 0.0
    whole.place(left, 0, 0)
    column = Sketch()
    while panels and panels[0].size[0] <= room and y + panels[0].size[1] <= max(left.size[1], COLUMN) + GAP:
        column.place(panels[0], 0, y)
        y += panels.pop(0).size[1] + GAP
    if column.marks:
        whole.place(column, left.size[0] + GAP + (room - column.size[0]) / 2, 0)
    if panels:
        whole.place(canvas.rows(panels), 0, whole.bounds[3] + GAP)
    return canvas.render(whole)


def of_paper(source: Source) -> Figure:
    """The paper's network, from examined/anatomy.json."""
    return framework(anatomy(source)["paper"])


def of_tier(source: Source) -> Figure:
    """The tier's own network."""
    return framework(anatomy(source)["tier"])


PLATES = (
    Plate(
        "F2",
        "Figure 2. The whole network, the GCN block and boundary refinement",
        "The paper's network (ResNet-152, 512x512, 21 classes, k = 15 with BR), drawn from the modules as the code "
        "builds them.",
        of_paper,
    ),
    Plate(
        "network",
        "The network of this tier",
        "As Figure 2, with this tier's backbone, levels and input.",
        of_tier,
    ),
)
