"""Seconds of a CPU training step of ResNet-152 with GCN (k = 7, batch 1): ours against the public PyTorch GCN.

    python -m benchmarks.public_gcn                     # 512x512, one thread, 5 rounds: some five minutes
    python -m benchmarks.public_gcn --size 256 --rounds 3

The public network is rebuilt here from its description: four GCN modules with biases on a ResNet, nine boundary
refinements, bilinear upsampling, batch statistics, torch's default memory layout and the usual training loop. Both have
k = 7 and one thread, each in its own process: ours with a worker's settings, the public one with torch's. Steps
alternate in one run, so other work on the machine affects both; a ratio is the median of the rounds' ratios. Our bf16
is printed apart, as the public code has none.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import torch
from torch import nn
from torch.nn import functional

from study.gpu_check.cases import CASES
from study.models.resnet_gcn_block import subsample
from study.spec.constants import VOID
from study.spec.heads import Variant, gcn
from study.training.device import settle
from study.training.loop import fit, start

K, CLASSES, PUBLIC = 7, 21, "public"
AIMS = {"fp32": 2.0, "bf16": 4.0}


class _Module(nn.Module):
    """Two chains of separable convolutions with biases."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        half = K // 2
        self.left = nn.Sequential(
            nn.Conv2d(inputs, CLASSES, (K, 1), padding=(half, 0)),
            nn.Conv2d(CLASSES, CLASSES, (1, K), padding=(0, half)),
        )
        self.right = nn.Sequential(
            nn.Conv2d(inputs, CLASSES, (1, K), padding=(0, half)),
            nn.Conv2d(CLASSES, CLASSES, (K, 1), padding=(half, 0)),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.left(maps) + self.right(maps)


class _Refinement(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(CLASSES, CLASSES, 3, padding=1)
        self.second = nn.Conv2d(CLASSES, CLASSES, 3, padding=1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps + self.second(functional.relu(self.first(maps)))


class PublicGCN(nn.Module):
    """images (N, 3, H, W) -> scores (N, K, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        import torchvision

        net = torchvision.models.resnet152()
        subsample(net)  # torch 2.14 may crash without it; the function stays the same
        self.below = nn.Sequential(net.conv1, net.bn1, net.relu)
        self.levels = nn.ModuleList([nn.Sequential(net.maxpool, net.layer1), net.layer2, net.layer3, net.layer4])
        self.modules_of = nn.ModuleList(_Module(channels) for channels in (256, 512, 1024, 2048))
        self.refinements = nn.ModuleList(_Refinement() for _ in range(9))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        def enlarged(maps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
            return functional.interpolate(maps, like.shape[2:], mode="bilinear", align_corners=False)

        half = maps = self.below(images)
        features = [maps := level(maps) for level in self.levels]
        refine = iter(self.refinements)
        scores = [next(refine)(module(maps)) for module, maps in zip(self.modules_of, features, strict=True)]
        fused = scores[3]
        for level in (2, 1, 0):
            fused = next(refine)(enlarged(fused, scores[level]) + scores[level])
        return next(refine)(enlarged(next(refine)(enlarged(fused, half)), images))


def theirs(size: int) -> Iterator[object]:
    """Steps of the public network, by the usual loop."""
    torch.manual_seed(0)
    net, images = PublicGCN().train(), torch.rand(1, 3, size, size)
    labels = torch.randint(0, CLASSES, (1, size, size))
    optimizer = torch.optim.SGD(net.parameters(), 1e-10, 0.95, weight_decay=1e-4)
    while True:
        optimizer.zero_grad()
        loss = functional.cross_entropy(net(images), labels, ignore_index=VOID)
        loss.backward()
        optimizer.step()
        yield loss.item()


def ours(size: int, precision: str) -> Iterator[object]:
    """Steps of our network, by the workers' own loop."""
    case = CASES["voc"].changed(precision=precision, lr=1e-10)
    case = type(case)(case.network, case.recipe, (size, size), CLASSES)
    state = start(case.model(Variant(gcn(K), refine=True), "cpu"), case.recipe)
    return fit(state, case.batches("cpu", 1), case.recipe)


def serve(name: str, size: int, asked: Connection) -> None:
    """Run a step for each message, and answer with its seconds."""
    torch.set_num_threads(1)
    if name != PUBLIC:
        settle("cpu")
    loop = theirs(size) if name == PUBLIC else ours(size, name)
    while asked.recv():
        began = time.perf_counter()
        next(loop)
        asked.send(time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="px of a side of the image, a multiple of 32")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, after one warm-up round")
    arguments = parser.parse_args()
    if arguments.size < 32 or arguments.size % 32 or arguments.rounds < 1:
        parser.error("--size must be a multiple of 32, --rounds at least 1")
    context, steps = multiprocessing.get_context("spawn"), {}
    for name in (PUBLIC, *AIMS):
        steps[name], other = context.Pipe()
        context.Process(target=serve, args=(name, arguments.size, other), daemon=True).start()
    took: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(arguments.rounds + 1):
        for name, step in steps.items():
            step.send(True)
            spent = step.recv()
            if number:
                took[name].append(spent)
    for step in steps.values():
        step.send(False)
    print(f"ResNet-152, GCN k = {K}, {arguments.size}x{arguments.size}, batch 1, one thread; seconds per training step")
    for name, times in took.items():
        print(f"  {name:7} {statistics.median(times):7.2f}")
    for name, aim in AIMS.items():
        ratio = statistics.median(b / a for a, b in zip(took[name], took[PUBLIC], strict=True))
        print(f"public / ours in {name}: {ratio:.2f} (aim: {aim:g}, {'met' if ratio >= aim else 'missed'})")


if __name__ == "__main__":
    main()
