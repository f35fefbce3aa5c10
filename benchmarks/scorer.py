"""Milliseconds to count an image's pixels by region and class: ours against torchmetrics, alternating in one run.

    python -m benchmarks.scorer

torchmetrics gets one update per region, with the other region's labels set to void and its checks of arguments off. The
benchmark checks that both give the same integers. A ratio is the median of the rounds' ratios, on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from study import metrics
from study.spec.constants import VOID
from study.training.count import image_counts

PROMISED = 5.0
ROUNDS = 40
SIZES = (("shapes", (64, 64), 7), ("camvid", (384, 480), 11), ("voc", (512, 512), 21), ("cityscapes", (1024, 2048), 19))
SHARE_RIGHT = 0.9


def image(size: tuple[int, int], classes: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels in blocks with some void, mostly right predictions, and a band."""
    blocks = draw.integers(0, classes, (size[0] // 16, size[1] // 16), np.uint8)
    labels = np.kron(blocks, np.ones((16, 16), np.uint8))
    noise = draw.integers(0, classes, size, np.uint8)
    predictions = np.where(draw.random(size) < SHARE_RIGHT, labels, noise)
    labels[:4] = VOID
    return labels, predictions, np.kron(draw.integers(0, 2, (size[0] // 8, size[1] // 8)), np.ones((8, 8))).astype(bool)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    draw, kept = np.random.default_rng(0), True
    for name, size, classes in SIZES:
        labels, predictions, band = image(size, classes, draw)
        theirs = MulticlassConfusionMatrix(classes, ignore_index=VOID, validate_args=False)
        parts = [torch.from_numpy(np.where(region, labels, np.uint8(VOID))) for region in (band, ~band)]
        said = torch.from_numpy(predictions)

        def by_torchmetrics(parts: list[torch.Tensor] = parts, said: torch.Tensor = said) -> list[torch.Tensor]:
            return [theirs(said, part) for part in parts]  # noqa: B023

        def by_us(labels: np.ndarray = labels, predictions: np.ndarray = predictions) -> np.ndarray:
            return image_counts(labels, predictions, band, classes)  # noqa: B023

        expected = np.stack([metrics.counts(matrix.numpy()) for matrix in by_torchmetrics()])
        assert np.array_equal(by_us(), expected)
        pairs = [(seconds(by_torchmetrics), seconds(by_us)) for _ in range(ROUNDS)]
        ratio = statistics.median(slow / fast for slow, fast in pairs)
        slow, fast = (1e3 * statistics.median(side) for side in zip(*pairs, strict=True))
        kept &= ratio >= PROMISED
        print(
            f"{name:10} {size}: torchmetrics {slow:7.2f} ms, ours {fast:6.2f} ms, {ratio:.1f} times as fast", flush=True
        )
    print(f"at least {PROMISED} times: {'yes' if kept else 'no'}")
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
