"""Trained networks asked in other ways: on networks whose answer is known, and with the real CRF library."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from study.inference.predict import check, offsets, predict, probabilities, refine
from study.models.build import build
from study.spec.errors import InputError
from study.spec.heads import Variant, gcn
from study.spec.training import Crf, Inference, Network, freeze
from study.store.code_digest import ROOT
from study.training import count

CPU = torch.device("cpu")
CRF = Crf(10, 1, 2, 10, 10, 3)
needs_crf = pytest.mark.skipif(find_spec("pydensecrf") is None, reason="the extra `make crf` is not installed")
CITYSCAPES = Inference(crop=(1024, 1024), crops=(1, 4))
MULTI = Inference(scales=(0.75, 1.0, 1.25), flip=True)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def images_of(height: int, width: int, number: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (number, height, width, 3), dtype=np.uint8)


def tensor_of(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


class Recorded(nn.Module):
    """A real network that writes down the size of each input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.sizes = network, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(images.shape[-2:]))
        return self.network(images)


def pointwise(classes: int = 5) -> nn.Module:
    """Scores of a pixel depend on that pixel only, so what surrounds it cannot matter."""
    conv = nn.Conv2d(3, classes, 1)
    nn.init.normal_(conv.weight, std=0.03)
    return conv


def coarse(stride: int = 4, classes: int = 5) -> nn.Module:
    """Scores on cells of ``stride`` px, from the pixels of a cell only."""
    conv = nn.Conv2d(3, classes, stride, stride)
    nn.init.normal_(conv.weight, std=0.01)
    return conv


def sideways(classes: int = 3) -> nn.Module:
    """A network that looks to the right only."""
    conv = nn.Conv2d(3, classes, (1, 5), padding=(0, 2), bias=False)
    nn.init.normal_(conv.weight, std=0.02)
    with torch.no_grad():
        conv.weight[..., :2] = 0
    return conv


def ask(network: nn.Module, images: np.ndarray, inference: Inference, stride: int = 1) -> torch.Tensor:
    with torch.inference_mode():
        return probabilities(network, tensor_of(images), inference, stride)


# Offsets


def test_cityscapes_crops_span_the_image_evenly():
    assert offsets(2048, 1024, 4) == [0, 341, 683, 1024]
    assert offsets(1024, 1024, 1) == [0]


def test_valid_crops_cover_every_pixel_within_the_image():
    tried = 0
    for length in range(1, 40):
        for crop in range(1, length + 1):
            for number in range(1, 9):
                if number * crop < length:
                    continue
                places = offsets(length, crop, number)
                assert len(places) == number and places[0] == 0 and places[-1] <= length - crop
                assert number == 1 or places[-1] == length - crop
                assert all(0 <= right - left <= crop for left, right in pairwise(places))
                check(Inference(crop=(1, crop), crops=(1, number)), (1, length), 1)
                tried += 1
    assert tried > 1000


# One pass


@pytest.mark.parametrize(("levels", "output_stride"), [(("res3", "res4"), 1), (("res4",), 4)])
def test_a_single_pass_equals_the_plain_evaluation(levels, output_stride):
    options = freeze({"widths": [8, 12, 16], "strides": [1, 2, 4]})
    network = build(
        Variant(gcn(3), refine=True), Network("shallow", levels, options, False, output_stride), 7, 0
    ).eval()
    images = images_of(32, 48)
    inputs = tensor_of(images).contiguous(memory_format=torch.channels_last)
    plain = count.predict(network, inputs, (32, 48))
    asked = predict(network, images, Inference(), 4, CPU)
    assert asked.dtype == np.uint8 and asked.shape == (2, 32, 48)
    assert len(np.unique(plain)) > 2
    np.testing.assert_array_equal(asked, plain)


def test_scores_one_bit_apart_keep_their_order():
    """In float32 both would have the same probability and the first class would win."""
    scores = torch.tensor([0.01, np.nextafter(np.float32(0.01), np.float32(1))]).view(1, 2, 1, 1)
    assert scores.softmax(1).unique().numel() == 1
    found = predict(lambda images: scores.expand(1, 2, 4, 4), images_of(4, 4, 1), Inference(), 1, CPU)
    assert (found == 1).all()


def test_coarse_scores_are_enlarged_before_they_become_probabilities():
    images = images_of(16, 24)
    network = coarse(4)
    with torch.no_grad():
        scores = network(tensor_of(images))
    expected = nn.functional.interpolate(scores, (16, 24), mode="bilinear", align_corners=False).softmax(1)
    torch.testing.assert_close(ask(network, images, Inference(), 4).float(), expected)


# Crops


def test_crops_of_a_pointwise_network_change_nothing():
    network, images = pointwise(), images_of(32, 48)
    whole = ask(network, images, Inference())
    torch.testing.assert_close(ask(network, images, Inference(crop=(20, 20), crops=(3, 4))), whole.float())


def test_overlapping_crops_count_alike():
    """A network that tells the mean of its whole input: where crops overlap, the mean of their answers is had."""

    def mean(images: torch.Tensor) -> torch.Tensor:
        level = images.mean((1, 2, 3), keepdim=True) / 64
        return torch.cat([level, torch.zeros_like(level)], 1).expand(-1, 2, *images.shape[-2:])

    images = images_of(4, 10, 1)
    images[:, :, :5] //= 4
    found = ask(mean, images, Inference(crop=(4, 6), crops=(1, 3)))[0, 0, 0].double()
    crops = [torch.sigmoid(torch.tensor(images[0, :, left : left + 6].mean() / 64)) for left in (0, 2, 4)]
    seen = [[crop for left, crop in zip((0, 2, 4), crops, strict=True) if left <= x < left + 6] for x in range(10)]
    torch.testing.assert_close(found, torch.stack([torch.stack(s).mean() for s in seen]), rtol=1e-6, atol=1e-6)
    assert [len(s) for s in seen] == [1, 1, 2, 2, 3, 3, 2, 2, 1, 1]


def test_every_crop_scale_and_mirror_takes_one_pass():
    network = Recorded(coarse(4))
    ask(network, images_of(16, 32, 1), Inference((0.75, 1.0), True, (16, 16), (1, 3)), 4)
    assert network.sizes == [(12, 12), (12, 12), (16, 16), (16, 16)] * 3


# Mirror images


def test_mirroring_changes_nothing_for_a_pointwise_network():
    network, images = pointwise(), images_of(12, 18)
    torch.testing.assert_close(ask(network, images, Inference(flip=True)), ask(network, images, Inference()).float())


def test_the_mirror_image_is_turned_back_and_averaged():
    network, images = sideways(), images_of(12, 18)
    plain = ask(network, images, Inference())
    mirrored = ask(network, images[:, :, ::-1].copy(), Inference()).flip(-1)
    assert (plain - mirrored).abs().max() > 0.1
    torch.testing.assert_close(ask(network, images, Inference(flip=True)), ((plain + mirrored) / 2).float())


# Scales


def test_scaled_inputs_are_multiples_of_the_stride():
    network = Recorded(coarse(8))
    found = ask(network, images_of(64, 72, 1), Inference((0.5, 0.7, 1.0, 1.3)), 8)
    assert network.sizes == [(32, 32), (48, 48), (64, 72), (80, 96)]
    assert found.shape == (1, 5, 64, 72)


def test_scales_count_alike():
    network, images = coarse(4), images_of(24, 32)
    alone = [ask(network, images, Inference((scale,)), 4) for scale in (0.75, 1.0, 1.25)]
    together = ask(network, images, Inference((0.75, 1.0, 1.25)), 4)
    assert (alone[0] - alone[2]).abs().max() > 0.05
    torch.testing.assert_close(together, torch.stack(alone).mean(0).float())


def test_a_smaller_scale_leaves_out_no_pixel():
    """Stripes whose mean is grey, of which plain sampling would see the dark columns only."""
    stripes = np.tile(np.array([255, 0, 0, 255], np.uint8)[None, None, :, None], (1, 16, 8, 3))
    grey = np.full_like(stripes, 128)
    network, small = pointwise(), Inference(scales=(0.25,))
    found, expected, dark = (ask(network, images, small)[..., 8:-8] for images in (stripes, grey, 0 * grey))
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
    assert (found - dark).abs().max() > 0.1


def test_flat_images_score_alike_at_all_scales():
    network, images = coarse(4), np.full((1, 24, 32, 3), (40, 120, 200), np.uint8)
    torch.testing.assert_close(
        ask(network, images, MULTI, 4), ask(network, images, Inference(), 4).float(), rtol=1e-4, atol=1e-5
    )


def test_probabilities_of_combined_passes_sum_to_one():
    inference = replace(MULTI, crop=(16, 16), crops=(2, 3))
    found = ask(coarse(4), images_of(24, 36), inference, 4)
    assert found.min() >= 0
    torch.testing.assert_close(found.sum(1), torch.ones(2, 24, 36))


# Errors


@pytest.mark.parametrize(
    ("inference", "size", "stride", "told"),
    [
        (Inference(crop=(1024, 1024), crops=(1, 4)), (512, 2048), 32, ["(512, 2048)", "(1024, 1024)", "crop smaller"]),
        (Inference(crop=(64, 64)), (64, 128), 4, ["cover", "(64, 128)", "(1, 1)", "(64, 64)", "use more"]),
        (Inference(crop=(64, 64), crops=(1, 3)), (64, 256), 4, ["cover", "(1, 3)"]),
        (Inference(crop=(64, 64), crops=(0, 4)), (64, 256), 4, ["cover", "(0, 4)"]),
        (Inference(crops=(1, 4)), (64, 256), 4, ["(1, 4)", "add crop"]),
        (Inference(crop=(100, 96), crops=(2, 2)), (128, 128), 32, ["(100, 96)", "32 px", "multiple"]),
        (Inference(), (360, 480), 32, ["(360, 480)", "32 px", "pad the images"]),
        (Inference(scales=(1.0, 0.4)), (64, 64), 32, ["0.4", "32 px", "(64, 64)", "larger scale"]),
        (Inference(scales=(0.4,), crop=(64, 64), crops=(2, 2)), (128, 128), 32, ["0.4", "(64, 64)"]),
        (Inference(scales=(0.0,)), (64, 64), 4, ["0.0", "larger scale"]),
        (Inference(scales=(-1.0,)), (64, 64), 4, ["-1.0"]),
        (Inference(scales=(float("nan"),)), (64, 64), 4, ["nan"]),
        (Inference(scales=(float("inf"),)), (64, 64), 4, ["inf"]),
    ],
)
def test_impossible_inference_is_reported_before_computing(inference, size, stride, told):
    with pytest.raises(InputError) as raised:
        check(inference, size, stride)
    message = str(raised.value)
    assert re.fullmatch(r".+ must .+, got .+; .+", message)
    assert [part for part in told if part not in message] == []


@pytest.mark.parametrize(
    ("inference", "size", "stride"),
    [
        (Inference(), (512, 512), 32),
        (CITYSCAPES, (1024, 2048), 32),
        pytest.param(replace(MULTI, crop=(384, 256), crops=(1, 4), crf=CRF), (384, 480), 32, marks=needs_crf),
        (Inference(scales=(0.5,)), (64, 64), 32),
        (Inference(scales=(0.75,)), (100, 100), 32),  # rounded to whole cells
        (Inference(crop=(64, 64), crops=(2, 2)), (100, 90), 32),  # the image itself is never an input
    ],
)
def test_what_passes_the_check_can_be_had(inference, size, stride):
    check(inference, size, stride)
    height, width = size
    if height * width < 20_000:
        assert predict(coarse(stride), images_of(*size, 1), inference, stride, CPU).shape == (1, *size)


BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "pydensecrf":
            raise ModuleNotFoundError("No module named 'pydensecrf'")

sys.meta_path.insert(0, Blocker())
import numpy as np
from study.inference.predict import check, refine
from study.spec.errors import InputError
from study.spec.training import Crf, Inference
crf = Crf(1, 1, 1, 1, 1, 1)
check(Inference(), (64, 64), 4)
for ask in (
    lambda: check(Inference(crf=crf), (64, 64), 4),
    lambda: refine(np.full((2, 4, 4), 0.5), np.zeros((4, 4, 3), np.uint8), crf),
):
    try:
        ask()
    except InputError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_crf_without_its_library_is_refused():
    done = subprocess.run([sys.executable, "-c", BLOCKED], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    checked, refined = done.stdout.splitlines()
    assert checked == refined
    assert "pydensecrf2" in checked and "install it with `make crf`" in checked


@needs_crf
@pytest.mark.slow
def test_the_crf_library_loads_only_on_demand():
    script = (
        "import sys, study.inference.predict as i; from study.spec.training import Crf, Inference\n"
        "print('pydensecrf' in sys.modules); i.check(Inference(crf=Crf(1, 1, 1, 1, 1, 1)), (8, 8), 4)\n"
        "print('pydensecrf' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


# CRF


def scene(size: int = 64, classes: int = 2, sharpness: float = 0.4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels with a disc, an image (uint8) whose colour changes with them, and blurred noisy probabilities."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    labels = ((y - size / 2) ** 2 + (x - size / 2) ** 2 < (size / 4) ** 2).astype(np.uint8)
    colours = np.array([(60, 90, 60), (190, 60, 40)])
    image = np.clip(colours[labels] + draw.normal(0, 6, (size, size, 3)), 0, 255).astype(np.uint8)
    scores = sharpness * (np.arange(classes)[:, None, None] == labels) + draw.normal(0, 0.6, (classes, size, size))
    scores[:2] = ndimage.gaussian_filter(scores[:2], (0, 1, 1)) * 3  # a blurred boundary, as of a coarse map
    found = np.exp(scores)
    return labels, image, (found / found.sum(0)).astype(np.float32)


def wrong(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float((probabilities.argmax(0) != labels).mean())


def near(labels: np.ndarray) -> np.ndarray:
    inside = ndimage.binary_erosion(labels, iterations=2)
    return ndimage.binary_dilation(labels, iterations=2) & ~inside


@needs_crf
def test_a_crf_moves_boundaries_to_image_edges():
    labels, image, before = scene()
    after = refine(before, image, CRF)
    band = near(labels)
    assert wrong(before, labels) > 0.05
    assert (before.argmax(0) != labels)[band].mean() > 0.1
    assert (after.argmax(0) != labels)[band].mean() < 0.02
    assert wrong(after, labels) < 0.01


@needs_crf
def test_a_crf_needs_image_edges_to_move_boundaries():
    """The same probabilities over a flat image: what moved the boundary was the image."""
    labels, image, before = scene()
    band = near(labels)
    with_edge, without = (refine(before, picture, CRF).argmax(0) for picture in (image, np.full_like(image, 90)))
    assert (without != labels)[band].mean() > 5 * (with_edge != labels)[band].mean() + 0.02


@needs_crf
@pytest.mark.parametrize("classes", [1, 2, 3, 7, 21])
def test_refined_probabilities_are_valid_and_deterministic(classes):
    _, image, before = scene(24, max(classes, 2))
    before = before[:classes] / before[:classes].sum(0)
    kept = before.copy()
    after = refine(before, image, CRF)
    assert after.shape == before.shape and after.min() >= 0
    np.testing.assert_allclose(after.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(after, refine(before, image, CRF))
    np.testing.assert_array_equal(before, kept)


@needs_crf
def test_certain_pixels_give_no_infinite_potentials():
    labels, image, _ = scene(24)
    certain = (np.arange(2)[:, None, None] == labels).astype(np.float32)
    after = refine(certain, image, CRF)
    assert np.isfinite(after).all()
    np.testing.assert_array_equal(after.argmax(0), labels)


@needs_crf
def test_rows_and_columns_are_not_mixed_up():
    """A wide image, given as it lies on the disk (read-only) or as a view with its axes in another order."""
    labels, image, before = scene()
    labels, image, before = labels[8:40], image[8:40], before[:, 8:40]
    after = refine(before, image, CRF)
    assert wrong(after, labels) < 0.01
    turned = refine(before.transpose(0, 2, 1), image.transpose(1, 0, 2), CRF).transpose(0, 2, 1)
    assert wrong(turned, labels) < 0.01
    image = image.copy()
    image.flags.writeable = False
    np.testing.assert_array_equal(refine(before, image, CRF), after)


@needs_crf
def test_a_crf_refines_each_image_after_averaging():
    """By a network that knows red from green on cells of 8 px: the CRF brings the edge, each image its own."""
    labels, image, _ = scene()
    images, labels = np.stack([image, np.roll(image, 16, 0)]), np.stack([labels, np.roll(labels, 16, 0)])
    network = nn.Conv2d(3, 2, 8, 8)
    with torch.no_grad():
        network.weight.zero_()
        network.weight[1, 0], network.bias[:] = 0.03 / 64, torch.tensor([0.03 * 125, 0])
    asked = replace(MULTI, crop=(64, 48), crops=(1, 2), crf=CRF)
    mean = ask(network, images, asked, 8).numpy()
    expected = [refine(one, picture, CRF).argmax(0) for one, picture in zip(mean, images, strict=True)]
    found = predict(network, images, asked, 8, CPU)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.stack(expected))
    for part in range(2):
        np.testing.assert_array_equal(predict(network, images[part : part + 1], asked, 8, CPU)[0], found[part])
    assert (found != labels).mean() < 0.2 * (mean.argmax(1) != labels).mean()
