"""The residual block of ResNet-GCN (Fig. 5B, Table 11), and strided 1x1 convolutions that are safe to train."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from study.spec.errors import InputError

JOINS = ("sum", "concat")


def _conv(inputs: int, outputs: int, kernel: tuple[int, int], stride: int) -> list[nn.Module]:
    """Convolution, batch normalisation, ReLU: Fig. 5B has all three after each of the four convolutions."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


class GlobalBlock(nn.Module):
    """maps (N, C, H, W) -> (N, ``outputs``, H / stride, W / stride) by two branches, 1xk -> kx1 and kx1 -> 1xk, each
    with ``width`` channels. They are joined, a 1x1 convolution gives ``outputs`` channels, and the input is added.

    Fig. 5B shows no box where the branches join: ``join`` is sum or concat (D40). The first convolution of each branch
    and the projection of the input have the stride. Raises InputError for another join.
    """

    def __init__(self, inputs: int, width: int, outputs: int, *, k: int, stride: int, join: str) -> None:
        super().__init__()
        if join not in JOINS:
            raise InputError(f"the branches of Fig. 5B must be joined by one of {JOINS}, got {join!r}; rename join")
        if k < 1 or k % 2 == 0 or width < 1:
            raise InputError(
                f"a block of Fig. 5B must have an odd kernel size (Sec. 3.1) and a width, got k = {k}, width {width}; "
                "take e.g. 5 and 85"
            )
        self.join = join
        row, column = (1, k), (k, 1)
        self.branches = nn.ModuleList(
            nn.Sequential(*_conv(inputs, width, first, stride), *_conv(width, width, second, 1))
            for first, second in ((row, column), (column, row))
        )
        joined = width if join == "sum" else 2 * width
        self.last = nn.Sequential(nn.Conv2d(joined, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            subsample(self.skip)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        first, second = (branch(maps) for branch in self.branches)
        joined = first + second if self.join == "sum" else torch.cat((first, second), 1)
        return torch.relu(self.last(joined) + self.skip(maps))


def subsample(net: nn.Module) -> None:
    """Replace the stride of every 1x1 convolution of ``net`` by taking every ``stride``-th cell of its input: the same
    function.

    torch 2.14 on the CPU crashes in the backward pass of some strided 1x1 convolutions in channels_last.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.stride != (1, 1):
            module.every = module.stride  # type: ignore[assignment]
            module.stride = (1, 1)
            module.register_forward_pre_hook(_every)


def _every(module: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    down, across = module.every
    return (inputs[0][:, :, ::down, ::across],)
