"""Valid receptive fields of networks whose field is known: one convolution, one far pixel, the study's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional

from study.inference import receptive_field
from study.inference.receptive_field import (
    Probe,
    centre,
    covered,
    enlarge,
    figure3,
    gradient,
    occlusion,
    spread,
    valid_region,
)
from study.models.build import build
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.heads import Variant, dense, gcn
from study.spec.training import Network, freeze

BLACK = (0, 0, 0)
SHALLOW = Network("shallow", ("res4",), freeze({"widths": [8, 12, 16], "strides": [2, 4, 4]}))
PROBE = Probe(
    occluder_px=3, stride_px=1, colour=BLACK, batch=64, share=1.0, mass=1.0, times=2.0, stride=4, background=0
)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def image_of(height: int = 24, width: int = 30, seed: int = 0) -> np.ndarray:
    """Nowhere black, so that a black occluder changes every pixel that it covers."""
    return np.random.default_rng(seed).integers(40, 255, (height, width, 3), dtype=np.uint8)


def window(k: int, scale: float = 1.0):
    """A network of two classes; the score of class 1 is a kxk convolution of ones, that of class 0 is zero."""
    conv = nn.Conv2d(3, 2, k, padding=k // 2, bias=False)
    with torch.no_grad():
        conv.weight[0], conv.weight[1] = 0, scale / (3 * k * k)
    return conv


def box(size: tuple[int, int], pixel: tuple[int, int], side: int) -> np.ndarray:
    """bool (H, W): the square of ``side`` around ``pixel``, cut at the edge."""
    away = [np.abs(np.arange(length) - place) for place, length in zip(pixel, size, strict=True)]
    return np.maximum.outer(*away) <= side // 2


def occluded(network, image, pixel=(11, 13), target=1, occluder_px=3, stride_px=1, colour=BLACK, batch=64):
    return occlusion(network, image, pixel, target, occluder_px, stride_px, colour, batch)


@pytest.mark.parametrize("pixel", [(11, 13), (1, 28)])
@pytest.mark.parametrize(("k", "occluder_px"), [(1, 1), (1, 5), (5, 1), (5, 3), (9, 5)])
def test_a_valid_region_is_the_window_plus_occluder(k, occluder_px, pixel) -> None:
    found = occluded(window(k), image_of(), pixel, occluder_px=occluder_px)
    assert found.dtype == np.float32
    expected = box((24, 30), pixel, k + occluder_px - 1)
    assert np.array_equal(valid_region(found, 1.0), expected)
    assert (found[expected] > 0).all() and not found[~expected].any()


def test_the_score_drop_equals_the_hidden_contribution() -> None:
    image, pixel, k = image_of(), (11, 13), 5
    seen = np.where(box((24, 30), pixel, k), image.mean(2), 0) / k**2
    expected = ndimage.uniform_filter(seen, 3, mode="constant") * 9  # sum over the occluder's 3x3
    np.testing.assert_allclose(occluded(window(k), image, pixel), expected, atol=1e-3)


def test_an_occluder_in_the_image_colour_hides_nothing() -> None:
    image = np.full((16, 16, 3), (124, 116, 104), np.uint8)
    found = occluded(window(5), image, (8, 8), colour=(124, 116, 104))
    assert not found.any() and not valid_region(found, 0.95).any()
    assert occluded(window(5), image, (8, 8), colour=(0, 116, 104)).any()


def test_negative_drops_also_belong_to_the_valid_region() -> None:
    found = occluded(window(5, scale=-1.0), image_of())
    assert found.max() == 0
    assert np.array_equal(valid_region(found, 1.0), box((24, 30), (11, 13), 7))


def far(images: torch.Tensor) -> torch.Tensor:
    """Scores at (r, c) that are the image's mean at (r - 7, c - 4), around the edge; class 0 is zero."""
    bright = images.mean(1, keepdim=True).roll((7, 4), (2, 3))
    return torch.cat([torch.zeros_like(bright), bright], 1)


def test_only_the_single_pixel_seen_lights_up() -> None:
    image, pixel, seen = image_of(), (11, 13), (4, 9)
    expected = np.zeros((24, 30), bool)
    expected[seen] = True
    assert np.array_equal(valid_region(occluded(far, image, occluder_px=1), 0.95), expected)
    slope = gradient(far, image, pixel, 1)
    assert np.array_equal(slope > 0, expected)
    assert slope[seen] == pytest.approx(1)  # a third from each channel
    assert spread(slope, pixel, 0.95) == 2 * 7 + 1


@pytest.mark.parametrize("k", [1, 5, 9])
def test_gradients_equal_the_weights_of_the_window(k: int) -> None:
    slope = gradient(window(k), image_of(), (11, 13), 1)
    inside = box((24, 30), (11, 13), k)
    assert slope.dtype == np.float32 and not slope[~inside].any()
    np.testing.assert_allclose(slope[inside], 1 / k**2, rtol=1e-5)
    assert spread(slope, (11, 13), 1.0) == k
    assert spread(slope, (11, 13), 0.01) == 1


def test_spread_is_the_smallest_square_with_the_share() -> None:
    rings = np.zeros((21, 21))
    rings[10, 10], rings[10, 7], rings[18, 10] = 60, 30, 10
    assert [spread(rings, (10, 10), share) for share in (0.5, 0.6, 0.61, 0.9, 0.91, 1.0)] == [1, 1, 7, 7, 17, 17]
    assert spread(np.zeros((5, 5)), (2, 2), 0.95) == 0


def test_the_valid_region_is_minimal_for_its_share() -> None:
    found = np.array([[60.0, -30.0, 0.0], [0.0, 8.0, 2.0]])
    sizes = [int(valid_region(found, share).sum()) for share in (0.6, 0.61, 0.9, 0.95, 0.99, 1.0)]
    assert sizes == [1, 2, 2, 3, 4, 4]
    assert np.array_equal(valid_region(found, 0.7), np.abs(found) >= 30)
    assert np.array_equal(valid_region(1e-6 * found, 0.95), valid_region(found, 0.95))  # whatever the score's scale


@pytest.mark.slow
def test_larger_kernels_cover_more_of_the_object() -> None:
    image, mask = image_of(48, 48), box((48, 48), (24, 24), 21)
    fields, spreads = [], []
    for k in (1, 5, 9, 15):
        fields.append(covered(valid_region(occluded(window(k), image, (24, 24)), 0.95), mask))
        spreads.append(spread(gradient(window(k), image, (24, 24), 1), (24, 24), 0.95))
    assert fields == sorted(set(fields)) and spreads == sorted(set(spreads))


def test_the_map_is_bilinear_between_measured_places() -> None:
    image, pixel = image_of(), (11, 13)
    every, some = (occluded(window(9), image, pixel, stride_px=stride) for stride in (1, 3))
    on_grid = np.s_[11 % 3 :: 3, 13 % 3 :: 3]
    np.testing.assert_allclose(some[on_grid], every[on_grid], rtol=1e-5, atol=1e-5)
    assert some[pixel] == pytest.approx(every[pixel], rel=1e-5)
    assert some[11, 14] == pytest.approx((2 * every[11, 13] + every[11, 16]) / 3, rel=1e-5)
    assert np.array_equal(some[0], some[2])  # before the first place: as at the first place


@pytest.mark.parametrize("size", [(6, 5), (12, 20), (24, 30)])
def test_coarse_scores_match_their_bilinear_enlargement(size) -> None:
    scores = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    whole = functional.interpolate(scores, size=(24, 30), mode="bilinear", align_corners=False)
    for pixel in [(0, 0), (23, 29), (11, 13), (4, 28)]:
        torch.testing.assert_close(receptive_field.scores_at(scores, (24, 30), pixel), whole[:, :, pixel[0], pixel[1]])


def test_log_odds_match_probabilities_and_ignore_shifts() -> None:
    scores = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    found = receptive_field.log_odds(scores, 2)
    torch.testing.assert_close(torch.sigmoid(found), scores.softmax(1)[:, 2])
    torch.testing.assert_close(receptive_field.log_odds(scores + 7, 2), found)
    sure = torch.tensor([[0.0, 50.0], [0.0, 60.0]])  # both probabilities round to 1
    assert receptive_field.log_odds(sure, 1).diff().item() == pytest.approx(10)


def test_the_centre_lies_in_the_largest_object() -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[:, 30:] = VOID
    labels[2:5, 2:5] = 3
    labels[10:21, 6:13] = 2
    labels[10:16, 16:26] = 3  # 60 px, less than the 77 of class 2; with the other object of class 3 it has still less
    found = centre(labels, background=0)
    assert found is not None and (found.pixel, found.target) == ((15, 9), 2)
    assert np.array_equal(found.mask, labels == 2)
    everything = centre(labels, background=None)
    assert everything is not None and everything.target == 0


def test_no_object_no_centre() -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[:, 4:] = VOID
    assert centre(labels, background=0) is None
    assert centre(np.full((8, 8), VOID, np.uint8), background=None) is None


def test_diagonal_neighbours_are_one_object() -> None:
    labels = np.zeros((12, 12), np.uint8)
    labels[1:4, 1:4] = labels[4:7, 4:7] = 1
    found = centre(labels, background=0)
    assert found is not None and found.mask.sum() == 18


def test_the_centre_of_a_bent_object_is_inside() -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[4:56, 4:9] = labels[51:56, 4:56] = 1  # an L: its centroid is outside
    labels[48:56, 4:12] = 1  # and its deepest place in the corner
    row, column = (side.mean() for side in np.nonzero(labels))
    assert labels[int(row), int(column)] == 0
    found = centre(labels, background=0)
    assert found is not None and labels[found.pixel] == 1
    depth = ndimage.distance_transform_edt(np.pad(labels, 1))[1:-1, 1:-1]
    assert depth[found.pixel] >= depth.max() / 2
    deepest = np.unravel_index(depth.argmax(), depth.shape)
    assert np.hypot(found.pixel[0] - row, found.pixel[1] - column) < np.hypot(deepest[0] - row, deepest[1] - column)


def test_equal_objects_are_ordered_by_class_and_place() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[10:15, 10:15], labels[2:7, 2:7] = 2, 5
    found = centre(labels, background=0)
    assert found is not None and (found.pixel, found.target) == ((12, 12), 2)
    labels[10:15, 10:15] = 5
    found = centre(labels, background=0)
    assert found is not None and found.pixel == (4, 4)


@pytest.mark.parametrize(
    ("times", "stride", "size"), [(2.0, 4, (48, 60)), (1.5, 8, (40, 48)), (1.0, 1, (24, 30)), (1.0, 16, (32, 32))]
)
def test_enlarged_sides_are_nearest_multiples_of_the_stride(times, stride, size) -> None:
    labels = np.zeros((24, 30), np.uint8)
    labels[6:12, 8:20], labels[0] = 7, VOID
    image, enlarged = enlarge(image_of(), labels, times, stride)
    assert image.shape == (*size, 3) and enlarged.shape == size and image.dtype == enlarged.dtype == np.uint8
    assert set(np.unique(enlarged)) == {0, 7, VOID}
    share = (enlarged == 7).mean() / (labels == 7).mean()
    assert share == pytest.approx(1, abs=0.25)
    if size == (24, 30):
        assert np.array_equal(image, image_of()) and np.array_equal(enlarged, labels)


def test_enlarging_keeps_colours_and_their_places() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = (200, 100, 50)
    enlarged, _ = enlarge(image, np.zeros((8, 8), np.uint8), 2.0, 4)
    assert (enlarged[:, :7] == 0).all() and (enlarged[:, 9:] == (200, 100, 50)).all()
    assert enlarged[3, 7].tolist() == [50, 25, 12] and enlarged[3, 8].tolist() == [150, 75, 38]  # 12.5 rounds to even


def scene() -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((24, 32), np.uint8)
    labels[6:19, 9:22] = 1
    return image_of(24, 32), labels


def test_figure3_measures_every_network_on_both_inputs() -> None:
    """Of one convolution all numbers are known; its window stays as it is while the object grows."""
    image, labels = scene()
    found = figure3({"small": window(3), "large": window(9)}, image, labels, PROBE)
    assert found["networks"].tolist() == ["small", "large"] and found["target"] == 1
    for name, size, pixel, object_px in [
        ("original", (24, 32), (12, 15), 13**2), ("enlarged", (48, 64), (25, 31), 26**2),
    ]:  # fmt: skip
        assert found[f"{name}_image"].shape == (*size, 3) and tuple(found[f"{name}_pixel"]) == pixel
        assert found[f"{name}_mask"].sum() == object_px and found[f"{name}_mask"][pixel]
        assert found[f"{name}_spread_px"].tolist() == [3, 9]
        assert found[f"{name}_occlusion"].shape == found[f"{name}_gradient"].shape == (2, *size)
    sides = [3 + 3 - 1, 9 + 3 - 1]
    assert found["original_covered"] == pytest.approx([side**2 / 13**2 for side in sides])
    assert found["original_area"] == pytest.approx([side**2 / (24 * 32) for side in sides])
    assert found["original_radius_px"] == pytest.approx([side / np.sqrt(np.pi) for side in sides])
    # Enlarged, the occluder is 7 px and the grid 2 px: hit at even distances up to 4 and 6, and one pixel between.
    assert found["enlarged_covered"] == pytest.approx([side**2 / 26**2 for side in (11, 15)])
    assert (found["original_score"] > 0).all() and found["original_predicted"].tolist() == [1, 1]


def test_the_occluder_and_grid_grow_with_the_input() -> None:
    image, labels = scene()
    probe = replace(PROBE, occluder_px=5, stride_px=2)
    found = figure3({"one": window(9)}, image, labels, probe)
    enlarged, pixel = found["enlarged_image"], tuple(found["enlarged_pixel"].tolist())
    expected = occluded(window(9), enlarged, pixel, occluder_px=11, stride_px=4)
    assert np.array_equal(found["enlarged_occlusion"][0], expected)


def networks() -> dict[str, nn.Module]:
    """The two networks of Fig. 3, untrained."""
    return {v.label: build(v, SHALLOW, 3, seed=1).eval() for v in (Variant(dense(1)), Variant(gcn(7)))}


def test_figure3_is_deterministic_and_storable_as_npz(tmp_path) -> None:
    image, labels = scene()
    probe = replace(PROBE, occluder_px=5, stride_px=4, share=0.95, mass=0.95)
    first, second = (figure3(networks(), image, labels, probe) for _ in range(2))
    np.savez(tmp_path / "fields.npz", **first)
    with np.load(tmp_path / "fields.npz", allow_pickle=False) as archive:
        assert set(archive.files) == set(first) == set(second)
        assert all(np.array_equal(archive[name], second[name]) for name in second)
    small, large = first["enlarged_spread_px"]
    assert 0 < small < large
    assert all(parameter.grad is None for network in networks().values() for parameter in network.parameters())


def test_the_map_is_zero_outside_the_gradient_reach() -> None:
    network, image = networks()["1x1"], image_of(64, 64)
    before = image.copy()
    small, large = (occluded(network, image, (32, 32), stride_px=4, batch=batch) for batch in (7, 100))
    assert np.array_equal(image, before)
    np.testing.assert_allclose(small, large, rtol=1e-3, atol=1e-4)
    reach = gradient(network, image, (32, 32), 1) > 0
    assert 100 < reach.sum() < 40**2
    outside = ~ndimage.binary_dilation(reach, iterations=8)
    assert outside.any() and not small[outside].any() and small.any()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pixel": (24, 0)}, r"pixel .* must lie in the image \(24, 30\), got \(24, 0\); name"),
        ({"pixel": (0, -1)}, r"pixel .* must lie in the image .* got \(0, -1\)"),
        ({"occluder_px": 4}, "side must be odd .* got 4; take 11"),
        ({"occluder_px": 25}, r"side must be odd .* fit into the image \(24, 30\), got 25"),
        ({"occluder_px": -1}, "side must be odd .* got -1"),
        ({"target": 2}, "class must be one of the network's 2 .* got 2; name"),
        ({"target": -1}, "class must be one of the network's 2 .* got -1"),
    ],
)
def test_what_cannot_be_measured_is_told(change, told: str) -> None:
    with pytest.raises(InputError, match=told):
        occluded(window(3), image_of(), **change)


def test_a_network_of_one_class_cannot_be_probed() -> None:
    with pytest.raises(InputError, match="one of the network's 1 and not the only one, got 0"):
        occluded(lambda images: images[:, :1], image_of(), target=0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"occluder_px": 8}, "side must be odd .* got 8"),
        ({"stride_px": 0}, r"at least 1, got \(0, 64\)"),
        ({"batch": 0}, r"at least 1, got \(1, 0\)"),
        ({"share": 0.0}, r"share and mass must be in \(0, 1\], got \(0.0, 1.0\)"),
        ({"mass": 1.5}, r"share and mass must be in \(0, 1\], got \(1.0, 1.5\)"),
    ],
)
def test_a_probe_that_measures_nothing_is_told(change, told: str) -> None:
    with pytest.raises(InputError, match=told):
        replace(PROBE, **change)


def test_other_input_errors_are_told() -> None:
    image, labels = scene()
    with pytest.raises(InputError, match=r"at least as large as the original, got 0.5; take 2"):
        enlarge(image, labels, 0.5, 4)
    with pytest.raises(InputError, match="must have an object, got background and void only"):
        figure3({"one": window(3)}, image, np.zeros_like(labels), PROBE)
    with pytest.raises(InputError, match="an object must have pixels, got none"):
        covered(np.ones((4, 4), bool), np.zeros((4, 4), bool))
    with pytest.raises(InputError, match="must let gradients through, got scores without"):
        gradient(torch.no_grad()(window(3)), image, (3, 3), 1)
    with pytest.raises(InputError, match=r"pixel .* must lie in the image"):
        gradient(window(3), image, (24, 3), 1)
