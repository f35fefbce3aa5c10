"""Stage-1 of Table 7: COCO with SBD and VOC, in VOC's 21 classes. It is scored on VOC, as the other stages are.

Below the root: ``coco/annotations/instances_<split>.json``, ``coco/<split>/*.jpg`` and the files that
study.data.sets.voc reads.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from filelock import FileLock
from PIL import Image

from study.data.download import Archive
from study.data.image_mask_pairs import Pad, Pair, Tune, folder
from study.data.prepare import Tick
from study.data.sets import voc
from study.spec.checks import Block, choice, names
from study.spec.constants import VOID
from study.spec.digest import digest
from study.spec.errors import InputError
from study.store.runs import write_json

RENAMED = {
    "airplane": "aeroplane", "dining table": "diningtable", "motorcycle": "motorbike", "potted plant": "pottedplant",
    "couch": "sofa", "tv": "tvmonitor",
}  # fmt: skip
FORMAT = 1  # of the converted masks: raise it when the drawing changes
HOST = "http://images.cocodataset.org"
IMAGES = {
    "train2017": (19_336_861_798, "md5:cced6f7f71b7629ddf16f17bbcfab6b2"),
    "val2017": (815_585_330, "md5:442b8da7639aecaf257c1dceb8ba8c80"),
}
ANNOTATIONS = (252_907_541, "md5:f4bbac642086de4f52a3fdda2de5fa2c")
MEMBERS: dict[str, dict[str, Any]] = {
    "images": {"id": int, "file_name": str, "height": int, "width": int},
    "annotations": {"id": int, "image_id": int, "category_id": int, "iscrowd": int, "segmentation": list | dict},
    "categories": {"id": int, "name": str},
}


class Options(Block):
    train: Annotated[
        tuple[str, ...],
        names(1, 9, "be a list of different splits of COCO", "write [train2017, val2017]"),
    ]
    voc: Annotated[str, choice(*voc.LISTS)]
    others: Annotated[str, choice("background", "void")]
    crowd: Annotated[str, choice("void", "class")]
    tune: Tune
    pad: Pad
    pad_train: Pad


def open(options: Options, root: Path | None, cache: Path) -> voc.Voc:
    """Options: train (splits of COCO, D51), voc (``train`` of study.data.sets.voc), others (background or void: pixels
    of COCO's other 60 classes, D52), crowd (void or class: crowds of VOC's classes, D52), tune (images kept apart), pad
    (height, width; of val and tune) and pad_train. Raises InputError if ``convert`` was not called before."""
    base = _base(root)
    found = voc.parts(options.voc, root)
    train = [pair for split in options.train for pair in _converted(options, split, base, cache)] + found.train
    size = options.pad
    source = voc.Voc(
        voc.CLASSES, train, found.val, tune=options.tune, void=VOID, size=size, pool=found.pool, notes=found.notes
    )
    source.sizes = {"train": options.pad_train}
    source.listed, source.colours = found.listed | {"voc/coco": len(train)}, voc.colours()
    return source


def convert(options: Options, root: Path | None, cache: Path, tick: Tick) -> None:
    """Draw a mask for each image of COCO that shows a class of VOC, once; ``tick`` counts the images of each split.

    Masks are written to a temporary folder, which is renamed when complete. So an interrupted conversion starts again.
    Raises InputError for annotations that are missing, truncated or of an unknown form, or a missing image.
    """
    base = _base(root)
    cache.mkdir(parents=True, exist_ok=True)
    for split in options.train:
        place = _place(options, split, base, cache)
        if place.is_dir():
            continue
        with FileLock(place.with_suffix(".lock")):
            if place.is_dir():  # another process drew them meanwhile
                continue
            temporary = place.with_name(f"{place.name}-converting")
            shutil.rmtree(temporary, ignore_errors=True)  # left by an interrupted conversion
            temporary.mkdir()
            try:
                _draw_all(base, split, options, temporary, tick)
                os.replace(temporary, place)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)


def archives(options: Options) -> tuple[Archive, ...]:
    """The archives to unpack below the root: images and annotations of the splits, and those of VOC."""
    splits, name = [split for split in options.train if split in IMAGES], "annotations_trainval2017.zip"
    found = [
        Archive(f"{split}.zip", (f"coco/{split}",), *IMAGES[split], (f"{HOST}/zips/{split}.zip",), "coco")
        for split in splits
    ]
    if named := tuple(f"coco/annotations/instances_{split}.json" for split in splits):
        found.append(Archive(name, named, *ANNOTATIONS, (f"{HOST}/annotations/{name}",), "coco"))
    return (*found, *voc.archives_of(options.voc))


def tests(options: Options, root: Path | None) -> list[tuple[str, Path]]:
    """VOC's test split."""
    return voc.test_images(root)


def _base(root: Path | None) -> Path:
    """The folder ``coco``."""
    return folder(root, "coco's data.root") / "coco"


def _annotations(base: Path, split: str) -> Path:
    path = base / "annotations" / f"instances_{split}.json"
    if not path.is_file():
        raise InputError(f"coco must have annotations of {split}, got no file {path}; fetch it or name the right root")
    return path


def _place(options: Options, split: str, base: Path, cache: Path) -> Path:
    """The folder of a split's masks: one for each state of the annotation file and each way of drawing it."""
    path = _annotations(base, split)
    stat = path.stat()
    known = (FORMAT, str(path.resolve()), stat.st_size, stat.st_mtime_ns, options.others, options.crowd)
    return cache / f"coco-{digest(known)[:16]}"


def _converted(options: Options, split: str, base: Path, cache: Path) -> list[Pair]:
    place = _place(options, split, base, cache)
    try:
        names = json.loads((place / "index.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"the masks of {split} must be drawn before they are read, got {error}; remove {place} and run again"
        ) from error
    stems = [(Path(name).stem, name) for name in names]
    return [(f"{split}/{stem}", base / split / name, place / f"{stem}.png") for stem, name in stems]


def _draw_all(base: Path, split: str, options: Options, target: Path, tick: Tick) -> None:
    path = _annotations(base, split)
    images, annotations, labels = _read(path)
    kept = [image for image in images if any(labels[a["category_id"]] for a in annotations[image["id"]])]
    for image in kept:
        if not (base / split / image["file_name"]).is_file():
            raise InputError(
                f"images that {path} lists must exist, got no {image['file_name']} in {base / split}; fetch the "
                "images again"
            )
    for done, image in enumerate(kept, 1):
        mask = _draw(image, annotations[image["id"]], labels, options, path)
        Image.fromarray(mask).save(target / f"{Path(image['file_name']).stem}.png")
        tick(done, len(kept))
    write_json(target / "index.json", [image["file_name"] for image in kept])


def _read(path: Path) -> tuple[list[dict[str, Any]], dict[int, list[dict[str, Any]]], dict[int, int]]:
    """Images, annotations by image, and the label of each category (0 for those that VOC does not have)."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"annotations of coco must be complete JSON, got {path} ({error}); fetch it again") from error
    for key, members in MEMBERS.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise InputError(f"annotations of coco must have a list {key!r}, got none in {path}; fetch the instances")
        for entry in entries:
            for member, kind in members.items():
                if not isinstance(entry, dict) or not isinstance(entry.get(member), kind):
                    raise InputError(
                        f"each of {key!r} must have {member!r} ({getattr(kind, '__name__', kind)}), got "
                        f"{str(entry)[:80]} in {path}; fetch the instances"
                    )
    files = Counter(image["file_name"] for image in content["images"])
    if again := [name for name, number in files.items() if number > 1]:
        raise InputError(
            f"'images' must list each file once, got {again[0]} {files[again[0]]} times and {len(again) - 1} more in "
            f"{path}; fetch it again"
        )
    names = {category["id"]: RENAMED.get(category["name"], category["name"]) for category in content["categories"]}
    if lacking := sorted(set(voc.CLASSES[1:]) - set(names.values())):
        raise InputError(
            f"'categories' must have all classes of VOC, got no {lacking[0]} in {path}; fetch the instances"
        )
    labels = {number: voc.CLASSES.index(name) if name in voc.CLASSES else 0 for number, name in names.items()}
    annotations, numbers = defaultdict(list), {image["id"] for image in content["images"]}
    for annotation in content["annotations"]:
        for key, known in (("image_id", numbers), ("category_id", labels)):
            if annotation[key] not in known:
                raise InputError(
                    f"{key!r} of an annotation must be one that {path} lists, got {annotation[key]!r} in annotation "
                    f"{annotation['id']}; fetch it again"
                )
        annotations[annotation["image_id"]].append(annotation)
    return content["images"], annotations, labels


def _draw(
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    labels: dict[int, int],
    options: Options,
    path: Path,
) -> np.ndarray:
    """Labels uint8 (H, W), drawn in order: other classes, then crowds, then objects from the largest to the
    smallest."""
    size = (image["height"], image["width"])
    layers = []
    for annotation in annotations:
        label, crowd = labels[annotation["category_id"]], bool(annotation["iscrowd"])
        if not label and options.others == "background":
            continue
        pixels = _pixels(annotation, size, path)
        value = VOID if not label or (crowd and options.crowd == "void") else label
        layers.append((bool(label), not crowd, -int(pixels.sum()), annotation["id"], value, pixels))
    mask = np.zeros(size, np.uint8)
    for *_, value, pixels in sorted(layers, key=lambda layer: layer[:4]):
        mask[pixels] = value
    return mask


def _pixels(annotation: dict[str, Any], size: tuple[int, int], path: Path) -> np.ndarray:
    """bool (H, W) of an annotation: polygons, or run lengths, plain or compressed. Raises InputError for other
    forms."""
    from pycocotools import mask as coding

    form = annotation["segmentation"]
    try:
        if isinstance(form, list):
            if not form or any(len(polygon) < 6 or len(polygon) % 2 for polygon in form):
                raise ValueError("a polygon without three corners")
            runs = coding.merge(coding.frPyObjects(form, *size))
        else:
            if tuple(form["size"]) != size:
                raise ValueError(f"run lengths of {form['size']} for an image of {list(size)}")
            plain = isinstance(form["counts"], list)
            if plain and sum(form["counts"]) != size[0] * size[1]:
                raise ValueError(f"run lengths of {sum(form['counts'])} pixels for an image of {list(size)}")
            runs = coding.frPyObjects(form, *size) if plain else form
        with warnings.catch_warnings():
            # pycocotools 2.0 does not know numpy 2's keyword of __array__ yet.
            warnings.filterwarnings("ignore", "__array__", DeprecationWarning)
            return coding.decode(runs).astype(bool)
    except Exception as error:  # the decoder raises many kinds of errors for wrong forms
        raise InputError(
            f"'segmentation' must be polygons or run lengths, got annotation {annotation['id']} of {path} ({error}); "
            "fetch it again"
        ) from error
