"""PASCAL VOC 2012 in the VOCdevkit layout with SBD's masks, as a published list of PNGs or as SBD's own release; or a
user's own set in the same layout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np

from study.data.download import Archive
from study.data.image_mask_pairs import Classes, Pad, Pair, Pairs, Tune, folder, lines, there
from study.data.pixels import Colour, as_labels, voc_palette
from study.spec.checks import Block, choice
from study.spec.constants import VOID
from study.spec.errors import InputError

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
LISTS = ("auto", "train", "train_aug", "sbd")
DEVKIT, SBD = Path("VOCdevkit") / "VOC2012", Path("benchmark_RELEASE") / "dataset"
TRAINVAL = Archive(
    "VOCtrainval_11-May-2012.tar",
    ("VOCdevkit/VOC2012/JPEGImages", "VOCdevkit/VOC2012/SegmentationClass", "VOCdevkit/VOC2012/ImageSets/Segmentation"),
    1_999_639_040,
    "md5:6cd6e144f989b92b3379bac3b3de84fd",
    (
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://data.pjreddie.com/files/VOCtrainval_11-May-2012.tar",
        "https://pjreddie.com/media/files/VOCtrainval_11-May-2012.tar",
    ),
)
BOUNDARIES = Archive(
    "benchmark.tgz",
    ("benchmark_RELEASE/dataset/cls", "benchmark_RELEASE/dataset/train.txt", "benchmark_RELEASE/dataset/val.txt"),
    1_420_000_000,  # about
    "md5:82b4d87ceb2ed10f6038a1cba92111cb",
    (
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    ),
)
TESTS = "VOC2012test.tar, from the PASCAL VOC evaluation server behind a login"


class Options(Block):
    train: Annotated[str, choice(*LISTS)]
    tune: Tune
    pad: Pad
    classes: Classes = CLASSES


class Voc(Pairs):
    """Pairs whose masks are PNGs or SBD's MATLAB files."""

    def mask(self, path: Path, limit: tuple[int, int] | None) -> np.ndarray:
        return _matlab(path) if path.suffix == ".mat" else super().mask(path, limit)


class Parts(NamedTuple):
    """Pairs of train and val, pairs from which tune is chosen, ``listed`` (see study.data.prepare), and notes."""

    train: list[Pair]
    val: list[Pair]
    pool: list[Pair]
    listed: dict[str, int]
    notes: list[str]


def open(options: Options, root: Path | None, cache: Path) -> Voc:
    """Options: train (train, train_aug, sbd; auto: the first of train_aug, sbd and train that exists, D14, D50), tune
    (images kept apart), pad (height, width), and optionally classes (names of a user's own, from label 0 up).

    The tune split is chosen from the list of ``auto``, whatever the training split is. So it is the same in all stages
    of Table 7, and none of them trains on its images. Its masks are those of the list from which it was chosen.
    """
    found = parts(options.train, root)
    classes, size = options.classes, options.pad
    source = Voc(
        classes, found.train, found.val, tune=options.tune, void=VOID, size=size, pool=found.pool, notes=found.notes
    )
    if classes == CLASSES:
        source.listed, source.colours = found.listed, colours()
    return source


def colours() -> dict[int, Colour]:
    """VOC's own colours, by label."""
    return {label: tuple(colour) for label, colour in enumerate(voc_palette()[: len(CLASSES)].tolist())}


def parts(chosen: str, root: Path | None) -> Parts:
    """The pairs of the lists. Raises InputError for a list that is missing, or that trains on an image of val."""
    base = _base(root)
    lists = base / "ImageSets" / "Segmentation"
    holders = (base, base.parent.parent)  # next to VOCdevkit, or in a folder that is VOC2012 itself
    released = next((holder / SBD for holder in holders if (holder / SBD).is_dir()), base.parent.parent / SBD)
    notes: list[str] = []
    val = [_pair(base, name, "SegmentationClass") for name in _names(lists / "val.txt", notes)]
    official = [_pair(base, name, "SegmentationClass") for name in _names(lists / "train.txt", notes)]
    at_hand = {"train_aug": (lists / "train_aug.txt").is_file(), "sbd": released.is_dir(), "train": True}
    largest = next(name for name, there in at_hand.items() if there)
    wanted = largest if chosen == "auto" else chosen
    held = {}
    for name in dict.fromkeys((wanted, largest)):
        if name == "train_aug":
            held[name] = [_pair(base, name, "SegmentationClassAug") for name in _names(lists / "train_aug.txt", notes)]
        else:
            held[name] = official if name == "train" else _with_sbd(base, released, official, val)
        if shared := sorted({name for name, *_ in held[name]} & {name for name, *_ in val}):
            raise InputError(
                f"the list {name} of voc must hold no image of val.txt (it would be trained on and then scored), "
                f"got {shared[0]} and {len(shared) - 1} more; remove them from the list"
            )
    listed = {"voc/train": len(official), "voc/val": len(val)}
    listed |= {"voc/augmented": len(held[largest])} if largest != "train" else {}
    listed |= {"voc/test": len(lines(lists / "test.txt"))} if (lists / "test.txt").is_file() else {}
    return Parts(held[wanted], val, held[largest], listed, notes)


def archives(options: Options) -> tuple[Archive, ...]:
    """The archives to unpack below the root; a user's own classes have none."""
    return () if "classes" in options.model_fields_set else archives_of(options.train)


def archives_of(train: str) -> tuple[Archive, ...]:
    """The archives to unpack below the root for one of LISTS."""
    return (TRAINVAL, BOUNDARIES) if train == "sbd" else (TRAINVAL,)


def tests(options: Options, root: Path | None) -> list[tuple[str, Path]]:
    """See ``test_images``."""
    return test_images(root)


def test_images(root: Path | None) -> list[tuple[str, Path]]:
    """Names and paths of the test split's images. Raises InputError if one is missing."""
    base = _base(root)
    found = []
    for name in _names(base / "ImageSets" / "Segmentation" / "test.txt"):
        path = base / "JPEGImages" / f"{name}.jpg"
        if not path.is_file():
            raise InputError(f"an image of test.txt must exist, got no file {path}; unpack {TESTS}")
        found.append((name, path))
    return found


def _base(root: Path | None) -> Path:
    base = folder(root, "voc's data.root")
    return base / DEVKIT if (base / DEVKIT).is_dir() else base


def _names(path: Path, notes: list[str] | None = None) -> list[str]:
    """Names of images without duplicates. Published augmented lists hold the paths of an image and its mask in place of
    a name. Names in a user's own lists may contain dots and blanks."""
    named = (Path(re.sub(r"(\.jpg)\s+\S.*", r"\1", line)).name for line in lines(path, notes))
    return list(dict.fromkeys(name.removesuffix(".jpg").removesuffix(".png") for name in named))


def _pair(base: Path, name: str, masks: str) -> Pair:
    return name, there(base / "JPEGImages" / f"{name}.jpg"), there(base / masks / f"{name}.png")


def _with_sbd(base: Path, released: Path, official: list[Pair], val: list[Pair]) -> list[Pair]:
    """The official pairs and, with SBD's masks, all images of SBD's two lists that are in neither list of VOC.

    SBD's own lists overlap both: many of its training images are in VOC's val.
    """
    known = {name for name, *_ in official + val}
    listed = dict.fromkeys(_names(released / "train.txt") + _names(released / "val.txt"))
    added = []
    for name in (name for name in listed if name not in known):
        image = base / "JPEGImages" / f"{name}.jpg"
        image = image if image.is_file() else released / "img" / f"{name}.jpg"
        added.append((name, image, released / "cls" / f"{name}.mat"))
    return official + added


def _matlab(path: Path) -> np.ndarray:
    """Labels uint8 (H, W) of an SBD mask, which marks no void. Raises InputError for a damaged file."""
    from scipy.io import loadmat

    try:
        found = np.asarray(loadmat(path, variable_names="GTcls")["GTcls"]["Segmentation"][0, 0], np.float64)
    except NotImplementedError as error:
        raise InputError(
            f"a mask of SBD must be a MATLAB file of version 5, as published, got one of 7.3 (HDF5), {path}; save it "
            "in MATLAB with the option -v7"
        ) from error
    except Exception as error:  # scipy raises many kinds of errors for damaged files
        raise InputError(
            f"a mask of SBD must be a MATLAB file with GTcls.Segmentation, got {path} ({error!r}); fetch it again"
        ) from error
    return as_labels(found, path)
