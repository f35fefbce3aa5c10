"""data.json: the facts of each setting's data."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from study.spec.typed import closed


@closed
class Groups(TypedDict):
    """Images that belong together: for each image of a split, ``of`` holds its group's index into ``names``."""

    names: list[str]
    of: list[int]


@closed
class Precision(TypedDict):
    """The result of probing the device: seconds per step in either precision, and the faster one (D58)."""

    precision: str
    device: str
    fp32_s: float
    bf16_s: float


@closed
class Read(TypedDict):
    """Facts found while reading a data set.

    ``images_with`` and ``pixels`` count per class, over the training split. ``size`` is (height, width) in px.
    ``listed`` counts the entries of official lists. Images with a longer side than ``longest`` px are scaled down to it
    (D123). ``colours`` are red, green and blue by class name, where the data set has any (D130).
    """

    task: str
    classes: list[str]
    splits: dict[str, int]
    size: list[int]
    fingerprint: str
    images_with: list[int]
    pixels: list[int]
    listed: dict[str, int]
    notes: list[str]
    longest: NotRequired[int | None]
    colours: NotRequired[dict[str, list[int]]]


@closed
class Facts(Read):
    """Facts of a prepared data set. ``frequent`` are the classes of the second mean (D04)."""

    name: str
    groups: dict[str, Groups] | None
    streamed: bool
    frequent: NotRequired[list[int] | None]
    precision: NotRequired[Precision]


def size_of(facts: Read) -> tuple[int, int]:
    """(height, width) of a data set's images in px."""
    height, width = facts["size"]
    return height, width
