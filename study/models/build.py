"""``build``: variant x network -> the segmentation network of Fig. 2A, or the classifier of Table 11."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from study.models import backbones
from study.models.decoder import FCN, places
from study.seeds import number
from study.spec.errors import InputError
from study.spec.heads import Variant
from study.spec.training import Network, Options

Inputs = torch.Tensor | dict[str, torch.Tensor]


def build_backbone(network: Network) -> backbones.Backbone:
    """The backbone of ``network`` with its weights. Raises InputError for an unknown name, or weights that do not
    fit."""
    if network.backbone not in backbones.BACKBONES:
        raise InputError(
            f"a backbone must be one of {sorted(backbones.BACKBONES)}, got {network.backbone!r}; "
            "rename it in params.yaml"
        )
    try:
        return backbones.BACKBONES[network.backbone](**dict(network.options))
    except InputError:  # it says more than the next one
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"network.options must fit the backbone {network.backbone} ({error}), got {dict(network.options)}; "
            "correct them in params.yaml"
        ) from error


def stride_of(network: Network) -> int:
    """Pixels per cell of the coarsest map that a head of ``network`` reads; inputs must be multiples of it."""
    strides = build_backbone(dataclasses.replace(network, options=untrained(network))).strides
    return max(strides[level] for level in network.levels)


def refinable(network: Network) -> tuple[str, ...]:
    """The places of PLACES in which a network on these levels can have boundary refinement."""
    strides = build_backbone(dataclasses.replace(network, options=untrained(network))).strides
    return places(network.levels, strides, network.output_stride)


def check(network: Network, size: tuple[int, int], what: str) -> None:
    """Raises InputError unless ``network`` accepts ``what``, images of ``size`` (height, width): their sides must be
    multiples of the coarsest stride, and the backbone's maps must have the shapes that it declares."""
    stride = stride_of(network)
    if any(side % stride for side in size):
        raise InputError(
            f"{what} must have sides that are multiples of {stride} px (a cell of the network's coarsest map), got "
            f"{tuple(size)} (height, width); take multiples of {stride}"
        )
    with torch.device("meta"), torch.no_grad():
        backbone = build_backbone(dataclasses.replace(network, options=untrained(network))).eval()
        found = {level: tuple(maps.shape[1:]) for level, maps in backbone(torch.empty(1, 3, *size)).items()}
    for level, strides in backbone.strides.items():
        told = (backbone.channels[level], size[0] // strides, size[1] // strides)
        if level in network.levels and found.get(level) != told:
            raise InputError(
                f"the map of {level} must have the channels and stride that the backbone {network.backbone} declares, "
                f"{told} (channels, height, width) for an image of {tuple(size)}, got {found.get(level)}; correct the "
                "backbone"
            )


def untrained(network: Network) -> Options:
    """The options of the backbone without its weights."""
    return tuple((name, None if name == "weights" else value) for name, value in network.options)


class Segmenter(nn.Module):
    """images (N, 3, H, W) in 0..255, or a frozen backbone's {level: features} -> scores (N, K, H / s, W / s)."""

    def __init__(self, backbone: nn.Module, decoder: FCN, frozen: bool) -> None:
        super().__init__()
        self.decoder = decoder
        self.backbone = None if frozen else backbone  # a frozen backbone's features come from the cache

    def forward(self, inputs: Inputs) -> torch.Tensor:
        return self.decoder(inputs if self.backbone is None else self.backbone(inputs))


class Classifier(nn.Module):
    """images (N, 3, H, W) in 0..255 -> scores (N, K): global average pooling of the last component and one linear
    layer (Table 11, row "head")."""

    def __init__(self, backbone: backbones.Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.last = list(backbone.channels)[-1]
        self.linear = nn.Linear(backbone.channels[self.last], classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.backbone(images)[self.last].mean((2, 3)))


def build(variant: Variant | None, network: Network, classes: int, seed: int) -> Segmenter | Classifier:
    """A new network whose weights depend only on (variant, network, seed); a classifier if there is no variant.

    The backbone is initialised first, with its own seed, so all variants of one seed start from the same backbone.
    """
    torch.manual_seed(number(seed, "backbone"))
    backbone = build_backbone(network)
    torch.manual_seed(number(seed, "decoder"))
    if variant is None:
        return Classifier(backbone, classes)
    decoder = FCN(variant, network, backbone.channels, backbone.strides, classes)
    return Segmenter(backbone, decoder, network.frozen)


def inherit(model: Segmenter | Classifier, state: dict[str, torch.Tensor], what: str) -> None:
    """Start ``model`` from the weights of an earlier training: all of them for a segmentation, the backbone's for a
    classification. ``what`` describes them in errors. Raises InputError naming the tensors that do not fit."""
    if any(name.startswith("linear.") for name in state) and isinstance(model.backbone, nn.Module):
        of_backbone = {name.removeprefix("backbone."): v for name, v in state.items() if name.startswith("backbone.")}
        backbones.transfer(model.backbone, of_backbone, what)
    else:
        backbones.transfer(model, state, what)
