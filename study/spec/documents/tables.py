"""Rows of the report's tables: costs.csv, per_class.csv, confusion/, audit.json, deviations."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from study.spec.typed import closed


@closed
class AuditRow(TypedDict):
    """A recomputed number of the paper; ``verdict`` says whether the two agree."""

    group: str
    what: str
    where: str
    printed: str
    recomputed: str
    verdict: str
    note: str


@closed
class Deviation(TypedDict):
    """An item of the protocol: what the paper says (None: nothing) and where, what this study does, and the effect."""

    id: str
    what: str
    status: str
    paper: str | None
    place: str
    here: str
    decisions: list[str]
    effect: str


@closed
class CostRow(TypedDict):
    """A trained cell: its score (fractions, 95 % interval) and its network's costs. ``macs`` are multiply-adds on one
    image; ``train_s`` (seconds) and ``peak_memory_mb`` (MiB) are means over seeds."""

    address: str
    label: str
    metric: str
    data: str
    head: str
    kernel_size: int
    refine: bool
    width: float | None
    mean: float
    low: float
    high: float
    seeds: int
    head_macs: int
    head_parameters: int
    macs: int
    parameters: int
    train_s: float
    peak_memory_mb: float
    steps: int
    version: Literal[1]


# A class of a variant: its IoU (fractions, 95 % interval over seeds), the number of seeds that have one, and the number
# of training images and training pixels with the class. ``inference`` names another inference method, if one was used.
# Not in class syntax because the column "class" is a keyword of Python.
ClassRow = TypedDict(
    "ClassRow",
    {"setting": str, "variant": str, "inference": str, "class": str, "mean": float, "low": float, "high": float,
     "seeds": int, "images_with": int, "pixels": int, "version": Literal[1]},
)  # fmt: skip


@closed
class Confusion(TypedDict):
    """An entry of the index of confusion/: the cell and the training whose val predictions a file counts."""

    cell: str
    training: str
    label: str
    seed: int
    data: str
