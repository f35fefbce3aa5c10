"""The figure of receptive fields: its text and images match the arrays."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from study.report.figures import receptive_fields, style

SIZES = {"original": (24, 32), "enlarged": (48, 64)}
PIXELS = {"original": (10, 12), "enlarged": (21, 25)}


def fields(names: tuple[str, ...] = ("1x1", "GCN k=15"), scale: int = 1) -> dict[str, np.ndarray]:
    """Arrays as receptive_field.figure3 returns them: network j sees a square of 4 + 4j px."""
    draw, number = np.random.default_rng(0), len(names)
    arrays = {"networks": np.array(names), "target": np.array(2), "share": np.array(0.95), "mass": np.array(0.9)}
    for kind, size in SIZES.items():
        height, width = (scale * side for side in size)
        row, column = (scale * place for place in PIXELS[kind])
        away = np.maximum.outer(abs(np.arange(height) - row), abs(np.arange(width) - column))
        seen = np.stack([away <= scale * (2 + 2 * j) for j in range(number)])
        arrays |= {
            f"{kind}_image": draw.integers(100, 255, (height, width, 3), dtype=np.uint8),
            f"{kind}_mask": away <= 5 * scale, f"{kind}_pixel": np.array((row, column)),
            f"{kind}_occlusion": seen.astype(np.float32), f"{kind}_region": seen,
            f"{kind}_gradient": seen * np.float32(1e-4) / (1 + away), f"{kind}_score": np.arange(float(number)),
            f"{kind}_predicted": np.arange(number) + 1, f"{kind}_covered": 0.1234 + 0.2 * np.arange(number),
            f"{kind}_area": seen.mean((1, 2)), f"{kind}_radius_px": np.ones(number),
            f"{kind}_spread_px": 5 + 4 * np.arange(number),
        }  # fmt: skip
    return arrays


def panels(figure: Figure) -> list[list]:
    """The axes of each input: rows occlusion and gradient, columns networks."""
    return [part.axes for part in figure.subfigs]


def bitmap(ax) -> np.ndarray:
    return np.asarray(ax.get_images()[0].get_array())


def at(ax, row: int, column: int) -> np.ndarray:
    """The value drawn at a pixel of the input."""
    left, right, bottom, top = ax.get_images()[0].get_extent()
    shown = bitmap(ax)
    height, width = shown.shape[:2]
    return shown[int((row - top) / (bottom - top) * height), int((column - left) / (right - left) * width)]


def test_every_panel_names_its_network_and_its_numbers() -> None:
    first, second = panels(receptive_fields.receptive_fields(fields()))
    for axes in (first, second):
        assert [ax.get_title() for ax in axes[:2]] == ["1x1\nwrong class", "GCN k=15\nright class"]
        assert [ax.get_xlabel() for ax in axes] == [
            "12 % of the object", "32 % of the object", "90 % within 5 px", "90 % within 9 px",
        ]  # fmt: skip
        assert [ax.get_ylabel() for ax in axes] == ["occlusion", "", "gradient", ""]


def test_inputs_are_named_and_marks_are_explained() -> None:
    figure = receptive_fields.receptive_fields(fields())
    assert [part.get_suptitle() for part in figure.subfigs] == [
        "original input, 32x24 px", "enlarged input, 64x48 px",
    ]  # fmt: skip
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["pixel whose score is watched", "object", "90 % of the gradient"]


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1, 20])
def test_the_image_darkens_outside_the_valid_region(scale: int) -> None:
    arrays = fields(scale=scale)
    for kind in SIZES if scale > 1 else ():
        arrays[f"{kind}_image"][:] = (200, 100, 150)  # large images are drawn as means of blocks
    for kind, axes in zip(SIZES, panels(receptive_fields.receptive_fields(arrays)), strict=True):
        row, column = arrays[f"{kind}_pixel"]
        for away, lit in ((0, (True, True)), (3, (False, True)), (8, (False, False))):
            for ax, light in zip(axes[:2], lit, strict=True):
                place = row + away * scale
                expected = arrays[f"{kind}_image"][place, column] * (1.0 if light else receptive_fields.DARK)
                assert at(ax, place, column) == pytest.approx(expected, abs=1)


def test_the_gradient_is_normalised_under_a_square_root() -> None:
    arrays = fields()
    for kind, axes in zip(SIZES, panels(receptive_fields.receptive_fields(arrays)), strict=True):
        row, column = arrays[f"{kind}_pixel"]
        for ax in axes[2:]:
            assert bitmap(ax).max() == pytest.approx(1) and ax.get_images()[0].get_clim() == (0, 1)
            assert at(ax, row, column) == pytest.approx(1)
            assert at(ax, row, column + 1) == pytest.approx(np.sqrt(1 / 2))
        assert at(axes[2], row, column + 3) == 0 and at(axes[3], row, column + 3) == pytest.approx(0.5)


def test_dot_and_square_are_centred_on_the_pixel() -> None:
    arrays = fields()
    for kind, axes in zip(SIZES, panels(receptive_fields.receptive_fields(arrays)), strict=True):
        row, column = arrays[f"{kind}_pixel"]
        height, width = SIZES[kind]
        for ax in axes:
            (dot,) = (line for line in ax.lines if line.get_marker() == "o")
            assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (column, row) and to_hex(dot.get_color()) == style.RED
            assert ax.get_xlim() == (-0.5, width - 0.5) and ax.get_ylim() == (height - 0.5, -0.5)
        for ax, side in zip(axes[2:], (5, 9), strict=True):
            (square,) = (patch for patch in ax.patches if isinstance(patch, Rectangle))
            assert square.get_width() == square.get_height() == side
            assert tuple(square.get_center()) == (column, row)


@pytest.mark.parametrize(("number", "abreast"), [(1, 2), (2, 4), (3, 3), (4, 4)])
def test_inputs_are_stacked_beyond_two_networks(number: int, abreast: int) -> None:
    figure = receptive_fields.receptive_fields(fields(tuple(f"net {j}" for j in range(number))))
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] == style.WIDTH_IN
    boxes = [ax.get_window_extent() for axes in panels(figure) for ax in axes]
    tops = sorted({round(box.y1 / 20) for box in boxes})
    assert len(boxes) == 4 * number and len(tops) == 4 * number // abreast
    for index, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[index + 1 :])


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 4])
def test_no_words_overlap_or_leave_the_figure(number: int) -> None:
    figure = receptive_fields.receptive_fields(fields(tuple(f"GCN k={j} + BR" for j in range(number))))
    figure.draw_without_rendering()
    words = [ax.title for axes in panels(figure) for ax in axes] + [ax.xaxis.label for ax in _all(figure)]
    words += [part._suptitle for part in figure.subfigs] + figure.legends[0].get_texts()
    boxes = [word.get_window_extent() for word in words if word.get_text()]
    for index, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[index + 1 :]), words[index]
        assert figure.bbox.x0 <= one.x0 and one.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= one.y0 and one.y1 <= figure.bbox.y1


def _all(figure: Figure) -> list:
    return [ax for axes in panels(figure) for ax in axes]


@pytest.mark.slow
def test_a_network_that_sees_nothing_can_be_drawn() -> None:
    arrays = fields()
    for kind in SIZES:
        arrays[f"{kind}_gradient"][0] = 0
        arrays[f"{kind}_region"][0] = False
        arrays[f"{kind}_spread_px"][0] = 0
    axes = panels(receptive_fields.receptive_fields(arrays))[0]
    assert not bitmap(axes[2]).any() and bitmap(axes[0]).max() <= 255 * receptive_fields.DARK


def test_an_object_filling_the_image_can_be_drawn() -> None:
    outlined, arrays = receptive_fields.receptive_fields(fields()), fields()
    for kind in SIZES:
        arrays[f"{kind}_mask"][:] = True
    filled = receptive_fields.receptive_fields(arrays)
    assert [len(ax.collections) for ax in _all(outlined)] == [1] * 8
    assert [len(ax.collections) for ax in _all(filled)] == [0] * 8


@pytest.mark.slow
def test_large_images_shrink_and_small_ones_repeat_pixels() -> None:
    large = [bitmap(ax).shape[1] for ax in _all(receptive_fields.receptive_fields(fields(scale=24)))]
    assert max(large) <= receptive_fields.PIXELS[1] and min(large) > receptive_fields.PIXELS[0] / 2
    arrays = fields()
    for kind, axes in zip(SIZES, panels(receptive_fields.receptive_fields(arrays)), strict=True):
        height, width = SIZES[kind]
        times = 256 // width
        shown = bitmap(axes[0])
        assert shown.shape[:2] == (height * times, width * times)
        assert np.array_equal(shown, shown[::times, ::times].repeat(times, 0).repeat(times, 1))


@pytest.mark.slow
def test_equal_arrays_give_equal_files(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        path = style.save(receptive_fields.receptive_fields(fields()), tmp_path / f"{name}.svg")
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1 and path.read_text().startswith("<?xml")
    assert "<text" not in path.read_text()  # words are outlines, so no font is needed


def test_drawing_changes_no_array() -> None:
    arrays, before = fields(), fields()
    receptive_fields.receptive_fields(arrays)
    assert all(np.array_equal(arrays[name], before[name]) for name in before)
