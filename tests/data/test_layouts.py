"""The table of layouts in docs/run-on-voc.md: each row is read from small files laid out as it says, and the labels
of an image are those of its mask."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from study.data import synthetic_layouts
from study.data.prepare import prepare
from study.data.sets import cityscapes, voc
from study.spec.constants import VOID
from study.spec.training import Data, freeze
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "run-on-voc.md").read_text(encoding="utf-8")
TABLE = re.search(r"^## Supported layouts\n.*?\n\n(\|.+?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
SIDES = (20, 30)
DEVKIT = "VOCdevkit/VOC2012"


class Layout(NamedTuple):
    """``write`` makes the files below a folder; ``meant(root, name)`` are the labels of the val or training image
    ``name``, read by other means than ours."""

    write: Callable[[Path], None]
    options: dict[str, Any]
    split: str
    meant: Callable[[Path, str], np.ndarray]


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def _codes(name: str, codes: int) -> np.ndarray:
    """A code for each pixel, always the same for an image of this name."""
    return np.random.default_rng(list(name.encode())).integers(0, codes, SIDES)


def _photograph(path: Path) -> None:
    _save(path, np.random.default_rng(list(path.name.encode())).integers(0, 256, (*SIDES, 3), np.uint8))


def _street_scenes(root: Path) -> None:
    for split, names in {"train": ("aachen_0_1", "aachen_0_2", "bochum_0_1"), "val": ("lindau_0_1",)}.items():
        for name in names:
            city = name.split("_")[0]
            _photograph(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
            _save(root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", _codes(name, 34).astype(np.uint8))


def _street_labels(root: Path, name: str) -> np.ndarray:
    scored = {id_: place for place, id_ in enumerate(cityscapes.SCORED)}
    return np.vectorize(lambda id_: scored.get(id_, VOID))(_codes(name, 34))


# MSRC and the first release of CamVid: colours, and names of masks that end in something
MSRC = np.array([[128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 0]], np.uint8)  # building, grass, tree, void
CAMBRIDGE = np.array([[128, 128, 128], [128, 0, 0], [64, 0, 128], [64, 128, 192], [0, 0, 0]], np.uint8)
COLOURS = "128 128 128\tSky\n128 0 0\t\tBuilding\n64 0 128\tCar\n64 128 192\tCar\n0 0 0\tVoid\n"  # vans are cars


def _msrc(root: Path) -> None:
    for name in ("1_1_s", "1_2_s", "2_1_s", "2_2_s"):
        _photograph(root / "Images" / f"{name}.bmp")
        _save(root / "GroundTruth" / f"{name}_GT.bmp", MSRC[_codes(name, 4)])
    (root / "Train.txt").write_text("1_1_s.bmp\r\n1_2_s.bmp\r\n2_1_s.bmp\r\n")
    (root / "Validation.txt").write_text("2_2_s.bmp\r\n")


def _cambridge(root: Path) -> None:
    for name in ("0001TP_006690", "0001TP_006720", "0016E5_00390", "Seq05VD_f00000"):
        _photograph(root / "701_StillsRaw_full" / f"{name}.png")
        _save(root / "LabeledApproved_full" / f"{name}_L.png", CAMBRIDGE[_codes(name, 5)])
    (root / "label_colors.txt").write_text(COLOURS)


def _folders(root: Path) -> None:
    for name in ("train/a", "train/b", "train/c", "val/a"):
        _photograph(root / "images" / f"{name}.jpg")
        _save(root / "masks" / f"{name}.png", np.array([0, 1, 2, 255], np.uint8)[_codes(name, 4)])


def _png(folder: str) -> Callable[[Path, str], np.ndarray]:
    return lambda root, name: np.asarray(Image.open(root / folder / f"{name}.png"))


def _camvid(root: Path, name: str) -> np.ndarray:
    labels = _png("valannot")(root, name)
    return np.where(labels == 11, VOID, labels)


def _matlab(root: Path, name: str) -> np.ndarray:
    if name in synthetic_layouts.TRAIN:  # of VOC's own list, whose masks are finer
        return _png(f"{DEVKIT}/SegmentationClass")(root, name)
    path = root / "benchmark_RELEASE" / "dataset" / "cls" / f"{name}.mat"
    return loadmat(str(path))["GTcls"]["Segmentation"][0, 0]


def _coco(root: Path, name: str) -> np.ndarray | None:
    """A car of two parts and void people; of the image 25 alone."""
    if name != "train2017/000000000025":
        return None
    labels = np.zeros((480, 640), np.uint8)
    labels[:100, :100] = VOID
    labels[300:400, 400:500] = labels[10:20, 10:20] = voc.CLASSES.index("car")
    return labels


IN_VOC = {"tune": 1, "pad": [512, 512]}
LAYOUTS: dict[str, Layout] = {
    "PASCAL VOC 2012": Layout(
        synthetic_layouts.voc, {"name": "voc", "train": "train"} | IN_VOC, "val", _png(f"{DEVKIT}/SegmentationClass")
    ),
    "VOC with SBD's masks as PNG": Layout(
        synthetic_layouts.voc, {"name": "voc", "train": "train_aug"} | IN_VOC, "train",
        _png(f"{DEVKIT}/SegmentationClassAug"),
    ),
    "SBD": Layout(synthetic_layouts.voc, {"name": "voc", "train": "sbd"} | IN_VOC, "train", _matlab),
    "COCO 2017": Layout(
        synthetic_layouts.coco,
        {"name": "coco", "train": ["train2017"], "voc": "sbd", "others": "background", "crowd": "void",
         "pad_train": [640, 640]} | IN_VOC,
        "train", _coco,
    ),
    "Cityscapes": Layout(
        _street_scenes, {"name": "cityscapes", "train": "fine", "tune": 1, "pad": SIDES}, "val", _street_labels
    ),
    "CamVid, SegNet's": Layout(
        synthetic_layouts.camvid,
        {"name": "camvid", "tune": 1, "pad": [360, 480], "coarse_share": 0, "coarse_px": 0}, "val", _camvid,
    ),
    "CamVid, Cambridge's": Layout(
        _cambridge,
        {"name": "folder", "images": "701_StillsRaw_full", "masks": "LabeledApproved_full", "mask_suffix": "_L",
         "palette": "label_colors.txt", "classes": ["Sky", "Building", "Car"], "val": {"pattern": "^Seq05VD"},
         "tune": 1, "pad": SIDES},
        "val", lambda root, name: np.array([0, 1, 2, 2, VOID])[_codes(name, 5)],
    ),
    "MSRC-21": Layout(
        _msrc,
        {"name": "folder", "images": "Images", "masks": "GroundTruth", "mask_suffix": "_GT",
         "classes": ["building", "grass", "tree"], "train": "Train.txt", "val": "Validation.txt", "tune": 1,
         "pad": SIDES, "palette": {
             "building": [128, 0, 0], "grass": [0, 128, 0], "tree": [128, 128, 0], "void": [0, 0, 0]}},
        "val", lambda root, name: np.array([0, 1, 2, VOID])[_codes(name, 4)],
    ),
    "two folders": Layout(
        _folders,
        {"name": "folder", "images": "images", "masks": "masks", "classes": ["ground", "roof", "tree"], "void": 255,
         "train": {"folder": "train"}, "val": {"folder": "val"}, "tune": 1, "pad": SIDES},
        "val", lambda root, name: np.array([0, 1, 2, VOID])[_codes(name, 4)],
    ),
}  # fmt: skip


def _rows() -> dict[str, str]:
    """The table's rows: the layout, and the name of the data set that reads it."""
    assert TABLE
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE[1].splitlines()[2:]]
    return {layout: re.sub(r"`(?:name: )?([\w-]+)`.*", r"\1", name) for layout, name, *_ in rows}


def test_the_documented_layouts_are_exactly_those_tested() -> None:
    assert _rows() == {layout: found.options["name"] for layout, found in LAYOUTS.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_read_as_its_masks_mean(layout: str, tmp_path: Path) -> None:
    write, options, split, meant = LAYOUTS[layout]
    write(tmp_path / "root")
    data = Data(options["name"], freeze({key: value for key, value in options.items() if key != "name"}))
    facts = prepare(data, tmp_path / "root", tmp_path / "cache", 2)
    assert all(facts["splits"].values())
    (folder,) = (tmp_path / "cache").glob(f"{facts['fingerprint'][:16]}*")
    labels, names = (np.load(folder / f"{split}-{what}.npy") for what in ("labels", "names"))
    checked = 0
    for found, name in zip(labels, names.tolist(), strict=True):
        expected = meant(tmp_path / "root", name)
        if expected is not None:
            height, width = expected.shape
            assert np.array_equal(found[:height, :width], expected) and (found[height:] == VOID).all()
            checked += 1
    assert checked
