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


class ConvHead(nn.Module):
    """features (N, C, H, W) -> scores (N, K, H, W). No bias, and no nonlinearity unless a convolution is ``activated``
    (Sec. 3.1, Tables 2 and 4; D05, D06).

    Zero padding keeps the size of the map, so a kernel may be larger than the map.
    """

    def __init__(self, head: Head, in_channels: int, classes: int) -> None:
        super().__init__()
        shapes = iter(head.shapes(in_channels, classes))
        self.chains = nn.ModuleList()
        for chain in head.chains:
            modules: list[nn.Module] = []
            for conv, (inputs, outputs, kernel) in zip(chain, shapes, strict=False):
                padding = (kernel[0] // 2, kernel[1] // 2)
                modules.append(Convolution(inputs, outputs, kernel, padding=padding, bias=False))
                if conv.activated:
                    modules += [nn.BatchNorm2d(outputs), nn.ReLU()]
            self.chains.append(nn.Sequential(*modules))
        for chain, made in zip(head.chains, self.chains, strict=True):
            for module in made.children():
                if isinstance(module, nn.Conv2d):
                    # Linear chains: this keeps the variance of the scores the same for every head and kernel size
                    # (D07).
                    fan_in = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
                    nn.init.normal_(module.weight, std=1 / math.sqrt(fan_in * len(head.chains) ** (1 / len(chain))))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        first, *others = (chain(features) for chain in self.chains)
        return sum(others, first)
