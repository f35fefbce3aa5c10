"""Boundary refinement (BR), the residual block on score maps of Fig. 2C."""

from __future__ import annotations

import torch
from torch import nn


class BoundaryRefinement(nn.Module):
    """S + R(S), R = 3x3 convolution, ReLU, 3x3 convolution (Fig. 2C). Starts as the identity (D08)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(classes, classes, 3, padding=1)
        self.second = nn.Conv2d(classes, classes, 3, padding=1)
        for weights in self.second.parameters():
            nn.init.zeros_(weights)

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        return scores + self.second(torch.relu(self.first(scores)))
