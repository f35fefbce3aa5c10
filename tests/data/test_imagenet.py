"""ImageNet's folder layout, on tiny folders: what is read, cropped and kept apart, and what is refused."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from study.data.prepare import folder_of, open_data, prepare
from study.spec.errors import InputError
from study.spec.training import Data, freeze

CLASSES = ("n01440764", "n02084071", "n03445777")
SIZES = [(40, 31), (27, 53), (33, 33), (90, 17)]  # (width, height), two of them with a side below the resized one


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes with four training and two val images each, of one colour that tells which it is."""
    base = tmp_path / "imagenet"
    for split, number in {"train": 4, "val": 2}.items():
        for c, name in enumerate(CLASSES):
            for i in range(number):
                path = base / split / name / f"{name}_{i}.{('JPEG', 'jpg', 'jpeg', 'png')[i]}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", SIZES[i], (60 * c + 40, 50 * i + 20, 200 if split == "val" else 90)).save(path)
    return base


def opened(root: Path | None, **changes: Any):
    return open_data(data(**changes), root, Path("no-cache"))


def data(**changes: Any) -> Data:
    return Data("imagenet", freeze({"size": 24, "resize": 32, "tune": 3} | changes))


def names(source, split: str) -> list[str]:
    return [source.name(split, i) for i in range(source.splits[split])]


def test_folders_give_classes_and_splits_give_sizes(root: Path, tmp_path: Path) -> None:
    source = opened(root)
    assert source.classes == CLASSES and source.splits == {"train": 9, "tune": 3, "val": 6}
    for split, number in source.splits.items():
        for i in range(number):
            image, label = source.read(split, i)
            side = 32 if split == "train" else 24
            assert image.shape == (side, side, 3) and image.dtype == np.uint8
            name = source.name(split, i)
            assert name.split("/")[0] == CLASSES[label]
            colour = (60 * label + 40, 50 * int(name.split("_")[1][0]) + 20, 200 if split == "val" else 90)
            assert np.abs(image.astype(int) - colour).max() <= 3  # JPEG
    facts = prepare(data(), root, tmp_path / "cache", 1)
    assert facts["task"] == "classify" and facts["size"] == [24, 24] and facts["classes"] == list(CLASSES)
    folder = folder_of(tmp_path / "cache", facts["fingerprint"])
    assert np.load(folder / "train-images.npy").shape == (9, 32, 32, 3)
    assert np.load(folder / "tune-images.npy").shape == (3, 24, 24, 3)
    assert np.load(folder / "val-images.npy").shape == (6, 24, 24, 3)
    assert np.load(folder / "val-labels.npy").tolist() == [0, 0, 1, 1, 2, 2]
    assert facts["images_with"] == np.bincount(np.load(folder / "train-labels.npy"), minlength=3).tolist()
    assert np.load(folder / "val-names.npy").tolist() == names(source, "val")


@pytest.mark.parametrize(("width", "height"), [(64, 32), (32, 64), (71, 32), (32, 32)])
def test_images_are_cropped_centrally_after_resizing(root: Path, width: int, height: int) -> None:
    """At the resized scale already, so that the square is exact; odd margins may split a pixel."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for split in ("train", "val"):
        Image.fromarray(pixels).save(root / split / CLASSES[0] / "kept.png")
    source = opened(root, tune=1)
    top, left = (height - 32) // 2, (width - 32) // 2
    for split, start, side in (("train", 0, 32), ("val", 4, 24)):
        image, _ = source.read(split, names(source, split).index(f"{CLASSES[0]}/kept.png"))
        expected = pixels[top + start :, left + start :][:side, :side].astype(float)
        if width % 2:
            expected = (expected + pixels[top + start :, left + start + 1 :][:side, :side]) / 2
        assert np.abs(image - expected).max() <= 1


def test_a_large_image_is_averaged_where_it_shrinks(root: Path) -> None:
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 200
    Image.fromarray(stripes).save(root / "val" / CLASSES[1] / "kept.png")
    source = opened(root)
    image, _ = source.read("val", names(source, "val").index(f"{CLASSES[1]}/kept.png"))
    assert np.abs(image.astype(int) - 100).max() <= 5


def test_grey_cmyk_and_misnamed_files_become_rgb(root: Path) -> None:
    folder = root / "val" / CLASSES[2]
    Image.new("L", (50, 41), 77).save(folder / "grey.JPEG")
    Image.new("CMYK", (50, 41), (0, 255, 255, 0)).save(folder / "print.JPEG")
    Image.new("RGB", (50, 41), (9, 99, 199)).save(folder / "disguised.JPEG", "PNG")  # ImageNet has one of these
    source = opened(root)
    found = {name: source.read("val", i)[0].reshape(-1, 3) for i, name in enumerate(names(source, "val"))}
    expected = {"grey": (77, 77, 77), "print": (255, 0, 0), "disguised": (9, 99, 199)}
    for name, colour in expected.items():
        assert np.abs(found[f"{CLASSES[2]}/{name}.JPEG"].astype(int) - colour).max() <= 3


def test_what_is_no_image_is_passed_over(root: Path) -> None:
    before = names(opened(root), "train"), names(opened(root), "val")
    for path in ("train/list.txt", f"train/{CLASSES[0]}/notes.txt", f"val/{CLASSES[0]}/.hidden.JPEG"):
        (root / path).write_text("no image")
    (root / "train" / ".cache").mkdir()
    assert (names(opened(root), "train"), names(opened(root), "val")) == before


def test_a_larger_tune_split_extends_the_smaller(root: Path) -> None:
    few, many = opened(root, tune=3), opened(root, tune=6)
    assert names(many, "tune")[:3] == names(few, "tune")
    everything = {f"{path.parent.name}/{path.name}" for path in (root / "train").rglob("*.*")}
    for source in (few, many):
        assert sorted(names(source, "train") + names(source, "tune")) == sorted(everything)
        assert names(source, "train") == sorted(names(source, "train"))
    # The first tune images are measured alone for a curve: they must not all be of the first classes.
    assert names(many, "tune") != sorted(names(many, "tune"))


def test_equal_names_in_two_classes_are_two_images(root: Path) -> None:
    for c, name in enumerate(CLASSES):
        Image.new("RGB", (32, 32), (60 * c + 40, 0, 0)).save(root / "train" / name / "1.png")
    source = opened(root, tune=1)
    found = names(source, "train") + names(source, "tune")
    assert len(found) == len(set(found)) == 15


def _empty(root: Path) -> None:
    for path in (root / "train" / CLASSES[1]).iterdir():
        path.unlink()


def _move(root: Path, split: str) -> None:
    (root / split / CLASSES[2]).rename(root / split / "n99999999")


def _flatten(root: Path) -> None:
    for path in (root / "val").glob("*/*"):
        path.rename(root / "val" / path.name)
    for path in [p for p in (root / "val").iterdir() if p.is_dir()]:
        path.rmdir()


@pytest.mark.parametrize(
    ("spoil", "rule", "got"),
    [
        (_empty, "a class must have at least one image", "none in {root}/train/n02084071; fill or remove"),
        (lambda root: (root / "val" / "n5").mkdir(), "a class must have at least one image", "none in {root}/val/n5"),
        (lambda root: _move(root, "val"), "train and val must have folders for the same classes", "n03445777 in train"),
        (lambda root: _move(root, "train"), "train and val must have folders for the same", "n03445777 in val only"),
        (_flatten, "imagenet's val must have one folder per class", "{root}/val with files only; sort the images"),
        (
            lambda root: (root / "val").rename(root / "test"),
            "imagenet's val must be a folder",
            "{root}/val (no folder)",
        ),
        (
            lambda root: root.rename(root.parent / "x"),
            "imagenet must have the folders train/<class>/ and val/<class>/ in",
            "none; sort the images",
        ),
    ],
)
def test_a_fault_in_the_folders_is_told(root: Path, spoil: Callable[[Path], Any], rule: str, got: str) -> None:
    opened(root)
    spoil(root)
    with pytest.raises(InputError) as told:
        opened(root)
    before, after = str(told.value).split("got ", 1)
    assert rule in before and after.startswith(got.format(root=root)) and "; " in after


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "text", "cut short"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_damaged_image_is_named_and_nothing_cached(
    root: Path, tmp_path: Path, split: str, content: bytes | None
) -> None:
    path = root / split / CLASSES[1] / f"{CLASSES[1]}_0.JPEG"
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    with pytest.raises(InputError) as told:
        prepare(data(), root, tmp_path / "cache", 1)
    assert str(told.value).startswith(f"an image must be whole, got {path} (") and "fetch it again" in str(told.value)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("change", "rule", "got"),
    [
        ({"size": 0}, "size of imagenet must be a whole number from 1 up", "0"),
        ({"size": 24.0}, "size of imagenet must be a whole number", "24.0"),
        ({"resize": None}, "resize of imagenet must be a whole number", "None"),
        ({"resize": 20}, "resize of imagenet must be at least its size 24", "20"),
        ({"tune": 0}, "tune must be at least 1 and less than the 12 training images", "0"),
        ({"tune": 12}, "tune must be at least 1 and less than the 12 training images", "12"),
        ({"tune": 0.5}, "tune of imagenet must be a whole number", "0.5"),
        ({"crop": 8}, "data imagenet must have the options ['resize', 'size', 'tune']", "remove 'crop'"),
    ],
)
def test_wrong_options_are_told(root: Path, change: dict[str, Any], rule: str, got: str) -> None:
    with pytest.raises(InputError) as told:
        opened(root, **change)
    before, after = str(told.value).split("got ", 1)
    assert rule in before and got in after and "; " in after


def test_no_folder_named_is_told() -> None:
    with pytest.raises(InputError, match=r"imagenet's data.root must have a folder, got none; set data.root"):
        opened(None)


def test_equal_sizes_leave_no_crop(root: Path) -> None:
    source = opened(root, size=32)
    assert source.read("val", 0)[0].shape == source.read("train", 0)[0].shape == (32, 32, 3)


def test_class_names_match_in_either_unicode_form(root: Path) -> None:
    """Sorted as they are written, the two spellings would stand behind and before ``caz``."""
    for split, form in (("train", "NFC"), ("val", "NFD")):
        for name, new in zip(CLASSES, ("café", "caz", "n"), strict=True):
            (root / split / name).rename(root / split / unicodedata.normalize(form, new))
    source = opened(root)
    for split in ("train", "val"):
        labels = {name.name.split("_")[0]: label for label, name in source.files_of[split]}
        assert labels == {CLASSES[1]: 1, CLASSES[0]: 0, CLASSES[2]: 2}
