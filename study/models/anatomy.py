"""Describes networks from the modules that the code builds: sizes, weights, multiply-adds, receptive fields.

No pixels are computed: networks are built and run on torch's meta device, so ResNet-152 takes half a second.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from study.models import backbones
from study.models.build import build_backbone, untrained
from study.models.decoder import FCN
from study.models.resnet_gcn_block import GlobalBlock
from study.spec.documents.networks import (
    BackboneStage,
    Convolution,
    DecoderStep,
    Deconvolution,
    Description,
    Field,
    Reading,
    ResidualBlock,
)
from study.spec.heads import Variant
from study.spec.training import Network

CONVOLUTIONS = (torch.ops.aten.convolution,)
ASIDE = ("downsample", "skip", "branches.1")  # modules that are not on the longest path through a block
# Functions that return their first argument with other values: initialisations and batch normalisation.
SAME_SIZE = {"normal_", "uniform_", "trunc_normal_", "fill_", "zero_", "batch_norm"}


class _Sizes(TorchFunctionMode):
    """Skips functions that change no size: on the meta device they have no effect, yet take most of the time."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and getattr(func, "__name__", "") in SAME_SIZE:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def outline() -> Iterator[None]:
    """A context in which networks are built and run with sizes only, without values."""
    with torch.device("meta"), torch.no_grad(), _Sizes():
        yield


def multiply_adds(module: nn.Module, *inputs: Any) -> tuple[int, dict[str, int]]:
    """Multiply-adds of convolutions in one pass: in total, and by the name of each module."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    by_module = {
        name.split(".", 1)[-1]: sum(count for op, count in counts.items() if op in CONVOLUTIONS) // 2
        for name, counts in counter.get_flop_counts().items()
    }
    return by_module["Global"], by_module


def _size(module: nn.Module | None) -> int:
    return 0 if module is None else sum(weights.numel() for weights in module.parameters())


def _items(modules: nn.ModuleDict) -> list[tuple[str, Any]]:
    return list(modules.items())


def _conv(conv: nn.Conv2d) -> Convolution:
    return {"kernel": list(conv.kernel_size), "in": conv.in_channels, "out": conv.out_channels}


def _deconvolution(up: nn.ConvTranspose2d) -> Deconvolution:
    return {"kernel": up.kernel_size[0], "stride": up.stride[0], "channels": up.out_channels}


class _Record:
    """The output of every module of ``root`` that ran, by name, in the order in which they finished."""

    def __init__(self, root: nn.Module) -> None:
        self.outputs: dict[str, torch.Tensor] = {}
        self.modules = dict(root.named_modules())
        for name, module in self.modules.items():
            module.register_forward_hook(lambda m, i, output, name=name: self._keep(name, output))

    def _keep(self, name: str, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            self.outputs.pop(name, None)  # if a module runs several times, the last run counts
            self.outputs[name] = output

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(output.shape) for name, output in self.outputs.items()}


def describe(variant: Variant, network: Network, classes: int, size: tuple[int, int]) -> Description:
    """Describe a segmentation network on one image of ``size`` (height, width), for Fig. 1 and 2 and for the audit.

    ``stages`` of the backbone and ``steps`` of the decoder are in order of execution, each with the size and channels
    of its map; ``heads`` has the chains of each level's head; the rest are parameters and multiply-adds of the parts.
    """
    with outline():
        backbone = build_backbone(dataclasses.replace(network, options=untrained(network))).eval()
        decoder = FCN(variant, network, backbone.channels, backbone.strides, classes).eval()
        images = torch.empty(1, 3, *size)
        in_backbone, in_decoder = _Record(backbone), _Record(decoder)
        features = backbone(images)
        decoder(features)
        whole, _ = multiply_adds(backbone, images)
        _, parts = multiply_adds(decoder, features)
    heads = {
        level: [[_conv(conv) for conv in chain if isinstance(conv, nn.Conv2d)] for chain in head.chains]
        for level, head in _items(decoder.heads)
    }
    refinements: list[Any] = list(decoder.refinements.values())
    first = refinements[0] if refinements else None
    named = {"heads": decoder.heads, "refinements": decoder.refinements, "deconvolutions": decoder.ups}
    under = {"heads": "heads.", "refinements": "refinements.", "deconvolutions": "ups."}
    macs = {
        part: sum(count for name, count in parts.items() if name.startswith(start) and name.count(".") == 1)
        for part, start in under.items()
    }
    return {
        "input": list(size),
        "classes": classes,
        "stages": _stages(backbone, in_backbone, features),
        "levels": list(decoder.levels),
        "steps": _steps(decoder, in_decoder, classes),
        "heads": heads,
        "refinement": first and [{**_conv(first.first), "relu": True}, {**_conv(first.second), "relu": False}],
        "deconvolution": next((_deconvolution(up) for _, up in _items(decoder.ups)), None),
        "parameters": {"backbone": _size(backbone)} | {part: _size(module) for part, module in named.items()},
        "macs": {"backbone": whole} | macs,
    }  # fmt: skip


def _stages(backbone: backbones.Backbone, record: _Record, features: dict[str, torch.Tensor]) -> list[BackboneStage]:
    """The levels, preceded by the first convolution if its map is larger than theirs."""
    found = [(name, tuple(maps.shape)) for name, maps in features.items()]
    first = next(shape for name, shape in record.shapes.items() if isinstance(record.modules[name], nn.Conv2d))
    if first[2:] != found[0][1][2:]:
        found.insert(0, ("conv1", first))
    finest = found[0][1][2] * (2 if found[0][0] == "conv1" else backbone.strides[found[0][0]])
    return [
        {"name": name, "channels": shape[1], "size": list(shape[2:]), "stride": round(finest / shape[2])}
        for name, shape in found
    ]


def _steps(decoder: FCN, record: _Record, classes: int) -> list[DecoderStep]:
    """The decoder's operations in order of execution."""
    found: list[DecoderStep] = []

    def step(op: str, name: str, level: str | None, module: str) -> None:
        size = list(record.shapes[module][2:])
        found.append({"op": op, "name": name, "level": level, "size": size, "channels": classes})

    def head(level: str) -> None:
        step("head", level, level, f"heads.{level}")
        if f"head_{level}" in decoder.refinements:
            step("refine", f"head_{level}", level, f"refinements.head_{level}")

    head(decoder.levels[0])
    for op, name in decoder.steps:
        if op == "add":
            head(name)
            step("add", name, name, f"heads.{name}")
        else:
            step(op, name, None, f"{'ups' if op == 'up' else 'refinements'}.{name}")
    return found


def block(module: nn.Module, title: str) -> ResidualBlock:
    """A residual block for Fig. 5: torchvision's bottleneck, or the block of Fig. 5B."""

    def convs(modules: list[nn.Module], last_relu: bool = True) -> list[Convolution]:
        kept = [m for m in modules if isinstance(m, nn.Conv2d)]
        told: list[Convolution] = [{**_conv(conv), "norm": True, "relu": True} for conv in kept]
        told[-1]["relu"] = last_relu
        return told

    if isinstance(module, GlobalBlock):
        branches = [convs(list(branch.modules())) for branch in module.branches]
        after, join = convs(list(module.last.modules()), last_relu=False), module.join
        skip = "identity" if isinstance(module.skip, nn.Identity) else "projection"
    else:
        branches, join = [convs([module.get_submodule("conv1"), module.get_submodule("conv2")])], None
        after = convs([module.get_submodule("conv3")], last_relu=False)
        skip = "identity" if getattr(module, "downsample", None) is None else "projection"
    return {"title": title, "branches": branches, "join": join, "after": after, "skip": skip, "relu": True}


def blocks(join: str = "concat") -> list[ResidualBlock]:
    """The identity blocks of res-4 of ResNet50 and ResNet50-GCN (Fig. 5)."""
    with outline():
        plain, gcn = backbones.TorchvisionResNet(50, None, True), backbones.ResNetGCN(join, None, True)
    return [
        block(plain.net.layer3[1], "ResNet: bottleneck"),
        block(gcn.net.layer3[1], "ResNet-GCN: global convolutional block"),
    ]


def table11(side: int = 224) -> dict[str, Reading]:
    """Both networks of Table 11 on an input of ``side`` px, in every reading: map sides, multiply-adds, weights.

    ``first`` in a name: a bottleneck's stride is in its first 1x1 convolution, as in the ResNet of 2015; otherwise it
    is in the 3x3 one, as in torchvision's weights. The 1000-class layer counts among the weights, not among the
    convolutions.
    """
    found: dict[str, Reading] = {}
    readings = itertools.product(("ResNet50", "ResNet50-GCN sum", "ResNet50-GCN concat"), (False, True))
    for name, first in readings:
        with outline():
            if name == "ResNet50":
                backbone = backbones.TorchvisionResNet(50, None, True)
            else:
                backbone = backbones.ResNetGCN(name.split()[-1], None, True)
            if first:
                _stride_first(backbone)
            record, images = _Record(backbone), torch.empty(1, 3, side, side)
            macs, parts = multiply_adds(backbone.eval(), images)
        maps = {"conv1": record.shapes["net.conv1"][2]}
        maps |= {f"res-{n + 1}": record.shapes[f"net.layer{n}"][2] for n in range(1, 5)}
        by_part = {"conv1": parts["net.conv1"]} | {f"res-{n + 1}": parts[f"net.layer{n}"] for n in range(1, 5)}
        found[name + (", stride first" if first else "")] = {
            "sides": maps | {"head": 1}, "macs": macs, "macs_by_part": by_part,
            "parameters": _size(backbone) + 2048 * 1000 + 1000,
        }  # fmt: skip
    return found


def _stride_first(backbone: backbones.TorchvisionResNet) -> None:
    for module in backbone.modules():
        conv1, conv2 = getattr(module, "conv1", None), getattr(module, "conv2", None)
        if isinstance(conv1, nn.Conv2d) and isinstance(conv2, nn.Conv2d) and conv2.stride != (1, 1):
            conv1.stride, conv2.stride = conv2.stride, (1, 1)


def receptive_fields(network: Network, size: int = 512) -> dict[str, Field]:
    """Theoretical receptive field (px) of one cell of each level: every convolution or pooling of kernel k on the
    longest path adds (k - 1) times the stride before it, separately for each axis."""
    with outline():
        backbone = build_backbone(dataclasses.replace(network, options=untrained(network))).eval()
        record = _Record(backbone)
        features = backbone(torch.empty(1, 3, size, size))
    found: dict[str, Field] = {}
    fields, stride = [1, 1], 1
    for name, output in record.outputs.items():
        module = record.modules[name]
        if isinstance(module, nn.Conv2d | nn.MaxPool2d) and not any(part in name for part in ASIDE):
            kernel, step = (
                side if isinstance(side, tuple) else (side,) * 2 for side in (module.kernel_size, module.stride)
            )
            fields = [field + (side - 1) * stride for field, side in zip(fields, kernel, strict=True)]
            stride *= step[0]
        elif isinstance(module, GlobalBlock):
            fields = [max(fields)] * 2  # the skipped branch is the transpose of the other one
        for level, maps in features.items():
            if output is maps:
                found.setdefault(level, {"px": max(fields), "stride": stride})
    return found
