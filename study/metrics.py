"""Counts -> scores. Counts are summed over images first and divided once (dataset-level scores).

``counts`` are integers of shape (..., 2, K, 3): region (0 boundary band, 1 internal), class, (true positives, false
positives, false negatives). ``ranks`` of a classification have shape (images,): how many classes scored above the true
one. Scores are fractions. Uses the standard library and numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

BOUNDARY, INTERNAL = 0, 1
TP, FP, FN = 0, 1, 2


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int, keep: np.ndarray) -> np.ndarray:
    """Pixel counts [label, prediction] of shape (classes, classes), over the pixels where ``keep`` is true."""
    pairs = labels[keep].astype(np.int64) * classes + predictions[keep]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def region_confusions(
    labels: np.ndarray, predictions: np.ndarray, band: np.ndarray, classes: int, void: int
) -> np.ndarray:
    """Pixel counts [region, label, prediction] of shape (2, K, K), in one pass over an image. Pixels labelled ``void``
    are not counted."""
    size = classes * classes
    places = labels.astype(np.intp)
    places *= classes
    places += predictions
    np.add(places, INTERNAL * size, out=places, where=~band)
    places[labels == void] = 2 * size
    return np.bincount(places.ravel(), minlength=2 * size + 1)[: 2 * size].reshape(2, classes, classes)


def counts(matrix: np.ndarray) -> np.ndarray:
    """True positives, false positives and false negatives, shape (K, 3), of a confusion matrix [label, prediction]."""
    hit = np.diagonal(matrix)
    return np.stack([hit, matrix.sum(0) - hit, matrix.sum(1) - hit], axis=-1)


def total(counts: np.ndarray) -> np.ndarray:
    """Sums over every leading axis (images, seeds ...), shape (2, K, 3)."""
    return counts.reshape(-1, *counts.shape[-3:]).sum(0)


def class_iou(counts: np.ndarray) -> list[float]:
    """IoU of each class, nan for a class that is neither present nor predicted."""
    summed = total(counts).sum(0)
    return [int(tp) / int(tp + fp + fn) if tp + fp + fn else float("nan") for tp, fp, fn in summed]


def miou(counts: np.ndarray, classes: Iterable[int] | None = None) -> float:
    """Mean IoU over the classes that are present or predicted; with ``classes``, over those among them.

    Adds in class order, as the Cityscapes scorer does: the two then agree to the last digit.
    """
    scores = class_iou(counts)
    kept = [scores[c] for c in (range(len(scores)) if classes is None else classes)]
    kept = [score for score in kept if score == score]
    return sum(kept) / len(kept) if kept else float("nan")


def _accuracy(summed: np.ndarray) -> float:
    pixels = int(summed[:, TP].sum() + summed[:, FN].sum())
    return int(summed[:, TP].sum()) / pixels if pixels else float("nan")


def pixel_accuracy(counts: np.ndarray) -> float:
    """Share of all labelled pixels that are classified correctly."""
    return _accuracy(total(counts).sum(0))


def boundary_accuracy(counts: np.ndarray) -> float:
    """Share of the pixels in the boundary band that are classified correctly (Table 5, Sec. 4.1.2)."""
    return _accuracy(total(counts)[BOUNDARY])


def internal_accuracy(counts: np.ndarray) -> float:
    """Share of the pixels outside the boundary band that are classified correctly (Table 5, Sec. 4.1.2)."""
    return _accuracy(total(counts)[INTERNAL])


def boundary_object_accuracy(counts: np.ndarray) -> float:
    """Share of the object pixels (all classes but the first) in the boundary band that are classified correctly
    (D146)."""
    return _accuracy(total(counts)[BOUNDARY, 1:])


def internal_object_accuracy(counts: np.ndarray) -> float:
    """Share of the object pixels outside the boundary band that are classified correctly (D146)."""
    return _accuracy(total(counts)[INTERNAL, 1:])


METRICS: dict[str, Callable[[np.ndarray], float]] = {
    "miou": miou,
    "pixel_accuracy": pixel_accuracy,
    "boundary_accuracy": boundary_accuracy,
    "internal_accuracy": internal_accuracy,
    "boundary_object_accuracy": boundary_object_accuracy,
    "internal_object_accuracy": internal_object_accuracy,
}


def _error(first: int, ranks: np.ndarray) -> float:
    """Share of images whose class is not among the ``first`` highest scores."""
    return int((ranks >= first).sum()) / len(ranks)


def top1_accuracy(ranks: np.ndarray) -> float:
    """Share of images whose class has the highest score."""
    return 1 - _error(1, ranks)


def top5_error(ranks: np.ndarray) -> float:
    """Share of images whose class is not among the five highest scores (Table 6)."""
    return _error(5, ranks)


ERRORS: dict[str, Callable[[np.ndarray], float]] = {"top1_accuracy": top1_accuracy, "top5_error": top5_error}
# Array of a training's counts.npz -> its metrics. An ablation maximises the first one.
MEASURES = {"counts": METRICS, "ranks": ERRORS}


def main_score(name: str, measured: np.ndarray, classes: Iterable[int] | None = None) -> float:
    """The metric that an ablation maximises, of the array ``name`` (a key of MEASURES): mean IoU, over ``classes`` if
    given, or the accuracy of a classifier."""
    if name == "counts" and classes is not None:
        return miou(measured, classes)
    return next(iter(score_all(name, measured).values()))


def score_all(name: str, measured: np.ndarray) -> dict[str, float]:
    """Every metric of the array ``name`` (a key of MEASURES), in the order of MEASURES."""
    return {metric: score(measured) for metric, score in MEASURES[name].items()}
