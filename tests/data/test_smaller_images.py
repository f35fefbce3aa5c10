"""Images that are made smaller when they are read: their masks follow, and scores are of the masks' own size (D123)."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from study import metrics
from study.config import tiers
from study.data.boundaries import boundary_band
from study.data.originals import Original
from study.data.pixels import smaller, smaller_size
from study.data.prepare import DataSet, folder_of, open_data, prepare
from study.inference.worker import confuse, evaluate
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.heads import Variant, gcn
from study.spec.jobs import ConfusionJob, EvaluationJob, TrainingJob
from study.spec.training import Data, Inference, Training, freeze
from study.store.runs import Store
from study.training.batches import open_source
from study.training.count import count, enlarged
from study.training.worker import train
from tests.conftest import ROOT, training_job

LONGEST, BAND_PX = 32, 3
SIZES = [(96, 128), (128, 80), (64, 64), (24, 30)]  # the last is not made smaller
OPTIONS = {
    "images": "images", "masks": "masks", "classes": ["ground", "roof", "wire"], "void": 255, "val": "val.txt",
    "tune": 2, "pad": [LONGEST, LONGEST], "longest": LONGEST,
}  # fmt: skip


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright roof and a wire one pixel wide, which no smaller mask shows as it is, below a row of void."""
    height, width = SIZES[number % len(SIZES)]
    labels = np.zeros((height, width), np.uint8)
    labels[height // 4 : height // 2, width // 8 : width // 2] = 1
    labels[height - 7], labels[0] = 2, VOID
    image = np.random.default_rng(number).integers(0, 40, (height, width, 3), np.uint8)
    image[labels == 1] += 200
    return image, labels


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("photographs")
    for number in range(10):
        for folder, pixels in zip(("images", "masks"), scene(number), strict=True):
            (found / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(found / folder / f"{number}.png")
    (found / "val.txt").write_text("4\n5\n6\n7\n")
    return found


def data(**changes: Any) -> Data:
    return Data("folder", freeze(OPTIONS | changes))


def opened(root: Path, **changes: Any) -> DataSet:
    return open_data(data(**changes), root, root / "cache")


def test_a_mask_is_made_smaller_with_its_image(root: Path) -> None:
    source = opened(root)
    for split, number in source.splits.items():
        for index in range(number):
            image, labels = source.read(split, index)
            size = SIZES[int(source.name(split, index)) % len(SIZES)]
            assert image.shape[:2] == labels.shape == smaller_size(size, LONGEST)
            agree = (image.min(2) > 120) == (labels == 1)  # antialiased pixels lie between the two
            assert agree.mean() > 0.93 and (labels == 1).any()
            assert set(np.unique(labels)) <= {0, 1, 2, VOID}


@pytest.mark.parametrize(
    ("size", "expected"), [((96, 128), (24, 32)), ((128, 3), (32, 1)), ((32, 32), (32, 32)), ((9, 20), (9, 20))]
)
def test_longest_limits_the_longer_side_without_enlarging(size: Any, expected: Any) -> None:
    assert smaller_size(size, LONGEST) == expected
    assert smaller(np.zeros(size, np.uint8), LONGEST).shape == expected


def test_images_are_antialiased_and_labels_are_not_mixed() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 200
    image = smaller(np.repeat(stripes[..., None], 3, 2), 16)
    assert abs(image.astype(int) - 100).max() <= 26  # every second pixel alone would be 0 or 200
    assert set(np.unique(smaller(stripes, 16))) <= {0, 200}


def test_scores_are_enlarged_to_where_they_were() -> None:
    """What is padding has no part, and an edge stands where it stood: at a third, not one pixel off."""
    scores = torch.full((2, 32, 32), -9.0)
    scores[0, :24, :], scores[1, :24, 8:] = 0.0, 9.0
    scores[1, 24:] = 99.0  # of padding
    original = Original(np.zeros((96, 128), np.uint8), np.zeros((96, 128), bool), (24, 32))
    found = enlarged(scores, original)
    assert found.shape == (96, 128) and found.dtype == np.uint8
    assert np.array_equal(found, np.repeat(found[:1], 96, 0)) and set(found[0].tolist()) == {0, 1}
    assert abs(int(found[0].argmax()) - 32) <= 1


def test_the_best_class_maximises_enlarged_scores() -> None:
    torch.manual_seed(0)
    scores, size = torch.randn(5, 8, 8), (29, 21)
    original = Original(np.zeros(size, np.uint8), np.zeros(size, bool), (8, 6))
    whole = nn.functional.interpolate(scores[None, :, :, :6], size=size, mode="bilinear", align_corners=False)
    assert np.array_equal(enlarged(scores, original), whole[0].argmax(0).numpy())


def train_on(chosen: Data, root: Path, folder: Path) -> TrainingJob:
    """A training of two steps."""
    smoke, store = tiers.load(tiers.read(ROOT / "params.yaml"), "smoke"), Store(folder)
    recipe = dataclasses.replace(smoke.main.recipe, steps=2, batch=2)
    training = Training(Variant(gcn(3)), chosen, smoke.main.network, recipe, 0, BAND_PX)
    facts = prepare(training.data, root, store.cache, BAND_PX)
    order = training_job("key", training, facts, store.root, root=root, samples=2)
    train(order)
    return order


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    return train_on(data(), root, tmp_path_factory.mktemp("store"))


def counts_of(order: TrainingJob, key: str, name: str = "counts.npz") -> np.ndarray:
    with np.load(Store(order.context.store).run(key).path(name)) as archive:
        return archive["counts"]


@pytest.mark.parametrize(("split", "name"), [("val", "counts.npz"), ("tune", "tune.npz")])
def test_pixels_are_counted_at_original_mask_size(trained: TrainingJob, split: str, name: str) -> None:
    """What was true in each image, class and region: the labels and the band of the mask's file."""
    folder = folder_of(Store(trained.context.store).cache, trained.subject.facts["fingerprint"])
    stems = np.load(folder / f"{split}-names.npy").tolist()
    found = counts_of(trained, "key", name)
    assert len(found) == len(stems) > 1
    for image, stem in zip(found[..., metrics.TP] + found[..., metrics.FN], stems, strict=True):
        labels = scene(int(stem))[1]
        near = boundary_band(labels, BAND_PX)
        for region, inside in ((metrics.BOUNDARY, near), (metrics.INTERNAL, ~near)):
            assert image[region].tolist() == np.bincount(labels[inside & (labels != VOID)], minlength=3).tolist()


def test_perfect_small_predictions_are_imperfect_at_full_size(trained: TrainingJob) -> None:
    store = Store(trained.context.store)
    source = open_source(trained.subject.training, trained.subject.facts, store.cache, torch.device("cpu"))
    small = torch.from_numpy(np.array(source.array("val-labels.npy"))).long()

    class Perfect(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return nn.functional.one_hot(small.where(small != VOID, 0), 3).permute(0, 3, 1, 2).float()

    scores = metrics.class_iou(count(Perfect(), source, "val"))
    assert scores[0] > 0.9 and scores[1] > 0.8 and scores[2] < 0.6  # a wire that is lost, or became four pixels wide


def test_an_evaluation_is_counted_as_its_training_was(trained: TrainingJob) -> None:
    evaluate(EvaluationJob("asked", trained.subject, trained.context, Inference()))
    assert np.array_equal(counts_of(trained, "asked"), counts_of(trained, "key"))


def test_confusions_are_counted_as_its_training_was(trained: TrainingJob) -> None:
    assert confuse(ConfusionJob("confused", trained.subject, trained.context)) is True
    with np.load(Store(trained.context.store).run("confused").path("confusion.npz")) as kept:
        matrix = kept["confusion"]
    assert np.array_equal(metrics.counts(matrix), metrics.total(counts_of(trained, "key")).sum(0))
    assert matrix.sum() == sum(int((scene(number)[1] != VOID).sum()) for number in (4, 5, 6, 7))


def test_longest_changes_nothing_for_small_images(root: Path, tmp_path: Path) -> None:
    plain = Data(
        "folder", freeze({key: value for key, value in OPTIONS.items() if key != "longest"} | {"pad": [128] * 2})
    )
    orders = [
        train_on(one, root, tmp_path / str(i)) for i, one in enumerate((plain, data(longest=128, pad=[128, 128])))
    ]
    for name in ("counts.npz", "tune.npz"):
        one, other = (counts_of(order, "key", name) for order in orders)
        assert np.array_equal(one, other) and one.any()


def test_samples_are_pictures_of_one_size(trained: TrainingJob) -> None:
    with np.load(Store(trained.context.store).run("key").path("samples.npz")) as kept:
        assert kept["images"].shape == (2, LONGEST, LONGEST, 3)
        assert kept["labels"].shape == kept["predictions"].shape == (2, LONGEST, LONGEST)


def test_streamed_training_reads_the_same_small_masks(root: Path, tmp_path: Path) -> None:
    smoke = tiers.load(tiers.read(ROOT / "params.yaml"), "smoke")
    recipe = dataclasses.replace(smoke.main.recipe, batch=2)
    training = Training(Variant(gcn(3)), data(), smoke.main.network, recipe, 0, BAND_PX)
    found = []
    for stream in (False, True):
        facts = prepare(training.data, root, tmp_path, BAND_PX, stream=stream)
        found.append(open_source(training, facts, tmp_path, torch.device("cpu"), root=root).raw_batch(1))
    (one, labels), (other, same) = found
    assert torch.equal(labels, same) and torch.equal(one["images"], other["images"])
    assert labels.shape[-2:] == (LONGEST // smoke.main.network.output_stride,) * 2


def test_the_fingerprint_covers_masks_at_full_size(root: Path, tmp_path: Path) -> None:
    """Two masks that look the same when they are small are scored by what they are."""
    other = tmp_path / "other"
    shutil.copytree(root, other, ignore=shutil.ignore_patterns("cache"))
    labels = scene(4)[1]
    labels[50, 100] = 1  # which no smaller mask shows
    Image.fromarray(labels).save(other / "masks" / "4.png")
    assert np.array_equal(smaller(labels, LONGEST), smaller(scene(4)[1], LONGEST))
    prints = [prepare(data(), place, tmp_path / "cache", BAND_PX)["fingerprint"] for place in (root, other)]
    assert prints[0] != prints[1]
    larger = data(longest=128, pad=[128, 128])  # no image is longer
    plain = Data("folder", freeze({k: v for k, v in OPTIONS.items() if k != "longest"} | {"pad": [128, 128]}))
    facts = [prepare(one, root, tmp_path / "cache", BAND_PX) for one in (larger, plain)]
    assert facts[0]["fingerprint"] != facts[1]["fingerprint"] and facts[0]["pixels"] == facts[1]["pixels"]
    assert [one["longest"] for one in facts] == [128, None]


@pytest.mark.parametrize("value", [0, -1, 1.5, "512", True, 40_000, [512, 512]])
def test_what_is_no_length_is_told(root: Path, value: Any) -> None:
    with pytest.raises(InputError, match=r"^the longest of folder must be .*, got .*; "):
        opened(root, longest=value)


def test_faults_of_large_masks_are_found_before_shrinking(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "bad", ignore=shutil.ignore_patterns("cache"))
    labels = scene(0)[1]
    labels[50, 101] = 7
    Image.fromarray(labels).save(tmp_path / "bad" / "masks" / "0.png")
    with pytest.raises(InputError, match="must hold class labels 0 to 2 or void only, got 7 in 0; correct"):
        prepare(data(), tmp_path / "bad", tmp_path / "cache", BAND_PX)
    Image.fromarray(scene(0)[1][:, :-1]).save(tmp_path / "bad" / "masks" / "0.png")
    with pytest.raises(InputError, match=r"must have the same size, got \(96, 128\) and \(96, 127\) for 0"):
        prepare(data(), tmp_path / "bad", tmp_path / "cache", BAND_PX)


def test_a_pad_below_the_small_size_is_reported(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must fit into \(24, 32\), got \(32, 20\) \(height, width\); enlarge `pad`"):
        prepare(data(pad=[24, 32]), root, tmp_path, BAND_PX)
