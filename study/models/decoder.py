"""The decoder of Fig. 2A: heads on the backbone's levels, x2 deconvolutions, sums, boundary refinement (BR)."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

from study.models.boundary_refinement import BoundaryRefinement
from study.models.heads import LinearHead
from study.spec.errors import InputError
from study.spec.heads import Variant
from study.spec.training import Network


def deconvolution(classes: int, learned: bool = True) -> nn.ConvTranspose2d:
    """A x2 deconvolution of each class by itself: kernel 4, starting as bilinear upsampling, learned or not (D09)."""
    layer = nn.ConvTranspose2d(classes, classes, 4, stride=2, padding=1, groups=classes).requires_grad_(learned)
    ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
    bilinear = (ramp[:, None] * ramp[None, :]).expand_as(layer.weight)
    layer.load_state_dict({"weight": bilinear, "bias": torch.zeros(classes)})
    return layer


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
        # Coarsest first, as the scores flow.
        self.levels = sorted(levels, key=lambda level: (-strides[level], -list(channels).index(level)))
        self.refines = variant.refine
        self.heads = nn.ModuleDict(
            {level: LinearHead(network.head_at(level, variant), channels[level], classes) for level in self.levels}
        )
        stride = strides[self.levels[0]]
        self.steps: list[tuple[str, str]] = []  # (operation, name of its module or level), in order of execution
        self.ups, self.refinements = nn.ModuleDict(), nn.ModuleDict()

        def refine(name: str) -> None:
            if variant.refine:
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
                refine(f"sum_{level}")
            if variant.refine:
                self.refinements[f"head_{level}"] = BoundaryRefinement(classes)
        while stride > output_stride:
            upsample()
            refine(f"x{stride}")
        if stride != output_stride:
            raise InputError(
                f"output_stride must be a level's stride divided by powers of two, got {output_stride}; take 1, or "
                f"{strides[self.levels[-1]]}"
            )

    def _head(self, level: str, features: dict[str, torch.Tensor]) -> torch.Tensor:
        scores = self.heads[level](features[level])
        return self.refinements[f"head_{level}"](scores) if self.refines else scores

    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        scores = self._head(self.levels[0], features)
        for operation, name in self.steps:
            if operation == "add":
                scores = scores + self._head(name, features)
            elif operation == "up":
                # In bf16 a deconvolution of each class by itself is several times slower on a CPU than in fp32.
                kind = scores.device.type
                with nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False):
                    scores = self.ups[name](scores.float())
            else:
                scores = self.refinements[name](scores)
        return scores
