"""Some images of a data set, opened before all are read: what would end the stage *data* is found early, by its own
checks, and how long reading takes is measured."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

import numpy as np

from study.data.prepare import Checked, DataSet, ahead, no_image, no_label, read_one
from study.spec.constants import VOID
from study.spec.errors import InputError

IMAGES = 32  # of a split, unless all are asked for
ENOUGH_S = 5.0  # of a split, after its first few images: large ones take long
LEAST = 8
DIGESTS = 3  # of all that is read: its fingerprint's, and its cached file's when it is written and when it is used


@dataclass
class Sample:
    """How many images were ``read`` of how many (``of``); what would end the data stage, as ``errors``; classes that no
    training mask among those showed (``unseen``, None where masks are none); and the ``seconds`` that reading, checking
    and keeping all images should take."""

    read: int = 0
    of: int = 0
    errors: list[InputError] = field(default_factory=list)
    unseen: list[str] | None = None
    seconds: float = 0.0


def spread(number: int, most: int) -> list[int]:
    """At most ``most`` of ``number`` places, spread evenly; and so are the first of them, however many are taken."""
    places = sorted({round(place) for place in np.linspace(0, number - 1, min(number, most))})
    bits = max(1, (len(places) - 1).bit_length())
    order = sorted(range(len(places)), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))
    return [places[i] for i in order]


def sample(source: DataSet, band_px: int, every: bool = False) -> Sample:
    """Open images and masks of each split, or ``every`` one of them.

    A split whose masks were nothing but void is read on until a pixel is labelled, so that the error is sure.
    """
    found, masks = Sample(of=sum(source.splits.values())), getattr(source, "task", "segment") == "segment"
    shown = np.zeros(len(source.classes), bool)
    for split, number in source.splits.items():
        if not number:
            found.errors.append(no_image(split))
            continue
        order = list(range(number)) if every else spread(number, IMAGES)
        rest = sorted(set(range(number)) - set(order)) if masks else []
        labelled = _some(source, split, order, found, shown, band_px=band_px, every=every)
        if (
            masks
            and labelled is False
            and not _some(source, split, rest, found, shown, band_px=0, every=True)
            and not found.errors
        ):
            found.errors.append(no_label(split, number))
    if masks:
        found.unseen = [name for name, seen in zip(source.classes, shown, strict=True) if not seen]
    return found


def _some(
    source: DataSet, split: str, order: list[int], found: Sample, shown: np.ndarray, *, band_px: int, every: bool
) -> bool | None:
    """Read images of a split into ``found``; whether one has a labelled pixel, None where all that were read are
    damaged. Without a ``band_px`` it ends at the first that has, and takes no time."""
    from study.data.boundaries import boundary_band  # scipy

    masks = getattr(source, "task", "segment") == "segment"
    measured = masks and split != "train"
    whole = measured and getattr(source, "longest", None) is not None

    def read(index: int) -> Checked | InputError:
        try:
            return read_one(source, split, index, whole=whole)
        except InputError as error:
            return error

    began, number, labelled = time.perf_counter(), 0, None
    for one in ahead(read, order):
        number += 1
        if isinstance(one, InputError):
            found.errors.append(one)
        else:
            image, mask, original = one
            scored = mask if original is None else original
            labelled = bool(labelled) or not masks or bool((scored != VOID).any())
            if masks and split == "train":
                shown |= np.bincount(mask.ravel(), minlength=256)[: len(shown)] > 0
            if not band_px and labelled:
                break
            if band_px and measured:
                boundary_band(scored, band_px)
            for _ in range(DIGESTS if band_px else 0):
                hashlib.sha256(image.tobytes() + mask.tobytes())
        if not every and number >= LEAST and time.perf_counter() - began > ENOUGH_S:
            break
    found.read += number
    if band_px and number:
        found.seconds += (time.perf_counter() - began) / number * source.splits[split]
    return labelled
