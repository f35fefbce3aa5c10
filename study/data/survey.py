"""Inspects a folder of images and masks, and derives the data block that reads it, with reasons (D125).

It asks nothing that the files can answer. Each assumption is a line of ``said``, with its numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from PIL import Image

from study.data import pixels
from study.data.class_search import Classes, classes_of
from study.data.pair_search import Found, Place, pairs_below, spread
from study.data.pixels import Size
from study.data.sets import camvid, cityscapes, voc
from study.data.stems import listed_stems
from study.seeds import number
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.typed import Json
from study.spec.words import counted

STRIDE = 32  # of the coarsest level; `pad` is a multiple of it
LONGEST = 512  # px: large images are reduced to this, as the paper's crops of VOC are no larger
LARGE = 640  # px: images above this are large
BAND = 7 / 500  # px of the boundary band per px of the longest side (D12)
VAL_SHARE = 0.2
TUNE_SHARE, LEAST_TUNE, MOST_TUNE = 0.12, 10, 120  # as in the shipped tiers on photographs
LEAST_GROUP = 5  # images per group, on average
FEW_GROUPS = 8  # to train on; with fewer groups, a whole one is too much for tune
GAP = 5  # images on either side of a tune split that is a part of a group
NEIGHBOURS = 20  # pairs of neighbours that are compared
ALIKE = 0.6  # share of the difference between any two images: neighbours below it belong together
SPLITS = {"train": ("train", "training", "trn"), "val": ("val", "valid", "validation", "dev", "test", "testing")}
# Expressions for the group in a stem and for what follows it: a folder, or the part before a running number.
GROUPINGS = ((r"^(.+)/", "/"), (r"^(.+)[_-][^_/-]*\d$", "[_-]"), (r"^(.*\D)\d+$", r"\d+$"))
VOC_NAME = re.compile(r"20\d\d_\d{6}")
LISTED = 5000  # files that are considered as lists, at most


class Survey(NamedTuple):
    """``data`` is the block of that name without its root, which is ``root``; ``band_px`` that of the tier (None: the
    shipped tier's); ``said`` the findings and assumptions, one line each."""

    data: dict[str, Json]
    root: Path
    band_px: int | None
    said: list[str]


class Part(NamedTuple):
    """Some keys of the data block, and lines that explain them."""

    data: dict[str, Json]
    said: list[str]


class Grouped(NamedTuple):
    """The group of each image, the pattern that finds it, and the pattern of what follows a group's name in stems."""

    of: dict[str, str]
    pattern: str
    behind: str


def survey(folder: Path, *, whole: bool = False) -> Survey:
    """Inspect a folder. With ``whole`` it reads every mask, otherwise a sample of many.

    Raises InputError for a missing folder, images without masks, masks without images, and files that are not masks.
    """
    if not folder.is_dir():
        state = "a file" if folder.is_file() else "no folder"
        raise InputError(f"new-tier must be given a folder of images and masks, got {folder} ({state}); name one")
    return _voc(folder, whole) or _camvid(folder, whole) or _folder(folder, whole)


def _folder(base: Path, whole: bool) -> Survey:
    """A folder for the data set `folder`."""
    found = pairs_below(base)
    places = {"image": found.images, "mask": found.masks}
    # That data set takes names below its root only.
    at_root = any(place.folder == "" for place in places.values())
    root, above = (base.absolute().parent, f"{base.absolute().name}/") if at_root else (base, "")
    data: dict[str, Json] = {"name": "folder"}
    data |= {f"{what}s": f"{above}{place.folder}".rstrip("/") for what, place in places.items()}
    data |= {f"{what}_suffix": place.end for what, place in places.items() if place.end}
    sizes = [pixels.size_of(image) for image, _ in found.pairs.values()]
    lists = _lists(base)
    scale, of_range = _range([image for image, _ in found.pairs.values()])
    classes = _cityscapes(found) or classes_of([mask for _, mask in found.pairs.values()], sizes, lists, whole)
    groups, of_groups = _groups(found, scale)
    train, of_split = _split(root, lists, found, groups)
    parts = [
        Part({}, _told_pairs(found)),
        Part({"classes": [*classes.names], **classes.options}, classes.said + _told_shares(classes)),
        of_range, of_groups, of_split, _tune(train, groups), _pad(sizes),
    ]  # fmt: skip
    for part in parts:
        data |= part.data
    band_px, told = _band(sizes)
    return Survey(data, root, band_px, [line for part in parts for line in part.said] + [told])


def _voc(folder: Path, whole: bool) -> Survey | None:
    """VOC 2012 itself, or a set in its layout in which some images have no masks."""
    base = folder / voc.DEVKIT if (folder / voc.DEVKIT).is_dir() else folder
    lists = base / "ImageSets" / "Segmentation"
    if not all((lists / name).is_file() for name in ("train.txt", "val.txt")) or not (base / "JPEGImages").is_dir():
        return None
    parts = voc.parts("auto", folder)
    official = all(VOC_NAME.fullmatch(name) for name, *_ in parts.train + parts.val)
    masked = {mask.stem for mask in (base / "SegmentationClass").glob("*.png")}
    if not official and all(path.stem in masked for path in (base / "JPEGImages").iterdir()):
        return None  # data set `folder` reads it, and can do more
    pairs = [pair for pair in parts.val + parts.train if pair[2].suffix != ".mat"]
    sizes = [pixels.size_of(image) for _, image, _ in pairs]
    classes = classes_of([mask for *_, mask in pairs], sizes, [] if official else _lists(base), whole)
    named = _by_label(classes)
    if "palette" in classes.options or max(named) >= VOID or classes.options.get("void", VOID) != VOID:
        return None
    official = official and max(named) < len(voc.CLASSES)
    data: dict[str, Json] = {"name": "voc", "train": "auto" if official else "train"}
    pad = _pad(sizes, smaller=False)
    if not official:
        data["classes"] = [named.get(label, f"class-{label}") for label in range(max(named) + 1)]
    of_tune = _tune([name for name, *_ in parts.pool], None)
    band_px, told = _band(sizes)
    layout = "VOC 2012" if official else "the layout of VOC"
    said = [f"{layout}: train {len(parts.train)}, val {len(parts.val)} of its lists"]
    said += [] if official else classes.said
    said += [*_told_shares(_renamed(classes, named) if official else classes), *of_tune.said, *pad.said, told]
    return Survey(data | of_tune.data | pad.data, folder, band_px, said)


def _by_label(classes: Classes) -> dict[int, str]:
    labels = classes.options.get("labels")
    if not isinstance(labels, dict):
        return dict(enumerate(classes.names))
    return {int(label): str(name) for label, name in labels.items()}


def _renamed(classes: Classes, named: dict[int, str]) -> Classes:
    """The classes with the names of VOC."""
    known = {name: voc.CLASSES[label] for label, name in named.items()}
    return classes._replace(shares={known[name]: share for name, share in classes.shares.items()})


def _camvid(folder: Path, whole: bool) -> Survey | None:
    """CamVid in the SegNet tutorial's layout."""
    parts = ("train", "trainannot", "val", "valannot")
    if not all((folder / part).is_dir() for part in parts):
        return None
    if not all((folder / f"{split}.txt").is_file() for split in ("train", "val")):
        return None
    options = {"tune": 1, "pad": [32_768, 32_768], "coarse_share": 0, "coarse_px": 0}
    pairs = camvid.open(camvid.Options.model_validate(options), folder, folder).pairs
    listed = [pair for split in pairs.values() for pair in split]
    sizes = [pixels.size_of(image) for _, image, _ in listed]
    classes = classes_of([mask for *_, mask in listed], sizes, [], whole)
    if "palette" in classes.options or max(_by_label(classes)) > camvid.VOID_LABEL:
        raise InputError(
            f"masks in the layout of the SegNet tutorial must hold CamVid's labels 0 to {camvid.VOID_LABEL}, got others"
            f" in {folder}; move images to images/train and images/val, and masks to masks/train and masks/val"
        )
    train = [name for split in ("train", "tune") for name, *_ in pairs[split]]
    drives = Grouped({name: name.split("_")[0] for name, *_ in listed}, "", "")
    of_tune, pad = _tune(train, drives), _pad(sizes, smaller=False)
    data: dict[str, Json] = {"name": "camvid", **of_tune.data, **pad.data}
    said = [f"CamVid in the SegNet tutorial's layout: train {len(train)}, val {len(pairs['val'])} of its lists"]
    return Survey(data, folder, None, [*said, *of_tune.said, *pad.said])


def _cityscapes(found: Found) -> Classes | None:
    """The 19 classes of Cityscapes, whose masks hold 34 numbers."""
    if not found.images.folder.endswith("leftImg8bit") or not found.masks.end.endswith("_labelIds"):
        return None
    labels: dict[str, Json] = {str(n): name for n, name in zip(cityscapes.SCORED, cityscapes.CLASSES, strict=True)}
    said = ["Cityscapes: its 19 classes, all else is void; the tier cityscapes has the paper's scale"]
    return Classes([*cityscapes.CLASSES], {"labels": labels, "others": "void"}, {}, said)


def _told_pairs(found: Found) -> list[str]:
    def shown(place: Place) -> str:
        where = f"in {place.folder}" if place.folder else "in the folder itself"
        return f"{where}, whose names end in {place.end}" if place.end else where

    said = [f"{counted(len(found.pairs), 'image')} {shown(found.images)}; masks {shown(found.masks)}"]
    if found.others:
        said.append(f"{counted(len(found.others), 'other image')} are ignored, such as {found.others[0]}")
    return said


def _told_shares(classes: Classes) -> list[str]:
    ordered = sorted(classes.shares.items(), key=lambda one: -one[1])
    if not ordered:
        return []
    named = ordered if len(ordered) <= 8 else [*ordered[:4], *ordered[-3:]]
    told = ", ".join(f"{name} {share:.2%}" for name, share in named)
    rare = [name for name, share in ordered if share < 0.01]
    said = f"labelled pixels: {told}" + (f" ({len(ordered)} classes)" if len(named) < len(ordered) else "")
    return [f"{said}; {len(rare)} below 1 %: class_weights of the recipe can raise them" if rare else said]


def _range(images: list[Path]) -> tuple[Size | None, Part]:
    """The range of grey levels of images with more than 8 bits, which the data block must state."""
    ends = []
    for path in spread(images, NEIGHBOURS):
        try:
            with Image.open(path) as file:
                if file.mode.startswith(("I", "F")):
                    ends.append((int(np.min(values := np.asarray(file))), int(np.ceil(np.max(values)))))
        except Exception:  # pixels.picture reports it when the image is read
            continue
    if not ends:
        return None, Part({}, [])
    low, high = max(0, min(low for low, _ in ends)), max(high for _, high in ends)
    high = min(65_535, max(high, low + 1))
    said = f"images have more than 8 bits: range [{low}, {high}], from {counted(len(ends), 'image')}, is black to white"
    return (low, high), Part({"range": [low, high]}, [said])


def _lists(base: Path) -> list[Path]:
    """Text files that may be lists of images or of classes, the nearest first."""
    found = (path for depth in range(4) for path in sorted(base.glob("*/" * depth + "*.[tc][xs][tv]")))
    return [path for path, _ in zip((path for path in found if path.is_file()), range(LISTED), strict=False)]


def _groups(found: Found, scale: Size | None) -> tuple[Grouped | None, Part]:
    """Images that belong together, such as frames of one video: neighbours by name that look alike, grouped by their
    folder or by how their names begin."""
    none = None, Part({}, [])
    if _cityscapes(found):
        return none
    stems = sorted(found.pairs)
    if len(stems) < 2 * LEAST_GROUP:
        return none
    near, far = _differences(
        [(found.pairs[a][0], found.pairs[b][0]) for a, b in spread([*pairwise(stems)], NEIGHBOURS)], scale
    )
    if near > ALIKE * far:
        return none
    splits = {stem.split("/")[0] for stem in stems if stem.split("/")[0].lower() in sum(SPLITS.values(), ())}
    alike = f"neighbours by name look alike (they differ by {near:.1f} grey levels, any two images by {far:.1f})"
    for pattern, behind in GROUPINGS:
        of = {stem: match[1] for stem in stems if (match := re.search(pattern, stem))}
        sizes = Counter(of.values())
        several = len({*sizes} - splits) > 1 and not {*sizes} <= splits
        if len(of) == len(stems) >= LEAST_GROUP * len(sizes) and several:
            said = f"{len(sizes)} groups by name, such as {min(sizes)}, as {alike}: groups {pattern}"
            return Grouped(of, pattern, behind), Part({"groups": pattern}, [said])
    said = (
        f"{alike}, but their names show no groups; if they are frames of a video, name lists of whole scenes for train "
        "and val"
    )
    return None, Part({}, [said])


def _differences(pairs: list[tuple[Path, Path]], scale: Size | None) -> tuple[float, float]:
    """The median difference of the two images of a pair, and of the first images of different pairs, in grey levels."""

    def small(path: Path) -> np.ndarray:
        shown = Image.fromarray(pixels.picture(path, scale=scale)).convert("L").resize((16, 16), Image.Resampling.BOX)
        return np.asarray(shown, np.float64)

    first, second = ([small(pair[i]) for pair in pairs] for i in (0, 1))
    near = [np.abs(a - b).mean() for a, b in zip(first, second, strict=True)]
    far = [np.abs(a - b).mean() for i, a in enumerate(first) for b in first[i + 1 :]]
    return float(median(near)), float(median(far)) if far else 0.0


def _split(root: Path, lists: list[Path], found: Found, groups: Grouped | None) -> tuple[list[str], Part]:
    """The stems to train on, including tune, and the keys that define train and val."""
    stems = sorted(found.pairs)
    said: list[str] = []
    data: dict[str, Json] = {}
    chosen: dict[str, list[str]] = {}
    images = {stem: image for stem, (image, _) in found.pairs.items()}
    for split, words in SPLITS.items():
        for path in (path for word in words for path in lists if path.stem.lower() == word):
            try:
                chosen[split] = listed_stems(path, images, [], found.images.end)
            except InputError as error:
                said.append(f"{path.name} is not used: {error}")
                continue
            data[split] = path.absolute().relative_to(root.absolute()).as_posix()
            break
    if "val" in chosen:
        train = chosen.get("train", [stem for stem in stems if stem not in set(chosen["val"])])
        told = f"val is the {len(chosen['val'])} images of {data['val']}, train the {len(train)} "
        return train, Part(data, [*said, told + (f"of {data['train']}" if "train" in data else "others")])
    first = {stem.split("/")[0]: None for stem in stems if "/" in stem}
    named = {split: next((n for w in words for n in first if n.lower() == w), "") for split, words in SPLITS.items()}
    if not data and all(named.values()):
        chosen = {split: [stem for stem in stems if stem.startswith(f"{name}/")] for split, name in named.items()}
        told = " and ".join(f"{split} the {len(chosen[split])} images of the folder {named[split]}" for split in named)
        data = {split: {"folder": name} for split, name in named.items()}
        return chosen["train"], Part(data, [*said, told])
    pool = chosen.get("train", stems)
    if groups is not None:
        return _split_groups(pool, groups, data, said)
    val = set(sorted(pool, key=lambda stem: number("val", stem))[: round(VAL_SHARE * len(pool))])
    told = f"val is a share of {VAL_SHARE} ({len(val)} of {len(pool)} images), as no list or folder defines it"
    return [stem for stem in pool if stem not in val], Part(data | {"val": VAL_SHARE}, [*said, told])


def _split_groups(pool: list[str], groups: Grouped, data: dict[str, Json], said: list[str]) -> tuple[list[str], Part]:
    """Whole groups as val, in the order of their digests, until they hold their share of the images."""
    sizes = Counter(groups.of[stem] for stem in pool)
    val: list[str] = []
    for group in sorted(sizes, key=lambda group: number("val", group)):
        if sum(sizes[other] for other in val) >= VAL_SHARE * len(pool):
            break
        if sizes[group] < len(pool) / 2:
            val.append(group)
    val = val or [min(sizes, key=lambda group: (sizes[group], group))]
    pattern = f"^(?:{'|'.join(map(re.escape, sorted(val)))}){groups.behind}"
    train = [stem for stem in pool if groups.of[stem] not in val]
    told = (
        f"val is {counted(len(val), 'whole group')}, {len(pool) - len(train)} of {len(pool)} images, as no list or "
        "folder defines it"
    )
    return train, Part(data | {"val": {"pattern": pattern}}, [*said, told])


def _tune(train: list[str], groups: Grouped | None) -> Part:
    wanted = min(max(LEAST_TUNE, round(TUNE_SHARE * len(train))), MOST_TUNE, max(1, len(train) // 4))
    if groups is None:
        return Part({"tune": wanted}, [f"tune is {counted(wanted, 'image')} of the {len(train)} to train on"])
    sizes = Counter(groups.of[stem] for stem in train)
    if len(sizes) >= FEW_GROUPS:
        told = f"tune is whole groups, at least {counted(wanted, 'image')} of the {len(train)} to train on"
        return Part({"tune": wanted}, [told])
    wanted = max(1, min(wanted, max(sizes.values()) // 2))
    told = (
        f"tune is {counted(wanted, 'image')} in a row of the {len(train)} to train on, leaving out {GAP} on either "
        f"side (gap), as these are only {counted(len(sizes), 'group')}"
    )
    return Part({"tune": wanted, "gap": GAP}, [told])


def _pad(sizes: list[Size], *, smaller: bool = True) -> Part:
    """The pad that holds the largest image. ``smaller``: large images may be reduced, as data set `folder` can do."""
    longest = max(map(max, sizes))
    cut = smaller and longest > LARGE
    read = [pixels.smaller_size(size, LONGEST) for size in sizes] if cut else sizes
    pad = [-(-max(size[side] for size in read) // STRIDE) * STRIDE for side in (0, 1)]
    least, most = min(sizes), max(sizes)
    told = f"images are {least[0]}x{least[1]}" + (f" to {most[0]}x{most[1]}" if least != most else "")
    cells = "x".join(str(side // STRIDE) for side in pad)
    told += f" (height x width): {f'longest {LONGEST}, ' * cut}pad {pad}; the coarsest map has {cells} cells"
    told += ", the paper's 16x16, so larger kernels reach little more" * (max(pad) < 256)
    data: dict[str, Json] = {"longest": LONGEST} if cut else {}
    return Part(data | {"pad": [*pad]}, [told])


def _band(sizes: list[Size]) -> tuple[int, str]:
    side = round(median(map(max, sizes)))
    band = max(1, round(BAND * side))
    return band, f"band_px is {band} for images of {side} px, as the paper's 7 for 500 (D12)"
