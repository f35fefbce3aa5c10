"""The networks of the tiers for GPUs, as params.yaml has them (a test compares), and small ones for a CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch

from study.models.build import Segmenter, build
from study.seeds import generator
from study.spec.heads import Variant, gcn
from study.spec.training import Data, Network, Recipe, Training, freeze
from study.training.loop import Batch

LEVELS = ("res2", "res3", "res4", "res5")
OURS = Variant(gcn(15), refine=True)  # the paper's own network
SEED = 0


@dataclass(frozen=True)
class Case:
    """A tier's network and recipe, on training images of ``size`` (height, width)."""

    network: Network
    recipe: Recipe
    size: tuple[int, int]
    classes: int

    def training(self, variant: Variant = OURS) -> Training:
        return Training(variant, Data("random"), self.network, recipe=self.recipe, seed=SEED, band_px=1)

    def model(self, variant: Variant, device: str) -> Segmenter:
        """The network with random weights."""
        made = build(variant, self.network, self.classes, SEED)
        assert isinstance(made, Segmenter)
        return made.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def batches(self, device: str, number: int = 4) -> Callable[[int], Batch]:
        """``batch(step)`` of noise; ``number`` different ones in turn."""
        (height, width), n = self.size, self.recipe.batch
        stride, made = self.network.output_stride, []
        for step in range(number):
            draw = generator(SEED, "gpu check", step)
            images = torch.from_numpy(draw.integers(0, 256, (n, 3, height, width)).astype("float32"))
            labels = torch.from_numpy(draw.integers(0, self.classes, (n, height // stride, width // stride), "uint8"))
            images = images.to(device).contiguous(memory_format=torch.channels_last)
            made.append(Batch(images, labels.to(device)))
        return lambda step: made[step % number]

    def changed(self, **recipe: object) -> Case:
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, **recipe))  # type: ignore[arg-type]


def resnet(depth: int, frozen_norm: bool) -> Network:
    """A ResNet with random weights, as a tier's network is before its weights are read."""
    return Network("resnet", LEVELS, freeze({"depth": depth, "weights": None, "frozen_norm": frozen_norm}))


PAPER = Recipe(
    optimizer="sgd", lr=1.7e-5, momentum=0.99, weight_decay=0.0005, schedule="poly", warmup=0.0, steps=100_000, batch=1,
    flip=True, precision="bf16", validations=20,
)  # fmt: skip
WEEKEND = dataclasses.replace(
    PAPER, lr=0.001, head_rate=10, momentum=0.9, steps=20_000, batch=16, fused=True, validations=10
)
CASES = {
    "voc": Case(resnet(152, frozen_norm=True), PAPER, (512, 512), 21),
    "voc_weekend": Case(resnet(50, frozen_norm=False), WEEKEND, (512, 512), 21),
    "cityscapes": Case(
        resnet(152, frozen_norm=True), dataclasses.replace(PAPER, steps=60_000, crop=(800, 800)), (800, 800), 19
    ),
}


def cases(device: str) -> dict[str, Case]:
    """CASES, at small sizes on a CPU."""
    if device != "cpu":
        return CASES
    small = {}
    for name, case in CASES.items():
        frozen = bool(dict(case.network.options)["frozen_norm"])
        small[name] = dataclasses.replace(
            case.changed(batch=min(2, case.recipe.batch)), network=resnet(50, frozen), size=(64, 64)
        )
    return small
