"""Blocks of convolutions, drawn alike in every figure: branches side by side, their join, a skip, and labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from study.report.schematics.canvas import ARROW, BY, NAME, Point, Sketch, measure
from study.spec.documents.networks import Convolution
from study.spec.errors import InputError


def extent(numbers: Iterable[int | str]) -> str:
    """Sizes joined as in 16×16×2048."""
    return BY.join(str(number) for number in numbers)


def convolution(conv: Convolution, times: int = 1) -> list[str]:
    """The text in the box of a convolution."""
    return [extent(conv["kernel"]), f"{conv['in']} → {conv['out']}", *([f"{times} times"] if times > 1 else [])]


def runs(chain: Sequence[Any]) -> list[tuple[Any, int]]:
    """A chain in which three or more equal items in a row appear once, with their number."""
    grouped = [(thing, len(list(group))) for thing, group in groupby(chain)]
    return [pair for thing, n in grouped for pair in ([(thing, n)] if n > 2 else [(thing, 1)] * n)]


def kernels(chains: list[list[Convolution]]) -> list[str]:
    """One line per chain, such as 15×1, 1×15."""
    return [
        ", ".join(extent(kernel) + (f" ({times} times)" if times > 1 else "") for kernel, times in runs(chain))
        for chain in ([conv["kernel"] for conv in chain] for chain in chains)
    ]


def _chain(sketch: Sketch, x: float, y: float, width: float, chain: Sequence[Convolution]) -> float:
    """Draw arrows and convolutions from ``y`` downwards. Returns the lower edge of the last one."""
    for conv, times in runs(chain):
        lines = convolution(conv, times)
        strips = [(kind, word) for kind, word in (("norm", "BN"), ("relu", "ReLU")) if conv.get(kind)]
        height = 8 * len(lines) + 5
        sketch.line((x, y), (x, y + ARROW))
        if times > 1:  # the sheet behind
            sketch.box(x + 2.5, y + ARROW + height / 2 + 2.5, width, height, "conv")
        sketch.box(x, y + ARROW + height / 2, width, height=height, kind="conv", lines=lines)
        y += ARROW + height + (2.5 if times > 1 else 0)
        for index, strip in enumerate(strips):
            part = width / len(strips)
            sketch.strip(x + (index + 0.5) * part - width / 2, y + 5, part, 10, *strip)
        y += 10 if strips else 0
    return y


def block(inputs: str, branches: Sequence[Sequence[Convolution]], outputs: str, *, join: str | None = None,
          after: Sequence[Convolution] = (), skip: str | None = None, relu: bool = False) -> Sketch:  # fmt: skip
    """Branches of convolutions {kernel, in, out, norm, relu} side by side, joined, then ``after``, then the skip added,
    then a ReLU.

    Raises InputError for several branches without a ``join`` (sum or concat): a drawing must not guess it.
    """
    if join not in ("sum", "concat") and len(branches) > 1:
        raise InputError(f"branches must be joined by sum or concat, got {join!r}; name it in the block's description")
    sketch = Sketch()
    written = [line for chain in (*branches, after) for pair in runs(chain) for line in convolution(*pair)]
    width = max(46.0, *(measure(line, NAME, True) + 8 for line in (*written, inputs, outputs)))
    xs = [width / 2 + index * (width + 10) for index in range(len(branches))]
    right, middle = xs[-1] + width / 2, sum(xs) / len(xs)
    part = 0.0 if skip in (None, "identity") else measure(skip) + 10  # width of a box on the skip
    lane = right + 8 + max(part / 2, 6)
    edge = right if skip is None else lane + 6
    sketch.box(edge / 2, 7, edge, height=14, kind="maps", lines=[inputs])
    ends = [_chain(sketch, x, 14, width, chain) for x, chain in zip(xs, branches, strict=True)]
    y = max(ends)
    if len(branches) > 1:
        y = _joined(sketch, list(zip(xs, ends, strict=True)), middle, right, join)
    y = _chain(sketch, middle, y, width, after)
    if skip is not None:
        node = y + ARROW + 5
        sketch.line((middle, y), (middle, node - 5))
        sketch.plus(middle, node)
        half = (14 + node) / 2
        if part:
            sketch.line((lane, 14), (lane, half - 8))
            sketch.strip(lane, half, part, height=16, kind="conv", text=skip)
            sketch.line((lane, half + 8), (lane, node), (middle + 5, node))
        else:
            sketch.line((lane, 14), (lane, node), (middle + 5, node))
            sketch.words(lane + 4, half, skip, align="left")
        y = node + 5
    if relu:
        sketch.line((middle, y), (middle, y + ARROW))
        sketch.strip(middle, y + ARROW + 5, width, height=10, kind="relu", text="ReLU")
        y += ARROW + 10
    sketch.line((middle, y), (middle, y + ARROW))
    sketch.box(middle, y + ARROW + 7, width, height=14, kind="maps", lines=[outputs])
    return sketch


def _joined(sketch: Sketch, ends: Sequence[Point], middle: float, width: float, join: str | None) -> float:
    """Bring the ends of several branches to one node. Returns its lower edge."""
    node = max(y for _, y in ends) + ARROW + 6
    if join == "concat":
        for x, y in ends:
            sketch.line((x, y), (x, node - 6))
        sketch.box(middle, node, width, height=12, kind="join", lines=["concatenate"])
        return node + 6
    sketch.plus(middle, node)
    for x, y in ends:
        if abs(x - middle) < 1:
            sketch.line((x, y), (x, node - 5))
        else:
            sketch.line((x, y), (x, node), (middle + (5 if x > middle else -5), node))
    return node + 5
