"""One module for every head of Fig. 4, including the GCN block (spec.heads.gcn): a sum of chains of convolutions."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from study.spec.heads import Head

WIDE = 13  # cells; wider 1xk kernels are slow on the CPU


class Convolution(nn.Conv2d):
    """nn.Conv2d that, on the CPU, computes a wide 1xk kernel as kx1 on the transposed map. The function is the same,
    but oneDNN's gradient of a 1xk kernel's weights takes several times as long as that of kx1."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        down, across = self.kernel_size
        if maps.device.type != "cpu" or down > 1 or across <= WIDE:
            return super().forward(maps)
        turned, weight = (t.transpose(2, 3).clone(memory_format=torch.channels_last) for t in (maps, self.weight))
        padding = (int(self.padding[1]), int(self.padding[0]))
        return functional.conv2d(turned, weight, None, 1, padding).transpose(2, 3)


class LinearHead(nn.Module):
    """features (N, C, H, W) -> scores (N, K, H, W). No nonlinearity, no bias (Sec. 3.1, Tables 2 and 4; D05, D06).

    Zero padding keeps the size of the map, so a kernel may be larger than the map.
    """

    def __init__(self, head: Head, in_channels: int, classes: int) -> None:
        super().__init__()
        shapes = iter(head.shapes(in_channels, classes))
        chains = [
            nn.Sequential(
                *(
                    Convolution(i, o, kernel, padding=(kernel[0] // 2, kernel[1] // 2), bias=False)
                    for i, o, kernel in (next(shapes) for _ in chain)
                )
            )
            for chain in head.chains
        ]
        self.chains = nn.ModuleList(chains)
        for chain in chains:
            for conv in chain.children():
                assert isinstance(conv, nn.Conv2d)
                # Linear chains: this keeps the variance of the scores the same for every head and kernel size (D07).
                fan_in = conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]
                nn.init.normal_(conv.weight, std=1 / math.sqrt(fan_in * len(chains) ** (1 / len(chain))))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        first, *others = (chain(features) for chain in self.chains)
        return sum(others, first)
