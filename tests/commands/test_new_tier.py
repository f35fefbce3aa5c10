"""`study new-tier`: the block that it writes for a folder, and what it refuses."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from study.commands import new_tier
from study.config import tiers
from study.data import class_search, synthetic_layouts
from study.data.prepare import prepare
from study.spec.errors import InputError
from study.store import stage
from tests.conftest import ROOT, Project

SIZE = (48, 64)
COLOURS = np.uint8([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]])
Write = Callable[..., dict[str, Any]]


def _image(path: Path, number: int, size: tuple[int, int] = SIZE) -> None:
    """Soft patches of colour, others for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    patches = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
    Image.fromarray(patches).resize(size[::-1], Image.Resampling.BICUBIC).save(path)


def _mask(path: Path, codes: Any, number: int = 0, size: tuple[int, int] = SIZE) -> None:
    """Upright stripes of the codes, which are numbers or colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = (np.arange(size[1]) * len(codes) // size[1] + number) % len(codes)
    Image.fromarray(np.uint8(codes)[np.broadcast_to(columns, size)]).save(path)


def _folder(root: Path, images: str, masks: str, codes: Any, names: Any = range(12), **options: Any) -> Path:
    """Images and masks by templates of their paths."""
    for number, name in enumerate(names):
        _image(root / images.replace("*", str(name)), number, **options)
        _mask(root / masks.replace("*", str(name)), codes, number, **options)
    return root


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write the block of a folder to a params.yaml, and have its data set read by what it says; returns data."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)

    def run(folder: Path, **options: Any) -> dict[str, Any]:
        new_tier.main(str(folder), "mine", write=True, **{"whole": False} | options)
        tier = tiers.load(tiers.read(), "mine")
        assert tier.scale == "mechanism" and tier.tables == ("T1", "T2", "T5")
        facts = prepare(tier.main.data, tier.main.root, tmp_path / "cache", tier.band_px)
        assert all(facts["splits"].values())
        written = yaml.safe_load(Path("params.yaml").read_text())["tiers"]["mine"]
        return written["data"] | {"band_px": written.get("band_px")}

    return run


def test_two_folders_with_labels(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = _folder(tmp_path / "roofs", "images/*.jpg", "masks/*.png", [0, 1, 2, 255])
    before = Path("params.yaml").read_text()
    assert write(root) == {
        "name": "folder", "root": str(root), "images": "images", "masks": "masks",
        "classes": ["class-0", "class-1", "class-2"], "void": 255, "val": 0.2, "tune": 2, "pad": [64, 64], "band_px": 1,
    }  # fmt: skip
    assert Path("params.yaml").read_text().startswith(before)  # with its comments
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [
        "note: 12 images in images; masks in masks",
        "note: 4 numbers in all 12 masks; names are class-0 to class-2: rename them",
    ]


def test_msrc_names_and_colours(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{c}_{n}_s" for c in range(1, 4) for n in range(1, 5)]
    root = _folder(tmp_path / "msrc", "Images/*.bmp", "GroundTruth/*_GT.bmp", COLOURS, names)
    data = write(root)
    assert (data["images"], data["masks"], data["mask_suffix"]) == ("Images", "GroundTruth", "_GT")
    assert data["palette"] == {
        "class-0": [0, 0, 0], "class-1": [0, 128, 0], "class-2": [128, 0, 0], "class-3": [128, 128, 0],
    }  # fmt: skip
    assert "4 colours in all 12 masks; names are class-0 to class-3: rename them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "lines", "classes"),
    [
        ("label_colors.txt", "0 0 0\tVoid\n128 0 0\troof\n0 128 0\ttree\n128 128 0\troof\n9 9 9\tcar\n",
         ["tree", "roof"]),
        ("class_dict.csv", "name,r,g,b\nunlabelled,0,0,0\nroof,128,0,0\ntree,0,128,0\nway,128,128,0\n",
         ["tree", "roof", "way"]),
        ("labelmap.txt", "# label:color_rgb:parts\nvoid:0,0,0::\nroof:128,0,0::\ntree:0,128,0::\nway:128,128,0::\n",
         ["tree", "roof", "way"]),
    ],
)  # fmt: skip
def test_names_of_colours(write: Write, tmp_path: Path, name: str, lines: str, classes: list[str]) -> None:
    root = _folder(tmp_path / "named", "images/*.png", "masks/*.png", COLOURS)
    (root / name).write_text(lines)
    data = write(root)
    assert data["classes"] == classes and data["palette"]["void"] == [0, 0, 0]
    assert data["palette"]["roof"] == ([[128, 0, 0], [128, 128, 0]] if "way" not in classes else [128, 0, 0])


@pytest.mark.parametrize(
    ("codes", "options"),
    [
        ([0, 255], {"classes": ["background", "object"], "labels": {0: "background", 255: "object"}}),
        ([0, 85, 170, 255], {"labels": {n: f"class-{n}" for n in (0, 85, 170, 255)}}),
        ([3, 7, 255], {"labels": {3: "class-3", 7: "class-7"}, "void": 255}),
        ([0, 1, 2], {"classes": ["class-0", "class-1", "class-2"]}),
        ([[0, 0, 0], [255, 255, 255]], {"classes": ["background", "object"]}),
    ],
)
def test_what_masks_hold(write: Write, tmp_path: Path, codes: Any, options: dict[str, Any]) -> None:
    data = write(_folder(tmp_path / "coded", "images/*.png", "masks/*.png", codes))
    assert {key: data[key] for key in options} == options
    assert ("void" in data) == ("void" in options) and ("labels" in data) == ("labels" in options)


@pytest.mark.parametrize(
    ("lines", "classes", "more"),
    [
        ("ground\nroof\ntree\nvoid\n", ["ground", "roof", "tree"], {"void": 3}),
        ("0: void\n1: ground\n2: roof\n3: tree\n", ["ground", "roof", "tree"], {"void": 0}),
        ("Pixel Value, Class\n0, ground\n1, roof\n2, roof\n3, tree\n", ["ground", "roof", "tree"], {}),
    ],
)
def test_names_of_numbers(write: Write, tmp_path: Path, lines: str, classes: list[str], more: dict[str, int]) -> None:
    root = _folder(tmp_path / "named", "images/*.png", "masks/*.png", [0, 1, 2, 3])
    (root / "classes.txt").write_text(lines)
    data = write(root)
    assert data["classes"] == classes and {key: data[key] for key in more} == more


def test_vocs_colour_of_void(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    void = [224, 224, 192]
    data = write(_folder(tmp_path / "voc-like", "images/*.png", "masks/*.png", [[0, 0, 0], [128, 0, 0], void]))
    assert data["palette"] == {"class-0": [0, 0, 0], "class-1": [128, 0, 0], "void": void}
    assert "as VOC paints it, on 33." in capsys.readouterr().err


def test_palettes_that_differ_are_read_as_colours(write: Write, tmp_path: Path) -> None:
    root = _folder(tmp_path / "palettes", "images/*.png", "masks/*.png", [0, 1])
    for number, path in enumerate(sorted((root / "masks").iterdir())):
        mask = Image.open(path)
        mask = mask.point([number % 2, 1 - number % 2] + [0] * 254)
        mask.putpalette([9, 9, 9, 99, 0, 0] if number % 2 else [99, 0, 0, 9, 9, 9])
        mask.save(path)
    assert write(root)["palette"] == {"class-0": [9, 9, 9], "class-1": [99, 0, 0]}


def test_smoothed_masks(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = _folder(tmp_path / "smooth", "images/*.png", "masks/*.png", [0, 255], range(8), size=(150, 200))
    for path in (root / "masks").iterdir():
        turned = Image.open(path).rotate(7, fillcolor=0)
        turned.resize((100, 75), Image.Resampling.BILINEAR).resize((200, 150), Image.Resampling.BILINEAR).save(path)
    data = write(root)
    assert data["labels"] == {0: "background", 255: "object"} and data["others"] == "void"
    assert "look like smoothed edges" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("images", "masks", "expected"),
    [
        ("*.jpg", "*_mask.png", {"mask_suffix": "_mask"}),
        ("*_img.png", "*_seg.png", {"image_suffix": "_img", "mask_suffix": "_seg"}),
        ("x/*_leftImg8bit.png", "y/*_gtFine_labelIds.png",
         {"image_suffix": "_leftImg8bit", "mask_suffix": "_gtFine_labelIds", "images": "x", "masks": "y"}),
        ("x/*.jpg", "y/*.png", {"images": "x", "masks": "y"}),
        ("deep/er/images/*.jpg", "deep/er/annotations/*.png",
         {"images": "deep/er/images", "masks": "deep/er/annotations"}),
    ],
)  # fmt: skip
def test_where_images_and_masks_lie(
    write: Write, tmp_path: Path, images: str, masks: str, expected: dict[str, str]
) -> None:
    root = _folder(tmp_path / "home" / "laid", images, masks, [0, 1])
    data = write(root)
    assert {key: data[key] for key in expected} == expected
    assert {key for key in data if key.endswith("_suffix")} == {key for key in expected if key.endswith("_suffix")}
    if "images" not in expected:
        assert (data["root"], data["images"], data["masks"]) == (str(root.parent), "laid", "laid")


@pytest.mark.parametrize(
    ("images", "masks"),
    [("images/{}/*.png", "masks/{}/*.png"), ("{}/images/*.png", "{}/masks/*.png"), ("{}/*.png", "{}/*_mask.png")],
)
def test_splits_in_folders(write: Write, tmp_path: Path, images: str, masks: str) -> None:
    """A test split without masks is left alone."""
    root = tmp_path / "split"
    for split, number in (("train", 9), ("valid", 4)):
        names = [f"{split}{n}" for n in range(number)]
        _folder(root, images.format(split), masks.format(split), [0, 1], names)
    _image(root / images.format("test").replace("*", "t"), 99)
    data = write(root)
    assert (data["train"], data["val"], data["tune"]) == ({"folder": "train"}, {"folder": "valid"}, 2)


@pytest.mark.parametrize("place", ["", "splits/", "ImageSets/Segmentation/"])
def test_splits_by_lists(write: Write, tmp_path: Path, place: str) -> None:
    root = _folder(tmp_path / "listed", "images/*.png", "masks/*.png", [0, 1])
    (root / place).mkdir(parents=True, exist_ok=True)
    (root / place / "train.txt").write_text("".join(f"{n}\n" for n in range(8)))
    (root / place / "val.txt").write_text("8.png\n9.png\n")
    data = write(root)
    assert (data["train"], data["val"]) == (f"{place}train.txt", f"{place}val.txt")


def test_a_list_that_names_other_images_is_told(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _folder(tmp_path / "listed", "images/*.png", "masks/*.png", [0, 1])
    (root / "lists").mkdir()
    (root / "lists" / "val.txt").write_text("nobody\n")
    assert write(root)["val"] == 0.2
    assert "val.txt is not used: a list must name existing images, got 'nobody'" in capsys.readouterr().err


@pytest.mark.slow
def test_frames_of_videos(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neighbours that look alike are groups, of which val has whole ones; others are not, whatever they are called."""
    root = tmp_path / "videos"
    names = [f"clip{clip}_{frame:03}" for clip in "abc" for frame in range(12)]
    _folder(root, "images/*.png", "masks/*.png", [0, 1], names)
    assert "groups" not in write(root)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    for name in names:
        _image(root / "images" / f"{name}.png", ord(name[4]))
    data = write(root)
    assert data["groups"] == r"^(.+)[_-][^_/-]*\d$" and data["gap"] == 5
    assert data["val"]["pattern"] in {f"^(?:clip{clip})[_-]" for clip in "abc"}
    assert "3 groups by name, such as clipa" in capsys.readouterr().err


def test_large_and_deep_images(write: Write, tmp_path: Path) -> None:
    root = _folder(tmp_path / "large", "images/*.png", "masks/*.png", [0, 1], range(5), size=(500, 900))
    for path in (root / "images").iterdir():
        Image.fromarray(np.asarray(Image.open(path))[..., 0].astype(np.uint16) * 16).save(path)
    data = write(root)
    assert (data["longest"], data["pad"], data["band_px"]) == (512, [288, 512], 13)
    assert 0 <= data["range"][0] < 1000 < data["range"][1] <= 255 * 16


def test_of_many_masks_a_part_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rare label between others is a class all the same."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(class_search, "MOST_MASKS", 20)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    root = _folder(tmp_path / "many", "images/*.png", "masks/*.png", [0, 2], range(25))
    new_tier.main(str(root), "mine", write=False, whole=False)
    out, err = capsys.readouterr()
    assert yaml.safe_load(out)["mine"]["data"]["classes"] == ["class-0", "class-1", "class-2"]
    assert "2 numbers in 20 of 25 masks" in err and "5 masks were not read" in err
    new_tier.main(str(root), "mine", write=False, whole=True)
    out, err = capsys.readouterr()
    assert yaml.safe_load(out)["mine"]["data"]["labels"] == {0: "class-0", 2: "class-2"}
    assert "2 numbers in all 25 masks" in err


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["voc", "camvid", "cityscapes"])
def test_the_official_layouts(write: Write, tmp_path: Path, layout: str) -> None:
    synthetic_layouts.LAYOUTS[layout](tmp_path / layout)
    if layout == "camvid":  # a gap beside four images leaves none
        for split in ("train",):
            for number in range(20):
                for folder in (split, f"{split}annot"):
                    shutil.copy(tmp_path / layout / folder / "0001TP_006690.png",
                                tmp_path / layout / folder / f"0001TP_1{number:05}.png")  # fmt: skip
            with (tmp_path / layout / "train.txt").open("a") as file:
                for number in range(20):
                    name = f"0001TP_1{number:05}.png"
                    file.write(f"/SegNet/CamVid/train/{name} /SegNet/CamVid/trainannot/{name}\n")
    data = write(tmp_path / layout)
    if layout == "cityscapes":
        assert (data["name"], data["longest"], len(data["classes"])) == ("folder", 512, 19)
    else:
        assert data["name"] == layout and "classes" not in data


def _gone(root: Path) -> None:
    shutil.rmtree(root)


def _without_images(root: Path) -> None:
    for path in root.rglob("*.*"):
        path.rename(path.with_suffix(".txt"))


def _without_masks(root: Path) -> None:
    shutil.rmtree(root / "masks")


def _renamed(root: Path) -> None:
    (root / "masks" / "3.png").rename(root / "masks" / "03.png")


def _other_names(root: Path) -> None:
    for path in (root / "masks").iterdir():
        path.rename(path.with_stem(f"m{path.stem}"))


def _within(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.rename(root / path.name)


def _lossy(root: Path) -> None:
    for path in (root / "masks").iterdir():
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()


def _photographs(root: Path) -> None:
    for path in (root / "masks").iterdir():
        noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(noise).save(path)


def _one_class(root: Path) -> None:
    for path in (root / "masks").iterdir():
        _mask(path, [0])


def _cut(root: Path) -> None:
    path = root / "images" / "3.png"
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_gone, "new-tier must be given a folder of images and masks, got"),
        (_without_images, "a folder must hold images"),
        (_without_masks, "images must have masks"),
        (_renamed, "got an image 3 without mask and a mask 03 without image"),
        (_other_names, "apart from an ending"),
        (_within, "must be in two folders, neither inside the other, got 0.png and masks/0.png"),
        (_lossy, "a mask must be in a lossless format"),
        (_photographs, "masks must hold at most 254 colours"),
        (_one_class, "masks must show at least two classes, got only class-0"),
        (_cut, "an image must be whole, got"),
    ],
)
def test_a_folder_that_is_none_is_one_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    root = _folder(tmp_path / "spoilt", "images/*.png", "masks/*.png", [0, 1])
    spoil(root)
    assert stage.run(lambda: new_tier.main(str(root), "mine", write=True, whole=False)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and says in error
    assert Path("params.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_names_and_places_in_params(write: Write, tmp_path: Path) -> None:
    """A key after the tiers stays the last; a name that is taken, or none, is refused before the folder is read."""
    root = _folder(tmp_path / "roofs", "images/*.png", "masks/*.png", [0, 1])
    text = Path("params.yaml").read_text()
    tracking = text[text.index("tracking:") : text.index("# `like: shapes`")]
    Path("params.yaml").write_text(text.replace(tracking, "") + "\n" + tracking)
    write(root)
    assert list(tiers.read()) == ["tier", "tune", "explore", "execution", "tiers", "tracking"]
    for name in ("mine", "shapes"):
        with pytest.raises(InputError, match=f"already has a tier named {name}"):
            new_tier.main(str(tmp_path / "nowhere"), name, write=True, whole=False)
    with pytest.raises(InputError, match="the new tier's name must be of letters"):
        new_tier.main(str(root), "a b", write=True, whole=False)
    new_tier.main(str(root.rename(tmp_path / "2 roofs!")), None, write=True, whole=False)
    assert list(tiers.read()["tiers"])[-1] == "t2-roofs"
    Path("params.yaml").write_text("{tier: mine, execution: null, tiers: {}}")
    with pytest.raises(InputError):
        new_tier.main(str(root), "other", write=True, whole=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_params_that_may_not_be_written(write: Write, tmp_path: Path) -> None:
    Path("params.yaml").chmod(0o444)
    with pytest.raises(InputError, match="must be writable for --write"):
        write(_folder(tmp_path / "roofs", "images/*.png", "masks/*.png", [0, 1]))


@pytest.mark.slow
def test_what_it_writes_is_rehearsed_without_an_edit(project: Project, tmp_path: Path) -> None:
    root = _folder(tmp_path / "msrc", "Images/*.bmp", "GroundTruth/*_GT.bmp", COLOURS)
    said = project.python("-m", "study", "new-tier", str(root), "--write").stdout
    assert said == "params.yaml now has the tier msrc: check it, then run `make preview TIER=msrc`\n"
    assert "65 trainings (0 done before)" in project.python("-m", "study", "preview", "msrc").stdout
    project.python("-m", "study", "rehearse", "msrc")
