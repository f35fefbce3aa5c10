"""Opens some images of a data set with the checks of the stage *data*, to find its errors early and to time reading."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

import numpy as np

from study.data.prepare import Checked, DataSet, ahead, no_image, no_label, read_one
from study.spec.constants import VOID
from study.spec.errors import InputError

IMAGES = 32  # per split, unless all are requested
ENOUGH_S = 5.0  # per split, after its first few images: large images take long
LEAST = 8
DIGESTS = 3  # of everything read: for the fingerprint, and for the cached file when it is written and when it is used


@dataclass
class Sample:
    """``read`` of ``of`` images were opened. ``errors`` would end the data stage; ``unseen`` are the classes that none
    of the opened training masks show (None if there are no masks); ``seconds`` estimates the time to read, check and
    cache all images."""

    read: int = 0
    of: int = 0
    errors: list[InputError] = field(default_factory=list)
    unseen: list[str] | None = None
    seconds: float = 0.0


def spread(number: int, most: int) -> list[int]:
    """At most ``most`` of ``number`` places, spread evenly; any first few of them are spread evenly too."""
    places = sorted({round(place) for place in np.linspace(0, number - 1, min(number, most))})
    bits = max(1, (len(places) - 1).bit_length())
    order = sorted(range(len(places)), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))
    return [places[i] for i in order]


def sample(source: DataSet, band_px: int, every: bool = False) -> Sample:
    """Open some images and masks of each split, or ``every`` one.

    If the masks opened in a split are all void, reading continues until a pixel is labelled, so that the error is
    certain.
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
    """Read images of a split into ``found``. Returns whether one has a labelled pixel, None if all that were read are
    damaged. Without a ``band_px``, it stops at the first labelled pixel and does not count the time."""
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
