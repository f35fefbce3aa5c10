"""Seconds of a training step and of inference, batch 1: our network against torchvision's plain FCN.

    python -m benchmarks.throughput                                  # ResNet-50 and -152 at 512x512
    python -m benchmarks.throughput --depths 50 --size 256 --rounds 5 --threads 2

GCN k=15 + BR on ResNets as in Fig. 2A, trained by the workers' own loop, is compared with an FCN on the same ResNets:
torchvision's own at stride 8 (by dilation), without an auxiliary head, enlarged bilinearly to the size of the image.
All are measured in one process, in fp32 and in bf16 (automatic mixed precision), in turn in every round, so that other
work on the machine affects all alike; a ratio is the median of the rounds' ratios. Batch normalisation of the ResNets
keeps its statistics in both. On a CPU one thread is used, like a worker, unless --threads says more. Peak memory is
that of a separate process, beyond what it needs without a network. The default takes some ten minutes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from torch.nn import functional

from study.gpu_check.speed import PlainFCN
from study.models.build import build
from study.spec.checks import checked, choice, whole
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.heads import Variant, gcn
from study.spec.training import Network, Recipe, freeze
from study.store import stage
from study.training.device import settle
from study.training.loop import Batch, State, fit, start
from study.training.precision import multiplies_bf16

CLASSES = 21
STRIDE = 32  # of res-5: images are multiples of it
PHASES = ("train", "infer")
PRECISIONS = ("fp32", "bf16")
PROMISED = 1.5
MB = 1 << 20


def recipe(precision: str) -> Recipe:
    """The paper's optimizer. The rate is 0, so that the weights, and so every round, stay the same."""
    return Recipe(
        optimizer="sgd", lr=0.0, momentum=0.99, weight_decay=0.0005, schedule="constant", warmup=0.0, steps=sys.maxsize,
        batch=1, flip=False, precision=precision, validations=1,
    )  # fmt: skip


@dataclass
class Contender:
    """A network at work on one batch. Its precisions share weights and optimizer. ``loops`` is {precision: its
    steps}."""

    state: State
    loops: dict[str, Iterator[object]]
    images: torch.Tensor

    def work(self, phase: str, precision: str) -> Callable[[], object]:
        """The timed call: one training step, or the classes (1, H, W) of one image."""
        self.state.model.train(phase == "train")
        return (lambda: next(self.loops[precision])) if phase == "train" else (lambda: self._classes(precision))

    def _classes(self, precision: str) -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(self.images.device.type, torch.bfloat16, precision == "bf16"):
            return self.state.model(self.images).argmax(1)


def ours(depth: int, images: torch.Tensor, labels: torch.Tensor) -> Contender:
    """GCN k=15 + BR with four heads on a ResNet; images (1, 3, H, W) in 0..255, labels (1, H, W)."""
    options = freeze({"depth": depth, "weights": None, "frozen_norm": True})
    network = Network("resnet", ("res2", "res3", "res4", "res5"), options)
    model = build(Variant(gcn(15), refine=True), network, CLASSES, 0)
    model = model.to(images.device).to(memory_format=torch.channels_last)
    state = start(model, recipe("fp32"))
    loops = {name: fit(state, lambda step: Batch(images, labels), recipe(name)) for name in PRECISIONS}
    return Contender(state, dict(loops), images)


def theirs(depth: int, images: torch.Tensor, labels: torch.Tensor) -> Contender:
    """torchvision's FCN with the usual training loop for it."""
    torch.manual_seed(0)
    images = images / 255
    model = PlainFCN(depth, CLASSES).to(images.device).to(memory_format=torch.channels_last)
    weights = recipe("fp32")
    optimizer = torch.optim.SGD(model.parameters(), weights.lr, weights.momentum, weight_decay=weights.weight_decay)
    device = images.device.type

    def loop(precision: str) -> Iterator[object]:
        while True:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16, precision == "bf16"):
                scores = model(images)
            loss = functional.cross_entropy(scores.float(), labels.long(), ignore_index=VOID)
            loss.backward()
            optimizer.step()
            yield loss.detach()

    return Contender(State(model, optimizer), {name: loop(name) for name in PRECISIONS}, images)


NETS = {"ours": ours, "FCN": theirs}


@dataclass
class Measured:
    """A phase of a depth in a precision: {net: seconds by round} and {net: peak bytes}, None if unknown."""

    depth: int
    phase: str
    precision: str
    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in NETS})
    peak: dict[str, int | None] = field(default_factory=dict)


def steps(depths: list[int], size: int, rounds: int, device: str) -> list[Measured]:
    """Measure every network, phase and precision at ``size`` px, in turn, ``rounds`` times after one warm-up round."""
    found = [Measured(d, phase, precision) for d in depths for phase in PHASES for precision in PRECISIONS]
    nets = {(depth, name): make(depth, *_batch(size, device)) for depth in depths for name, make in NETS.items()}
    for number in range(rounds + 1):
        _tell(f"round {number} of {rounds}" if number else "warming up")
        for one in found:
            for name in NETS:
                seconds = _seconds(nets[one.depth, name].work(one.phase, one.precision), device)
                if number:
                    one.seconds[name].append(seconds)
    return found


def memory(found: list[Measured], size: int, device: str) -> None:
    """Add the peaks to ``found``. Each network and precision runs in its own process, with nothing else in it."""
    context, threads = multiprocessing.get_context("spawn"), torch.get_num_threads()
    for depth, precision in dict.fromkeys((m.depth, m.precision) for m in found):
        _tell(f"memory of ResNet-{depth} {precision}")
        for name in NETS:
            with ProcessPoolExecutor(1, context) as process:
                peaks = process.submit(_peaks, name, depth, precision, size, device, threads).result()
            for one in found:
                if (one.depth, one.precision) == (depth, precision):
                    one.peak[name] = peaks[one.phase]


def _peaks(name: str, depth: int, precision: str, size: int, device: str, threads: int) -> dict[str, int | None]:
    """{phase: bytes} that a network needs at most beyond the needs of its process: tensors on a GPU, resident memory on
    Linux; None if the system does not report it. Each phase runs twice: by then the optimizer's memory and the gaps
    left by the first time exist, and it grows no more."""
    settle(device)
    torch.set_num_threads(threads)
    before = _resident("VmRSS", device)
    net = NETS[name](depth, *_batch(size, device))
    peaks: dict[str, int | None] = {}
    for phase in reversed(PHASES):  # inference first: it needs less, and training would hide it
        for _ in range(2):
            net.work(phase, precision)()
        peak = _resident("VmHWM", device)
        peaks[phase] = None if peak is None or before is None else peak - before
    return peaks


def _resident(what: str, device: str) -> int | None:
    """Bytes now (VmRSS) or at most so far (VmHWM)."""
    if device == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() if what == "VmHWM" else torch.cuda.memory_allocated()
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{what}:")), None)


def _batch(size: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """One image (1, 3, H, W) in 0..255 and its labels (1, H, W), filled with noise."""
    images = torch.rand(1, 3, size, size).mul_(255).to(device).contiguous(memory_format=torch.channels_last)
    return images, torch.randint(0, CLASSES, (1, size, size), dtype=torch.uint8).to(device)


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _seconds(work: Callable[[], object], device: str) -> float:
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def ratio(above: list[float], below: list[float]) -> float:
    """Median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def gain(found: list[Measured], depth: int, phase: str, net: str) -> float:
    """How much faster bf16 is than fp32."""
    fp32, bf16 = (
        next(m for m in found if (m.depth, m.phase, m.precision) == (depth, phase, name)) for name in PRECISIONS
    )
    return ratio(fp32.seconds[net], bf16.seconds[net])


def table(found: list[Measured]) -> str:
    """Seconds (medians), ratios and peak memory, one line for each of ``found``; then the gains from bf16."""
    lines = ["network     phase  precision   ours s    FCN s  ours/FCN  ours MB   FCN MB"]
    for one in found:
        times = "".join(f" {statistics.median(one.seconds[name]):8.3f}" for name in NETS)
        peaks = "".join(f" {'-' if (b := one.peak[name]) is None else round(b / MB):>8}" for name in NETS)
        compared = ratio(*(one.seconds[name] for name in NETS))
        lines.append(f"{f'ResNet-{one.depth}':11} {one.phase:6} {one.precision:9}{times}  {compared:8.2f}{peaks}")
    lines += ["", "fp32/bf16                     ours      FCN"]
    for depth, phase in dict.fromkeys((m.depth, m.phase) for m in found):
        gains = "".join(f" {gain(found, depth, phase, name):8.2f}" for name in NETS)
        lines.append(f"{f'ResNet-{depth}':11} {phase:12}{gains}")
    return "\n".join(lines)


def promise(found: list[Measured], device: str) -> str:
    """Whether bf16 is as much faster as promised, if this machine can show it."""
    said = f"promised: a training step in bf16 at least {PROMISED} times as fast if the CPU has bf16 instructions; "
    if device != "cpu":
        return f"{said}no CPU: not judged"
    if not multiplies_bf16():
        return f"{said}no bf16 instructions: not judged"
    gains = {depth: gain(found, depth, "train", "ours") for depth in dict.fromkeys(m.depth for m in found)}
    return said + ", ".join(
        f"ResNet-{depth} {value:.2f} ({'met' if value >= PROMISED else 'missed'})" for depth, value in gains.items()
    )


def device_of(asked: str) -> str:
    """cpu or cuda. Raises InputError if there is no such device."""
    checked(Annotated[str, choice("auto", "cpu", "cuda")], asked, "--device")
    if asked == "cuda" and not torch.cuda.is_available():
        raise InputError("--device must be there, got cuda on a machine without one; take cpu or auto")
    return "cpu" if asked == "cpu" or not torch.cuda.is_available() else "cuda"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", nargs="+", type=int, default=[50, 152], help="of the ResNets: 50, 101, 152")
    parser.add_argument("--size", type=int, default=512, help="px of a side of the image")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds, after one warm-up round")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=None, help="of the CPU (default: as many as a worker uses)")
    arguments = parser.parse_args()
    checked(Annotated[int, whole(1)], arguments.rounds, "--rounds")
    if arguments.size < 1 or arguments.size % STRIDE:
        raise InputError(
            f"--size must be a multiple of {STRIDE} px (the stride of res-5), got {arguments.size}; take e.g. 512"
        )
    device = device_of(arguments.device)
    settle(device)
    if arguments.threads is not None:
        checked(Annotated[int, whole(1)], arguments.threads, "--threads")
        torch.set_num_threads(arguments.threads)
    found = steps(arguments.depths, arguments.size, arguments.rounds, device)
    memory(found, arguments.size, device)
    place = torch.cuda.get_device_name() if device == "cuda" else f"CPU with {torch.get_num_threads()} thread(s)"
    print(f"batch 1, {arguments.size}x{arguments.size}, {place}, medians of {arguments.rounds} rounds in turn\n")
    print(f"{table(found)}\n\n{promise(found, device)}")


if __name__ == "__main__":
    sys.exit(stage.run(main))
