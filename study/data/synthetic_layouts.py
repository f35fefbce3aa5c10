"""Small synthetic sets in the layouts of the official ones, for tests and rehearsals: same folders, lists, formats and
image sizes, a handful of images. Their content is meaningless, and every call writes the same bytes."""

from __future__ import annotations

import colorsys
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import io as matlab
from scipy import ndimage

from study.seeds import generator
from study.spec.constants import VOID

RING_PX = 4
Size = tuple[int, int]  # (height, width)
SIZES: tuple[Size, ...] = ((375, 500), (500, 334), (333, 500), (500, 375))  # as VOC's
TRAIN = ("2007_000032", "2007_000039", "2007_000063", "2007_000068")
VAL, TEST = ("2007_000033", "2007_000042"), ("2008_000006", "2008_000011")
EXTRA = ("2008_000002", "2008_000003", "2008_000007", "2008_000009")  # only SBD has masks of these
COCO_CLASSES = {  # the official ids of the 20 classes of VOC and of two others
    "person": 1, "bicycle": 2, "car": 3, "motorcycle": 4, "airplane": 5, "bus": 6, "train": 7, "boat": 9, "bird": 16,
    "cat": 17, "dog": 18, "horse": 19, "sheep": 20, "cow": 21, "bottle": 44, "chair": 62, "couch": 63,
    "potted plant": 64, "dining table": 67, "tv": 72, "truck": 8, "pizza": 59,
}  # fmt: skip


def voc(root: Path) -> None:
    """VOCdevkit with all lists and masks, and SBD's release: 4 train, 2 val, 2 test, 8 augmented images."""
    base, released = root / "VOCdevkit" / "VOC2012", root / "benchmark_RELEASE" / "dataset"
    names = [*TRAIN, *EXTRA, *VAL, *TEST]
    for i, name in enumerate(names):
        image, labels = _scene(name, SIZES[i % len(SIZES)], 21)
        _save(base / "JPEGImages" / f"{name}.jpg", image)
        if name in TRAIN + VAL:
            _save_mask(base / "SegmentationClass" / f"{name}.png", _ringed(labels))
        if name in TRAIN + EXTRA:
            _save_mask(base / "SegmentationClassAug" / f"{name}.png", labels)
        if name in (*TRAIN[1:], *EXTRA, VAL[0]):
            _save(released / "img" / f"{name}.jpg", image)
            instances, number = ndimage.label(labels)
            found = [labels[instances == i + 1][0] for i in range(number)]
            _save_matlab(released / "cls" / f"{name}.mat", "GTcls", labels, {"CategoriesPresent": np.unique(found)})
            _save_matlab(released / "inst" / f"{name}.mat", "GTinst", instances, {"Categories": np.array(found)})
    lists = {"train": TRAIN, "val": VAL, "trainval": TRAIN + VAL, "test": TEST, "train_aug": TRAIN + EXTRA}
    for split, listed in lists.items():
        _write(base / "ImageSets" / "Segmentation" / f"{split}.txt", listed)
    # SBD's lists overlap both of VOC's: SBD's train has an image of VOC's val.
    _write(released / "train.txt", (TRAIN[1], VAL[0], EXTRA[0], EXTRA[3]))
    _write(released / "val.txt", (TRAIN[2], TRAIN[3], EXTRA[1], EXTRA[2]))


def coco(root: Path) -> None:
    """All of ``voc``, and COCO 2017: polygons, a crowd, a small object on a large one, an image of no class of VOC."""
    voc(root)
    table = _box("dining table", 100, 200, 300, 400)
    person, pizza = _box("person", 250, 100, 350, 300), _box("pizza", 280, 320, 450, 390)
    people = _box("person", 0, 0, 100, 100) | {"iscrowd": 1}
    people["segmentation"] = {"counts": _runs(people.pop("corners")), "size": [480, 640]}
    car = _box("car", 400, 300, 500, 400)
    car["segmentation"].append([10, 10, 20, 10, 20, 20, 10, 20])  # an object in two parts
    trained = {9: [person, table, pizza], 25: [people, car], 30: [_box("pizza", 9, 9, 99, 99)]}
    _coco_split(root / "coco", "train2017", trained)
    _coco_split(root / "coco", "val2017", {139: [_box("dog", 300, 200, 350, 250), _box("tv", 200, 100, 500, 400)]})


def cityscapes(root: Path) -> None:
    """Two cities and four images in train, two in val, one in test, two coarse ones in train_extra."""
    frames = {
        "train": ("aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313", "bochum_000000_000600"),
        "val": ("frankfurt_000000_000294", "lindau_000000_000019"),
        "test": ("berlin_000000_000019",),
        "train_extra": ("erlangen_000000_000000", "troisdorf_000000_000000"),
    }
    for split, names in frames.items():
        kind = "gtCoarse" if split == "train_extra" else "gtFine"
        for name in names:
            city = name.split("_")[0]
            image, labels = _scene(name, (1024, 2048), 34, patches=40)
            labels[-60:] = 1  # ego vehicle
            if kind == "gtCoarse":
                labels[_ringed(labels) == VOID] = 0  # unlabelled
            _save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", image)
            if split != "test":
                _save(root / kind / split / city / f"{name}_{kind}_labelIds.png", labels)


def imagenet(root: Path) -> None:
    """Six classes with three training images and one val image each."""
    for c, wnid in enumerate(("n01440764", "n01443537", "n02085620", "n02123045", "n03445777", "n07753592")):
        for i in range(3):
            image, _ = _scene(f"{wnid}_{i}", (280, 320), 7, label=c + 1)
            _save(root / "imagenet" / "train" / wnid / f"{wnid}_{i}.JPEG", image)
        image, _ = _scene(f"val {wnid}", (280, 320), 7, label=c + 1)
        _save(root / "imagenet" / "val" / wnid / f"ILSVRC2012_val_{c + 1:08d}.JPEG", image)


def camvid(root: Path) -> None:
    """Four training scenes of two drives and two val scenes of a third, in the layout of the SegNet tutorial and with
    its prefix in the lists."""
    frames = {
        "train": ("0001TP_006690", "0001TP_006750", "0006R0_f00930", "0006R0_f00990"),
        "val": ("0016E5_07959", "0016E5_07961"),
    }
    for split, names in frames.items():
        rows = []
        for name in names:
            image, labels = _scene(name, (360, 480), 11, patches=12)
            labels[_ringed(labels) == VOID] = 11
            _save(root / split / f"{name}.png", image)
            _save(root / f"{split}annot" / f"{name}.png", labels)
            rows.append(f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png")
        _write(root / f"{split}.txt", rows)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "voc": voc, "coco": coco, "cityscapes": cityscapes, "imagenet": imagenet, "camvid": camvid,
}  # fmt: skip


def _scene(name: str, size: Size, classes: int, patches: int = 3, label: int | None = None) -> tuple[Any, Any]:
    """Image uint8 (H, W, 3) and labels uint8 (H, W): rectangles of one label (or ``label``) and its colour, on label 0.

    Both depend only on the arguments. The image is smooth, so that large images make small files.
    """
    random = generator("layouts", name)
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    shade = 90 + 60 * rows / height + 30 * np.sin(columns / width * random.uniform(2, 9))
    image, labels = np.repeat(shade[..., None], 3, 2).astype(np.uint8), np.zeros(size, np.uint8)
    for _ in range(patches):
        tall, wide = random.integers(height // 8, height // 2), random.integers(width // 8, width // 2)
        top, left = random.integers(0, height - tall), random.integers(0, width - wide)
        place = (slice(top, top + tall), slice(left, left + wide))
        labels[place] = drawn = int(random.integers(1, classes)) if label is None else label
        image[place] = [round(255 * value) for value in colorsys.hsv_to_rgb(drawn / classes, 0.8, 0.9)]
    return image, labels


def _ringed(labels: np.ndarray) -> np.ndarray:
    """Labels with void within RING_PX of every boundary."""
    window = 2 * RING_PX + 1
    flat = ndimage.maximum_filter(labels, window) == ndimage.minimum_filter(labels, window)
    return np.where(flat, labels, np.uint8(VOID))


def _box(name: str, left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    """A COCO annotation of a rectangle, as a polygon: pixels from left and top up to, but without, right and bottom."""
    return {
        "category_id": COCO_CLASSES[name], "iscrowd": 0, "area": (right - left) * (bottom - top),
        "bbox": [left, top, right - left, bottom - top], "corners": (left, top, right, bottom),
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
    }  # fmt: skip


def _runs(corners: tuple[int, int, int, int]) -> list[int]:
    """Run lengths of a rectangle in 480x640, column by column, the first of zeros: COCO's uncompressed form."""
    mask = np.zeros((640, 480), int)  # (column, row)
    left, top, right, bottom = corners
    mask[left:right, top:bottom] = 1
    changes = np.flatnonzero(np.diff(mask.ravel(), prepend=0)).tolist()
    return np.diff([0, *changes, mask.size]).tolist()


def _coco_split(base: Path, split: str, annotated: dict[int, list[dict[str, Any]]]) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, boxes in annotated.items():
        name = f"{number:012d}.jpg"
        image, _ = _scene(f"{split} {name}", (480, 640), 21)
        _save(base / split / name, image)
        images.append({"id": number, "file_name": name, "height": 480, "width": 640})
        for box in boxes:
            kept = {key: value for key, value in box.items() if key != "corners"}
            annotations.append({"id": len(annotations) + 1, "image_id": number} | kept)
    categories = [{"id": number, "name": name, "supercategory": "thing"} for name, number in COCO_CLASSES.items()]
    instances = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    _write(base / "annotations" / f"instances_{split}.json", [json.dumps(instances)])


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"compress_level": 1} if path.suffix == ".png" else {"quality": 90}
    Image.fromarray(pixels).save(path, **options)


def _save_mask(path: Path, labels: np.ndarray) -> None:
    """A palette image, as in VOC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    colours = [colorsys.hsv_to_rgb(i * 0.618 % 1, 0.8, 0.8) for i in range(254)]
    image.putpalette([0, 0, 0, *(round(255 * v) for colour in colours for v in colour), 224, 224, 192])
    image.save(path)


def _save_matlab(path: Path, variable: str, labels: np.ndarray, more: dict[str, np.ndarray]) -> None:
    """A struct with Segmentation, as in SBD, without the time that scipy writes into the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    matlab.savemat(buffer, {variable: {"Segmentation": labels.astype(np.uint8)} | more}, do_compression=True)
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:])


def _write(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
