"""Masks of colours, or of other numbers than labels: what is read, and what is refused (D120, D121)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from study.config import tiers
from study.config.inheritance import in_full
from study.data.prepare import DataSet, open_data, prepare
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.training import Data, freeze, thawed
from tests.conftest import ROOT

SIDES = (12, 16)
CLASSES = ["ground", "roof", "tree"]
OPTIONS = {"images": "images", "masks": "masks", "classes": CLASSES, "val": 0.25, "tune": 2, "pad": SIDES}
PALETTE = {"ground": [0, 0, 0], "roof": [128, 0, 0], "tree": [[0, 128, 0], [0, 64, 0]], "void": [224, 224, 192]}
COLOURS = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [0, 64, 0], [224, 224, 192]], np.uint8)
MEANT = np.array([0, 1, 2, 2, VOID], np.uint8)  # the label of each of COLOURS
Folder = Callable[..., Path]


def codes_of(number: int) -> np.ndarray:
    """Which of five codes each pixel of a mask has."""
    return np.random.default_rng(number).integers(0, 5, SIDES)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Eight images with masks that ``draw`` makes of the codes of their pixels."""

    def lay(draw: Callable[[np.ndarray], Image.Image], kind: str = "png", **saved: Any) -> Path:
        for number in range(8):
            for name in ("images", "masks"):
                (tmp_path / name).mkdir(exist_ok=True)
            picture = np.random.default_rng(number + 99).integers(0, 256, (*SIDES, 3), np.uint8)
            Image.fromarray(picture).save(tmp_path / "images" / f"{number}.png")
            draw(codes_of(number)).save(tmp_path / "masks" / f"{number}.{kind}", **saved)
        return tmp_path

    return lay


def opened(root: Path, **options: Any) -> DataSet:
    return open_data(Data("folder", freeze(OPTIONS | options)), root, root / "cache")


def prepared(root: Path, **options: Any) -> dict[str, Any]:
    return prepare(Data("folder", freeze(OPTIONS | options)), root, root / "cache", 2)


def told(root: Path, **options: Any) -> str:
    """The one line that an error is."""
    with pytest.raises(InputError) as error:
        prepared(root, **options)
    line = str(error.value)
    assert "\n" not in line and " must " in line and ", got " in line and "; " in line
    assert not (root / "cache").exists() or not list((root / "cache").rglob("*.npy"))
    return line


def check_labels(source: DataSet, meant: np.ndarray = MEANT) -> None:
    for split, number in source.splits.items():
        for index in range(number):
            labels = source.read(split, index)[1]
            assert labels.dtype == np.uint8
            assert np.array_equal(labels, meant[codes_of(int(source.name(split, index)))])


def in_colour(codes: np.ndarray) -> Image.Image:
    return Image.fromarray(COLOURS[codes])


def with_palette(codes: np.ndarray) -> Image.Image:
    """The same colours by numbers that differ from file to file, as some tools write them."""
    order = np.random.default_rng(int(codes.sum())).permutation(5)
    image = Image.fromarray(order[codes].astype(np.uint8))
    image.putpalette(COLOURS[np.argsort(order)].ravel().tolist())
    return image


# colours


@pytest.mark.parametrize("draw", [in_colour, with_palette, lambda codes: in_colour(codes).convert("RGBA")])
@pytest.mark.parametrize("kind", ["png", "bmp", "tiff"])
def test_colours_are_the_classes_that_the_palette_says(folder: Folder, draw: Any, kind: str) -> None:
    check_labels(opened(folder(draw, kind), palette=PALETTE))


@pytest.mark.parametrize(
    "text",
    [
        "ground,0,0,0\nroof,128,0,0\ntree,0,128,0\ntree,0,64,0\nvoid,224,224,192\n",
        "name,r,g,b\nground, 0, 0, 0\nroof, 128, 0, 0\n\ntree, 0, 128, 0\ntree, 0, 64, 0\nVoid, 224, 224, 192",
        "0 0 0\tground\n128 0 0\t\troof\n0 128 0\ttree\n0 64 0\ttree\n224 224 192\tVoid\r\n",
        "ground 0 0 0\nroof 128 0 0\ntree 0 128 0\ntree 0 64 0\nvoid 224 224 192\n",
        "r;g;b;name\n0;0;0;ground\n128;0;0;roof\n0;128;0;tree\n0;64;0;tree\n224;224;192;void",
    ],
)
def test_a_colour_file_is_read_in_either_order(folder: Folder, text: str) -> None:
    root = folder(in_colour)
    (root / "colours.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    check_labels(opened(root, palette="colours.txt"))


def test_names_in_a_file_may_have_blanks(folder: Folder) -> None:
    root = folder(in_colour)
    (root / "colours.txt").write_text("0 0 0 flat ground\nroof 128 0 0\ntall tree 0 128 0\ntall tree 0 64 0\n"
                                      "224 224 192 void\n")  # fmt: skip
    check_labels(opened(root, palette="colours.txt", classes=["flat ground", "roof", "tall tree"]))


def test_an_edited_colour_file_is_read_again(folder: Folder) -> None:
    root = folder(in_colour)
    text = "ground,0,0,0\nroof,128,0,0\ntree,0,128,0\ntree,0,64,0\nvoid,224,224,192\n"
    (root / "colours.csv").write_text(text)
    before = prepared(root, palette="colours.csv")
    (root / "colours.csv").write_text(text.replace("roof", "x").replace("ground", "roof").replace("x", "ground"))
    os.utime(root / "colours.csv", (1, 1))
    after = prepared(root, palette="colours.csv")
    assert before["fingerprint"] != after["fingerprint"] and before["pixels"][:2] == after["pixels"][1::-1]


def test_unknown_colours_are_reported_with_pixels_and_file(folder: Folder) -> None:
    root = folder(in_colour)
    colours = COLOURS[codes_of(3)]
    colours[:2, :2], colours[5, :3], colours[6, 0], colours[7, 0] = (1, 2, 3), (9, 9, 9), (7, 7, 7), (8, 8, 8)
    Image.fromarray(colours).save(root / "masks" / "3.png")
    line = told(root, palette=PALETTE)
    assert (
        "must hold colours of the palette only, got [1, 2, 3] on 4 pixels, [9, 9, 9] on 3 pixels, [7, 7, 7] on 1 "
        in line
    )
    assert "1 pixel, and 1 other, in " in line and "masks/3.png; add them to the palette" in line


def test_unsuitable_colour_masks_are_reported(folder: Folder) -> None:
    root = folder(in_colour)
    assert "must be a palette or grey image, got mode RGB" in told(root, void=255)
    transparent = in_colour(codes_of(0)).convert("RGBA")
    transparent.putpixel((0, 0), (0, 0, 0, 9))
    for image, words in (
        (Image.fromarray(codes_of(0).astype(np.uint16)), "must be red, green and blue of 8 bits, or have a palette"),
        (transparent, "a mask of colours must be opaque"),
    ):
        image.save(root / "masks" / "0.png")
        assert words in told(root, palette=PALETTE)
    in_colour(codes_of(0)).save(root / "masks" / "0.jpg")
    (root / "masks" / "0.png").unlink()
    assert "must be in a lossless format" in told(root, palette=PALETTE)


@pytest.mark.parametrize(
    ("palette", "words"),
    [
        ({"roof": [128, 0]}, "palette of folder must be colours by class, or the name of a file of them, got {'roof'"),
        ({"roof": [128, 0, 256]}, "write e.g. {roof: [128, 0, 0], "),
        ({"roof": "red"}, "write e.g. {roof: [128, 0, 0], "),
        ({"roof": []}, "write e.g. {roof: [128, 0, 0], "),
        ({"roof": [128.0, 0, 0]}, "write e.g. {roof: [128, 0, 0], "),
        ({}, "write e.g. {roof: [128, 0, 0], "),
        ([{"color": [128, 0, 0], "name": "roof"}], "got [{'color': (128, 0, 0), 'name': 'roof'}]; write e.g. {roof: ["),
        ([[128, 0, 0], [0, 0, 0]], "write e.g. {roof: [128, 0, 0], "),
        (3, "write e.g. {roof: [128, 0, 0], "),
        (PALETTE | {"rooof": [1, 1, 1]}, "must name classes or void, got 'rooof'; rename it to one of ground, "),
        (PALETTE | {"void": [128, 0, 0]}, "must have each colour for one class, got [128, 0, 0] for roof and void"),
        ({"ground": [0, 0, 0], "roof": [1, 1, 1]}, "must have a colour for each class, got none for tree; add it"),
        ("none.txt", "a data set must have its list none.txt, got no file"),
        ("bad.txt", "a line of a palette must be a name and three numbers from 0 to 255, got 'roof 128 0'"),
        ("large.txt", "got '128 0 256 roof' in "),
        ("nameless.txt", "got '128 0 0' in "),
        ("empty.txt", "a palette must have a colour, got none in "),
        ("binary.txt", "must be plain text"),
    ],
)  # fmt: skip
def test_a_palette_that_is_none_is_told(folder: Folder, palette: Any, words: str) -> None:
    root = folder(in_colour)
    for name, text in {"bad": "ground 0 0 0\nroof 128 0", "large": "128 0 256 roof", "nameless": "128 0 0",
                       "empty": "\nname,r,g,b\n"}.items():  # fmt: skip
        (root / f"{name}.txt").write_text(text)
    (root / "binary.txt").write_bytes(b"\xff\xfe\x00\xd8")
    assert words in told(root, palette=palette)


@pytest.mark.parametrize(("other", "value"), [("void", 255), ("labels", {0: 0, 1: 1, 2: 2})])
def test_masks_hold_colours_or_numbers(folder: Folder, other: str, value: Any) -> None:
    line = told(folder(in_colour), palette=PALETTE, **{other: value})
    assert f"{other} of folder must not be set together with palette (masks hold colours or numbers)" in line


def test_all_other_colours_may_stand_for_one_thing(folder: Folder) -> None:
    palette = {name: PALETTE[name] for name in ("roof", "ground")}
    check_labels(opened(folder(in_colour), palette=palette | {"tree": [1, 1, 1]}, others="void"),
                 np.array([0, 1, VOID, VOID, VOID], np.uint8))  # fmt: skip
    check_labels(opened(folder(in_colour), palette=palette, others="tree"), np.array([0, 1, 2, 2, 2], np.uint8))


# numbers

NUMBERS = np.array([7, 11, 200, 201, 0], np.uint8)


def numbered(codes: np.ndarray) -> Image.Image:
    return Image.fromarray(NUMBERS[codes])


@pytest.mark.parametrize(
    "options",
    [
        {"labels": {7: 0, 11: 1, 200: 2, 201: 2, 0: "void"}},
        {"labels": {7: "ground", 11: "roof", 200: "tree", 201: "tree"}, "void": 0},
        {"labels": {"7": "ground", "11": "roof", "200": 2, "201": 2}, "void": [0, 255]},
        {"labels": {7: 0, 11: 1, 200: 2, 201: 2}, "others": "void"},
        {"labels": {7: 0, 11: 1, 0: "void"}, "others": "tree"},
    ],
)
def test_numbers_are_the_classes_that_labels_says(folder: Folder, options: Any) -> None:
    check_labels(opened(folder(numbered), **options))


def test_labels_map_0_and_255_to_two_classes(folder: Folder) -> None:
    root = folder(lambda codes: Image.fromarray(((codes > 2) * 255).astype(np.uint8)))
    two = opened(root, classes=["ground", "roof"], labels={0: "ground", 255: "roof"})
    check_labels(two, np.array([0, 0, 0, 1, 1], np.uint8))
    assert "must hold class labels 0 to 1 only, got 255 in " in told(root, classes=["ground", "roof"])


def test_several_labels_may_be_void(folder: Folder) -> None:
    root = folder(lambda codes: Image.fromarray(np.array([0, 1, 2, 254, 255], np.uint8)[codes]))
    check_labels(opened(root, void=[254, 255]), np.array([0, 1, 2, VOID, VOID], np.uint8))
    check_labels(opened(root, void=[255, 254]), np.array([0, 1, 2, VOID, VOID], np.uint8))
    line = told(root, void=[253, 255])
    assert (
        "a mask must hold numbers that labels or void of its folder name (0, 1, 2, 253, 255) only, got 254 on " in line
    )
    assert "pixels, in " in line and "name them, or write `others: void` beside labels" in line


def test_unknown_numbers_are_reported_with_pixels_and_file(folder: Folder) -> None:
    root = folder(numbered)
    numbers = NUMBERS[codes_of(3)]
    numbers[0, :5], numbers[1, :2] = 9, 10
    Image.fromarray(numbers).save(root / "masks" / "3.png")
    line = told(root, labels={7: 0, 11: 1, 200: 2, 201: 2}, void=0)
    assert "(0, 7, 11, 200, 201) only, got 9 on 5 pixels, 10 on 2 pixels, in " in line and "masks/3.png; name" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": {}}, "labels of folder must be classes by number, got {}; write e.g. {7: ground"),
        ({"labels": ["ground", "roof"]}, "labels of folder must be classes by number, got ['ground', 'roof']"),
        ({"labels": 3}, "labels of folder must be classes by number, got 3"),
        ({"labels": {300: 0}}, "labels of folder must have numbers from 0 to 255 as keys, got '300'"),
        ({"labels": {-1: 0}}, "must have numbers from 0 to 255 as keys, got '-1'"),
        ({"labels": {"roof": 1}}, "must have numbers from 0 to 255 as keys, got 'roof'"),
        ({"labels": {1.5: 1}}, "must have numbers from 0 to 255 as keys"),
        ({"labels": {7: 3}}, "labels.7 of folder must be a class, its index from 0 to 2, or void, got 3; write"),
        ({"labels": {7: "rof"}}, "labels.7 of folder must be a class, its index from 0 to 2, or void, got 'rof'"),
        ({"labels": {7: True}}, "got True; write e.g. 7: ground"),
        ({"labels": {7: [0]}}, "labels.7 of folder must be a class"),
        ({"labels": {7: 0, 8: 1}}, "labels of folder must have a number for each class, got none for tree; add it"),
        ({"labels": {7: 0, 8: 1, 9: 2}, "void": 9}, "void of folder must be numbers that labels does not name, got 9"),
        ({"labels": {7: 0, 8: 1, 9: 2}, "void": 256}, "void of folder must be numbers from 0 to 255, got 256"),
        ({"others": "void"}, "others of folder must be set with palette or labels, got 'void'; drop it, or say"),
        ({"labels": {7: 0, 8: 1, 9: 2}, "others": 5}, "others of folder must be a class, its index from 0 to 2"),
        ({"void": [0, 255]}, "must be a label that no class has, 3 to 255, got 0; name a class for each label"),
        ({"void": [0, 255]}, "such as labels: {1: ground, 2: roof}"),
        ({"void": []}, "void of folder must be a whole number from 0 up, or a list of such, got []; write e.g. 255 or"),
        ({"void": [255, 255]}, "or a list of such, got [255, 255]"),
        ({"void": [255, "0"]}, "or a list of such, got [255, '0']"),
        ({"void": True}, "or a list of such, got True"),
    ],
)  # fmt: skip
def test_labels_that_are_none_are_told(folder: Folder, options: Any, words: str) -> None:
    assert words in told(folder(numbered), **options)


# params.yaml


def params_with(data: str) -> str:
    block = "\n".join(f"      {line}" for line in data.splitlines())
    return (
        (ROOT / "params.yaml").read_text(encoding="utf-8")
        + f"""
  mine:
    like: smoke
    controls: null
    mechanisms: null
    settings: null
    tables: [T1]
    data:
      name: folder
{block}
"""
    )


def test_numeric_label_keys_are_kept_as_text(tmp_path: Path) -> None:
    common = f"images: images\nmasks: masks\nclasses: {CLASSES}\nval: 0.25\ntune: 2\npad: [12, 16]\n"
    (tmp_path / "params.yaml").write_text(params_with(common + "labels: {7: ground, 11: 1, 200: tree}"))
    params = tiers.read(tmp_path / "params.yaml")
    tier = tiers.load(params, "mine")
    assert tier.block["data"]["labels"] == {"7": "ground", "11": 1, "200": "tree"}
    assert thawed(tier.main.data.options)["labels"] == tier.block["data"]["labels"]
    tiers.write(params, tmp_path / "again.yaml")
    assert tiers.load(tiers.read(tmp_path / "again.yaml"), "mine").main.data == tier.main.data


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("palette: {[128, 0, 0]: roof}", "a key of params.yaml must be text or a number, got a list or a mapping in"),
        ("palette: {128: roof}", "tiers.mine.data.palette must have keys that are text, got 128"),
        ("labels: {yes: 1}", "tiers.mine.data.labels must have keys that are text, got True"),
        ("labels: {7: 0, else: 1}", "got 'else'; to cover all others, write `others: void` next to it"),
        ("labels: {[1, 2]: 1}", "write a name before it, such as roof: [128, 0, 0]"),
    ],
)  # fmt: skip
def test_invalid_keys_are_reported_with_the_right_form(tmp_path: Path, line: str, words: str) -> None:
    common = f"images: images\nmasks: masks\nclasses: {CLASSES}\nval: 0.25\ntune: 2\npad: [12, 16]\n"
    (tmp_path / "params.yaml").write_text(params_with(common + line))
    with pytest.raises(InputError) as error:
        tiers.load(tiers.read(tmp_path / "params.yaml"), "mine")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_derived_tier_merges_labels_but_replaces_val() -> None:
    mine = params_with("labels: {7: ground, 11: roof}\nval: {folder: val}")
    other = "\n  other:\n    like: mine\n    data: {labels: {11: void}, val: {pattern: ^val}}\n"
    data = in_full(yaml.safe_load(mine + other))["tiers"]["other"]["data"]
    assert data["labels"] == {"7": "ground", "11": "void"} and data["val"] == {"pattern": "^val"}
