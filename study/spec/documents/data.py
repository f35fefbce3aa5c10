"""data.json: the facts of each setting's data."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from study.spec.checks import closed


@closed
class Groups(TypedDict):
    """Images that belong together: ``of`` has of each image of a split its group's index into ``names``."""

    names: list[str]
    of: list[int]


@closed
class Precision(TypedDict):
    """What a probe of the device found: seconds a step in either precision, and the faster one (D58)."""

    precision: str
    device: str
    fp32_s: float
    bf16_s: float


@closed
class Read(TypedDict):
    """What reading a data set found. ``images_with`` and ``pixels`` are per class, of the training split; ``size`` is
    (height, width) in px; ``listed`` counts what official lists hold; ``longest`` is the side in px to which larger
    images are made smaller (D123); ``colours`` are red, green and blue of classes, by name, where the data set has any
    (D130)."""

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
    """A prepared data set. ``frequent`` are the classes of the second mean (D04)."""

    name: str
    groups: dict[str, Groups] | None
    streamed: bool
    frequent: NotRequired[list[int] | None]
    precision: NotRequired[Precision]


def size_of(facts: Read) -> tuple[int, int]:
    """(height, width) of a data set's images in px."""
    height, width = facts["size"]
    return height, width
