"""Times a training's step on this device with a few steps on random images, and finds out which precision is faster."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from study.models.build import Classifier, Segmenter, build, build_backbone, untrained
from study.spec.digest import digest
from study.spec.documents.data import Precision
from study.spec.documents.reading import read
from study.spec.errors import InputError
from study.spec.heads import Variant, gcn
from study.spec.training import Data, Network, Recipe, Training
from study.store.runs import write_json
from study.training.batches import EVALUATION_BATCH, FEATURE_BATCH, IMAGES, features_of
from study.training.captured import EAGER
from study.training.count import image_counts, predict
from study.training.device import settle
from study.training.loop import Batch, fit, start

STEPS = 3  # timed; one more comes first to warm up kernels and memory
PROBED = Variant(gcn(15), refine=True)
CPU_BATCH, CPU_PX = 8, 2**19  # most images of a batch, or more if they have no more pixels than this
ROUNDS = 2
DECIDED = 2.0  # speed ratio at which the first round is enough: a CPU without bf16 takes tens of seconds
GAIN = 1.1  # speed ratio from which bf16 is chosen: less would be noise
ENOUGH_S = 5.0  # slow steps need fewer repetitions
TOGETHER = 0.8  # n cores are n**TOGETHER times as fast as one, for one image
SEED, RANDOM = 0, Data("random")  # no data is read


def step_seconds(training: Training, classes: int, size: tuple[int, int], device: str, steps: int = STEPS) -> float:
    """Seconds of one step of a training on random images of ``size`` (height, width), the shortest of ``steps``.

    Measured with the settings of a worker (threads, determinism); the weights are random, which does not change the
    time. On a CPU, a large batch would not fit into memory: it is measured with fewer images and scaled.
    """
    batch, (height, width) = training.recipe.batch, training.recipe.crop or size
    most = max(CPU_BATCH, CPU_PX // (height * width))
    if device == "cpu" and batch > most:
        smaller = dataclasses.replace(training, recipe=dataclasses.replace(training.recipe, batch=most))
        return step_seconds(smaller, classes, size, device, steps) * batch / most
    with settled(device, training.recipe.deterministic):
        network, model = untrained_model(training, classes, device)
        on_gpu = device == "cuda"
        warm = 1 + EAGER * on_gpu  # steps that are not counted
        recipe = dataclasses.replace(training.recipe, steps=steps + warm)
        batch_of, times = random_batches(network, training, classes, size, device), []
        before = clock(device)
        for _ in fit(start(model, recipe), batch_of, recipe, capture=on_gpu):
            times.append(clock(device) - before)
            if len(times) > warm and sum(times) > ENOUGH_S:
                break
            before = clock(device)
        return min(times[warm:])


def scored_seconds(training: Training, classes: int, size: tuple[int, int], device: str) -> float:
    """Seconds to score a trained network on one image of ``size`` (height, width), measured likewise."""
    number = max(1, min(EVALUATION_BATCH, CPU_PX // (size[0] * size[1])))
    with settled(device):
        network, model = untrained_model(training, classes, device)
        recipe = dataclasses.replace(training.recipe, batch=number, crop=None)
        batch_of = random_batches(network, dataclasses.replace(training, recipe=recipe), classes, size, device)
        labels = random_labels((number, *size), classes)
        model.eval()

        def score() -> None:
            found = predict(model, batch_of(0)[0], labels.shape[1:] if training.variant else ())
            for label, prediction in zip(labels, found, strict=True) if training.variant else ():
                image_counts(label, prediction, label == 0, classes)

        return shortest(score, device) / number


def features_seconds(network: Network, size: tuple[int, int]) -> float:
    """Wall-clock seconds of one image of ``size`` (height, width) through a frozen backbone on all cores, as in the
    stage *data*, estimated from a measurement on one core."""
    cores = torch.get_num_threads()
    backbone = build_backbone(dataclasses.replace(network, options=untrained(network)))
    backbone = backbone.eval().to(memory_format=torch.channels_last)
    images = np.random.default_rng(SEED).integers(0, 256, (FEATURE_BATCH, *size, 3), np.uint8)
    with settled("cpu"):
        on_one = shortest(lambda: features_of(backbone, images, mirrored=False), "cpu")
    return on_one / cores**TOGETHER / FEATURE_BATCH


def random_labels(shape: tuple[int, ...], classes: int) -> np.ndarray:
    return np.random.default_rng(SEED).integers(0, classes, shape, np.uint8)


def shortest(work: Callable[[], object], device: str, times: int = STEPS) -> float:
    """The shortest time of ``work``, in seconds, over a first run and ``times`` more; fewer if they take ENOUGH_S
    together."""
    found: list[float] = []
    while len(found) <= times and sum(found) < ENOUGH_S:
        before = clock(device)
        work()
        found.append(clock(device) - before)
    return min(found)


def clock(device: str) -> float:
    """Seconds of this process's work on a device. On a CPU only the time on a core counts: other load on the machine
    now says nothing about the time of training."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.process_time() if device == "cpu" else time.perf_counter()


@contextmanager
def settled(device: str, deterministic: bool = True) -> Iterator[None]:
    """A context with the settings of a worker."""
    threads = torch.get_num_threads()
    settle(device, deterministic)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
        torch.set_flush_denormal(False)


def untrained_model(training: Training, classes: int, device: str) -> tuple[Network, Segmenter | Classifier]:
    """The network of a training with random weights."""
    network = dataclasses.replace(training.network, options=untrained(training.network))
    model = build(training.variant, network, classes, SEED)
    return network, model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def weights(training: Training, classes: int) -> int:
    """Number of weights that a training stores."""
    network = dataclasses.replace(training.network, options=untrained(training.network))
    with torch.device("meta"):
        return sum(p.numel() for p in build(training.variant, network, classes, SEED).state_dict().values())


def random_batches(
    network: Network, training: Training, classes: int, size: tuple[int, int], device: str
) -> Callable[[int], Batch]:
    """Inputs and labels of a step, as a source gives them: bytes, or half-precision features, are converted at each
    step."""
    (height, width), batch = training.recipe.crop or size, training.recipe.batch
    if training.variant is None:
        labels = torch.randint(0, classes, (batch,))
    else:
        stride = network.output_stride
        labels = torch.randint(0, classes, (batch, height // stride, width // stride))
    raw: dict[str, torch.Tensor] = {IMAGES: torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8)}
    if network.frozen:
        backbone = build_backbone(network)
        raw = {
            level: torch.randn(
                batch, height // backbone.strides[level], width // backbone.strides[level], backbone.channels[level]
            ).half()
            for level in network.levels
        }

    def numbers(name: str, drawn: torch.Tensor) -> torch.Tensor:
        found = drawn.clone().to(device)
        if name == IMAGES:
            return found.permute(0, 3, 1, 2).to(torch.float32).contiguous(memory_format=torch.channels_last)
        return found.to(torch.float32).sub_(0.0).mul_(1.0).permute(0, 3, 1, 2)

    def batch_of(step: int) -> Batch:
        inputs = {name: numbers(name, drawn) for name, drawn in raw.items()}
        return Batch(inputs if network.frozen else inputs[IMAGES], labels.to(device))

    return batch_of


def precision(
    network: Network, recipe: Recipe, classify: bool, classes: int, size: tuple[int, int], device: str, cache: Path
) -> Precision:
    """The faster of fp32 and bf16 for a recipe with precision auto (D58): {precision, fp32_s, bf16_s, device}.

    Measured with the paper's own head, or the classifier. The choice is part of every key, so it is made once per store
    and read from there afterwards.
    """
    variant = None if classify else PROBED
    known = cache / f"precision-{digest([network, recipe.batch, recipe.crop, classes, size, device])[:16]}.json"
    try:
        return read(known, Precision)
    except InputError:
        pass
    seconds = {"fp32": math.inf, "bf16": math.inf}
    for _ in range(ROUNDS):  # in turn, so that other load on the machine affects both
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
