"""``build``: variant x network -> the segmentation network of Fig. 2A."""

from __future__ import annotations

import torch
from torch import nn

from study.models import backbones
from study.models.fcn import FCN
from study.seeds import number
from study.spec import InputError, Network, Variant

Inputs = torch.Tensor | dict[str, torch.Tensor]


def build_backbone(network: Network) -> backbones.Backbone:
    """The backbone of ``network`` with its weights. Raises InputError for an unknown name or weights that misfit."""
    if network.backbone not in backbones.BACKBONES:
        raise InputError(
            f"a backbone must be one of {sorted(backbones.BACKBONES)}, got {network.backbone!r}; "
            "rename it in params.yaml"
        )
    try:
        return backbones.BACKBONES[network.backbone](**dict(network.options))
    except (TypeError, AttributeError) as error:
        raise InputError(
            f"network.options must fit the backbone {network.backbone} ({error}), got {dict(network.options)}; "
            "correct them in params.yaml"
        ) from error


class Segmenter(nn.Module):
    """images (N, 3, H, W) in 0..255, or a frozen backbone's {level: features} -> scores (N, K, H / s, W / s)."""

    def __init__(self, backbone: nn.Module, decoder: FCN, frozen: bool) -> None:
        super().__init__()
        self.decoder = decoder
        self.backbone = None if frozen else backbone  # a frozen backbone's features come from the cache

    def forward(self, inputs: Inputs) -> torch.Tensor:
        return self.decoder(inputs if self.backbone is None else self.backbone(inputs))


def build(variant: Variant, network: Network, classes: int, seed: int) -> Segmenter:
    """A new network whose weights depend on (variant, network, seed) only.

    The backbone draws before the heads do, so all variants of one seed start from the same backbone.
    """
    torch.manual_seed(number(seed, "backbone"))
    backbone = build_backbone(network)
    torch.manual_seed(number(seed, "decoder"))
    decoder = FCN(variant, backbone.channels, backbone.strides, network.levels, classes, network.output_stride)
    return Segmenter(backbone, decoder, network.frozen)
