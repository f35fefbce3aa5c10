"""Fig. 4: the four heads on one level, from the specification that the code trains."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from study.paper.tables import COUNTED_CHANNELS, COUNTED_CLASSES
from study.report.figures.plate import Plate, Source
from study.report.schematics.block import block
from study.report.schematics.canvas import render, rows, titled
from study.spec.documents.networks import Convolution
from study.spec.heads import Head, dense, gcn, stack

TITLE = "Figure 4. The four heads"
CAPTION = "On res-5 with 2048 channels and 21 classes, all with k = 7, from the specification that the code trains."
HEADS = {"GCN": gcn(7), "1\u00d71": dense(1), "k\u00d7k": dense(7), "stack of 3\u00d73": stack(7)}


def draw(source: Source) -> Figure:
    """The heads of Tables 2 and 4, as they count them."""
    return heads(HEADS, COUNTED_CHANNELS, COUNTED_CLASSES)


def heads(named: Mapping[str, Head], in_channels: int, classes: int) -> Figure:
    """Fig. 4: one panel per head (title -> head) on a level of ``in_channels``, with its number of weights."""
    panels = []
    for letter, (title, head) in zip(map(chr, range(ord("A"), ord("Z"))), named.items(), strict=False):
        shapes = iter(head.shapes(in_channels, classes))
        chains: list[list[Convolution]] = [
            [{"in": i, "out": o, "kernel": list(kernel)} for i, o, kernel in (next(shapes) for _ in chain)]
            for chain in head.chains
        ]
        body = block(f"{in_channels} channels", chains, f"{classes} channels", join="sum")
        weights = f"{head.parameters(in_channels, classes):,} weights"
        panels.append(titled(letter, title, body, [weights]))
    return render(rows(panels))


PLATE = Plate("F4", TITLE, CAPTION, draw)
