"""Whether loaders keep up with a training: images read and decoded against images trained."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from study.data import pixels
from study.gpu_check.cases import SEED, Case
from study.gpu_check.endurance import step_seconds
from study.gpu_check.promises import Line
from study.seeds import generator
from study.store import machine
from study.training.batches import Source
from study.training.prefetch import batches

IMAGES, SIZE = 48, (375, 500)  # images in the layout of VOC, of its usual size
MOST = 12  # loaders


class Files:
    """JPEGs and masks in the layout of VOC, as a data set that is streamed."""

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self.folder, self.size = folder, size

    def read(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        base, name = self.folder / "VOCdevkit" / "VOC2012", f"2007_{index:06}"
        image = pixels.picture(base / "JPEGImages" / f"{name}.jpg")
        with Image.open(base / "SegmentationClass" / f"{name}.png") as mask:
            return image, np.array(mask)


def _opened(folder: Path, size: tuple[int, int]) -> Any:
    return Files(folder, size)


def write(folder: Path) -> None:
    """Smooth pictures with noise, which compress about as photographs do, and masks."""
    base = folder / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass"):
        (base / part).mkdir(parents=True)
    for index in range(IMAGES):
        draw, name = generator(SEED, "jpeg", index), f"2007_{index:06}"
        wide = SIZE[::-1]
        coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), np.uint8)).resize(wide, Image.Resampling.BICUBIC)
        noisy = np.asarray(coarse, np.int16) + draw.integers(-12, 13, (*SIZE, 3), np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(base / "JPEGImages" / f"{name}.jpg", quality=92)
        mask = Image.fromarray(draw.integers(0, 21, (12, 16), np.uint8)).resize(wide, Image.Resampling.NEAREST)
        mask.save(base / "SegmentationClass" / f"{name}.png")


def speed(case: Case, device: str) -> Iterator[Line]:
    """Images fed over images trained, with the loaders that one training would get."""
    side = max(SIZE)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder)
        np.save(folder / "train-names.npy", np.arange(IMAGES))
        loaders = min(MOST, max(1, machine.cores()))
        batch = case.recipe.batch
        rounds = max(4, 4 * loaders * 16 // batch) if device != "cpu" else 6
        training = case.training()
        training = dataclasses.replace(training, recipe=dataclasses.replace(case.recipe, steps=2 * rounds))
        size = (-(-side // 32) * 32,) * 2
        source = Source(
            training, case.classes, torch.device("cpu"), folder=folder, features=None, band={},
            stream=functools.partial(_opened, folder, size),
        )  # fmt: skip
        ready = batches(source, 0, 2 * rounds, loaders)
        for step in range(rounds):  # processes start, and the batches read ahead meanwhile are used up
            ready(step)
        began = time.perf_counter()
        for step in range(rounds, 2 * rounds):
            ready(step)
        fed = rounds * batch / (time.perf_counter() - began)
    trained = batch / step_seconds(case, device, 3 if device == "cpu" else 20)
    promise = "at least 1 image read for each trained" if device != "cpu" else ""
    found = f"{fed:,.0f} read, {trained:,.0f} trained a second: {fed / trained:.2f} ({loaders} loaders)"
    yield Line("loaders", promise, found, fed >= trained if device != "cpu" else None)
