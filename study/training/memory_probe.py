"""Takes the memory that a training needs, before it starts: a step, and an evaluation of whole images beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from study.data.originals import Original
from study.models.build import Inputs
from study.spec.training import Training
from study.training.batches import EVALUATION_BATCH, EVALUATION_PX, Source
from study.training.captured import EAGER
from study.training.count import measure
from study.training.loop import fit, start
from study.training.speed_probe import random_batches, random_labels, settled, untrained_model


class _Whole(Source):
    """One batch of random whole images of ``size`` (height, width), as tune and val give them."""

    def __init__(
        self, training: Training, classes: int, size: tuple[int, int], device: str, longest: int | None
    ) -> None:
        self.training, self.classes, self.size, self.longest = training, classes, size, longest
        most = EVALUATION_PX // (size[0] * size[1]) if training.variant else EVALUATION_BATCH
        self.number = max(1, min(EVALUATION_BATCH, most))
        recipe = dataclasses.replace(training.recipe, batch=self.number, crop=None)
        whole = dataclasses.replace(training, recipe=recipe)
        self.batch = random_batches(training.network, whole, classes, size, device)(0)

    def examples(self, split: str, limit: int | None = None) -> Iterator[tuple[Inputs, np.ndarray, np.ndarray]]:
        shape = (self.number, *self.size) if self.training.variant else (self.number,)
        labels = random_labels(shape, self.classes)
        yield self.batch.inputs, labels, np.zeros(shape, bool)

    def original(self, split: str, index: int) -> Original:
        return Original(random_labels(self.size, self.classes), np.zeros(self.size, bool), self.size)


def fill(
    training: Training, classes: int, size: tuple[int, int], device: str, longest: int | None = None
) -> Iterator[str]:
    """Take the memory of a training on random images of ``size`` (height, width), made smaller to ``longest`` px if
    given: name each part once it has had room, first its steps, then the evaluation of a batch of whole images beside
    them. Raises what torch raises if there is no room."""
    with settled(device, training.recipe.deterministic):
        network, model = untrained_model(training, classes, device)
        training, on_gpu = dataclasses.replace(training, network=network), device == "cuda"
        recipe = dataclasses.replace(training.recipe, steps=1 + EAGER * on_gpu)
        batch_of = random_batches(network, training, classes, size, device)
        for step, _ in fit(start(model, recipe), batch_of, recipe, capture=on_gpu):
            if step == recipe.steps:
                yield "step"
                measure(model, _Whole(training, classes, size, device, longest), "val", on_device=on_gpu)
                yield "evaluation"
