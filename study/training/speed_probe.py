"""How long a training's step takes on this device, from a few steps on random images, and which precision is faster."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from study.models.build import build, build_backbone, untrained
from study.spec.digest import digest
from study.spec.documents import Precision, read
from study.spec.errors import InputError
from study.spec.heads import Variant, gcn
from study.spec.training import Data, Network, Recipe, Training
from study.store.runs import write_json
from study.training.loop import Batch, fit, start
from study.training.worker import settle

STEPS = 3  # timed ones; one more comes first, whose kernels and memory are new
PROBED = Variant(gcn(15), refine=True)
CPU_BATCH = 8  # images at most
ROUNDS = 2
DECIDED = 2.0  # how much faster one must be for the first round to be enough: a CPU without bf16 takes tens of seconds
GAIN = 1.1  # how much faster bf16 must be to be chosen: less would be noise
ENOUGH_S = 5.0  # where steps are slow, fewer of them will do
SEED, RANDOM = 0, Data("random")  # no data is read


def step_seconds(training: Training, classes: int, size: tuple[int, int], device: str, steps: int = STEPS) -> float:
    """Seconds of one step of a training on random images of ``size`` (height, width), the shortest of ``steps``.

    Measured as a worker trains (threads, determinism); the weights are random, which changes no time. On a CPU a batch
    above CPU_BATCH is measured with that many images and scaled: a large one would not fit into its memory.
    """
    batch = training.recipe.batch
    if device == "cpu" and batch > CPU_BATCH:
        smaller = dataclasses.replace(training, recipe=dataclasses.replace(training.recipe, batch=CPU_BATCH))
        return step_seconds(smaller, classes, size, device, steps) * batch / CPU_BATCH
    threads = torch.get_num_threads()
    settle(device)
    try:
        network = dataclasses.replace(training.network, options=untrained(training.network))
        model = build(training.variant, network, classes, SEED).to(device).to(memory_format=torch.channels_last)
        recipe = dataclasses.replace(training.recipe, steps=steps + 1)  # the first is not counted
        given, times = _random(network, training, classes, size, device), []
        _wait(device)
        before = time.perf_counter()
        for _ in fit(start(model, recipe), lambda step: given, recipe):
            _wait(device)
            times.append(time.perf_counter() - before)
            if len(times) > 1 and sum(times) > ENOUGH_S:
                break
            before = time.perf_counter()
        return min(times[1:])
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)


def flops(training: Training, classes: int, size: tuple[int, int]) -> int:
    """Floating-point operations of one image forward through a training's network, computed without running it."""
    network = dataclasses.replace(training.network, options=untrained(training.network))
    with torch.device("meta"), torch.inference_mode():
        model = build(training.variant, network, classes, SEED).eval()
        counter = FlopCounterMode(display=False)
        batch = dataclasses.replace(training, recipe=dataclasses.replace(training.recipe, batch=1))
        inputs, _ = _random(network, batch, classes, size, "meta")
        with counter:
            model(inputs)
    return counter.get_total_flops()


def weights(training: Training, classes: int) -> int:
    """Number of weights that a training stores."""
    network = dataclasses.replace(training.network, options=untrained(training.network))
    with torch.device("meta"):
        return sum(p.numel() for p in build(training.variant, network, classes, SEED).state_dict().values())


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _random(network: Network, training: Training, classes: int, size: tuple[int, int], device: str) -> Batch:
    """Inputs and labels as a source gives them."""
    (height, width), batch = training.recipe.crop or size, training.recipe.batch
    if training.variant is None:
        labels = torch.randint(0, classes, (batch,))
    else:
        stride = network.output_stride
        labels = torch.randint(0, classes, (batch, height // stride, width // stride))
    if network.frozen:
        backbone = build_backbone(network)
        maps = {
            level: torch.randn(
                batch, backbone.channels[level], height // backbone.strides[level], width // backbone.strides[level]
            )
            .to(device)
            .contiguous(memory_format=torch.channels_last)
            for level in network.levels
        }
        return maps, labels.to(device)
    images = torch.rand(batch, 3, height, width).mul_(255).to(device).contiguous(memory_format=torch.channels_last)
    return images, labels.to(device)


def precision(
    network: Network, recipe: Recipe, classify: bool, classes: int, size: tuple[int, int], device: str, cache: Path
) -> Precision:
    """The faster of fp32 and bf16 for a recipe of precision auto (D58): {precision, fp32_s, bf16_s, device}.

    Measured with the paper's own head, or the classifier. The choice is part of every key, so it is made once a store:
    what is recorded there is taken again.
    """
    variant = None if classify else PROBED
    known = cache / f"precision-{digest([network, recipe.batch, recipe.crop, classes, size, device])[:16]}.json"
    try:
        return read(known, Precision)
    except InputError:
        pass
    seconds = {"fp32": math.inf, "bf16": math.inf}
    for _ in range(ROUNDS):  # in turn, so that whatever else the machine does meets both
        for name in seconds:
            tried = Training(
                variant, RANDOM, network, recipe=dataclasses.replace(recipe, precision=name), seed=SEED, band_px=1
            )
            seconds[name] = min(seconds[name], step_seconds(tried, classes, size, device, steps=1))
        if max(seconds.values()) > DECIDED * min(seconds.values()):
            break
    named = torch.cuda.get_device_name() if device == "cuda" else device
    choice = "bf16" if seconds["fp32"] > GAIN * seconds["bf16"] else "fp32"
    found: Precision = {"precision": choice, "fp32_s": seconds["fp32"], "bf16_s": seconds["bf16"], "device": named}
    write_json(known, found)
    return found
