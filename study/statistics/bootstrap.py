"""Scores of resampled images: the dataset-level scores of study.metrics for thousands of draws at once.

An image drawn twice counts twice. So a draw is a vector of whole numbers, and its counts are one row of a matrix
product. Standard library and numpy only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from study import metrics
from study.metrics import BOUNDARY, FN, FP, INTERNAL, TP

Score = Callable[[np.ndarray], float]
AT_ONCE = 4_000_000  # drawn images held in memory at a time


def image_draws(images: int, draws: int, draw: np.random.Generator) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield pieces of a (draws, images) array: how often each draw took each image. A draw takes ``images`` of them,
    with replacement."""
    step = max(1, AT_ONCE // images)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        taken = draw.integers(0, images, (rows, images)) + np.arange(rows)[:, None] * images
        yield slice(start, start + rows), np.bincount(taken.ravel(), minlength=rows * images).reshape(rows, images)


def scores(score: Score, measured: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(draws,) scores of one seed's counts (images, 2, K, 3) or ranks (images,), with each image repeated ``times``
    (draws, images). The scores of study.metrics are computed for all draws at once, others one by one."""
    if measured.ndim == 1:
        if score in RANKED:
            return times @ RANKED[score](measured) / len(measured)
        return np.array([score(np.repeat(measured, row)) for row in times])
    # Whole numbers below 2^53, so the sums are exact in any order.
    flat = measured.reshape(len(measured), -1).astype(float)
    return _of_sums(score, (times.astype(float) @ flat).reshape(len(times), *measured.shape[1:]))


def scores_without(score: Score, measured: np.ndarray) -> np.ndarray:
    """(images,) scores of one seed's counts or ranks with each image left out in turn."""
    if measured.ndim == 1:
        if score in RANKED:
            marks = RANKED[score](measured)
            return (marks.sum() - marks) / (len(marks) - 1)
        return np.array([score(np.delete(measured, image)) for image in range(len(measured))])
    return _of_sums(score, (measured.sum(0) - measured).astype(float))


def _of_sums(score: Score, summed: np.ndarray) -> np.ndarray:
    plain: Callable = score
    args: tuple = ()
    keywords: dict = {}
    if isinstance(score, functools.partial):
        plain, args, keywords = score.func, score.args, score.keywords
    if plain in BATCHED:
        return BATCHED[plain](summed, *args, **keywords)
    return np.array([score(one[None]) for one in summed.astype(np.int64)])


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _miou(summed: np.ndarray, classes: Iterable[int] | None = None) -> np.ndarray:
    both = summed.sum(1) if classes is None else summed.sum(1)[:, list(classes)]
    iou = _share(both[..., TP], both[..., [TP, FP, FN]].sum(-1))
    return _share(np.nansum(iou, axis=1), (~np.isnan(iou)).sum(1))


def _accuracy(regions: list[int], first: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """Accuracy in ``regions``, over the classes from ``first`` on."""

    def accuracy(summed: np.ndarray) -> np.ndarray:
        pixels = summed[:, regions, first:].sum((1, 2))
        return _share(pixels[:, TP], pixels[:, TP] + pixels[:, FN])

    return accuracy


BATCHED: dict[Callable, Callable[..., np.ndarray]] = {
    metrics.miou: _miou,
    metrics.pixel_accuracy: _accuracy([BOUNDARY, INTERNAL]),
    metrics.boundary_accuracy: _accuracy([BOUNDARY]),
    metrics.internal_accuracy: _accuracy([INTERNAL]),
    metrics.boundary_object_accuracy: _accuracy([BOUNDARY], 1),
    metrics.internal_object_accuracy: _accuracy([INTERNAL], 1),
}
RANKED: dict[Callable, Callable[[np.ndarray], np.ndarray]] = {  # metric -> the values that it is the mean of
    metrics.top1_accuracy: lambda ranks: (ranks < 1).astype(float),
    metrics.top5_error: lambda ranks: (ranks >= 5).astype(float),
}
