"""The tune split has a boundary band, and a training keeps its counts on it by region."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from study import metrics
from study.commands import verify
from study.data.boundaries import boundary_band
from study.data.prepare import band_name, folder_of, prepare
from study.inference.worker import confuse
from study.spec.constants import VOID
from study.spec.jobs import ConfusionJob, TrainingJob
from study.spec.training import freeze
from study.store.runs import EVALUATED, PRODUCTS, Store
from study.tracking import background
from study.training.batches import open_source
from study.training.worker import train
from tests.training.test_resume import job


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    """A training of two steps on scenes whose tune split has more images than val."""
    order = job(tmp_path_factory.mktemp("trained"), "key", checkpoint_s=600, steps=2)
    training = order.subject.training
    data = dataclasses.replace(training.data, options=freeze(dict(training.data.options) | {"tune": 6}))
    training = dataclasses.replace(training, data=data)
    facts = prepare(data, None, Store(order.context.store).cache, training.band_px)
    order = dataclasses.replace(order, subject=dataclasses.replace(order.subject, training=training, facts=facts))
    train(order)
    return order


def labels_of(order: TrainingJob, split: str) -> np.ndarray:
    return np.load(
        folder_of(Store(order.context.store).cache, order.subject.facts["fingerprint"]) / f"{split}-labels.npy"
    )


def counts_of(order: TrainingJob, name: str) -> np.ndarray:
    with np.load(Store(order.context.store).run(order.key).path(name)) as archive:
        assert archive.files == ["counts"]
        return archive["counts"]


def test_cached_bands_match_their_masks(trained: TrainingJob) -> None:
    folder, band_px = (
        folder_of(Store(trained.context.store).cache, trained.subject.facts["fingerprint"]),
        trained.subject.training.band_px,
    )
    for split in ("tune", "val"):
        kept, labels = np.load(folder / band_name(split, band_px)), labels_of(trained, split)
        assert kept.any() and not kept.all()
        assert np.array_equal(kept, np.stack([boundary_band(mask, band_px) for mask in labels]))
    assert sorted(path.name.split("-")[0] for path in folder.glob("*-band*.npy")) == ["tune", "val"]


def test_only_measured_splits_have_a_band(trained: TrainingJob) -> None:
    source = open_source(
        trained.subject.training, trained.subject.facts, Store(trained.context.store).cache, torch.device("cpu")
    )
    for split in ("train", "tune", "val"):
        for _, labels, near in source.examples(split):
            band = np.stack([boundary_band(mask, trained.subject.training.band_px) for mask in labels])
            assert np.array_equal(near, band & (split != "train"))


@pytest.mark.parametrize(("split", "name"), [("tune", "tune.npz"), ("val", "counts.npz")])
def test_a_training_keeps_both_splits_regional_counts(trained: TrainingJob, split: str, name: str) -> None:
    """The true pixels of each image, class and region: no count may belong to another image or region."""
    counts, labels, band_px = counts_of(trained, name), labels_of(trained, split), trained.subject.training.band_px
    assert counts.shape == (trained.subject.facts["splits"][split], 2, len(trained.subject.facts["classes"]), 3)
    true = counts[..., metrics.TP] + counts[..., metrics.FN]
    for image, mask in zip(true, labels, strict=True):
        near = boundary_band(mask, band_px)
        for region, inside in ((metrics.BOUNDARY, near), (metrics.INTERNAL, ~near)):
            pixels = mask[inside & (mask != VOID)]
            assert image[region].tolist() == np.bincount(pixels, minlength=image.shape[1]).tolist()


def test_tune_counts_come_from_the_trained_network(trained: TrainingJob) -> None:
    """With a split this small, the last point of the learning curve has the same images and weights."""
    curve = json.loads(Store(trained.context.store).run(trained.key).path("curve.json").read_text())["score"]
    step, score = curve[-1]
    assert step == trained.subject.training.recipe.steps
    assert score == next(iter(metrics.score_all("counts", counts_of(trained, "tune.npz")).values()))


def test_tune_counts_are_collected_and_verified_products() -> None:
    assert "tune.npz" in PRODUCTS and "tune.npz" not in EVALUATED
    assert "tune.npz" in background.COLLECTED and "tune.npz" in verify.COUNTED


def test_a_training_without_tune_counts_is_not_done(trained: TrainingJob, tmp_path: Path) -> None:
    run = Store(trained.context.store).run(trained.key)
    run.copy_products(tmp_path / "key", (*PRODUCTS, "DONE"))
    assert Store(tmp_path).run("key").done()
    (tmp_path / "key" / "tune.npz").unlink()
    assert not Store(tmp_path).run("key").done()


def test_confusions_add_up_to_the_counts(trained: TrainingJob) -> None:
    assert confuse(ConfusionJob("confused", trained.subject, trained.context)) is True
    with np.load(Store(trained.context.store).run("confused").path("confusion.npz")) as archive:
        matrix = archive["confusion"]
    labels = labels_of(trained, "val")
    assert np.array_equal(metrics.counts(matrix), metrics.total(counts_of(trained, "counts.npz")).sum(0))
    assert matrix.sum(1).tolist() == np.bincount(labels[labels != VOID], minlength=len(matrix)).tolist()
    assert not np.array_equal(matrix, matrix.T)


def test_foreign_counts_are_detected(trained: TrainingJob, tmp_path: Path) -> None:
    """As if another device rounded differently."""
    shutil.copytree(trained.context.store, tmp_path / "store")
    context = dataclasses.replace(trained.context, store=tmp_path / "store")
    run = Store(context.store).run(trained.key)
    counts = counts_of(trained, "counts.npz")
    counts[0, 0, 0, 0] += 1
    np.savez(run.path("counts.npz"), counts=counts)
    run.finish()
    for _ in range(2):  # first counted, then found already counted
        assert confuse(ConfusionJob("other", trained.subject, context)) is False
