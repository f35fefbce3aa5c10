"""Whether loaders keep up with a training: images read and decoded against images trained."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from study.data import pixels
from study.gpu_check.cases import SEED, Case
from study.gpu_check.endurance import WARM, state_of, step_seconds
from study.gpu_check.promises import Line
from study.gpu_check.speed import seconds_of
from study.seeds import generator
from study.store import machine
from study.training.batches import Source
from study.training.count import counts_on_device, image_counts
from study.training.loop import fit
from study.training.prefetch import batches

IMAGES = 48
SIZES = {"cuda": (375, 500), "cpu": (94, 125)}  # of an image, on a GPU the usual one of VOC
SIDES = {"cuda": 512, "cpu": 128}  # px that images are padded to
FED = 1.1  # times as long as a step whose batch is on the device
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


def write(folder: Path, size: tuple[int, int]) -> None:
    """Smooth pictures with noise, which compress about as photographs do, and masks, of ``size`` (height, width) in the
    layout of VOC."""
    base = folder / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass"):
        (base / part).mkdir(parents=True)
    for index in range(IMAGES):
        draw, name = generator(SEED, "jpeg", index), f"2007_{index:06}"
        wide = size[::-1]
        coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), np.uint8)).resize(wide, Image.Resampling.BICUBIC)
        noisy = np.asarray(coarse, np.int16) + draw.integers(-12, 13, (*size, 3), np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(base / "JPEGImages" / f"{name}.jpg", quality=92)
        mask = Image.fromarray(draw.integers(0, 21, (12, 16), np.uint8)).resize(wide, Image.Resampling.NEAREST)
        mask.save(base / "SegmentationClass" / f"{name}.png")


def source_of(case: Case, folder: Path, device: str) -> Source:
    """The images in ``folder`` as a training streams them."""
    write(folder, SIZES[device])
    side = SIDES[device]
    np.save(folder / "train-names.npy", np.arange(IMAGES))
    return Source(
        case.training(), case.classes, torch.device(device), folder=folder, features=None, band={},
        stream=functools.partial(_opened, folder, (side, side)),
    )  # fmt: skip


def speed(case: Case, device: str) -> Iterator[Line]:
    """A training that loaders feed from files, against one whose batches are on the device; both copy ways give the
    same weights."""
    on_gpu = device != "cpu"
    loaders = min(MOST, max(1, machine.cores()))
    steps = 20 if on_gpu else 3
    last = 3 * (WARM + steps)
    with tempfile.TemporaryDirectory() as place:
        source = source_of(case, Path(place), device)
        fed_case = dataclasses.replace(case, size=(SIDES[device], SIDES[device]))
        fed = step_seconds(fed_case, device, steps, batches=batches(source, 0, last, loaders, copy_ahead=True))
        resident = step_seconds(fed_case, device, steps)
        told = f"a step from files takes {fed / resident:.2f} times as long as one without ({loaders} loaders)"
        promise, kept = (f"at most {FED} times", fed <= FED * resident) if on_gpu else ("", None)
        yield Line("loaders keep up", promise, told, kept)
        found = []
        for ahead in (True, False):
            state = state_of(fed_case, device)
            loop = fit(state, batches(source, 0, last, 0, copy_ahead=ahead), fed_case.recipe, capture=on_gpu)
            for _ in range(WARM):
                next(loop)
            found.append({name: value.cpu() for name, value in state.model.state_dict().items()})
        same = all(torch.equal(value, found[1][name]) for name, value in found[0].items())
        yield Line("batches copied ahead", "the same weights", "equal" if same else "different", same)
        if on_gpu:
            plain = step_seconds(fed_case, device, steps, batches=batches(source, 0, last, loaders, copy_ahead=False))
            yield Line("worth of copies ahead", "", f"{plain / fed:.2f} times as long without", None)


def worth(case: Case, device: str) -> Iterator[Line]:
    """What the other ways not to wait are worth, on a GPU."""
    if device == "cpu":
        return
    known = case.batches("cpu", 1)(0).labels.numpy()
    said, band = torch.from_numpy(known).to(device).long(), known == 0
    there = seconds_of(lambda: counts_on_device(said, known, band, case.classes), device)
    here = seconds_of(lambda: image_counts(known[0], said[0].cpu().numpy(), band[0], case.classes), device)
    yield Line("worth of counts on the device", "", f"{here * len(known) / there:.2f} times as long without", None)
    usual = step_seconds(case, device, look_every=20)
    ways = {
        "recorded passes": step_seconds(case, device, look_every=20, capture=False),
        "a look at the loss every 20 steps": step_seconds(case, device, look_every=1),
    }
    for name, without in ways.items():
        yield Line(f"worth of {name}", "", f"{without / usual:.2f} times as long without", None)
