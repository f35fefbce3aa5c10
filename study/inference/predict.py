"""Predicts with a trained network: by crops, at several scales, mirrored, refined by a dense CRF (Sec. 4.2 and 4.3).

Each pass gives class probabilities; several passes over a pixel are averaged (D44).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from study.spec.errors import InputError
from study.spec.training import Crf, Inference

CRF_PACKAGE = "pydensecrf2"  # imported as pydensecrf (D46)
LEAST = 1e-8  # of a probability, so that its logarithm is finite
Network = Callable[[torch.Tensor], torch.Tensor]


def check(inference: Inference, size: tuple[int, int], stride: int) -> None:
    """Raises InputError for an inference that is impossible for images of ``size`` (height, width) and a network whose
    coarsest cell is ``stride`` px: crops that do not fit or do not cover the image, a scale that leaves no cell, no CRF
    library."""
    if inference.crop is None and inference.crops != (1, 1):
        raise InputError(
            f"crops must come with the size of a crop, got {inference.crops} (down, across) without; add crop, or "
            "leave crops out"
        )
    crop = inference.crop or size
    if any(side > limit for side, limit in zip(crop, size, strict=True)):
        raise InputError(f"a crop must fit into the image of {size} (height, width), got {crop}; make crop smaller")
    for side, limit, number in zip(crop, size, inference.crops, strict=True):
        if number * side < limit:
            raise InputError(
                f"crops must cover the image of {size} (height, width), got {inference.crops} (down, across) crops of "
                f"{crop}; use more or larger ones"
            )
    if 1 in inference.scales and any(side % stride for side in crop):  # other scales are rounded to whole cells
        raise InputError(
            f"a network's input must have sides that are multiples of {stride} px (a cell of its coarsest map), got "
            f"{crop} (height, width); " + ("pad the images" if inference.crop is None else "make crop such a multiple")
        )
    for scale in inference.scales:
        if not all(stride <= scale * side < math.inf for side in crop):
            raise InputError(
                f"a scale must leave at least one cell of {stride} px of an input of {crop}, got {scale}; take a "
                "larger scale"
            )
    if inference.crf is not None:
        _library()


def _library() -> Any:
    """The CRF library. Raises InputError if it is missing or was built for another Python."""
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise InputError(
            f"a dense CRF must have the package {CRF_PACKAGE}, got none that works ({error}); install it with "
            "`make crf`, or list its cells under not_applicable of the tier"
        ) from error
    return densecrf


def offsets(length: int, crop: int, number: int) -> list[int]:
    """Where ``number`` crops begin along a side of ``length``, spread evenly from edge to edge (D45)."""
    return [round(place) for place in np.linspace(0, length - crop, number)]


def probabilities(network: Network, images: torch.Tensor, inference: Inference, stride: int) -> torch.Tensor:
    """images (N, 3, H, W) in 0..255 -> probabilities (N, K, H, W): the mean over scales and mirror images of each crop
    (D44), then over the crops that see a pixel (D45).

    A single pass gives float64: different scores then give different probabilities, so the classes equal those of
    count.predict. Means are float32, which is several times as fast.
    """
    size = (images.shape[-2], images.shape[-1])
    crop = inference.crop or size
    corners = itertools.product(*map(offsets, size, crop, inference.crops))
    total, seen = None, torch.zeros(size, device=images.device)
    for top, left in corners:
        inside = (..., slice(top, top + crop[0]), slice(left, left + crop[1]))
        found = _passes(network, images[inside], inference, stride)
        if total is None:
            total = found.new_zeros(*found.shape[:2], *size)
        total[inside] += found
        seen[inside] += 1
    assert total is not None  # there is at least one crop
    return total / seen


def _passes(network: Network, images: torch.Tensor, inference: Inference, stride: int) -> torch.Tensor:
    """The mean over scales and mirror images of one crop's probabilities, at the crop's own size."""
    size = (images.shape[-2], images.shape[-1])
    found: list[torch.Tensor] = []
    kind = torch.float64 if inference == Inference(crop=inference.crop, crf=inference.crf) else torch.float32
    for scale in inference.scales:
        sides = [max(1, round(scale * side / stride)) * stride for side in size]
        scaled = images
        if scale != 1:
            scaled = functional.interpolate(images, sides, mode="bilinear", align_corners=False, antialias=True)
        for mirrored in (False, True) if inference.flip else (False,):
            inputs = scaled.flip(-1) if mirrored else scaled
            scores = network(inputs.contiguous(memory_format=torch.channels_last)).float().contiguous()
            if scores.shape[-2:] != size:
                scores = functional.interpolate(scores, size, mode="bilinear", align_corners=False)
            found.append((scores.flip(-1) if mirrored else scores).softmax(1, dtype=kind))
    return functools.reduce(torch.Tensor.add_, found) / len(found)


def refine(probabilities: np.ndarray, image: np.ndarray, crf: Crf) -> np.ndarray:
    """probabilities (K, H, W), image uint8 (H, W, 3) -> refined probabilities (K, H, W), float32.

    Mean-field inference in a dense CRF with a smoothness and a bilateral (appearance) potential. It draws no random
    numbers. Raises InputError if the library is missing.
    """
    classes, height, width = probabilities.shape
    field = _library().DenseCRF2D(width, height, classes)
    unary = -np.log(np.clip(probabilities, LEAST, 1)).reshape(classes, -1).astype(np.float32)
    field.setUnaryEnergy(np.ascontiguousarray(unary))
    field.addPairwiseGaussian(sxy=crf.smooth_px, compat=crf.smooth_weight)
    field.addPairwiseBilateral(
        sxy=crf.bilateral_px, srgb=crf.bilateral_rgb, rgbim=np.array(image, order="C"), compat=crf.bilateral_weight
    )
    return np.array(field.inference(crf.iterations)).reshape(classes, height, width)


def predict(
    network: Network, images: np.ndarray, inference: Inference, stride: int, device: torch.device
) -> np.ndarray:
    """images uint8 (N, H, W, 3) -> classes uint8 (N, H, W)."""
    found = passes(network, images, inference, stride, device)
    if inference.crf is not None:
        found = np.stack([refine(one, image, inference.crf) for one, image in zip(found, images, strict=True)])
    return found.argmax(1).astype(np.uint8)


def passes(network: Network, images: np.ndarray, inference: Inference, stride: int, device: torch.device) -> np.ndarray:
    """images uint8 (N, H, W, 3) -> probabilities (N, K, H, W), before any CRF."""
    tensor = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(device, torch.float32)
    with torch.inference_mode():
        return probabilities(network, tensor, inference, stride).cpu().numpy()
