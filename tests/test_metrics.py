"""Counts and scores: equal to the Cityscapes scorer and to torchmetrics, additive, dataset-level; the boundary band."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.classification import MulticlassJaccardIndex

from study import metrics
from study.data.boundaries import boundary_band
from study.spec.constants import VOID
from study.training.count import count, image_counts

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="invalid escape sequence", category=SyntaxWarning)
    warnings.filterwarnings("ignore", message="invalid escape sequence", category=DeprecationWarning)
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as cityscapes
    from cityscapesscripts.helpers.labels import labels as cityscapes_labels

CLASSES = 19
EVALUATED = np.array([label.id for label in cityscapes_labels if 0 <= label.trainId < VOID])  # by class
VOID_ID = 0  # "unlabeled", not evaluated


def _maps(seed: int, images: int = 3, absent: tuple[int, ...] = (), void: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Labels with void and predictions that are right on half of the pixels; ``absent`` classes are in neither."""
    draw = np.random.default_rng(seed)
    present = np.setdiff1d(np.arange(CLASSES), absent)
    labels, guesses = draw.choice(present, (2, images, 40, 56)).astype(np.uint8)
    predictions = np.where(draw.random(labels.shape) < 0.5, labels, guesses)
    return np.where(draw.random(labels.shape) < void, np.uint8(VOID), labels), predictions


def _counts(labels: np.ndarray, predictions: np.ndarray, band_px: int = 2, classes: int = CLASSES) -> np.ndarray:
    pairs = zip(labels, predictions, strict=True)
    return np.stack([image_counts(true, said, boundary_band(true, band_px), classes) for true, said in pairs])


def _confusion(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    return metrics.confusion(labels, predictions, CLASSES, labels != VOID)


@pytest.mark.parametrize(
    ("seed", "absent", "void"),
    [(0, (), 0.1), (1, (3,), 0.1), (2, (0, 17, 18), 0.0), (3, tuple(range(2, CLASSES)), 0.6)],
)
def test_scores_equal_the_cityscapes_scorer_exactly(
    tmp_path: Path, seed: int, absent: tuple[int, ...], void: float
) -> None:
    """The real scorer on real files: the matrix integer by integer, every class IoU and the mean exactly."""
    labels, predictions = _maps(seed, absent=absent, void=void)
    args = copy.copy(cityscapes.args)
    args.evalInstLevelScore = False
    matrix = cityscapes.generateMatrix(args)
    for i, (true, said) in enumerate(zip(labels, predictions, strict=True)):
        ids = np.where(true == VOID, VOID_ID, EVALUATED[np.minimum(true, CLASSES - 1)]).astype(np.uint8)
        files = [tmp_path / f"{i}_labelIds.png", tmp_path / f"{i}_prediction.png"]
        for path, array in zip(files, (ids, EVALUATED[said].astype(np.uint8)), strict=True):
            Image.fromarray(array).save(path)
        cityscapes.evaluatePair(str(files[1]), str(files[0]), matrix, {}, {}, args)
    theirs = {c: cityscapes.getIouScoreForLabel(label, matrix, args) for c, label in enumerate(EVALUATED)}

    counts = _counts(labels, predictions)
    assert _confusion(labels, predictions).tolist() == matrix[np.ix_(EVALUATED, EVALUATED)].tolist()
    assert [x for x in metrics.class_iou(counts) if x == x] == [x for x in theirs.values() if x == x]
    assert [c for c, x in theirs.items() if math.isnan(x)] == list(absent)
    assert [c for c, x in enumerate(metrics.class_iou(counts)) if math.isnan(x)] == list(absent)
    assert metrics.miou(counts) == cityscapes.getScoreAverage(theirs, args)


@pytest.mark.parametrize("absent", [(), (5,), (0, 1, 18)])
def test_within_1e_6_of_torchmetrics(absent: tuple[int, ...]) -> None:
    labels, predictions = _maps(7, absent=absent)
    theirs = MulticlassJaccardIndex(CLASSES, average="macro", ignore_index=VOID)
    for true, said in zip(labels, predictions, strict=True):
        theirs.update(torch.from_numpy(said).long()[None], torch.from_numpy(true).long()[None])
    assert metrics.miou(_counts(labels, predictions)) == pytest.approx(float(theirs.compute()), abs=1e-6)


def test_counts_are_additive_over_images_and_regions() -> None:
    labels, predictions = _maps(11, images=4)
    counts = _counts(labels, predictions)
    everything = metrics.counts(_confusion(labels, predictions))
    assert counts.shape == (4, 2, CLASSES, 3) and counts.dtype == np.int64
    assert metrics.total(counts).sum(0).tolist() == everything.tolist()
    assert (metrics.total(counts[:1]) + metrics.total(counts[1:])).tolist() == metrics.total(counts).tolist()
    assert counts[..., [metrics.TP, metrics.FN]].sum() == (labels != VOID).sum()
    assert counts[..., metrics.FP].sum() == counts[..., metrics.FN].sum()


def test_accuracies_of_the_regions_are_per_pixel() -> None:
    labels, predictions = _maps(13)
    counts = _counts(labels, predictions, band_px=1)
    labels[0, :, :], predictions[0, :, :] = 1, 1  # one calm image, so that there is an interior
    counts = _counts(labels, predictions, band_px=1)
    band = np.stack([boundary_band(true, 1) for true in labels])
    hit, scored = labels == predictions, labels != VOID
    assert metrics.boundary_accuracy(counts) == hit[scored & band].sum() / (scored & band).sum()
    assert metrics.internal_accuracy(counts) == hit[scored & ~band].sum() / (scored & ~band).sum()
    assert metrics.pixel_accuracy(counts) == hit[scored].sum() / scored.sum()


def test_dataset_scores_are_not_means_of_image_scores() -> None:
    """Image 1: 1 of 2 pixels of class 0 right; image 2: all 98 right. Dataset: 99/100; mean of ratios: 0.75."""
    labels = [np.zeros((1, 2), np.uint8), np.zeros((1, 98), np.uint8)]
    predictions = [np.array([[0, 1]], np.uint8), np.zeros((1, 98), np.uint8)]
    images = [_counts(true[None], said[None], classes=2) for true, said in zip(labels, predictions, strict=True)]
    means = [metrics.class_iou(counts)[0] for counts in images]
    assert means == [0.5, 1.0]
    assert metrics.class_iou(np.concatenate(images)) == [99 / 100, 0.0]
    assert metrics.miou(np.concatenate(images)) == 0.495 != pytest.approx(sum(map(metrics.miou, images)) / 2)


def test_counts_and_iou_by_hand() -> None:
    """Class 1 has as many false positives as pixels; class 2 is absent but predicted: both count, with their IoU."""
    labels, predictions = np.array([[0, 0, 0, 1, 1]], np.uint8), np.array([[0, 1, 1, 1, 2]], np.uint8)
    counts = _counts(labels[None], predictions[None], classes=3)
    summed = metrics.total(counts).sum(0)
    assert summed[:, metrics.TP].tolist() == [1, 1, 0]
    assert summed[:, metrics.FP].tolist() == [0, 2, 1]
    assert summed[:, metrics.FN].tolist() == [2, 1, 0]
    assert metrics.class_iou(counts) == [1 / 3, 1 / 4, 0.0]
    assert metrics.miou(counts) == pytest.approx(7 / 36)


def test_classifiers_err_beyond_the_first_five_ranks() -> None:
    """Rank 0 is the highest score: rank 4 is among the first five, rank 5 is not."""
    ranks = np.array([0, 1, 4, 5, 6, 0, 0, 0])
    assert metrics.top1_accuracy(ranks) == 0.5
    assert metrics.top5_error(ranks) == 0.25
    assert metrics.score_all("ranks", ranks) == {"top1_accuracy": 0.5, "top5_error": 0.25}
    assert next(iter(metrics.score_all("ranks", ranks))) == "top1_accuracy", "the one that an ablation maximises"


def test_miou_over_chosen_classes_and_over_none() -> None:
    labels, predictions = _maps(17, absent=(4,))
    counts = _counts(labels, predictions)
    scores = metrics.class_iou(counts)
    assert metrics.miou(counts, [2, 4, 6]) == (scores[2] + scores[6]) / 2
    assert math.isnan(metrics.miou(np.zeros((1, 2, CLASSES, 3), np.int64)))
    assert math.isnan(metrics.internal_accuracy(np.zeros((1, 2, CLASSES, 3), np.int64)))


def test_void_pixels_are_neither_hits_nor_misses() -> None:
    """Whatever is predicted there."""
    labels, predictions = _maps(19, void=0.3)
    changed = np.where(labels == VOID, (predictions + 1) % CLASSES, predictions).astype(np.uint8)
    assert (changed != predictions).any()
    assert _counts(labels, changed).tolist() == _counts(labels, predictions).tolist()
    assert image_counts(np.full((4, 4), VOID), np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool), 3).sum() == 0


@pytest.mark.parametrize(
    ("band_px", "row"),
    [(1, "....##...."), (2, "...####..."), (3, "..######.."), (5, "##########")],
)
def test_the_band_reaches_band_px_to_both_sides(band_px: int, row: str) -> None:
    """Two objects side by side; the boundary runs between columns 4 and 5."""
    labels = np.repeat([[0] * 5 + [1] * 5], 4, axis=0).astype(np.uint8)
    expected = np.array([[c == "#" for c in row]] * 4)
    assert boundary_band(labels, band_px).tolist() == expected.tolist()
    assert boundary_band(labels.T, band_px).tolist() == expected.T.tolist()


def test_distance_is_euclidean_at_a_corner() -> None:
    """A single pixel at (4, 4) and its neighbours are the edge; (2, 2) is sqrt(5) > 2 px from the nearest of them."""
    labels = np.zeros((9, 9), np.uint8)
    labels[4, 4] = 1
    edge = {(4, 4), (3, 4), (5, 4), (4, 3), (4, 5)}
    assert set(zip(*map(np.ndarray.tolist, np.nonzero(boundary_band(labels, 1))), strict=True)) == edge
    for band_px in (2, 3):
        near = {
            (y, x) for y in range(9) for x in range(9) if min(math.hypot(y - b, x - a) for b, a in edge) <= band_px - 1
        }
        assert set(zip(*map(np.ndarray.tolist, np.nonzero(boundary_band(labels, band_px))), strict=True)) == near
    assert not boundary_band(labels, 3)[2, 2] and boundary_band(labels, 3)[2, 3]


class _OneImage:
    """A source of one image, half class 0 and half class 1, for which any model predicts class 0 throughout."""

    classes, training, longest = 2, SimpleNamespace(band_px=1), None
    labels = np.repeat([[0] * 5 + [1] * 5], 4, axis=0).astype(np.uint8)[None]

    def examples(self, split: str, limit: int | None) -> Iterator[tuple[torch.Tensor, np.ndarray, np.ndarray]]:
        yield torch.zeros(1, 2, 4, 10), self.labels, boundary_band(self.labels[0], 1)[None]


def test_the_band_follows_the_truth_not_the_prediction() -> None:
    """A constant prediction has no boundary at all; the truth's band is two columns of four pixels."""
    counts = count(torch.nn.Identity(), _OneImage(), "val")
    pixels = counts[0, :, :, metrics.TP] + counts[0, :, :, metrics.FN]
    assert pixels[metrics.BOUNDARY].tolist() == [4, 4]
    assert pixels[metrics.INTERNAL].tolist() == [16, 16]


@pytest.mark.parametrize("value", [0, 3, VOID])
def test_no_boundary_gives_an_empty_band(value: int) -> None:
    assert not boundary_band(np.full((6, 7), value, np.uint8), 7).any()


def test_void_counts_as_a_label_for_the_band() -> None:
    labels = np.zeros((3, 6), np.uint8)
    labels[:, 3:] = VOID
    assert boundary_band(labels, 1)[0].tolist() == [False, False, True, True, False, False]
