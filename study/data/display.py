"""Shows images and masks alike in the report and in MLflow: colours of classes and void, images without padding
(D130)."""

from __future__ import annotations

import functools

import numpy as np

from study.data.pixels import Colour
from study.data.prepare import PAD_COLOUR
from study.spec.constants import VOID
from study.spec.documents.data import Read

VOID_COLOUR = (204, 204, 204)  # far from the colours of palettes, and from white and black
# Dark grey for the first class, often a background, then seaborn's palette colorblind without its grey.
FIRST = (
    (61, 61, 61), (222, 143, 5), (86, 180, 233), (2, 158, 115), (236, 225, 51), (1, 115, 178), (213, 94, 0),
    (204, 120, 188), (202, 145, 97), (251, 175, 228),
)  # fmt: skip
PAGE = (255, 255, 255)
LEVELS = 12  # of red, green and blue, which make up the further colours
NEAR = 15.0  # in CIELAB: closer colours are hard to tell apart in small areas


def colours_of(facts: Read) -> np.ndarray:
    """uint8 (256, 3): the colour of each label. A class keeps the colour of its data set. A class without one gets the
    next colour of FIRST that is not near a colour in use, or else the colour farthest from all others. Other labels get
    VOID_COLOUR."""
    own = facts.get("colours") or {}
    colours = tuple(tuple(own[name]) if name in own else None for name in facts["classes"])
    table = np.tile(np.array(VOID_COLOUR, np.uint8), (VOID + 1, 1))
    table[: len(colours)] = _filled(colours)
    return table


@functools.cache
def _filled(colours: tuple[Colour | None, ...]) -> np.ndarray:
    """uint8 (classes, 3): the colours, with a new one in place of each None."""
    taken = [colour for colour in colours if colour is not None]
    steps = np.linspace(0, 255, LEVELS).round().astype(np.uint8)
    choice = np.concatenate([np.array(FIRST, np.uint8), np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)])
    places = _lab(choice)
    distance = np.min([_far(places, colour) for colour in (VOID_COLOUR, PAGE, *taken)], 0)
    found = []
    for colour in colours:
        if colour is None:
            first = np.flatnonzero(distance[: len(FIRST)] >= NEAR)
            best = int(first[0]) if len(first) else int(distance.argmax())
            colour = tuple(choice[best].tolist())
            distance = np.minimum(distance, _far(places, colour))
        found.append(colour)
    return np.array(found, np.uint8)


def _far(places: np.ndarray, colour: Colour) -> np.ndarray:
    """(n,): distances of a colour from ``places`` (n, 3) in CIELAB."""
    return np.linalg.norm(places - _lab(np.array([colour], np.uint8)), axis=1)


def _lab(colours: np.ndarray) -> np.ndarray:
    """sRGB uint8 (n, 3) -> CIELAB (n, 3) in daylight, where distances match what eyes see."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def true_size(image: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    """(height, width) of an image uint8 (H, W, 3) without its padding: void in PAD_COLOUR at the right and bottom
    (D13)."""
    kept = (labels != VOID) | (image != np.array(PAD_COLOUR, np.uint8)).any(-1)
    height, width = (int(np.flatnonzero(kept.any(axis)).max(initial=0)) + 1 for axis in (1, 0))
    return height, width
