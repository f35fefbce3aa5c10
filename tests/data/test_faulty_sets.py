"""Sets of images that would give wrong numbers silently: their lists, names, palettes and labels."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from study.data.prepare import DataSet, folder_of, open_data, prepare
from study.data.sets import voc
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.training import Data, freeze

SIDES = (12, 16)
CLASSES = ["ground", "roof", "tree"]
FOLDER = {"images": "images", "masks": "masks", "classes": CLASSES, "void": 255, "val": 0.25, "tune": 2, "pad": SIDES}
VOC = {"train": "train", "tune": 1, "pad": SIDES, "classes": CLASSES}
CAMVID = {"tune": 1, "pad": SIDES, "coarse_share": 0, "coarse_px": 0}
LISTS = Path("ImageSets") / "Segmentation"
STEMS = [f"s{number:02}" for number in range(8)]
COLOURS = [0, 0, 0, 200, 0, 0, 0, 200, 0]


def picture(stem: str) -> Image.Image:
    return Image.fromarray(np.random.default_rng(list(stem.encode())).integers(0, 256, (*SIDES, 3), np.uint8))


def mask(stem: str) -> Image.Image:
    return Image.fromarray(np.random.default_rng(list(stem.encode())).integers(0, 3, SIDES, np.uint8))


def lay(root: Path, images: str = "images", masks: str = "masks", stems: list[str] = STEMS) -> Path:
    for stem in stems:
        for folder, image in ((images, picture(stem)), (masks, mask(stem))):
            path = root / folder / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return root


def lay_voc(root: Path, train: list[str], val: list[str]) -> Path:
    lay(root, "JPEGImages", "SegmentationClass", list(dict.fromkeys(train + val)))
    for path in (root / "JPEGImages").glob("*.png"):
        path.rename(path.with_suffix(".jpg"))
    (root / LISTS).mkdir(parents=True, exist_ok=True)
    for name, stems in (("train", train), ("val", val)):
        (root / LISTS / f"{name}.txt").write_text("\n".join(stems) + "\n", encoding="utf-8")
    return root


def lay_camvid(root: Path, train: list[str], val: list[str]) -> Path:
    for split, stems in (("train", train), ("val", val)):
        lay(root, split, f"{split}annot", stems)
        rows = [f"/SegNet/CamVid/{split}/{s}.png /SegNet/CamVid/{split}annot/{s}.png" for s in stems]
        (root / f"{split}.txt").write_text("\n".join(rows), encoding="utf-8")
    return root


def opened(name: str, options: dict[str, Any], root: Path, **changes: Any) -> DataSet:
    return open_data(Data(name, freeze(options | changes)), root, root / "cache")


def prepared(name: str, options: dict[str, Any], root: Path, **changes: Any) -> dict[str, Any]:
    return prepare(Data(name, freeze(options | changes)), root, root / "cache", 2)


def names(source: DataSet, split: str) -> list[str]:
    return [source.name(split, i) for i in range(source.splits[split])]


def told(action: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as error:
        action()
    return str(error.value)


# lists


@pytest.mark.parametrize(("lay_out", "name", "options"), [(lay_voc, "voc", VOC), (lay_camvid, "camvid", CAMVID)])
def test_a_repeated_line_counts_once_and_is_noted(
    tmp_path: Path, lay_out: Callable[..., Path], name: str, options: dict[str, Any]
) -> None:
    lay_out(tmp_path / "once", STEMS[:5], STEMS[5:])
    lay_out(tmp_path / "again", [*STEMS[:5], *STEMS[:2]], [*STEMS[5:], STEMS[5], STEMS[5]])
    once, again = (prepared(name, options, tmp_path / place) for place in ("once", "again"))
    assert again["splits"] == once["splits"] == {"train": 4, "tune": 1, "val": 3}
    assert again["fingerprint"] == once["fingerprint"] and not once["notes"]
    assert len(again["notes"]) == 2 and all("each counts once" in note for note in again["notes"])
    assert any("val.txt lists" in note and STEMS[5] in note and "3 times" in note for note in again["notes"])


@pytest.mark.parametrize("again", ["other/s00.png trainannot/s00.png", "train/s00.png  trainannot/s00.png"])
def test_an_image_named_two_ways_counts_once(tmp_path: Path, again: str) -> None:
    lay_camvid(tmp_path, STEMS[:5], STEMS[5:])
    with (tmp_path / "train.txt").open("a") as file:
        file.write("\n" + again.replace("other", "/elsewhere/train"))
    found = prepared("camvid", CAMVID, tmp_path)
    assert found["splits"] == {"train": 4, "tune": 1, "val": 3}
    assert found["notes"] == ["2 lines of a list name the image s00; it counts once"]


def test_an_image_has_one_mask(tmp_path: Path) -> None:
    lay_camvid(tmp_path, STEMS[:5], STEMS[5:])
    with (tmp_path / "train.txt").open("a") as file:
        file.write("\ntrain/s00.png trainannot/s01.png")
    line = told(lambda: opened("camvid", CAMVID, tmp_path))
    assert "an image must have one mask" in line and "s00.png" in line and "s01.png" in line


def test_a_name_in_both_unicode_forms_counts_once(tmp_path: Path) -> None:
    stems = [f"caf\u00e9-{number}" for number in range(5)]
    lay_voc(tmp_path, stems[:4], stems[4:])
    with (tmp_path / LISTS / "train.txt").open("a", encoding="utf-8") as file:
        file.write(unicodedata.normalize("NFD", stems[0]))
    assert opened("voc", VOC, tmp_path).splits == {"train": 3, "tune": 1, "val": 1}


def test_an_overlong_list_line_is_reported(tmp_path: Path) -> None:
    lay_voc(tmp_path / "voc", STEMS[:5], STEMS[5:])
    (tmp_path / "voc" / LISTS / "train.txt").write_text(", ".join(STEMS * 9))
    assert "a list must name files that exist" in told(lambda: opened("voc", VOC, tmp_path / "voc"))
    lay_camvid(tmp_path / "camvid", STEMS[:5], STEMS[5:])
    (tmp_path / "camvid" / "train.txt").write_text(f"train/{'x' * 300}.png trainannot/s00.png")
    assert "a list must name files that exist" in told(lambda: opened("camvid", CAMVID, tmp_path / "camvid"))


def test_utf8_lists_from_any_editor_are_read(tmp_path: Path) -> None:
    lay(tmp_path)
    (tmp_path / "val.txt").write_bytes(b"\xef\xbb\xbfs00\r\n\r\ns01  \r\n")
    assert names(opened("folder", FOLDER, tmp_path, val="val.txt"), "val") == ["s00", "s01"]
    (tmp_path / "val.txt").write_text("s00\ns01", encoding="utf-16")
    assert "must be plain text (UTF-8)" in told(lambda: opened("folder", FOLDER, tmp_path, val="val.txt"))


def test_names_may_have_blanks(tmp_path: Path) -> None:
    train, val = ["my cat", "my dog", "my.cow 2"], ["my sheep"]
    source = opened("voc", VOC, lay_voc(tmp_path / "voc", train, val))
    assert sorted(names(source, "train") + names(source, "tune")) == sorted(train) and names(source, "val") == val
    source = opened("camvid", CAMVID, lay_camvid(tmp_path / "camvid", train, val))
    assert sorted(names(source, "train") + names(source, "tune")) == sorted(train) and names(source, "val") == val


def test_published_lists_of_paths_are_read(tmp_path: Path) -> None:
    lay_voc(tmp_path, STEMS[:5], STEMS[5:])
    rows = [f"/JPEGImages/{stem}.jpg  /SegmentationClassAug/{stem}.png" for stem in STEMS[:5]]
    (tmp_path / LISTS / "train.txt").write_text("\n".join(rows))
    source = opened("voc", VOC, tmp_path)
    assert sorted(names(source, "train") + names(source, "tune")) == STEMS[:5]


@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_a_name_matches_in_either_unicode_form(tmp_path: Path, written: str) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[written]
    stems = [unicodedata.normalize(written, f"café-{number}") for number in range(6)]
    asked = [unicodedata.normalize(other, stem) for stem in stems]
    assert asked != stems
    lay(tmp_path / "folder", stems=stems)
    (tmp_path / "folder" / "val.txt").write_text("\n".join(asked[:2]), encoding="utf-8")
    assert opened("folder", FOLDER, tmp_path / "folder", val="val.txt").splits["val"] == 2
    lay_voc(tmp_path / "voc", stems[:4], stems[4:])
    for name, part in (("train", asked[:4]), ("val", asked[4:])):
        (tmp_path / "voc" / LISTS / f"{name}.txt").write_text("\n".join(part), encoding="utf-8")
    assert opened("voc", VOC, tmp_path / "voc").splits == {"train": 3, "tune": 1, "val": 2}


def test_a_picture_in_both_lists_is_refused(tmp_path: Path) -> None:
    lay_camvid(tmp_path, STEMS[:5], STEMS[5:])
    with (tmp_path / "val.txt").open("a") as file:
        file.write("\ntrain/s00.png trainannot/s00.png\n")
    line = told(lambda: opened("camvid", CAMVID, tmp_path))
    assert "must share no image" in line and "s00.png" in line


# names and folders


def test_pictures_in_subfolders_are_found(tmp_path: Path) -> None:
    lay(tmp_path, stems=["north/a", "north/b", "south/a", "south/b", "c"])
    lay(tmp_path, stems=[".hidden/a"])
    (tmp_path / "val.txt").write_text("south/a\nc.png\n")
    facts = prepared("folder", FOLDER, tmp_path, tune=1, val="val.txt")
    assert facts["splits"] == {"train": 2, "tune": 1, "val": 2}
    found = np.load(folder_of(tmp_path / "cache", facts["fingerprint"]) / "val-names.npy")
    assert found.tolist() == ["south/a", "c"]


def test_a_folder_without_a_picture_is_told(tmp_path: Path) -> None:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "deep" / "a.heic").touch()
    line = told(lambda: opened("folder", FOLDER, tmp_path))
    assert "images of folder must hold images (.bmp, .jpeg, .jpg, .png" in line and "name the folder" in line


@pytest.mark.parametrize("val", [0, "val.txt"])
def test_an_empty_split_is_reported_with_a_remedy(tmp_path: Path, val: Any) -> None:
    lay(tmp_path)
    (tmp_path / "val.txt").touch()
    line = told(lambda: prepared("folder", FOLDER, tmp_path, val=val))
    assert (
        "split val must have at least one image" in line and "name more images, a smaller tune or a larger val" in line
    )


def test_unpaired_stems_show_one_of_each_side(tmp_path: Path) -> None:
    lay(tmp_path)
    for stem in STEMS:
        (tmp_path / "masks" / f"{stem}.png").rename(tmp_path / "masks" / f"{stem}_mask.png")
    line = told(lambda: opened("folder", FOLDER, tmp_path))
    assert "got an image s00 without mask and a mask s00_mask without image and 14 more such files" in line


def test_a_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    lay(tmp_path)
    for folder in ("images", "masks"):
        (tmp_path / folder / "s00.png").rename(os.fsdecode(os.fsencode(tmp_path / folder) + b"/caf\xe9.png"))
    line = told(lambda: opened("folder", FOLDER, tmp_path))
    assert "must be text (UTF-8)" in line and r"caf\xe9.png" in line
    line.encode()


@pytest.mark.parametrize("name", [True, 3, None, 2.5])
def test_a_class_name_yaml_misreads_needs_quotes(tmp_path: Path, name: Any) -> None:
    line = told(lambda: opened("folder", FOLDER, lay(tmp_path), classes=["ground", name]))
    assert f"got {name!r}" in line and "quotes" in line and "brackets" not in line


def test_a_repeated_class_is_reported_with_a_remedy(tmp_path: Path) -> None:
    line = told(lambda: opened("folder", FOLDER, lay(tmp_path), classes=["ground", "ground"]))
    assert "got ['ground', 'ground']; give each label a name of its own" in line


# masks


def test_palettes_that_disagree_on_used_labels_are_refused(tmp_path: Path) -> None:
    lay(tmp_path)
    for stem in STEMS:
        image = mask(stem)
        image.putpalette([*COLOURS, 9, 9, 9] if stem == "s03" else COLOURS)  # of a label that none uses
        image.save(tmp_path / "masks" / f"{stem}.png")
    prepared("folder", FOLDER, tmp_path)
    image = mask("s03")
    image.putpalette([*COLOURS[:3], *COLOURS[6:], *COLOURS[3:6]])
    image.save(tmp_path / "masks" / "s03.png")
    line = told(lambda: prepared("folder", FOLDER, tmp_path))
    assert "must have one colour in all palette masks" in line and "s03.png" in line and "write all with" in line


def test_255_is_void_only_where_it_is_named(tmp_path: Path) -> None:
    lay(tmp_path)
    Image.fromarray(np.full(SIDES, 255, np.uint8)).save(tmp_path / "masks" / "s00.png")
    line = told(lambda: prepared("folder", FOLDER, tmp_path, void=9))
    assert "got 255 in" in line and "s00.png" in line and "name 255 as void" in line


@pytest.mark.parametrize("split", ["train", "tune", "val"])
def test_a_split_without_a_labelled_pixel_is_refused(tmp_path: Path, split: str) -> None:
    lay(tmp_path)
    void = Image.fromarray(np.full(SIDES, VOID, np.uint8))
    stems = names(opened("folder", FOLDER, tmp_path), split)
    for stem in stems[1:]:
        void.save(tmp_path / "masks" / f"{stem}.png")
    (note,) = prepared("folder", FOLDER, tmp_path)["notes"]
    assert f"{len(stems) - 1} of {len(stems)} masks of {split} label no pixel" in note
    void.save(tmp_path / "masks" / f"{stems[0]}.png")
    line = told(lambda: prepared("folder", FOLDER, tmp_path))
    assert f"split {split} must have at least one labelled pixel, got {len(stems)} masks" in line


def test_one_picture_under_two_names_is_noted(tmp_path: Path) -> None:
    lay(tmp_path)
    assert prepared("folder", FOLDER, tmp_path)["notes"] == []
    source = opened("folder", FOLDER, tmp_path)
    trained, measured = names(source, "train")[0], names(source, "val")[0]
    picture(trained).save(tmp_path / "images" / f"{measured}.png", compress_level=0)  # other bytes, the same pixels
    (note,) = prepared("folder", FOLDER, tmp_path)["notes"]
    assert note.startswith(f"train/{trained} and val/{measured} are the same picture")
    for stem in STEMS:
        picture(trained).save(tmp_path / "images" / f"{stem}.png")
    (note,) = prepared("folder", FOLDER, tmp_path)["notes"]
    assert " are the same picture (and 6 more so): " in note and note.count("/") == 2


def test_a_turned_picture_meets_its_mask(tmp_path: Path) -> None:
    """The pixels lie upside down in the file, as a phone writes them; the mask was drawn on what a viewer shows."""
    for place in ("sound", "turned"):
        lay(tmp_path / place)
    exif = Image.Exif()
    exif[274] = 3
    for stem in STEMS:
        lying = picture(stem).rotate(180)
        lying.save(tmp_path / "turned" / "images" / f"{stem}.png", exif=exif)
    sound, turned = (prepared("folder", FOLDER, tmp_path / place) for place in ("sound", "turned"))
    assert turned["fingerprint"] == sound["fingerprint"]


def test_deep_pictures_need_a_named_range(tmp_path: Path) -> None:
    lay(tmp_path)
    for stem in STEMS:
        grey = np.random.default_rng(1).integers(0, 4096, SIDES).astype(np.uint16)
        Image.fromarray(grey).save(tmp_path / "images" / f"{stem}.png")
    assert "set `range: [low, high]`" in told(lambda: prepared("folder", FOLDER, tmp_path))
    notes = prepared("folder", FOLDER, tmp_path, range=[0, 4095])["notes"]
    assert "grey values from 0 to 4095 are scaled to 0 to 255" in notes[0]
    for wrong in ([0], [5, 5], [-1, 9], [0, 70_000], "all", [0.5, 2]):
        assert "range of folder must be" in told(lambda wrong=wrong: opened("folder", FOLDER, tmp_path, range=wrong))


def test_an_hdf5_matlab_file_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  1 00:00:00 2024 HDF5 schema 1.00 ."
    path.write_bytes(head.ljust(124, b" ") + b"\x00\x02IM" + bytes(512))
    line = told(lambda: voc._matlab(path))
    assert "7.3 (HDF5)" in line and str(path) in line and "-v7" in line and "fetch" not in line


def test_matlab_labels_must_be_0_to_255(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    for values in ([[0, 20]], [[0, 300]], [[0, -1]], [[0, 1.5]]):
        savemat(path, {"GTcls": {"Segmentation": np.array(values)}})
        if values == [[0, 20]]:
            assert voc._matlab(path).tolist() == values
        else:
            assert "must hold labels 0 to 255" in told(lambda: voc._matlab(path))
