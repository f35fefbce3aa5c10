"""Model x split -> integers per image: counts by region and class, or the rank of the true class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from study import metrics
from study.data.originals import Original
from study.models.build import Inputs
from study.spec.constants import VOID
from study.training.batches import Source


def predict(model: nn.Module, inputs: Inputs, size: tuple[int, ...]) -> np.ndarray:
    """Classes (N, H, W) at full size ``size``; scores of a coarser output are enlarged bilinearly first (D15). With an
    empty ``size``, classes (N,) of a classifier."""
    return _scores(model, inputs, size).argmax(1).to(torch.uint8 if size else torch.int64).cpu().numpy()


def _scores(model: nn.Module, inputs: Inputs, size: tuple[int, ...]) -> torch.Tensor:
    with torch.inference_mode():
        scores = model(inputs)
        if size and scores.shape[-2:] != size:
            scores = functional.interpolate(scores, size=size, mode="bilinear", align_corners=False)
        return scores


Beat = Callable[[], object]  # called after each batch, to report progress


def count(
    model: nn.Module,
    source: Source,
    split: str,
    limit: int | None = None,
    beat: Beat = lambda: None,
    *,
    on_device: bool = False,
) -> np.ndarray:
    """Counts int64 (images, 2, K, 3): region (boundary band, internal), class, (tp, fp, fn); void is left out.

    The model is put into evaluation mode meanwhile. ``on_device`` counts where the network is, so that only counts are
    copied (D152); the counts are the same.
    """
    was_training = model.training
    model.eval()
    found: list[np.ndarray] = []
    for inputs, labels, band in source.examples(split, limit):
        if source.longest is None and on_device:
            found.extend(
                counts_on_device(_scores(model, inputs, labels.shape[-2:]).argmax(1), labels, band, source.classes)
            )
        elif source.longest is None:
            predictions = predict(model, inputs, labels.shape[-2:])
            for label, prediction, near in zip(labels, predictions, band, strict=True):
                found.append(image_counts(label, prediction, near, source.classes))
        else:
            for one in _scores(model, inputs, labels.shape[-2:]).softmax(1, dtype=torch.float64):
                found.append(counts_of_original(one, source.original(split, len(found)), source.classes))
        beat()
    model.train(was_training)
    return np.stack(found)


def confusion(model: nn.Module, source: Source, split: str, beat: Beat = lambda: None) -> np.ndarray:
    """Pixels int64 (K, K) of a split by [label, prediction], without void: the pixels that ``count`` counts, in the
    same batches (D132). The model must be in evaluation mode."""
    found = np.zeros((source.classes, source.classes), np.int64)
    done = 0
    for inputs, labels, _ in source.examples(split):
        if source.longest is None:
            pairs = list(zip(labels, predict(model, inputs, labels.shape[-2:]), strict=True))
        else:
            scores = _scores(model, inputs, labels.shape[-2:]).softmax(1, dtype=torch.float64)
            originals = [source.original(split, done + place) for place in range(len(labels))]
            pairs = [(own.labels, enlarged(one, own)) for own, one in zip(originals, scores, strict=True)]
        for label, prediction in pairs:
            found += metrics.confusion(label, prediction, source.classes, label != VOID)
        done += len(labels)
        beat()
    return found


def ranks(
    model: nn.Module, source: Source, split: str, limit: int | None = None, beat: Beat = lambda: None
) -> np.ndarray:
    """Ranks int64 (images,) of a classifier: how many classes scored above the true one (0: it is the first).

    The model is put into evaluation mode meanwhile.
    """
    was_training = model.training
    model.eval()
    found = []
    for inputs, labels, _ in source.examples(split, limit):
        with torch.inference_mode():
            scores = model(inputs).float()
            true = scores.gather(1, torch.from_numpy(labels).to(scores.device)[:, None])
            found.append((scores > true).sum(1).cpu().numpy())
        beat()
    model.train(was_training)
    return np.concatenate(found)


def measure(
    model: nn.Module,
    source: Source,
    split: str,
    limit: int | None = None,
    beat: Beat = lambda: None,
    *,
    on_device: bool = False,
) -> tuple[str, np.ndarray]:
    """The name (in metrics.MEASURES) and the array of the measure of a training."""
    if source.training.variant is None:
        return "ranks", ranks(model, source, split, limit, beat)
    return "counts", count(model, source, split, limit, beat, on_device=on_device)


def image_counts(labels: np.ndarray, predictions: np.ndarray, band: np.ndarray, classes: int) -> np.ndarray:
    """labels, predictions, band (H, W) -> counts int64 (2, K, 3) of one image."""
    regions = metrics.region_confusions(labels, predictions, band, classes, VOID)
    return np.stack([metrics.counts(region) for region in regions])


def counts_on_device(predictions: torch.Tensor, labels: np.ndarray, band: np.ndarray, classes: int) -> np.ndarray:
    """``image_counts`` of a batch, computed where ``predictions`` (N, H, W) are: int64 (N, 2, K, 3)."""
    device, number = predictions.device, len(labels)
    true = torch.from_numpy(labels).to(device).long()
    region = (~torch.from_numpy(band).to(device)).long()  # 0: boundary band, 1: internal
    image = torch.arange(number, device=device)[:, None, None]
    place = ((image * 2 + region) * classes + true) * classes + predictions
    cells = number * 2 * classes * classes
    # Void goes to a cell of its own, which is dropped.
    counted = torch.bincount(place.masked_fill(true == VOID, cells).flatten(), minlength=cells + 1)[:cells]
    pairs = counted.view(number, 2, classes, classes)  # by true class and predicted class
    hit = pairs.diagonal(dim1=2, dim2=3)
    return torch.stack([hit, pairs.sum(2) - hit, pairs.sum(3) - hit], -1).cpu().numpy()


def counts_of_original(probabilities: torch.Tensor, original: Original, classes: int) -> np.ndarray:
    """Counts int64 (2, K, 3) of an image at the size of its file, from the probabilities (K, h, w) of the smaller,
    padded image."""
    return image_counts(original.labels, enlarged(probabilities, original), original.band, classes)


def enlarged(probabilities: torch.Tensor, original: Original) -> np.ndarray:
    """Classes uint8 (H, W) at the original's size, from the probabilities (K, h, w) of the smaller, padded image:
    padding is cut off and the rest enlarged bilinearly (D123). It takes probabilities because several scales have no
    common scores, and one class at a time because large maps of all classes would not fit into memory."""
    (height, width), size = original.seen, original.labels.shape
    with torch.inference_mode():
        best = torch.full(size, -torch.inf, device=probabilities.device)
        found = torch.zeros(size, dtype=torch.uint8, device=probabilities.device)
        for number, one in enumerate(probabilities[:, :height, :width]):
            large = functional.interpolate(one[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
            above = large > best
            best, found = torch.where(above, large, best), found.masked_fill(above, number)
    return found.cpu().numpy()
