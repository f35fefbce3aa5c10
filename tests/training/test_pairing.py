"""An image and its labels stay together through every draw: images that carry their own mask show it.

Channel 0 of an image is its mask, channels 1 and 2 are the row and the column, so a batch shows which pixels it took.
"""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from study.config import tiers
from study.data.boundaries import boundary_band
from study.data.prepare import PAD_COLOUR, folder_of, prepare
from study.spec.constants import VOID
from study.spec.heads import Variant, dense
from study.spec.training import Data, Network, Recipe, Training, freeze
from study.training.batches import IMAGES, FromImages, Source, cache_features, channel_moments, features_of, open_source
from study.training.loop import Batch, fit, learning_rate, start

IMAGES_NUMBER, HEIGHT, WIDTH, BATCH, STEPS = 11, 24, 40, 4, 12
RECIPE = Recipe("sgd", 0.1, 0.9, 0.01, "constant", 0.0, STEPS, BATCH, True, "fp32", 1)


class Set:
    """Images that carry their mask, of different sizes up to the padded size."""

    classes = ("a", "b", "c")
    splits: ClassVar = {"train": IMAGES_NUMBER}
    size = (HEIGHT, WIDTH)

    def read(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        height, width = HEIGHT - index % 3, WIDTH - index % 5
        labels = np.random.default_rng(index).integers(0, 3, (height, width), np.uint8)
        labels[np.random.default_rng(-index % 97).random((height, width)) < 0.2] = VOID
        rows, columns = np.mgrid[:height, :width].astype(np.uint8)
        return np.dstack([labels, rows, columns]), labels

    def name(self, split: str, index: int) -> str:
        return str(index)

    def files(self) -> list[Path]:
        return []


class Picked(nn.Module):
    """A backbone whose features are the pixels at the centres of cells of ``stride``."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"res3": images[:, :, self.stride // 2 :: self.stride, self.stride // 2 :: self.stride]}


def padded() -> tuple[np.ndarray, np.ndarray]:
    images = np.full((IMAGES_NUMBER, HEIGHT, WIDTH, 3), PAD_COLOUR, np.uint8)
    labels = np.full((IMAGES_NUMBER, HEIGHT, WIDTH), VOID, np.uint8)
    for index in range(IMAGES_NUMBER):
        image, mask = Set().read("train", index)
        images[index, : mask.shape[0], : mask.shape[1]], labels[index, : mask.shape[0], : mask.shape[1]] = image, mask
    return images, labels


def source(folder: Path, seed: int = 0, stride: int = 1, stream: bool = False, features: int = 0, **recipe) -> Source:
    """The source that a training reads: cached, streamed, or as features of cells of ``features`` px."""
    images, labels = padded()
    np.save(folder / "train-names.npy", np.arange(IMAGES_NUMBER).astype(str))
    np.save(folder / "train-labels.npy", labels)
    moments = None
    if features:
        for name, mirrored in (("train-res3", False), ("train-res3-flipped", True)):
            maps = (
                features_of(Picked(features), images, mirrored)["res3"].permute(0, 2, 3, 1).numpy().astype(np.float16)
            )
            np.save(folder / f"{name}.npy", maps)
        moments = {"res3": np.stack([np.zeros(3, np.float32), np.ones(3, np.float32)])}
    elif not stream:
        np.save(folder / "train-images.npy", images)
    network = Network("", ("res3",), frozen=bool(features), output_stride=stride)
    training = Training(Variant(dense(1)), Data("set"), network, dataclasses.replace(RECIPE, **recipe), seed, band_px=1)
    cpu = torch.device("cpu")
    return Source(
        training, 3, cpu, folder=folder, features=folder if features else None, band={}, moments=moments,
        stream=Set if stream else None,
    )  # fmt: skip


def in_image(pixels: torch.Tensor) -> torch.Tensor:
    """True where a pixel is not padding: padding has one colour, which no row number reaches."""
    return ~(pixels == torch.tensor(PAD_COLOUR)).all(-1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("crop", [None, (9, 17)], ids=["whole", "cropped"])
@pytest.mark.parametrize("stream", [False, True], ids=["cached", "streamed"])
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_labels_match_their_pixels(tmp_path: Path, stride: int, stream: bool, crop, seed: int) -> None:
    read = source(tmp_path, seed, stride, stream, crop=crop)
    turned = 0
    for step in range(STEPS):
        raw, labels = read.raw_batch(step)
        shown = raw[IMAGES][:, stride // 2 :: stride, stride // 2 :: stride]
        inside = in_image(shown)
        assert labels.shape == shown.shape[:3]
        assert torch.equal(labels[inside], shown[..., 0][inside]) and bool((labels[~inside] == VOID).all())
        turned += sum(bool((image[:, :-1, 2].int() > image[:, 1:, 2].int()).any()) for image in raw[IMAGES][:, :, :8])
    assert 0.25 * BATCH * STEPS < turned < 0.75 * BATCH * STEPS


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stride", [2, 4, 8])
def test_labels_match_their_features(tmp_path: Path, stride: int, seed: int) -> None:
    """Features of a mirrored image match its mirrored labels, picked at the centres of the same cells."""
    read = source(tmp_path, seed, stride, features=stride)
    turned = 0
    for step in range(STEPS):
        inputs, labels, _ = read.training_batch(step)
        maps = inputs["res3"].permute(0, 2, 3, 1)
        inside = in_image(maps)
        assert torch.equal(labels[inside].float(), maps[..., 0][inside])
        turned += sum(bool(image[0, 0, 2] > image[0, 1, 2]) for image in maps[:, :, :2])
    assert 0 < turned < BATCH * STEPS


def corners(read: Source) -> list[tuple[float, float]]:
    """The (row, column) of every crop's upper left pixel."""
    return [tuple(map(float, image[0, 0, 1:])) for step in range(60) for image in read.raw_batch(step)[0][IMAGES]]


def test_crops_follow_the_seed_and_reach_every_corner(tmp_path: Path) -> None:
    """On images without padding, whose pixels encode their position."""
    drawn = {seed: corners(source(tmp_path, seed, crop=(HEIGHT - 6, WIDTH - 9), flip=False)) for seed in range(3)}
    assert all({row for row, _ in found} == set(range(7)) for found in drawn.values())
    assert all({column for _, column in found} == set(range(10)) for found in drawn.values())
    for one, other in ((0, 1), (0, 2), (1, 2)):
        same = np.mean([a == b for a, b in zip(drawn[one], drawn[other], strict=True)])
        assert same < 0.1
    assert drawn[0] == corners(source(tmp_path, 0, crop=(HEIGHT - 6, WIDTH - 9), flip=False))


def test_flips_follow_the_seed_and_the_recipe(tmp_path: Path) -> None:
    def turned(seed: int, flip: bool) -> list[bool]:
        read = source(tmp_path, seed, flip=flip)
        batches = (read.raw_batch(step)[0][IMAGES] for step in range(30))
        return [int(image[0, 0, 2]) != 0 for batch in batches for image in batch]

    assert not any(turned(0, flip=False))
    first, other = turned(0, flip=True), turned(1, flip=True)
    assert 0.35 < np.mean(first) < 0.65 and first != other and first == turned(0, flip=True)


def test_cached_features_are_standardised_backbone_features(tmp_path: Path) -> None:
    """Equal to those that ``FromImages`` computes from the images, except for float16 rounding."""
    smoke = tiers.load(tiers.read(), "smoke")
    facts = prepare(smoke.main.data, None, tmp_path, smoke.band_px)
    network = Network("shallow", ("res3",), freeze({"widths": [4, 6], "strides": [4, 8]}), frozen=True)
    torch.manual_seed(1)  # no weights from a file: a draw that depends on torch's state would differ below
    cache_features(network, facts, tmp_path, smoke.main.recipe.flip)
    training = Training(Variant(dense(1)), smoke.main.data, network, smoke.main.recipe, 0, smoke.band_px)
    read = open_source(training, facts, tmp_path, torch.device("cpu"))
    torch.manual_seed(2)
    whole = FromImages(nn.Identity(), training, facts, tmp_path).eval()
    images = np.load(folder_of(tmp_path, facts["fingerprint"]) / "val-images.npy")
    with torch.inference_mode():
        expected = whole(torch.from_numpy(images).permute(0, 3, 1, 2).float())["res3"]
    (inputs, labels, _), *_ = read.examples("val")
    torch.testing.assert_close(inputs["res3"], expected[: len(labels)], rtol=0.01, atol=0.01)


@pytest.mark.parametrize("features", [0, 4], ids=["images", "features"])
def test_a_pickled_source_reads_the_same_without_data(tmp_path: Path, features: int) -> None:
    read = source(tmp_path, stride=4, features=features)
    (raw, labels), arrays = read.raw_batch(5), sum(path.stat().st_size for path in tmp_path.iterdir())
    sent = pickle.dumps(read)
    assert len(sent) < arrays / 10
    again, same = pickle.loads(sent).raw_batch(5)
    assert raw.keys() == again.keys() and all(torch.equal(raw[name], again[name]) for name in raw)
    assert torch.equal(labels, same)
    assert len(read.inputs(raw)) in (1, BATCH), "the one that stays still has its device and moments"


def test_moments_are_per_channel() -> None:
    maps = np.random.default_rng(0).normal(3, 2, (5, 6, 7, 4)).astype(np.float16)
    mean, scale = channel_moments(maps)
    np.testing.assert_allclose(mean, maps.astype(float).mean((0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(scale, 1 / maps.astype(float).std((0, 1, 2)), rtol=1e-3)


def test_features_are_standardised_channel_by_channel(tmp_path: Path) -> None:
    """Over the split that the moments come from, every channel that a network sees has mean 0 and variance 1."""
    read = source(tmp_path, stride=4, features=4, flip=False)
    maps = np.load(tmp_path / "train-res3.npy")
    shifted = (maps + np.array([0, 5, -40], np.float16)) * np.float16(0.5)
    np.save(tmp_path / "train-res3.npy", shifted)
    moments = {"res3": channel_moments(shifted)}
    read = Source(read.training, 3, torch.device("cpu"), folder=tmp_path, features=tmp_path, band={}, moments=moments)
    seen = torch.cat([inputs["res3"] for inputs, _, _ in read.examples("train")])
    assert seen.permute(0, 2, 3, 1).shape == shifted.shape and seen.dtype == torch.float32
    torch.testing.assert_close(seen.mean((0, 2, 3)), torch.zeros(3), atol=1e-2, rtol=0)
    torch.testing.assert_close(seen.std((0, 2, 3)), torch.ones(3), atol=1e-2, rtol=0)


def evaluated(folder: Path, shape: tuple[int, ...], classes_of_images: bool = False) -> tuple[Source, np.ndarray]:
    """A source of a val split whose image ``i`` is filled with ``i``, and the labels of the split."""
    number = np.arange(shape[0], dtype=np.uint8)
    images = np.broadcast_to(number[:, None, None, None], (*shape, 3))
    labels = number.astype(np.int64) if classes_of_images else np.broadcast_to(number[:, None, None], shape)
    files = {"val-images": images, "val-labels": labels, "val-names": number.astype(str), "band-val": labels % 2 == 1}
    for name, array in files.items():
        np.save(folder / f"{name}.npy", array)
    training = Training(Variant(dense(1)), Data("set"), Network("", ("res3",)), RECIPE, 0, band_px=1)
    band = {"val": "band-val.npy"}
    return Source(training, 3, torch.device("cpu"), folder=folder, features=None, band=band), labels


@pytest.mark.parametrize(
    ("shape", "most"),
    [((37, 2, 3), 16), ((11, 4, 6), 4), ((3, 10, 10), 1), ((2, 9, 12), 1)],
    ids=["small", "four fit", "one fits", "none fits"],
)
def test_an_evaluation_takes_every_image_once_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], most: int
) -> None:
    """A batch has as many images as the limits on images and (here 100) pixels allow, and at least one."""
    monkeypatch.setattr("study.training.batches.EVALUATION_PX", 100)
    read, labels = evaluated(tmp_path, shape)
    parts = list(read.examples("val"))
    assert [len(part) for _, part, _ in parts] == [min(most, len(labels) - at) for at in range(0, len(labels), most)]
    for inputs, part, near in parts:
        assert inputs.shape == (len(part), 3, *shape[1:]) and inputs.dtype == torch.float32
        assert np.array_equal(inputs[:, 0, 0, 0].numpy(), part[:, 0, 0]) and np.array_equal(near, part % 2 == 1)
    assert np.concatenate([part[:, 0, 0] for _, part, _ in parts]).tolist() == list(range(shape[0]))


def test_a_limit_takes_a_splits_first_images(tmp_path: Path) -> None:
    read, _ = evaluated(tmp_path, (37, 4, 6))
    for limit, wanted in ((20, 20), (16, 16), (1, 1), (100, 37)):
        taken = np.concatenate([part[:, 0, 0] for _, part, _ in read.examples("val", limit)])
        assert taken.tolist() == list(range(wanted))
    inputs, image, labels, name = read.sample(7)
    assert inputs.shape == (1, 3, 4, 6) and bool((inputs == 7).all())
    assert (image == 7).all() and (labels == 7).all() and name == "7"


def test_missing_bands_and_image_classes_give_empty_bands(tmp_path: Path) -> None:
    read, _ = evaluated(tmp_path, (18, 4, 6))
    read.band = {}
    assert [(near.shape, near.any()) for _, _, near in read.examples("val")] == [
        ((16, 4, 6), False),
        ((2, 4, 6), False),
    ]
    read, _ = evaluated(tmp_path, (18, 4, 6), classes_of_images=True)
    for inputs, labels, near in read.examples("val"):
        assert labels.shape == near.shape == (len(inputs),) and not near.any()
        assert np.array_equal(inputs[:, 0, 0, 0].numpy(), labels)


@pytest.mark.parametrize("crop", [None, (9, 17)], ids=["whole", "cropped"])
def test_classes_of_images_go_with_their_images(tmp_path: Path, crop) -> None:
    """Labels (N,) are not maps: they are not cropped, flipped or picked, and each stays with its image."""
    read = source(tmp_path, stride=4, crop=crop)
    images = np.broadcast_to(np.arange(IMAGES_NUMBER, dtype=np.uint8)[:, None, None, None], (IMAGES_NUMBER, 24, 40, 3))
    np.save(tmp_path / "train-images.npy", images)
    np.save(tmp_path / "train-labels.npy", 7 * np.arange(IMAGES_NUMBER))
    for step in range(STEPS):
        raw, labels = read.raw_batch(step)
        assert raw[IMAGES].shape == (BATCH, *(crop or (24, 40)), 3)
        assert torch.equal(7 * raw[IMAGES][:, 0, 0, 0].long(), labels)


# steps of the optimizers, by hand


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_three_steps_follow_the_recipe(optimizer: str) -> None:
    """With momentum and weight decay as in the formulas, on the gradients of the loss."""
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, lr=0.3, momentum=0.8, weight_decay=0.05, steps=3)
    recipe = dataclasses.replace(recipe, schedule="poly")
    torch.manual_seed(0)
    model = nn.Conv2d(2, 3, 1, bias=False).double()
    batches = [Batch(torch.randn(2, 2, 3, 3).double(), torch.randint(0, 3, (2, 3, 3))) for _ in range(3)]
    batches[1].labels[0, 0] = VOID
    weight = model.weight.detach().clone()
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for step, (inputs, labels) in enumerate(one[:2] for one in batches):
        leaf = weight.clone().requires_grad_()
        scores = functional.conv2d(inputs, leaf).float()
        kept = labels != VOID
        chances = functional.log_softmax(scores, 1).permute(0, 2, 3, 1)[kept]
        loss = -chances[torch.arange(len(chances)), labels[kept]].mean()
        (gradient,) = torch.autograd.grad(loss, leaf)
        rate = learning_rate(recipe, step)
        assert rate == pytest.approx(0.3 * (1 - step / 3) ** 0.9)
        if optimizer == "sgd":
            first = 0.8 * first + gradient + 0.05 * weight if step else gradient + 0.05 * weight
            weight = weight - rate * first
        else:
            first, second = 0.8 * first + 0.2 * gradient, 0.999 * second + 0.001 * gradient**2
            change = (first / (1 - 0.8 ** (step + 1))) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            weight = weight * (1 - rate * 0.05) - rate * change
    list(fit(start(model, recipe), batches.__getitem__, recipe))
    torch.testing.assert_close(model.weight.detach(), weight, rtol=1e-5, atol=1e-7)


# regions


@pytest.mark.parametrize("split", ["tune", "val"])
def test_the_band_comes_from_the_splits_masks(tmp_path: Path, split: str) -> None:
    smoke = tiers.load(tiers.read(), "smoke")
    facts = prepare(smoke.main.data, None, tmp_path, smoke.band_px)
    training = Training(Variant(dense(1)), smoke.main.data, smoke.main.network, smoke.main.recipe, 0, smoke.band_px)
    read = open_source(training, facts, tmp_path, torch.device("cpu"))
    for _, labels, band in read.examples(split):
        for mask, near in zip(labels, band, strict=True):
            assert near.any() and np.array_equal(near, boundary_band(mask, smoke.band_px))
