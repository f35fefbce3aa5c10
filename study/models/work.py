"""Counts the work of a pass through a network, to predict its time, on modules without values."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import torch
from torch import nn

from study.models.anatomy import outline
from study.models.backbones import Backbone
from study.models.build import build, build_backbone, untrained
from study.models.decoder import FCN
from study.spec.heads import Variant
from study.spec.training import Network

LANES = 16  # float32 numbers that a core, or a GPU's matrix unit, processes at a time


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of a forward pass on one image. ``macs``: multiply-adds of convolutions as executed, with channels in
    blocks of LANES (a boundary refinement of 7 channels takes as long as one of 16); ``numbers`` that modules output;
    ``modules`` that run."""

    macs: int = 0
    numbers: int = 0
    modules: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.macs + other.macs, self.numbers + other.numbers, self.modules + other.modules)


def work(variant: Variant | None, network: Network, classes: int, size: tuple[int, int], cached: bool = False) -> Work:
    """The work of a network (a classifier if there is no variant) on an image of ``size`` (height, width) in px.
    ``cached`` leaves out the backbone, whose features exist already."""
    network = dataclasses.replace(network, options=untrained(network))
    backbone, features, below = _backbone(network, size)
    if variant is None:  # its single linear layer is negligible
        return below
    with outline():
        decoder = FCN(variant, network, backbone.channels, backbone.strides, classes).eval()
        _, above = _passed(decoder, features)
    return above if cached else below + above


def step_bytes(variant: Variant | None, network: Network, classes: int, size: tuple[int, int], batch: int) -> int:
    """Bytes of a training step of a network, by count, in 32 bits: the outputs of its modules for a batch, and for each
    weight the weight, its gradient and the optimizer's two numbers. A frozen backbone does not count. The memory of
    libraries is not included, so the number compares networks but is not the peak."""
    with outline():
        model = build(variant, dataclasses.replace(network, options=untrained(network)), classes, 0)
    weights = sum(one.numel() for one in model.parameters())
    return 4 * (batch * work(variant, network, classes, size, cached=network.frozen).numbers + 4 * weights)


def _blocks(channels: int) -> int:
    return -(-channels // LANES) * LANES


@functools.lru_cache(maxsize=16)
def _backbone(network: Network, size: tuple[int, int]) -> tuple[Backbone, dict[str, torch.Tensor], Work]:
    """A backbone, its maps of one image and its work; all variants on it share them."""
    with outline():
        backbone = build_backbone(network).eval()
        return backbone, *_passed(backbone, torch.empty(1, 3, *size))


def _passed(module: nn.Module, inputs: Any) -> tuple[Any, Work]:
    """The output of ``module``, and the work of the pass: that of all modules without submodules."""
    found: list[Work] = []

    def count(part: nn.Module, given: Any, output: Any) -> None:
        numbers, macs = (output.numel() if torch.is_tensor(output) else 0), 0
        if isinstance(part, nn.ConvTranspose2d):
            macs = given[0].numel() * part.weight[0].numel()
        elif isinstance(part, nn.Conv2d):
            channels, outputs = part.in_channels // part.groups, part.out_channels
            # The three colours of an image are too few for blocks; libraries handle them separately.
            inputs = _blocks(channels) if channels > 3 else channels
            macs = numbers // outputs * _blocks(outputs) * inputs * math.prod(part.kernel_size)
        found.append(Work(macs, numbers, 1))

    hooks = [part.register_forward_hook(count) for part in module.modules() if not any(part.children())]
    try:
        return module(inputs), sum(found, Work())
    finally:
        for hook in hooks:
            hook.remove()
