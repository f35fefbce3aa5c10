"""The full-scale data sets in their official layouts: what is trained on and measured, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as official_labels
from PIL import Image
from pycocotools import mask as coding

from study.data import synthetic_layouts
from study.data.download import fetch, missing
from study.data.prepare import DataSet, folder_of, open_data, prepare
from study.data.sets import cityscapes, coco, voc
from study.spec.constants import VOID
from study.spec.data_set_plugins import module_of
from study.spec.errors import InputError
from study.spec.training import Data, freeze
from study.store.code_digest import ROOT

OPTIONS: dict[str, dict[str, Any]] = {
    "voc": {"train": "sbd", "tune": 2, "pad": [512, 512]},
    "coco": {
        "train": ["train2017", "val2017"], "voc": "sbd", "others": "background", "crowd": "void", "tune": 2,
        "pad": [512, 512], "pad_train": [640, 640],
    },
    "cityscapes": {"train": "coarse+fine", "tune": 2, "pad": [1024, 2048]},
    "imagenet": {"size": 224, "resize": 256, "tune": 2},
    "camvid": {"tune": 2, "pad": [360, 480], "coarse_share": 0, "coarse_px": 0},
    "folder": {
        "images": "images", "masks": "masks", "classes": ["sky", "sea", "land"], "void": 9, "val": 0.25, "tune": 1,
        "pad": [24, 24],
    },
}  # fmt: skip
LISTS, INSTANCES = Path("VOCdevkit/VOC2012/ImageSets/Segmentation"), Path("annotations/instances_train2017.json")
PERSON, TABLE, CAR, TV, DOG = (voc.CLASSES.index(n) for n in ("person", "diningtable", "car", "tvmonitor", "dog"))


def data(name: str, **changes: Any) -> Data:
    return Data(name, freeze({k: v for k, v in (OPTIONS[name] | changes).items() if v is not None}))


def names(source: DataSet, split: str) -> list[str]:
    return [source.name(split, i) for i in range(source.splits[split])]


def labels(source: DataSet, split: str, name: str) -> np.ndarray:
    return source.read(split, names(source, split).index(name))[1]


def told(action: Callable[[], Any]) -> str:
    """The one line of an error that a user sees, of the form that they all have."""
    with pytest.raises(InputError) as error:
        action()
    line = str(error.value)
    assert " must " in line and "got " in line and "; " in line.split("got ", 1)[1] and "\n" not in line
    return line


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every layout in a folder of its name; never changed."""
    base = tmp_path_factory.mktemp("laid")
    for name, write in synthetic_layouts.LAYOUTS.items():
        write(base / name)
    return base


@pytest.fixture
def copied(laid: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: shutil.copytree(laid / name, tmp_path / name)


# every layout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "splits", "train_size"),
    [
        ("voc", (6, 2, 2), (512, 512)),
        ("coco", (9, 2, 2), (640, 640)),
        ("cityscapes", (4, 2, 2), (1024, 2048)),
        ("imagenet", (16, 2, 6), (256, 256)),
        ("camvid", (2, 2, 2), (360, 480)),
    ],
)
def test_every_layout_is_prepared(laid: Path, tmp_path: Path, name: str, splits: tuple, train_size: tuple) -> None:
    facts = prepare(data(name), laid / name, tmp_path, 7)
    assert facts["splits"] == dict(zip(("train", "tune", "val"), splits, strict=True))
    folder = folder_of(tmp_path, facts["fingerprint"])
    assert np.load(folder / "train-images.npy", mmap_mode="r").shape == (splits[0], *train_size, 3)
    assert np.load(folder / "val-images.npy", mmap_mode="r").shape == (splits[2], *facts["size"], 3)
    assert sum(facts["images_with"]) > 0


@pytest.mark.slow
def test_a_layout_is_the_same_every_time(laid: Path, tmp_path: Path) -> None:
    synthetic_layouts.coco(tmp_path)
    files = [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert len(files) > 50 and any(path.suffix == ".mat" for path in files)
    assert all((tmp_path / path).read_bytes() == (laid / "coco" / path).read_bytes() for path in files)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["voc", "coco", "cityscapes"])
def test_what_is_there_is_not_fetched(laid: Path, tmp_path: Path, name: str) -> None:
    module, options = module_of(data(name))
    wanted = module.archives(options)
    assert missing(wanted, laid / name) == []
    assert missing(wanted, tmp_path) == list(wanted)
    kinds = {archive.checksum.split(":")[0] for archive in wanted}
    assert kinds <= {"md5", "sha256"} and all(archive.size > 1e8 for archive in wanted)
    assert all(bool(archive.urls) != bool(archive.where) for archive in wanted)


def test_only_what_the_options_need_is_fetched(tmp_path: Path) -> None:
    def wanted(name: str, **changes: Any) -> list[str]:
        module, options = module_of(data(name, **changes))
        return [archive.name for archive in module.archives(options)]

    assert wanted("voc") == ["VOCtrainval_11-May-2012.tar", "benchmark.tgz"]
    assert wanted("voc", train="train") == wanted("voc", train="auto") == wanted("voc")[:1]
    assert wanted("voc", classes=["a", "b"]) == []
    assert wanted("coco", train=["val2017"]) == ["val2017.zip", "annotations_trainval2017.zip", *wanted("voc")]
    assert len(wanted("cityscapes")) == 4 and len(wanted("cityscapes", train="fine")) == 2
    module, options = module_of(data("cityscapes"))
    line = told(lambda: fetch(module.archives(options), tmp_path))
    assert all(name in line for name in wanted("cityscapes")) and "www.cityscapes-dataset.com" in line


# VOC with SBD


@pytest.mark.slow
def test_sbd_adds_only_images_outside_voc_lists(laid: Path) -> None:
    source = open_data(data("voc"), laid / "voc", laid)
    found = names(source, "train") + names(source, "tune")
    assert sorted(found) == sorted(synthetic_layouts.TRAIN + synthetic_layouts.EXTRA) and not set(found) & set(
        synthetic_layouts.VAL
    )
    assert source.listed == {"voc/train": 4, "voc/val": 2, "voc/test": 2, "voc/augmented": 8}
    for name in names(source, "train"):
        mask = labels(source, "train", name)
        assert mask.dtype == np.uint8 and (VOID in mask) == (name in synthetic_layouts.TRAIN)  # SBD marks no void
        drawn = np.asarray(Image.open(laid / "voc" / voc.DEVKIT / "SegmentationClassAug" / f"{name}.png"))
        assert np.array_equal(mask[mask != VOID], drawn[mask != VOID])
        assert (mask.shape[0], mask.shape[1]) in synthetic_layouts.SIZES
    assert not [path for path in source.files() if path.parent.name == "img"]


@pytest.mark.slow
def test_images_that_voc_lacks_are_taken_from_sbd(copied: Any) -> None:
    root = copied("voc")
    (root / LISTS / "train_aug.txt").unlink()
    (root / voc.DEVKIT / "JPEGImages" / f"{synthetic_layouts.EXTRA[0]}.jpg").unlink()
    source = open_data(data("voc"), root, root)
    expected = [root / voc.SBD / "img" / f"{synthetic_layouts.EXTRA[0]}.jpg"]
    assert [path for path in source.files() if path.parent.name == "img"] == expected and sum(
        source.splits.values()
    ) == 10


@pytest.mark.slow
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("published", [True, False])
def test_all_lists_of_voc_share_the_tune_split(copied: Any, nested: bool, published: bool) -> None:
    root = copied("voc")
    if not published:
        (root / LISTS / "train_aug.txt").unlink()
    sources = {
        train: open_data(data("voc", train=train), root if nested else root / voc.DEVKIT, root)
        for train in ("auto", "train", "sbd", *(["train_aug"] if published else []))
    }
    apart = {tuple(names(source, "tune")) for source in sources.values()}
    assert len(apart) == 1
    for train, source in sources.items():
        assert not set(names(source, "train")) & set(*apart)
        assert source.listed["voc/augmented"] == 8, train
    assert sources["auto"].pairs == sources["train_aug" if published else "sbd"].pairs
    assert set(names(sources["train"], "train")) < set(synthetic_layouts.TRAIN) | set(*apart)


@pytest.mark.slow
@pytest.mark.parametrize("train", ["train_aug", "train", "auto", "sbd"])
def test_an_image_of_val_is_never_trained_on(copied: Any, train: str) -> None:
    root = copied("voc")
    for name in ("train_aug", "train")[train == "train" :]:
        with (root / LISTS / f"{name}.txt").open("a") as file:
            file.write(f"{synthetic_layouts.VAL[1]}\n")
    shutil.copytree(
        root / voc.DEVKIT / "SegmentationClass", root / voc.DEVKIT / "SegmentationClassAug", dirs_exist_ok=True
    )
    line = told(lambda: open_data(data("voc", train=train), root, root))
    assert "must hold no image of val.txt" in line and f"got {synthetic_layouts.VAL[1]} and 0 more" in line


@pytest.mark.slow
def test_the_voc_test_split_has_names_and_images(copied: Any) -> None:
    root = copied("voc")
    for name in ("voc", "coco"):
        module, options = module_of(data(name))
        found = module.tests(options, root)
        assert [name for name, _ in found] == list(synthetic_layouts.TEST) and all(path.is_file() for _, path in found)
    found[1][1].unlink()
    assert f"got no file {found[1][1]}; unpack VOC2012test.tar" in told(lambda: module.tests(options, root))
    (root / LISTS / "test.txt").unlink()
    assert "must have its list test.txt" in told(lambda: module.tests(options, root))
    assert "voc/test" not in open_data(data("voc"), root, root).listed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda base: (base / "train.txt").unlink(), "must have its list train.txt, got no file"),
        (lambda base: shutil.rmtree(base), "must have its list train.txt, got no file"),
        (
            lambda base: (base / "cls" / f"{synthetic_layouts.EXTRA[0]}.mat").unlink(),
            "a list must name files that exist",
        ),
        (lambda base: (base / "cls").rename(base / "class"), "a list must name files that exist"),
    ],
)
def test_an_incomplete_sbd_release_is_reported(copied: Any, spoil: Any, expected: str) -> None:
    root = copied("voc")
    spoil(root / voc.SBD)
    assert expected in told(lambda: open_data(data("voc"), root, root))


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"no MATLAB file" * 99, None], ids=["empty", "text", "cut short"])
def test_a_damaged_mask_of_sbd_is_told(copied: Any, tmp_path: Path, content: bytes | None) -> None:
    root = copied("voc")
    for name in synthetic_layouts.EXTRA:
        path = root / voc.SBD / "cls" / f"{name}.mat"
        path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    line = told(lambda: prepare(data("voc"), root, tmp_path / "cache", 7))
    assert "a mask of SBD must be a MATLAB file with GTcls.Segmentation" in line and ".mat" in line


@pytest.mark.slow
def test_the_voc_layout_accepts_user_defined_classes(copied: Any, tmp_path: Path) -> None:
    root = copied("voc")
    (root / LISTS / "train_aug.txt").unlink()
    shutil.rmtree(root / "benchmark_RELEASE")
    for path in (root / voc.DEVKIT / "SegmentationClass").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.where(mask == VOID, mask, mask % 3)).save(path)
    own = data("voc", train="auto", classes=["none", "crack", "rust"])
    facts = prepare(own, root, tmp_path / "cache", 7)
    assert facts["classes"] == ["none", "crack", "rust"] and facts["splits"]["train"] == 2
    assert facts["listed"] == {}  # nothing of it is the paper's
    (root / voc.DEVKIT / "SegmentationClass" / f"{synthetic_layouts.VAL[0]}.png").write_bytes(
        (root / voc.DEVKIT / "SegmentationClassAug" / f"{synthetic_layouts.TRAIN[0]}.png").read_bytes()
    )
    line = told(lambda: prepare(data("voc", train="auto", classes=["none", "crack"]), root, tmp_path / "cache", 7))
    assert "a mask must hold class labels 0 to 1 or void only" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    "classes", [[], ["one"], "sky", ["a", "a"], ["a", 2], ["a", " "], [f"{i}" for i in range(256)]]
)
@pytest.mark.parametrize("name", ["voc", "folder"])
def test_a_wrong_list_of_classes_is_told(laid: Path, classes: Any, name: str) -> None:
    line = told(lambda: open_data(data(name, classes=classes), laid / "voc", laid))
    if isinstance(classes, list) and not all(isinstance(one, str) and one.strip() for one in classes):
        assert f"classes of {name} must be names" in line and "write it in quotes" in line
    else:
        remedy = "write it in brackets"
        if isinstance(classes, list):
            remedy = {0: "name more", 1: "name more", 256: "got 256 names; merge some"}.get(
                len(classes), "name of its own"
            )
        assert f"classes of {name} must be a list of 2 to 255 different names" in line and remedy in line


@pytest.mark.slow
@pytest.mark.parametrize("pad", [512, [512], [512, 0], [512.0, 512], "512x512", [512, 512, 3]])
@pytest.mark.parametrize(
    ("name", "key"), [("voc", "pad"), ("coco", "pad"), ("coco", "pad_train"), ("cityscapes", "pad")]
)
def test_a_wrong_size_is_told(laid: Path, tmp_path: Path, pad: Any, name: str, key: str) -> None:
    line = told(lambda: open_data(data(name, **{key: pad}), laid / name, tmp_path))
    assert f"{key} of {name} must be two whole numbers from 1 up (height, width)" in line


# COCO


def boxes(size: tuple[int, int], *drawn: tuple[int, int, int, int, int]) -> np.ndarray:
    """Labels with rectangles (left, top, right, bottom, label), the last on top."""
    mask = np.zeros(size, np.uint8)
    for left, top, right, bottom, label in drawn:
        mask[top:bottom, left:right] = label
    return mask


@pytest.mark.slow
@pytest.mark.parametrize("others", ["background", "void"])
@pytest.mark.parametrize("crowd", ["void", "class"])
def test_masks_of_coco_pixel_by_pixel(laid: Path, tmp_path: Path, others: str, crowd: str) -> None:
    source = open_data(data("coco", others=others, crowd=crowd), laid / "coco", tmp_path)
    pizza = (280, 320, 450, 390, VOID if others == "void" else 0)  # lies on the table, which keeps its own pixels
    people = (0, 0, 100, 100, VOID if crowd == "void" else PERSON)
    expected = {
        "train2017/000000000009": [pizza, (100, 200, 300, 400, TABLE), (250, 100, 350, 300, PERSON)],
        "train2017/000000000025": [people, (400, 300, 500, 400, CAR), (10, 10, 20, 20, CAR)],
        "val2017/000000000139": [(200, 100, 500, 400, TV), (300, 200, 350, 250, DOG)],
    }
    assert [name for name in names(source, "train") if "/" in name] == list(expected)  # none without a class of VOC
    for name, drawn in expected.items():
        assert np.array_equal(labels(source, "train", name), boxes((480, 640), *drawn)), name


@pytest.mark.slow
@pytest.mark.parametrize("others", ["background", "void"])
def test_coco_and_voc_stages_share_tune_and_val(laid: Path, tmp_path: Path, others: str) -> None:
    stage1 = open_data(data("coco", others=others), laid / "coco", tmp_path)
    stage2 = open_data(data("voc"), laid / "coco", tmp_path)
    for split in ("tune", "val"):
        assert names(stage1, split) == names(stage2, split)
    assert [name for name in names(stage1, "train") if "/" not in name] == names(stage2, "train")
    assert stage1.listed == stage2.listed | {"voc/coco": 3 + 8} and stage1.classes == voc.CLASSES
    assert stage1.size == (512, 512) and stage1.sizes == {"train": (640, 640)}


@pytest.mark.slow
def test_masks_are_redrawn_only_when_inputs_change(copied: Any, tmp_path: Path) -> None:
    root, ticks = copied("coco"), []

    def drawn(**changes: Any) -> list[tuple[int, int]]:
        ticks.clear()
        open_data(data("coco", **changes), root, tmp_path / "cache", lambda done, every: ticks.append((done, every)))
        return list(ticks)

    assert drawn() == [(1, 2), (2, 2), (1, 1)]
    assert drawn() == drawn(tune=3, pad_train=[700, 700], voc="train") == []
    assert drawn(train=["val2017"]) == []
    assert len(drawn(others="void")) == len(drawn(crowd="class")) == 3
    os.utime(root / "coco" / "annotations" / "instances_val2017.json", (1, 1))
    assert drawn() == [(1, 1)]
    with ThreadPoolExecutor(2) as pool:
        ticks.clear()
        work = [pool.submit(drawn_in, root, tmp_path / "both", ticks) for _ in range(2)]
        assert [w.result() for w in work] == [None, None] and len(ticks) == 3


def drawn_in(root: Path, cache: Path, ticks: list) -> None:
    coco.convert(module_of(data("coco"))[1], root, cache, lambda done, every: ticks.append((done, every)))


@pytest.mark.slow
def test_a_killed_conversion_is_never_taken_for_whole(copied: Any, tmp_path: Path) -> None:
    root, cache = copied("coco"), tmp_path / "cache"
    script = (
        "import os, pathlib, sys; from study.data.sets import coco; options = coco.Options(**eval(sys.argv[1]))\n"
        "coco.convert(options, *map(pathlib.Path, sys.argv[2:]), lambda done, every: os._exit(9) if done == 2 else 0)"
    )
    options = repr(module_of(data("coco"))[1].model_dump())
    ended = subprocess.run([sys.executable, "-c", script, options, str(root), str(cache)], cwd=ROOT, check=False)
    assert ended.returncode == 9
    (left,) = (path for path in cache.iterdir() if path.is_dir())
    assert left.name.endswith("-converting") and len(list(left.glob("*.png"))) == 2
    line = told(lambda: coco.open(module_of(data("coco"))[1], root, cache))
    assert "must be drawn before they are read" in line
    (left / "000000000099.png").write_bytes(b"of before")
    source = open_data(data("coco"), root, cache)
    assert not left.exists() and source.splits["train"] == 9
    assert not list(cache.rglob("000000000099.png"))


@pytest.mark.slow
def test_compressed_run_lengths_are_read(laid: Path) -> None:
    mask = np.asfortranarray(np.random.default_rng(0).integers(0, 2, (30, 20), dtype=np.uint8))
    form = coding.encode(mask)
    form["counts"] = form["counts"].decode()
    found = coco._pixels({"id": 1, "segmentation": form}, (30, 20), Path("x.json"))
    assert found.dtype == bool and np.array_equal(found, mask)


def _instances(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Spoils the annotations of train2017 by a change of their content."""

    def spoil(base: Path) -> None:
        content = json.loads((base / INSTANCES).read_text())
        change(content)
        (base / INSTANCES).write_text(json.dumps(content))

    return spoil


def _segmentation(form: Any) -> Callable[[Path], None]:
    return _instances(lambda content: content["annotations"][1].update(segmentation=form))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda b: (b / INSTANCES).unlink(), "must have annotations of train2017, got no"),
        (lambda b: (b / INSTANCES).write_text('{"images": [{"i'), "must be complete JSON"),
        (lambda b: (b / INSTANCES).write_text("[]"), "must have a list 'images'"),
        *((_instances(lambda c, key=key: c.pop(key)), f"must have a list '{key}', got none") for key in coco.MEMBERS),
        *(
            (_instances(lambda c, key=key, m=m: c[key][0].pop(m)), f"each of '{key}' must have '{m}'")
            for key, members in coco.MEMBERS.items()
            for m in members
        ),
        (_instances(lambda c: c["images"][0].update(height="480")), "each of 'images' must have 'height' (int)"),
        (_instances(lambda c: c["images"].append(3)), "each of 'images' must have 'id' (int), got 3"),
        (_instances(lambda c: c["images"].pop(0)), "'image_id' of an annotation must be one that"),
        (_instances(lambda c: c["categories"].pop()), "'category_id' of an annotation must be one that"),
        (_instances(lambda c: c["categories"][0].update(name="human")), "'categories' must have all classes of VOC"),
        (lambda b: (b / "train2017" / "000000000025.jpg").unlink(), "must exist, got no 000000000025.jpg in"),
        (_segmentation([]), "a polygon without three corners"),
        (_segmentation([[1, 2, 3, 4]]), "a polygon without three corners"),
        (_segmentation([[1, 2, 3, 4, 5, 6, 7]]), "a polygon without three corners"),
        (_segmentation([7]), "'segmentation' must be polygons or run lengths"),
        (_segmentation({}), "'segmentation' must be polygons or run lengths"),
        (_segmentation({"counts": [480 * 640]}), "'segmentation' must be polygons or run lengths"),
        (_segmentation({"counts": [10], "size": [480, 640]}), "run lengths of 10 pixels for an image of [480, 640]"),
        (_segmentation({"counts": [4], "size": [2, 2]}), "run lengths of [2, 2] for an image of [480, 640]"),
    ],
)
def test_faulty_annotations_are_told_and_leave_no_masks(copied: Any, tmp_path: Path, spoil: Any, expected: str) -> None:
    root, cache = copied("coco"), tmp_path / "cache"
    spoil(root / "coco")
    line = told(lambda: open_data(data("coco"), root, cache))
    assert expected in line and "instances_train2017.json" in line
    assert not [path for path in cache.iterdir() if path.is_dir()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"train": "train2017"}, "train of coco must be a list of different splits"),
        ({"train": []}, "train of coco must be a list of different splits"),
        ({"train": ["val2017", "val2017"]}, "train of coco must be a list of different splits"),
        ({"train": ["train1999"]}, "coco must have annotations of train1999, got no file"),
        ({"others": "ignore"}, "others of coco must be one of background, void, got 'ignore'"),
        ({"crowd": True}, "crowd of coco must be one of void, class, got True"),
        ({"voc": "all"}, "voc of coco must be one of auto, train, train_aug, sbd, got 'all'"),
        ({"tune": 8}, "tune must be at least 1 and less than the 8 training images"),
    ],
)
def test_wrong_options_of_coco_are_told(laid: Path, tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    assert expected in told(lambda: open_data(data("coco", **change), laid / "coco", tmp_path))


# Cityscapes


def test_cityscapes_classes_and_ids_match_the_official_ones() -> None:
    by_id = {label.id: label for label in official_labels if label.id >= 0}
    expected = {number: VOID if label.ignoreInEval else label.trainId for number, label in by_id.items()}
    assert expected == cityscapes.TRAIN_IDS
    scored = sorted((label for label in official_labels if not label.ignoreInEval), key=lambda label: label.trainId)
    assert [label.name for label in scored] == list(cityscapes.CLASSES) and len(scored) == 19


@pytest.mark.slow
@pytest.mark.parametrize("below", ["", "cityscapes"])
@pytest.mark.parametrize("train", ["fine", "coarse+fine"])
def test_cityscapes_trains_on_fine_masks_or_on_both(copied: Any, tmp_path: Path, below: str, train: str) -> None:
    root = base = copied("cityscapes")
    if below:
        root = tmp_path / "outer"
        root.mkdir()
        base.rename(root / below)
        base = root / below
    black = Image.new("L", (2048, 1024))
    black.save(base / "leftImg8bit" / "train_extra" / "troisdorf" / f"{cityscapes.DEFECTIVE}_leftImg8bit.png")
    source = open_data(data("cityscapes", train=train), root, tmp_path)
    coarse = {"erlangen_000000_000000", "troisdorf_000000_000000"} if train == "coarse+fine" else set()
    fine = {path.name[:-16] for path in (base / "leftImg8bit" / "train").glob("*/*.png")}
    assert set(names(source, "train")) | set(names(source, "tune")) == fine | coarse
    assert not set(names(source, "tune")) & coarse and source.splits["tune"] == 2
    expected = {"cityscapes/train": 4, "cityscapes/val": 2, "cityscapes/test": 1}
    expected |= {"cityscapes/coarse": 3, "cityscapes/stage1": 7} if coarse else {}  # with the defective one
    assert source.listed == expected
    module, options = module_of(data("cityscapes"))
    assert [name for name, _ in module.tests(options, root)] == ["berlin_000000_000019"]


@pytest.mark.slow
def test_masks_of_cityscapes_hold_train_ids(copied: Any, tmp_path: Path) -> None:
    root = copied("cityscapes")
    (path,) = (root / "gtCoarse" / "train_extra" / "erlangen").iterdir()
    ids = np.zeros((1024, 2048), np.uint8)
    ids[:, :34] = np.arange(34)
    ids[:, 34] = 255
    Image.fromarray(ids).save(path)
    source = open_data(data("cityscapes"), root, tmp_path)
    found = labels(source, "train", "erlangen_000000_000000")
    train_ids = {label.id: label.trainId for label in official_labels}
    assert found[500, :36].tolist() == [*(train_ids[number] for number in range(34)), VOID, VOID]
    ids[7, 7] = 34
    Image.fromarray(ids).save(path)
    line = told(lambda: labels(source, "train", "erlangen_000000_000000"))
    assert f"a mask must hold label ids 0 to 33 (or -1), got 34 in {path}; take" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (
            lambda root: shutil.rmtree(root / "leftImg8bit" / "val"),
            "must have images in leftImg8bit/val/<city>/, got none",
        ),
        (lambda root: shutil.rmtree(root / "leftImg8bit" / "train_extra"), "images in leftImg8bit/train_extra/<city>/"),
        (
            lambda root: shutil.rmtree(root / "gtCoarse"),
            "a list must name files that exist, got erlangen_000000_000000",
        ),
        (lambda root: shutil.rmtree(root / "gtFine" / "val"), "a list must name files that exist, got frankfurt"),
    ],
)
def test_a_cityscapes_that_lacks_something_is_told(copied: Any, spoil: Any, expected: str) -> None:
    root = copied("cityscapes")
    spoil(root)
    assert expected in told(lambda: open_data(data("cityscapes"), root, root))


@pytest.mark.slow
def test_wrong_options_of_cityscapes_are_told(copied: Any) -> None:
    root = copied("cityscapes")
    assert "train of cityscapes must be one of fine, coarse+fine" in told(
        lambda: open_data(data("cityscapes", train="coarse"), root, root)
    )
    assert "less than the 4 training images" in told(lambda: open_data(data("cityscapes", tune=4), root, root))
    shutil.rmtree(root / "leftImg8bit" / "test")
    module, options = module_of(data("cityscapes"))
    assert "must have images in leftImg8bit/test/<city>/" in told(lambda: module.tests(options, root))


# a user's own folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Twelve images, .jpg and .png, of three classes below a row of void (9)."""
    root = tmp_path / "own"
    for i in range(12):
        mask = np.full((20, 24), i % 3, np.uint8)
        mask[0] = 9
        for name, pixels in (("images", np.full((20, 24, 3), 9 * i, np.uint8)), ("masks", mask)):
            path = root / name / f"{'a.b' if i == 0 else i}.{'jpg' if name == 'images' and i % 2 else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (root / "images" / "notes.txt").write_text("no image")
    return root


def test_a_users_own_folder_needs_no_code(own: Path, tmp_path: Path) -> None:
    facts = prepare(data("folder"), own, tmp_path / "cache", 2)
    assert facts["classes"] == ["sky", "sea", "land"] and facts["splits"] == {"train": 8, "tune": 1, "val": 3}
    source = open_data(data("folder"), own, tmp_path)
    for split in ("train", "tune", "val"):
        for name in names(source, split):
            number = 0 if name == "a.b" else int(name)
            assert labels(source, split, name).tolist() == [[VOID] * 24] + [[number % 3] * 24] * 19
    for folder in ("images", "masks"):
        shutil.copy(own / folder / "2.png", own / folder / "new.png")
    more = open_data(data("folder"), own, tmp_path)
    assert set(names(source, "val")) - set(names(more, "val")) <= set(names(source, "val")[-1:])


def test_lists_of_a_users_own_folder_are_followed(own: Path, tmp_path: Path) -> None:
    (own / "measured.txt").write_text("4\n5.jpg\na.b\n")
    source = open_data(data("folder", val="measured.txt"), own, tmp_path)
    assert names(source, "val") == ["4", "5", "a.b"] and source.splits["train"] == 8
    (own / "train.txt").write_text("\n".join("1236"))
    source = open_data(data("folder", val="measured.txt"), own, tmp_path)
    assert sorted(names(source, "train") + names(source, "tune")) == list("1236")
    shares = open_data(data("folder", val=0.5), own, tmp_path)
    assert shares.splits == {"train": 1, "tune": 1, "val": 2}


def _another(root: Path) -> None:
    Image.new("RGB", (24, 20)).save(root / "images" / "3.png")


@pytest.mark.parametrize(
    ("spoil", "change", "expected"),
    [
        (lambda r: (r / "masks" / "3.png").unlink(), {}, "the same stems, got an image 3 without mask and 0 more"),
        (lambda r: (r / "images" / "3.jpg").unlink(), {}, "the same stems, got a mask 3 without image and 0 more"),
        (_another, {}, "images of folder must have one file per stem, got 3.jpg and 3.png"),
        (lambda r: (r / "train.txt").write_text("1\n77"), {}, "a list must name existing images, got '77' in"),
        (lambda r: (r / "train.txt").write_text(""), {}, "at least two training images (one is kept apart), got 0"),
        (lambda r: (r / "val.txt").write_text("1\n2"), {"val": "vals.txt"}, "must have its list vals.txt, got no file"),
        (
            lambda r: [(r / f"{split}.txt").write_text("1\n2\n3") for split in ("train", "val")],
            {"val": "val.txt"},
            "train.txt and val.txt must share no image",
        ),
        (None, {"images": "pictures"}, "images of folder must be a folder below"),
        (None, {"masks": 3}, "masks of folder must be a folder below"),
        (None, {"classes": None}, "add 'classes' in params.yaml"),
        (None, {"void": 2}, "void of folder must be a label that no class has, 3 to 255, got 2"),
        (None, {"void": "none"}, "void of folder must be a whole number"),
        (None, {"void": 256}, "void of folder must be a label that no class has, 3 to 255, got 256"),
        (
            None,
            {"val": 2},
            "val of folder must be a number from 0 to 1 (a share), the name of a list, {folder: name} or",
        ),
        (None, {"val": 0}, "split val must have at least one image, got none"),
        (None, {"tune": 12}, "tune must be at least 1 and less than"),
        (None, {"pad": [8, 8]}, "must fit into (8, 8)"),
        (None, {"classes": ["sky", "sea"]}, "a mask must hold class labels 0 to 1 or void only, got 2"),
        (None, {"void": 8}, "a mask must hold class labels 0 to 2 or void only, got 9"),
    ],
)
def test_faults_in_a_user_folder_are_reported(
    own: Path, tmp_path: Path, spoil: Any, change: dict[str, Any], expected: str
) -> None:
    if spoil:
        spoil(own)
    assert expected in told(lambda: prepare(data("folder", **change), own, tmp_path / "cache", 2))
