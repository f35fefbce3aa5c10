"""One palette: a class has the colour of its data set, others are told apart, and padding is not shown (D130)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from study.data import display
from study.data.prepare import PAD_COLOUR, prepare
from study.data.sets import camvid, cityscapes, voc
from study.spec.constants import VOID
from study.spec.training import Data, freeze

BASE = {"images": "images", "masks": "masks", "classes": ["ground", "roof", "tree"], "val": 0.4, "tune": 1,
        "pad": [32, 32]}  # fmt: skip
PALETTE = {"ground": [0, 0, 0], "tree": [[0, 128, 0], [0, 64, 0]], "roof": [128, 0, 0], "void": [224, 224, 192]}


def facts(number: int, **colours: list[int]) -> dict[str, Any]:
    return {"classes": [f"c{label}" for label in range(number)], "colours": colours}


@pytest.mark.parametrize(("number", "apart"), [(2, 30), (8, 25), (21, 20), (60, 20), (150, 16), (255, 13)])
def test_default_colours_are_distinct_from_void_and_page(number: int, apart: float) -> None:
    table = display.colours_of(facts(number))
    places = display._lab(np.concatenate([table[:number], [display.VOID_COLOUR, display.PAGE]]))
    distances = np.linalg.norm(places[:, None] - places, axis=2) + 999 * np.eye(len(places))
    assert distances[:number].min() > apart
    assert (table[number:] == display.VOID_COLOUR).all()


def test_added_classes_do_not_change_earlier_colours() -> None:
    assert np.array_equal(display.colours_of(facts(8))[:8], display.colours_of(facts(40))[:8])


def test_user_colours_are_kept_and_others_differ() -> None:
    own = {"c0": [255, 255, 255], "c2": list(display.FIRST[0])}
    table = display.colours_of(facts(4, **own))
    assert table[0].tolist() == own["c0"] and table[2].tolist() == own["c2"]
    assert len({tuple(colour) for colour in table[:4].tolist()}) == 4


@pytest.mark.parametrize(("module", "void"), [(camvid, True), (cityscapes, True), (voc, True)])
def test_official_colours_differ_from_each_other_and_void(module: Any, void: bool) -> None:
    colours = list(module.colours().values()) if module is voc else list(module.COLOURS)
    assert len(set(colours)) == len(colours) == len(module.CLASSES)
    far = np.linalg.norm(display._lab(np.array(colours)) - display._lab(np.array([display.VOID_COLOUR])), axis=1)
    assert far.min() > 15


@pytest.mark.parametrize("size", [(5, 7), (8, 8), (1, 8)])
def test_padding_is_void_and_has_the_padding_colour(size: tuple[int, int]) -> None:
    image, labels = np.full((8, 8, 3), PAD_COLOUR, np.uint8), np.full((8, 8), VOID, np.uint8)
    inside = (slice(size[0]), slice(size[1]))
    image[inside] = 9  # all of it void: a photograph that nobody labelled has its size too
    assert display.true_size(image, labels) == size
    image[inside], labels[inside] = PAD_COLOUR, 0  # and one that happens to be of that colour
    assert display.true_size(image, labels) == size


def write(root: Path, masks: dict[int, tuple[int, ...] | int]) -> Path:
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for number in range(6):
        labels = np.arange(32 * 24).reshape(24, 32) % 3
        values = np.array([masks[label] for label in range(3)], np.uint8)[labels]
        Image.fromarray(np.full((24, 32, 3), 40 * number, np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(values).save(root / "masks" / f"{number}.png")
    return root


@pytest.mark.parametrize("as_file", [False, True])
def test_prepared_facts_hold_the_colours_of_a_palette(tmp_path: Path, as_file: bool) -> None:
    root = write(tmp_path / "data", {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0)})
    palette: Any = PALETTE
    if as_file:
        palette = "palette.txt"
        (root / palette).write_text("ground,0,0,0\ntree,0,128,0\ntree,0,64,0\nroof,128,0,0\nvoid,224,224,192\n")
    for _ in range(2):  # the second is told what the first has read
        found = prepare(Data("folder", freeze(BASE | {"palette": palette})), root, tmp_path / "cache", 2)
        assert found["colours"] == {"ground": [0, 0, 0], "roof": [128, 0, 0], "tree": [0, 128, 0]}
    assert display.colours_of(found)[:3].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]


def test_colours_are_no_part_of_what_was_read(tmp_path: Path) -> None:
    """The same labels by colours and by numbers have one fingerprint, and those by numbers no colours."""
    coloured = write(tmp_path / "coloured", {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0)})
    plain = write(tmp_path / "plain", {0: 0, 1: 1, 2: 2})
    one = prepare(Data("folder", freeze(BASE | {"palette": PALETTE})), coloured, tmp_path / "cache", 2)
    other = prepare(Data("folder", freeze(BASE)), plain, tmp_path / "cache", 2)
    assert one["fingerprint"] == other["fingerprint"] and "colours" not in other
