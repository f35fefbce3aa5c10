"""Photographs with one class each, in ImageNet's folder layout: ``train/<class>/*.JPEG`` and ``val/<class>/*.JPEG``.

For the pretraining of backbones (Tables 6 and 11). The paper says only "224 center crop of 256x256 image": here the
shorter side is resized to 256 px and the square at the centre is kept.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from study.data.image_mask_pairs import Tune, folder
from study.data.pixels import check_name, picture
from study.seeds import number
from study.spec.checks import Block, Broken, shown, whole
from study.spec.errors import InputError

SUFFIXES = {".jpeg", ".jpg", ".png"}


class Options(Block):
    size: Annotated[int, whole(1, 4096)]  # px
    resize: Annotated[int, whole(1, 4096)]  # px
    tune: Tune

    def check(self) -> None:
        if self.resize < self.size:
            raise Broken(
                f"be at least its size {self.size} (it is cropped to that)", shown(self.resize),
                "the paper has 224 of 256", "resize",
            )  # fmt: skip


class Photographs:
    """Photographs by split and index; classes are in the order of their folders' names.

    Images of train have ``resize`` px a side, for random crops of ``size``; those of tune and val are the centre crops.
    ``tune`` images of the train folder, chosen by the digests of their names, are kept apart, in the order of the
    digests, so that the first few of them show many classes.
    """

    task = "classify"

    def __init__(self, base: Path, size: int, resize: int, tune: int) -> None:
        found = {split: _files_by_class(base / split) for split in ("train", "val")}
        self.classes = tuple(found["train"])
        if single := sorted(found["train"].keys() ^ found["val"].keys()):
            raise InputError(
                "train and val must have folders for the same classes, "
                f"got {single[0]} in {'train' if single[0] in found['train'] else 'val'} only; add or remove a folder"
            )
        labelled = {
            split: [(label, path) for label, paths in enumerate(by_class.values()) for path in paths]
            for split, by_class in found.items()
        }
        train = labelled["train"]
        if type(tune) is not int or not 0 < tune < len(train):
            raise InputError(
                f"tune must be at least 1 and less than the {len(train)} training images, got {tune!r}; use fewer"
            )
        apart = sorted(train, key=lambda item: number("tune", _name(item[1])))[:tune]
        kept = set(apart)
        self.files_of = {"train": [i for i in train if i not in kept], "tune": apart, "val": labelled["val"]}
        self.splits = {split: len(items) for split, items in self.files_of.items()}
        self.size, self.sizes = (size, size), {"train": (resize, resize)}

    def name(self, split: str, index: int) -> str:
        return _name(self.files_of[split][index][1])

    def files(self) -> list[Path]:
        return [path for items in self.files_of.values() for _, path in items]

    def read(self, split: str, index: int) -> tuple[np.ndarray, int]:
        """image uint8 (H, W, 3) of ``sizes`` or ``size``, and its class. Raises InputError for a damaged file."""
        label, path = self.files_of[split][index]
        resize, size = self.sizes["train"][0], self.size[0]
        image = np.asarray(_centre_square(Image.fromarray(picture(path)), resize))
        if split == "train":
            return image, label
        start = (resize - size) // 2
        return image[start : start + size, start : start + size], label


def _name(path: Path) -> str:
    """Class and file name: several classes may have a file of the same name."""
    return f"{path.parent.name}/{path.name}"


def _files_by_class(base: Path) -> dict[str, list[Path]]:
    """Image files by class folder, both in the order of names. Raises InputError for no folders or an empty one."""
    folder(base, f"imagenet's {base.name}")
    folders = sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise InputError(
            f"imagenet's {base.name} must have one folder per class, got {base} with files only; sort the images into "
            "folders named by their class (ImageNet's own val archive comes unsorted)"
        )
    found = dict[str, list[Path]]()
    for path in folders:
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
        if not files:
            raise InputError(f"a class must have at least one image, got none in {path}; fill or remove the folder")
        for file in files:
            check_name(file)
        found[unicodedata.normalize("NFC", path.name)] = files  # the splits may differ in their Unicode forms
    return dict(sorted(found.items()))


def _centre_square(image: Image.Image, side: int) -> Image.Image:
    """The image with its shorter side resized to ``side``, cut to the square at its centre."""
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    return image.resize((side, side), Image.Resampling.BILINEAR, box)  # PIL's bilinear averages where it shrinks


def open(options: Options, root: Path | None, cache: Path) -> Photographs:
    """Options: size (px a side of the crops), resize (px of an image's shorter side), tune (images kept apart)."""
    return Photographs(_base(root), options.size, options.resize, options.tune)


def _base(root: Path | None) -> Path:
    """The folder that holds train and val: the root, or ``imagenet`` in it."""
    base = root if root is not None else folder(root, "imagenet's data.root")
    base = base / "imagenet" if (base / "imagenet").is_dir() else base
    if not any((base / split).is_dir() for split in ("train", "val")):
        raise InputError(
            f"imagenet must have the folders train/<class>/ and val/<class>/ in {root} or its folder imagenet, got "
            "none; sort the images of ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar into them (behind a login: "
            "https://image-net.org/download)"
        )
    return base
