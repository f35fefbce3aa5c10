"""Costs of networks: weights, and multiply-adds on one image, counted on the modules that the code builds."""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import nn

from study.models.anatomy import multiply_adds, outline
from study.models.backbones import Backbone
from study.models.build import Classifier, build_backbone, untrained
from study.models.decoder import FCN
from study.spec.documents.networks import Costs
from study.spec.heads import Variant
from study.spec.training import Network


def costs(variant: Variant | None, network: Network, classes: int, size: tuple[int, int]) -> Costs:
    """Costs of a whole network and of its heads (without a variant: of Table 11's linear layer): ``parameters``, and
    ``macs``, the multiply-adds of convolutions and deconvolutions in a forward pass on one image of ``size`` (height,
    width) in px. A frozen backbone counts too, although a training takes its features from the cache."""
    backbone, features, macs = _backbone(dataclasses.replace(network, options=untrained(network)), size)
    with outline():
        if variant is None:
            linear = Classifier(backbone, classes).linear
            return {"parameters": _size(backbone) + _size(linear), "macs": macs,
                    "head_parameters": _size(linear), "head_macs": 0}  # fmt: skip
        decoder = FCN(variant, network, backbone.channels, backbone.strides, classes).eval()
        above, parts = multiply_adds(decoder, features)
    return {
        "parameters": _size(backbone) + _size(decoder), "macs": macs + above,
        "head_parameters": _size(decoder.heads),
        "head_macs": sum(parts[f"heads.{level}"] for level in decoder.levels),
    }  # fmt: skip


@functools.lru_cache(maxsize=16)
def _backbone(network: Network, size: tuple[int, int]) -> tuple[Backbone, dict[str, torch.Tensor], int]:
    """A backbone, its maps on one image and its multiply-adds; all variants on it share them."""
    with outline():
        backbone, images = build_backbone(network).eval(), torch.empty(1, 3, *size)
        return backbone, backbone(images), multiply_adds(backbone, images)[0]


def _size(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())
