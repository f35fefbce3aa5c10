"""Fig. 5: the bottleneck of ResNet and of ResNet-GCN, as the code builds them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from study.report.figures.plate import Plate, Source, anatomy
from study.report.schematics.block import block
from study.report.schematics.canvas import render, rows, titled
from study.spec.documents.networks import ResidualBlock

TITLE = "Figure 5. The bottleneck of ResNet and of ResNet-GCN"
CAPTION = "An identity block of res-4, drawn from the modules as the code builds them."


def draw(source: Source) -> Figure:
    """From examined/anatomy.json."""
    return blocks(anatomy(source)["blocks"])


def blocks(descriptions: Sequence[ResidualBlock]) -> Figure:
    """Fig. 5: residual blocks side by side. Each is {"title", "branches": [[{"kernel": [kh, kw], "in", "out", "norm",
    "relu"}, ...], ...], "join": "sum" | "concat" | None, "after": [...], "skip": "identity" | "projection"}, and
    "relu": True if one follows the sum."""
    panels = []
    for letter, told in zip(map(chr, range(ord("A"), ord("Z"))), descriptions, strict=False):
        branches, after = told["branches"], told["after"]
        ends = branches[0][0]["in"], (after or branches[0])[-1]["out"]
        inputs, outputs = (f"{channels} channels" for channels in ends)
        body = block(inputs, branches, outputs, join=told["join"], after=after, skip=told["skip"],
                     relu=told.get("relu", False))  # fmt: skip
        panels.append(titled(letter, told["title"], body))
    return render(rows(panels))


PLATE = Plate("F5", TITLE, CAPTION, draw)
