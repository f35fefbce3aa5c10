"""Images per second that loaders read, and that a training uses: whether reading files keeps a device busy.

    python -m benchmarks.loader --tier voc                       # every setting that streams its images
    python -m benchmarks.loader --tier cityscapes --processes 0 2 8

Reads the tier's own images, or synthetic ones in the official layout and size if they are missing. A ratio above 1
means that the device never waits. On a CPU, loaders and training share the cores, so only the ratio with one process
each is meaningful. Both are measured in turn in one run.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch

from study.commands import rehearse
from study.config import tiers
from study.config.execution import execution_of
from study.data.prepare import open_data, prepare, training_size
from study.spec.checks import checked, whole
from study.spec.documents.data import Facts
from study.spec.errors import InputError
from study.spec.heads import Variant, gcn
from study.spec.training import Training
from study.store import stage
from study.training import speed_probe
from study.training.batches import open_source
from study.training.prefetch import batches

IMAGES, ROUNDS = 64, 3


def read(training: Training, root: Path | None, facts: Facts, cache: Path, processes: int) -> float:
    """Images per second of the loaders alone, once they run."""
    half = max(2, IMAGES // training.recipe.batch)  # batches
    recipe = dataclasses.replace(training.recipe, steps=2 * half)
    source = open_source(
        dataclasses.replace(training, recipe=recipe), facts, cache, torch.device("cpu"), root=root
    )  # fmt: skip
    batch = batches(source, 0, recipe.steps, processes)
    for step in range(half):  # processes start, and the batches read ahead meanwhile are used up
        batch(step)
    began = time.perf_counter()
    for step in range(half, recipe.steps):
        batch(step)
    return half * recipe.batch / (time.perf_counter() - began)


def measure(chosen: tiers.Tier, name: str, device: str, processes: list[int], cache: Path) -> None:
    setting = chosen.settings[name]
    facts = prepare(setting.data, setting.root, cache, chosen.band_px, stream=True)
    recipe = setting.recipe
    if recipe.precision == "auto":
        recipe = dataclasses.replace(recipe, precision="bf16")
    variant = None if setting.task == tiers.CLASSIFY else Variant(gcn(15), refine=True)
    training = Training(variant, setting.data, setting.network, recipe=recipe, seed=0, band_px=chosen.band_px)
    classes, size = len(facts["classes"]), training_size(open_data(setting.data, setting.root, cache))
    fed: dict[int, list[float]] = {number: [] for number in processes}
    used = []
    for _ in range(ROUNDS):
        used.append(recipe.batch / speed_probe.step_seconds(training, classes, size, device, steps=1))
        for number in processes:
            fed[number].append(read(training, setting.root, facts, cache, number))
    print(f"{name}: training uses {statistics.median(used):.2f} images/s ({device}, {recipe.precision})")
    for number in processes:
        ratios = [a / b for a, b in zip(fed[number], used, strict=True)]
        who = "the training's own process" if number == 0 else f"{number} processes"
        print(
            f"  {who:28} {statistics.median(fed[number]):8.1f} images/s, {statistics.median(ratios):7.1f} times as many"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", default="voc", help="a tier that streams its images")
    parser.add_argument("--processes", nargs="+", type=int, default=[0, 1, 2], help="numbers of loaders to try")
    parser.add_argument("--settings", nargs="+", default=None, help="of the tier (default: all that stream)")
    arguments = parser.parse_args()
    for number in arguments.processes:
        checked(Annotated[int, whole(0)], number, "--processes")
    params = tiers.read()
    device = execution_of(params).device
    with tempfile.TemporaryDirectory() as folder:
        block = rehearse.stand_in(params["tiers"][arguments.tier], Path(folder) / "data")
        chosen, stood_in = (
            tiers.load(params, arguments.tier),
            tiers.load({**params, "tiers": {"stand_in": block}}, "stand_in"),
        )
        names = [name for name, setting in chosen.settings.items() if setting.stream]
        if not names:
            raise InputError(f"a tier must stream images to be measured, got {arguments.tier}; take voc or cityscapes")
        seen = set()
        for name in arguments.settings or names:
            setting = chosen.settings[name]
            like = (setting.data, setting.network, setting.recipe.batch, setting.recipe.crop)
            if like in seen:
                continue
            seen.add(like)
            there = setting.root is not None and setting.root.is_dir() and any(setting.root.iterdir())
            print(f"# {setting.data.name}: {'the images in ' + str(setting.root) if there else 'synthetic images'}")
            measure(chosen if there else stood_in, name, device, arguments.processes, Path(folder) / "cache")


if __name__ == "__main__":
    sys.exit(stage.run(main))
