"""Valid receptive fields (Fig. 3): how much of an image the score of one pixel depends on, in trained networks.

Two measures of one score. *Occlusion*, which the paper takes from Zhou et al. (arXiv 1412.6856): hide a small square at
each place of a grid and see by how much the score changes. *Gradient*, the effective receptive field of Luo et al.
(NIPS 2016): the derivative of the score with respect to every pixel. A network here is any callable from images
(N, 3, H, W) in 0..255, on the CPU, to scores (N, K, h, w); it is in evaluation mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from study.spec.constants import VOID
from study.spec.errors import InputError

Network = Callable[[torch.Tensor], torch.Tensor]
Pixel = tuple[int, int]  # (row, column)
INPUTS = ("original", "enlarged")
ODD = "an occluder's side must be odd (an even one has no middle pixel)"


class Centre(NamedTuple):
    """The pixel in the middle of an object, the object's class, and the object as bool (H, W)."""

    pixel: Pixel
    target: int
    mask: np.ndarray


@dataclass(frozen=True)
class Probe:
    """Settings of Fig. 3. Lengths are in pixels of the original input and grow with the enlarged one.

    ``occluder_px`` is the side of the hiding square, ``stride_px`` the step of its grid, ``colour`` its RGB, ``batch``
    the number of images at a time. ``valid_region`` holds the ``share`` of all change, ``spread`` the share ``mass`` of
    the gradient. ``times`` is the enlargement; the enlarged sides are multiples of ``stride``. The class ``background``
    is not an object.
    """

    occluder_px: int
    stride_px: int
    colour: tuple[int, int, int]
    batch: int
    share: float
    mass: float
    times: float
    stride: int
    background: int | None

    def __post_init__(self) -> None:
        _require(self.occluder_px % 2 == 1, ODD, self.occluder_px, "take 11")
        numbers = (self.stride_px, self.batch)
        _require(min(numbers) >= 1, "the stride of occluders and the batch must be at least 1", numbers, "take (3, 32)")
        shares = (self.share, self.mass)
        _require(0 < min(shares) <= max(shares) <= 1, "share and mass must be in (0, 1]", shares, "take 0.95")


def _require(met: bool, rule: str, value: Any, remedy: str) -> None:
    if not met:
        raise InputError(f"{rule}, got {value}; {remedy}")


def centre(labels: np.ndarray, background: int | None) -> Centre | None:
    """The largest object of labels (H, W) and the pixel in its middle; None if there is no object.

    An object is a connected region (8 neighbours) of one class that is neither void nor ``background``. Its middle is
    the pixel nearest to its centroid among those at least half as deep inside it as the deepest one: the centroid of a
    bent object may lie outside it, and its deepest pixel may lie at one end. Ties go to the first in reading order.
    """
    largest, target = np.zeros(labels.shape, bool), -1
    for value in sorted(set(np.unique(labels).tolist()) - {VOID, background}):
        parts, _ = ndimage.label(labels == value, np.ones((3, 3)))
        sizes = np.bincount(parts.ravel())[1:]
        if sizes.max() > largest.sum():
            largest, target = parts == 1 + sizes.argmax(), value
    if target < 0:
        return None
    depth = ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]  # the image's edge is also the object's
    rows, columns = np.nonzero(depth >= depth.max() / 2)
    row, column = (side.mean() for side in np.nonzero(largest))
    nearest = np.argmin((rows - row) ** 2 + (columns - column) ** 2)
    return Centre((int(rows[nearest]), int(columns[nearest])), target, largest)


def enlarge(image: np.ndarray, labels: np.ndarray, times: float, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """The input of Fig. 3B and C, ``times`` as large: image (H, W, 3) bilinearly, labels (H, W) by nearest, both uint8.

    Each side is rounded to the nearest multiple of ``stride``, so the aspect may change a little.
    """
    _require(times >= 1, "an enlarged input must be at least as large as the original", times, "take 2")
    size = tuple(max(1, int(side * times / stride + 0.5)) * stride for side in labels.shape)
    colours = functional.interpolate(_tensor(image), size=size, mode="bilinear", align_corners=False)
    classes = functional.interpolate(torch.from_numpy(labels.copy())[None, None], size=size, mode="nearest-exact")
    return colours[0].permute(1, 2, 0).round().to(torch.uint8).contiguous().numpy(), classes[0, 0].numpy()


def scores_at(scores: torch.Tensor, size: tuple[int, int], pixel: Pixel) -> torch.Tensor:
    """Scores (N, K) at ``pixel`` of images of ``size``, from scores (N, K, h, w) that may be coarser.

    They equal those of the whole map after bilinear enlargement (D15).
    """
    for axis, (place, length) in enumerate(zip(pixel, size, strict=True), start=2):
        cells = scores.shape[axis]
        position = min(max((place + 0.5) * cells / length - 0.5, 0.0), cells - 1.0)
        low, high = int(position), min(int(position) + 1, cells - 1)
        scores = torch.lerp(scores.narrow(axis, low, 1), scores.narrow(axis, high, 1), position - low)
    return scores[:, :, 0, 0].float()


def log_odds(scores: torch.Tensor, target: int) -> torch.Tensor:
    """The measured score (N,): the score of ``target`` in scores (N, K) minus the log-sum-exp of the others.

    Like the prediction, it does not change with a shift common to all classes. Unlike the probability, it does not
    level off if the network is certain. Raises InputError for a class that the network does not have.
    """
    classes = scores.shape[1]
    rule = f"a class must be one of the network's {classes} and not the only one"
    _require(0 <= target < classes and classes > 1, rule, target, "name the object's class")
    return scores[:, target] - torch.cat([scores[:, :target], scores[:, target + 1 :]], 1).logsumexp(1)


def occlusion(
    network: Network,
    image: np.ndarray,
    pixel: Pixel,
    target: int,
    occluder_px: int,
    stride_px: int,
    colour: tuple[int, int, int],
    batch: int,
) -> np.ndarray:
    """Drop (H, W), float32, of the score of ``target`` at ``pixel`` when a square around each place is hidden.

    ``image`` is uint8 (H, W, 3). Squares of ``occluder_px`` in ``colour`` are on a grid of ``stride_px`` through
    ``pixel``, cut at the image's edge; between their centres the map is bilinear. A square hides up to half its side
    around its centre, so every network's field comes out wider by that much. The drop is negative where hiding raises
    the score. Raises InputError for a pixel outside the image, and for an occluder that is even or larger than it.
    """
    size = _size(image, pixel)
    fits = occluder_px % 2 == 1 and 1 <= occluder_px <= min(size)
    _require(fits, f"{ODD} and fit into the image {size}", occluder_px, "take 11, or less")
    rows, columns = (np.arange(p % stride_px, length, stride_px) for p, length in zip(pixel, size, strict=True))
    half, places = occluder_px // 2, [(int(row), int(column)) for row in rows for column in columns]
    plain, paint = _tensor(image), torch.tensor(colour, dtype=torch.float32)[:, None, None]
    drops = []
    with torch.inference_mode():
        for start in range(0, len(places), batch):
            some = places[start : start + batch]
            # Every batch has the plain image: sums then round alike, and the drop is exactly zero out of reach.
            hidden = plain.expand(1 + len(some), -1, -1, -1).clone(memory_format=torch.channels_last)
            for one, (row, column) in zip(hidden[1:], some, strict=True):
                one[:, max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1] = paint
            found = log_odds(scores_at(network(hidden), size, pixel), target)
            drops.append((found[0] - found[1:]).cpu().numpy())
    grid = np.concatenate(drops).reshape(len(rows), len(columns))
    tall = np.stack([np.interp(np.arange(size[0]), rows, line) for line in grid.T], axis=1)
    return np.stack([np.interp(np.arange(size[1]), columns, line) for line in tall]).astype(np.float32)


def gradient(network: Network, image: np.ndarray, pixel: Pixel, target: int) -> np.ndarray:
    """Effective receptive field (H, W), float32: |d score / d input|, summed over the channels of ``image`` (H, W, 3).

    The score is that of ``target`` at ``pixel``; the unit is 1 / grey level. Raises InputError for a pixel outside the
    image and for a network that lets no gradient through.
    """
    size = _size(image, pixel)
    with torch.enable_grad():
        plain = _tensor(image).requires_grad_()
        value = log_odds(scores_at(network(plain), size, pixel), target)
        _require(value.requires_grad, "a network must let gradients through", "scores without", "drop its no_grad")
        (found,) = torch.autograd.grad(value.sum(), plain)
    return found[0].abs().sum(0).cpu().numpy()


def valid_region(found: np.ndarray, share: float) -> np.ndarray:
    """The lit region of Fig. 3, bool (H, W): the smallest one that holds ``share`` of all change in a map (H, W).

    Rises count as drops do (Zhou et al. use the discrepancy). The share is of the sum, not of the maximum: the maximum
    is at the pixel itself and would set the scale for all others. The region of a map of zeros is empty.
    """
    change = np.abs(found).astype(np.float64)
    values = np.sort(change.ravel())[::-1]
    held = values.cumsum()
    return (change >= values[np.argmax(held >= share * held[-1])]) & (change > 0)


def covered(region: np.ndarray, mask: np.ndarray) -> float:
    """The share of an object's pixels (bool (H, W)) in the valid region: the quantity that Fig. 3 argues with."""
    _require(bool(mask.any()), "an object must have pixels", "none", "take an image with an object")
    return float(region[mask].mean())


def spread(found: np.ndarray, pixel: Pixel, share: float) -> int:
    """Side in px of the smallest square centred on ``pixel`` that holds ``share`` of the mass of a map (H, W) >= 0.

    It may reach beyond the image where the pixel is near its edge. 0 for a map of zeros.
    """
    away = [np.abs(np.arange(length) - place) for place, length in zip(pixel, found.shape, strict=True)]
    held = np.bincount(np.maximum.outer(*away).ravel(), found.ravel().astype(np.float64)).cumsum()
    return 2 * int(np.argmax(held >= share * held[-1])) + 1 if held[-1] > 0 else 0


def figure3(networks: dict[str, Network], image: np.ndarray, labels: np.ndarray, probe: Probe) -> dict[str, np.ndarray]:
    """Both measures of every network on the original and the enlarged input, as arrays for an npz file.

    ``image`` is uint8 (H, W, 3), ``labels`` uint8 (H, W). Common arrays: ``networks`` (n,), their names, ``target``,
    ``share``, ``mass`` (). For each of INPUTS, with its name and an underscore as prefix: ``image``, ``mask`` (H, W) of
    the object, ``pixel`` (2,), ``occlusion`` and ``gradient`` (n, H, W) float32, ``region`` (n, H, W) bool, and by
    network (n,) ``score``, ``predicted`` (class at the pixel), ``covered``, the region's ``area`` (share of the image)
    and ``radius_px`` (of a disc of that area), ``spread_px``. Raises InputError if the labels have no object.
    """
    middle = centre(labels, probe.background)
    if middle is None:
        raise InputError("an image of Fig. 3 must have an object, got background and void only; take another image")
    larger = enlarge(image, middle.mask.astype(np.uint8), probe.times, probe.stride)
    arrays = {"networks": np.array(list(networks)), "target": np.array(middle.target)}
    arrays |= {"share": np.array(probe.share), "mass": np.array(probe.mass)}
    for name, (picture, mask) in zip(INPUTS, ((image, middle.mask), (larger[0], larger[1] > 0)), strict=True):
        ratios = [now / before for now, before in zip(mask.shape, labels.shape, strict=True)]
        row, column = (int((place + 0.5) * ratio) for place, ratio in zip(middle.pixel, ratios, strict=True))
        times = math.sqrt(math.prod(ratios))
        found = [
            _measure(net, picture, mask, pixel=(row, column), target=middle.target, times=times, probe=probe)
            for net in networks.values()
        ]
        arrays |= {f"{name}_image": picture, f"{name}_mask": mask, f"{name}_pixel": np.array((row, column))}
        arrays |= {f"{name}_{key}": np.stack([one[key] for one in found]) for key in found[0]}
    return arrays


def _measure(
    network: Network, image: np.ndarray, mask: np.ndarray, pixel: Pixel, target: int, times: float, probe: Probe
) -> dict[str, Any]:
    side, step = 2 * int(times * probe.occluder_px / 2) + 1, max(1, round(times * probe.stride_px))  # nearest odd
    drop = occlusion(
        network, image, pixel, target=target, occluder_px=side, stride_px=step, colour=probe.colour, batch=probe.batch
    )
    slope, region = gradient(network, image, pixel, target), valid_region(drop, probe.share)
    with torch.inference_mode():
        scores = scores_at(network(_tensor(image)), mask.shape, pixel)
    return {
        "occlusion": drop,
        "region": region,
        "gradient": slope,
        "score": float(log_odds(scores, target)),
        "predicted": int(scores.argmax()),
        "covered": covered(region, mask),
        "area": float(region.mean()),
        "radius_px": math.sqrt(region.sum() / math.pi),
        "spread_px": spread(slope, pixel, probe.mass),
    }


def _tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, 3) -> float32 (1, 3, H, W), channels last in memory."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].to(torch.float32)


def _size(image: np.ndarray, pixel: Pixel) -> tuple[int, int]:
    """(height, width) of an image that has the pixel."""
    height, width, _ = image.shape
    inside = 0 <= pixel[0] < height and 0 <= pixel[1] < width
    _require(inside, f"a pixel (row, column) must lie in the image {(height, width)}", pixel, "name one inside")
    return height, width
