"""Which files of a folder belong together, and which are of which split: ends of names, folders, patterns (D122)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from study.data.prepare import DataSet, open_data, prepare
from study.spec.errors import InputError
from study.spec.training import Data, freeze

SIDES = (12, 16)
OPTIONS = {
    "images": "images", "masks": "masks", "classes": ["ground", "roof", "tree"], "void": 255, "val": 0.25, "tune": 1,
    "pad": SIDES,
}  # fmt: skip
STEMS = ["train/a/1", "train/a/2", "train/b/1", "train/b/2", "val/c/1", "val/c/2", "odd"]
CITY = {"images": "leftImg8bit", "masks": "gtFine", "image_suffix": "_leftImg8bit", "mask_suffix": "_gtFine_labelIds"}


def lay(root: Path, images: str, masks: str, stems: list[str] = STEMS) -> Path:
    """Images and masks of noise by templates of their paths, in which * is the stem; of a stem always the same."""
    for stem in stems:
        random = np.random.default_rng(list(stem.encode()))
        arrays = random.integers(0, 256, (*SIDES, 3), np.uint8), random.integers(0, 3, SIDES, np.uint8)
        for template, array in zip((images, masks), arrays, strict=True):
            path = root / template.replace("*", stem)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return lay(tmp_path, "images/*.png", "masks/*.png")


def opened(root: Path, **options: Any) -> DataSet:
    return open_data(Data("folder", freeze(OPTIONS | options)), root, root / "cache")


def names(root: Path, **options: Any) -> dict[str, set[str]]:
    """The images of each split, those of tune among the trained ones."""
    source = opened(root, **options)
    found = {s: {source.name(s, i) for i in range(n)} for s, n in source.splits.items()}
    return {"train": found["train"] | found["tune"], "val": found["val"]}


def told(root: Path, **options: Any) -> str:
    """The one line that an error is; nothing has been read."""
    with pytest.raises(InputError) as error:
        prepare(Data("folder", freeze(OPTIONS | options)), root, root / "cache", 2)
    line = str(error.value)
    assert "\n" not in line and " must " in line and ", got " in line and "; " in line
    assert not (root / "cache").exists()
    return line


# ends of names


@pytest.mark.parametrize(
    ("images", "masks", "options"),
    [
        ("images/*.jpg", "masks/*_GT.png", {"mask_suffix": "_GT"}),
        ("leftImg8bit/*_leftImg8bit.png", "gtFine/*_gtFine_labelIds.png", CITY),
        ("all/*.png", "all/*_mask.png", {"images": "all", "masks": "all", "mask_suffix": "_mask"}),
        ("all/*.png", "all/masks/*_m.png", {"images": "all", "masks": "all/masks", "mask_suffix": "_m"}),
    ],
)
def test_images_and_masks_pair_despite_different_suffixes(
    root: Path, tmp_path: Path, images: str, masks: str, options: dict[str, Any]
) -> None:
    other = lay(tmp_path / "other", images, masks)
    assert names(other, **options) == names(root)
    one, plain = opened(other, **options), opened(root)
    for split, number in one.splits.items():
        for index in range(number):
            assert one.name(split, index) == plain.name(split, index)
            assert np.array_equal(one.read(split, index)[1], plain.read(split, index)[1])


def test_files_with_other_suffixes_are_ignored_and_noted(tmp_path: Path) -> None:
    lay(tmp_path, "leftImg8bit/*_leftImg8bit.png", "gtFine/*_gtFine_labelIds.png")
    lay(tmp_path, "leftImg8bit/*_leftImg8bit.png", "gtFine/*_gtFine_color.png")
    source = opened(tmp_path, **CITY)
    assert sum(source.splits.values()) == len(STEMS)
    assert source.notes[-1].startswith(
        "7 files of gtFine do not end in _gtFine_labelIds and are left alone, such as odd"
    )


def test_lists_may_have_the_ends_of_images(tmp_path: Path) -> None:
    lay(tmp_path, "leftImg8bit/*_leftImg8bit.png", "gtFine/*_gtFine_labelIds.png")
    (tmp_path / "val.txt").write_text("val/c/1_leftImg8bit.png\nval/c/2_leftImg8bit\nodd\n")
    assert names(tmp_path, **CITY, val="val.txt")["val"] == {"val/c/1", "val/c/2", "odd"}


def test_a_suffix_that_none_has_is_told(root: Path) -> None:
    line = told(root, mask_suffix="_GT")
    assert "masks of folder must have names that end in '_GT' (its suffix), got none of 7 in" in line
    assert "such as odd; correct the suffix or rename them" in line
    assert "images of folder must have names that end in '_im'" in told(root, image_suffix="_im")


def test_unpaired_names_are_shown_with_a_fitting_suffix(tmp_path: Path) -> None:
    lay(tmp_path, "images/*.png", "masks/*_GT.png")
    line = told(tmp_path)
    assert "got an image odd without mask and a mask odd_GT without image and 12 more such files" in line
    assert line.endswith("or name what masks end in: mask_suffix: _GT")
    (tmp_path / "masks" / "odd_GT.png").rename(tmp_path / "masks" / "even_GT.png")
    line = told(tmp_path, mask_suffix="_GT")
    assert "got an image odd without mask and a mask even without image and 0 more" in line


@pytest.mark.parametrize("key", ["image_suffix", "mask_suffix"])
@pytest.mark.parametrize("value", ["", "a/b", 3, True, ["_GT"], "x" * 101])
def test_an_invalid_suffix_is_reported(root: Path, key: str, value: Any) -> None:
    assert f"{key} of folder must be the end of names, before the dot, got " in told(root, **{key: value})


# splits


@pytest.mark.parametrize("val", [{"folder": "val"}, {"folder": "val/"}, {"folder": "./val"}, {"pattern": "^val/"},
                                 {"pattern": "/c/"}, "val.txt"])  # fmt: skip
def test_val_may_be_a_list_folder_or_pattern(root: Path, val: Any) -> None:
    (root / "val.txt").write_text("val/c/1.png\nval/c/2\n")
    assert names(root, val=val) == {"train": {"odd", *STEMS[:4]}, "val": {"val/c/1", "val/c/2"}}


@pytest.mark.parametrize("train", [{"folder": "train/a"}, {"pattern": r"/a/\d$"}, "some.txt"])
def test_train_may_be_a_list_folder_or_pattern(root: Path, train: Any) -> None:
    (root / "some.txt").write_text("train/a/1\ntrain/a/2\n")
    assert names(root, train=train, val={"folder": "val"}) == {"train": set(STEMS[:2]), "val": set(STEMS[4:6])}
    notes = opened(root, train=train, val={"folder": "val"}).notes
    assert notes == ["3 images are neither of train nor of val, such as odd"]


def test_a_share_is_of_what_train_names(root: Path) -> None:
    found = names(root, train={"folder": "train"}, val=0.5)
    assert len(found["val"]) == 2 and found["train"] | found["val"] == set(STEMS[:4])


def test_the_train_option_overrides_train_txt(root: Path) -> None:
    (root / "train.txt").write_text("train/b/1\ntrain/b/2\n")
    assert names(root, val={"folder": "val"})["train"] == {"train/b/1", "train/b/2"}
    assert names(root, val={"folder": "val"}, train={"folder": "train"})["train"] == set(STEMS[:4])


def test_an_image_of_both_splits_is_told(root: Path) -> None:
    line = told(root, train={"pattern": "a"}, val={"folder": "val"})
    assert line.startswith("pattern 'a' and folder 'val' must share no image") and "got val/c/1 in both" in line


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"folder": "test"}, "must select an image, got none of 7 by folder 'test', such as odd; correct it"),
        ({"folder": "images/val"}, "got none of 7 by folder 'images/val', such as odd"),
        ({"pattern": "^c/"}, "must select an image, got none of 7 by pattern '^c/', such as odd"),
        ({"pattern": "(["}, ".pattern of folder must be a regular expression, got '([' (unterminated"),
        ({"pattern": 3}, "{folder: name} or {pattern: expression}, got {'pattern': 3}; write one of them"),
        ({"folder": ""}, "{folder: name} or {pattern: expression}, got {'folder': ''}"),
        ({"list": "val.txt"}, "the name of a list, {folder: name} or {pattern: expression}, got {'list': 'val.txt'}"),
        ({"folder": "val", "pattern": "^val"}, "{folder: name} or {pattern: expression}, got {'folder': 'val', 'pat"),
        ({}, "{folder: name} or {pattern: expression}, got {}"),
        (True, "{folder: name} or {pattern: expression}, got True"),
        (["val.txt"], "{folder: name} or {pattern: expression}, got ['val.txt']"),
        ("none.txt", "a data set must have its list none.txt, got no file"),
    ],
)
def test_what_chooses_no_image_is_told(root: Path, split: str, value: Any, words: str) -> None:
    line = told(root, **{split: value})
    assert words in line and (split in line or value == "none.txt")


def test_train_is_no_share(root: Path) -> None:
    assert "train of folder must be the name of a list, {folder: name}" in told(root, train=0.5)
