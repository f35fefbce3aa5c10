"""The decoder of Fig. 2A: heads on the backbone's levels, x2 deconvolutions, sums, boundary refinement (BR)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from study.models.boundary_refinement import BoundaryRefinement
from study.models.heads import ConvHead
from study.spec.errors import InputError
from study.spec.heads import PLACES, Variant
from study.spec.training import Network


class Deconvolution(nn.ConvTranspose2d):
    """A x2 deconvolution (N, K, h, w) -> (N, K, 2h, 2w) of each class separately, kernel 4.

    On the CPU, the four pixels of each cell are computed as 3x3 convolutions of each class, each with a quarter of the
    kernel's weights: the same function, several times as fast as oneDNN's own.
    """

    def forward(self, maps: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        if maps.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(maps, output_size)
        assert self.bias is not None
        with torch._C.DisableTorchFunction():  # its convolutions stay in fp32 where others are rounded to bf16 (D145)
            return _Doubled.apply(maps.contiguous(memory_format=torch.channels_last), self.weight, self.bias)


# The row (column) of the kernel for the cell before, at and after the pixel's own: of an upper (left) pixel, and of a
# lower (right) one. 4 is none.
_MET = torch.tensor([[3, 1, 4], [4, 2, 0]])


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(maps, weight)
        number, classes, height, width = maps.shape
        kernel = functional.pad(weight[:, 0], (0, 1, 0, 1))
        kernels = kernel[:, _MET][:, :, :, _MET].permute(1, 3, 0, 2, 4).reshape(4 * classes, 1, 3, 3)
        pixels = functional.conv2d(torch.cat([maps] * 4, 1), kernels, bias.repeat(4), padding=1, groups=4 * classes)
        rows = pixels.permute(0, 2, 3, 1).reshape(number, height, width, 2, 2 * classes).transpose(2, 3)
        return rows.reshape(number, 2 * height, 2 * width, classes).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        maps, weight = ctx.saved_tensors
        outer = outer.contiguous(memory_format=torch.channels_last)
        wanted = list(ctx.needs_input_grad)
        below = functional.conv2d(outer, weight, None, 2, 1, groups=len(weight)) if wanted[0] else None
        of_weight = (
            torch.ops.aten.convolution_backward(
                maps, outer, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], len(weight), [False, True, False]
            )[1]
            if wanted[1]
            else None
        )
        return below, of_weight, outer.sum((0, 2, 3)) if wanted[2] else None


def deconvolution(classes: int, learned: bool = True) -> Deconvolution:
    """A x2 deconvolution of each class separately: kernel 4, starts as bilinear upsampling, learned or not (D09)."""
    layer = Deconvolution(classes, classes, 4, stride=2, padding=1, groups=classes).requires_grad_(learned)
    ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
    bilinear = (ramp[:, None] * ramp[None, :]).expand_as(layer.weight)
    layer.load_state_dict({"weight": bilinear, "bias": torch.zeros(classes)})
    return layer


def places(levels: tuple[str, ...], strides: dict[str, int], output_stride: int) -> tuple[str, ...]:
    """Places for boundary refinement: "sum" needs a second level, "up" a deconvolution after the finest level."""
    there = {"head": True, "sum": len(levels) > 1, "up": min(strides[level] for level in levels) > output_stride}
    return tuple(place for place in PLACES if there[place])


class FCN(nn.Module):
    """{level: features (N, C, H / stride, W / stride)} -> scores (N, K, H / output_stride, W / output_stride).

    With a ResNet (strides 4 to 32, output stride 1) these are the four heads, five deconvolutions and nine BRs of
    Fig. 2A; with other strides their numbers follow. Neighbouring levels of equal stride are summed directly.
    """

    def __init__(
        self,
        variant: Variant,
        network: Network,
        channels: dict[str, int],
        strides: dict[str, int],
        classes: int,
    ) -> None:
        super().__init__()
        levels, output_stride = network.levels, network.output_stride
        for level in levels + tuple(level for level, _ in network.fixed + variant.at):
            if level not in channels:
                raise InputError(f"a level must be one of the backbone's {sorted(channels)}, got {level!r}; rename it")
        known = places(levels, strides, output_stride)
        if not isinstance(variant.refine, bool) and (absent := [p for p in variant.refine if p not in known]):
            raise InputError(
                f"refine must name places that the network has ({', '.join(known)}), got {absent[0]}; remove it"
            )
        # Coarsest first, as the scores flow.
        self.levels = sorted(levels, key=lambda level: (-strides[level], -list(channels).index(level)))
        self.heads = nn.ModuleDict(
            {level: ConvHead(network.head_at(level, variant), channels[level], classes) for level in self.levels}
        )
        stride = strides[self.levels[0]]
        self.steps: list[tuple[str, str]] = []  # (operation, name of its module or level), in order of execution
        self.ups, self.refinements = nn.ModuleDict(), nn.ModuleDict()

        def refine(place: str, name: str) -> None:
            if variant.refines(place):
                self.refinements[name] = BoundaryRefinement(classes)
                self.steps.append(("refine", name))

        def upsample() -> None:
            nonlocal stride
            stride //= 2
            self.ups[f"x{stride}"] = deconvolution(classes, network.deconvolution == "learned")
            self.steps.append(("up", f"x{stride}"))

        for position, level in enumerate(self.levels):
            if position:
                while stride > strides[level]:
                    upsample()
                self.steps.append(("add", level))
                refine("sum", f"sum_{level}")
            if variant.refines("head"):
                self.refinements[f"head_{level}"] = BoundaryRefinement(classes)
        while stride > output_stride:
            upsample()
            refine("up", f"x{stride}")
        if stride != output_stride:
            raise InputError(
                f"output_stride must be a level's stride divided by powers of two, got {output_stride}; take 1, or "
                f"{strides[self.levels[-1]]}"
            )

    def _head(self, level: str, features: dict[str, torch.Tensor]) -> torch.Tensor:
        maps, kind = features[level], features[level].device.type
        if kind != "meta" and torch.is_autocast_enabled(kind):
            maps = maps.to(torch.get_autocast_dtype(kind))  # once, not in each of a head's chains
        scores, refined = self.heads[level](maps), f"head_{level}"
        return self.refinements[refined](scores) if refined in self.refinements else scores

    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        scores = self._head(self.levels[0], features)
        for operation, name in self.steps:
            if operation == "add":
                scores = scores + self._head(name, features)
            elif operation == "up":
                # On a CPU, a deconvolution of each class separately is several times slower in bf16 than in fp32.
                kind = scores.device.type
                with nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False):
                    scores = self.ups[name](scores.float())
            else:
                scores = self.refinements[name](scores)
        return scores
