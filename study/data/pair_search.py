"""Finds the folders of images and of masks below a folder, and the endings of their names (D125)."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from study.data.pixels import LOSSLESS, check_name
from study.data.stems import SUFFIXES
from study.spec.errors import InputError

DEPTH = 3  # levels below the given folder at which the folder of all images may be
MOST_FOLDERS = 24  # of these folders, the fullest ones
SAMPLED = 100  # names with which folders are compared
ALIKE = 0.8  # share of the most matches: folders with fewer are not considered
# Words in the names and endings of folders. Instances, edges and depths are not classes.
OF_MASKS = re.compile(r"mask|label|anno|gt|ground|truth|seg|target|trimap|_l$|_p$", re.IGNORECASE)
OF_IMAGES = re.compile(r"image|img|rgb|jpeg|jpg|photo|pictur|input", re.IGNORECASE)
OF_LABELS = re.compile(r"labelids|class", re.IGNORECASE)
OF_OTHERS = re.compile(r"instance|object|panoptic|depth|edge|boundar|trainids|colou?r|overlay|vis", re.IGNORECASE)


T = TypeVar("T")


class Place(NamedTuple):
    """Files below a folder whose names share an ending. ``folder`` is relative to the searched folder ("" for that
    folder itself), and one of its parts may be ``*`` (see study.data.sets.folder)."""

    folder: str
    end: str

    def words(self) -> str:
        return f"{self.folder} {self.end}"


class Found(NamedTuple):
    """The places of images and masks, their paths by stem, and other images below the folder."""

    images: Place
    masks: Place
    pairs: dict[str, tuple[Path, Path]]
    others: list[str]


class Files:
    """The image files below a folder, except hidden ones, by path without suffix, sorted by name."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.paths: dict[str, Path] = {}
        self._cut: dict[Place, dict[str, Path]] = {}
        for above, folders, names in os.walk(base):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
                    path = Path(above, name)
                    check_name(path)
                    stem = path.relative_to(base).with_suffix("").as_posix()
                    self.paths[unicodedata.normalize("NFC", stem)] = path
        if not self.paths:
            raise InputError(
                f"a folder must hold images ({', '.join(sorted(SUFFIXES))}) and their masks, got neither below "
                f"{base}; name the folder that has both"
            )

    @cached_property
    def _below(self) -> dict[str, dict[str, Path]]:
        """The files of each candidate folder of all images or masks, by the stem below it."""
        found: dict[str, dict[str, Path]] = {}
        for stem, path in self.paths.items():
            parts = stem.split("/")
            for depth in range(min(DEPTH, len(parts) - 1) + 1):
                found.setdefault("/".join(parts[:depth]), {})["/".join(parts[depth:])] = path
                if depth >= 2:  # train/images and val/images
                    starred = "/".join((*parts[: depth - 2], "*", parts[depth - 1]))
                    found.setdefault(starred, {})["/".join((parts[depth - 2], *parts[depth:]))] = path
        fullest = sorted(found, key=lambda folder: (-len(found[folder]), folder.count("/"), folder))
        return {folder: found[folder] for folder in fullest[:MOST_FOLDERS]}

    def of(self, place: Place) -> dict[str, Path]:
        """The files of a place by stem, without the ending."""
        if place not in self._cut:
            self._cut[place] = {
                stem.removesuffix(place.end): path
                for stem, path in self._below[place.folder].items()
                if stem.endswith(place.end) and stem.rpartition("/")[2] != place.end
            }
        return self._cut[place]

    def places(self) -> list[Place]:
        return [Place(folder, end) for folder, files in self._below.items() for end in ("", *_ends(list(files)))]


def _ends(stems: list[str]) -> list[str]:
    """Endings that many names share: a separator and what follows, with a letter; or else the letters that end all
    names."""
    sampled = [stem.rpartition("/")[2] for stem in spread(stems, SAMPLED)]
    ends = Counter(name[m.start() :] for name in sampled for m in re.finditer(r"(?<=.)[_\-. ](?=.)", name))
    many = [end for end, n in ends.items() if n >= max(2, len(sampled) / 10) and re.search("[^\\W\\d_]", end)]
    letters = re.search(r"[^\W\d_]+$", sampled[0])
    if not many and letters and len(sampled) > 1 and all(name.endswith(letters[0]) for name in sampled):
        many = [letters[0]]  # 001mask
    return sorted(many, key=len)[:8]


def spread(items: list[T], most: int) -> list[T]:
    """At most ``most`` of the items, spread evenly over the list."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(most, len(items))).astype(int)]


def pairs_below(base: Path) -> Found:
    """The images below a folder with their masks.

    Raises InputError if there are no images, or if no two have the same name apart from folder and ending.
    """
    files = Files(base)
    rated = [
        (matches, images, masks)
        for images, masks in product(files.places(), repeat=2)
        if _may_pair(images, masks) and (matches := _matches(files, images, masks))
    ]
    if not rated:
        raise _unpaired(files)
    most = max(matches for matches, *_ in rated)
    rivals = [one for one in rated if one[0] >= ALIKE * most]
    _, images, masks = max(rivals, key=lambda one: (_words(one[1], one[2]), one[0], -_length(one[1], one[2]), one[1:]))
    if (
        (images.end or images.folder != masks.folder)
        and not _words(images, masks)
        and _look_like_masks(files, images, masks)
    ):
        images, masks = masks, images
    ours, theirs = files.of(images), files.of(masks)
    pairs = {stem: (path, theirs[stem]) for stem, path in ours.items() if stem in theirs}
    used = {path for both in pairs.values() for path in both}
    others = [path.relative_to(base).as_posix() for path in files.paths.values() if path not in used]
    return Found(images, masks, pairs, others)


def _may_pair(images: Place, masks: Place) -> bool:
    if images.folder == masks.folder:
        return masks.end != "" and images.end != masks.end and not images.end.endswith(masks.end)
    one, other = f"{images.folder}/".lstrip("/"), f"{masks.folder}/".lstrip("/")
    return not one.startswith(other) and not other.startswith(one)  # neither folder is inside the other


def _matches(files: Files, images: Place, masks: Place) -> int:
    """About how many images have a mask."""
    ours, theirs = files.of(images), files.of(masks)
    sampled = spread(list(ours), SAMPLED)
    return round(len(ours) * sum(stem in theirs for stem in sampled) / max(1, len(sampled)))


def _words(images: Place, masks: Place) -> int:
    """A score for how clearly the names mark the first as images and the second as their masks."""
    one, other = images.words(), masks.words()
    told = bool(OF_MASKS.search(other)) - bool(OF_MASKS.search(one))
    told += bool(OF_IMAGES.search(one)) - bool(OF_IMAGES.search(other))
    return 2 * told + bool(OF_LABELS.search(other)) - bool(OF_OTHERS.search(other)) if told > 0 else 2 * told


def _length(images: Place, masks: Place) -> int:
    return len(images.end) + len(masks.end)


def _look_like_masks(files: Files, images: Place, masks: Place) -> bool:
    """Whether the supposed images have fewer colours than the supposed masks."""
    ours, theirs = files.of(images), files.of(masks)
    stems = [stem for stem in spread(list(ours), 3) if stem in theirs]
    return sum(_colours(ours[stem]) for stem in stems) < sum(_colours(theirs[stem]) for stem in stems)


def _colours(path: Path) -> int:
    try:
        with Image.open(path) as file:
            if file.format not in LOSSLESS:
                return 2**24
            file.thumbnail((256, 256), Image.Resampling.NEAREST)
            return len(file.convert("RGB").getcolors(2**24) or ())
    except Exception:  # errors are reported when the file is read
        return 0


def _unpaired(files: Files) -> InputError:
    """The error for images without masks, or for names that do not match."""
    folders: dict[str, list[str]] = {}
    for stem in files.paths:
        folders.setdefault(stem.rpartition("/")[0], []).append(stem)
    fullest = sorted(folders, key=lambda folder: -len(folders[folder]))[:2]
    named = [files.paths[folders[folder][0]].relative_to(files.base).as_posix() for folder in fullest]
    if len(fullest) < 2:
        return InputError(
            f"images must have masks, in another folder or with another ending (a.jpg and a_mask.png)"
            f", got {len(files.paths)} images such as {named[0]} and no masks in {files.base}; add the masks"
        )
    if any(one == "" or other.startswith(f"{one}/") for one, other in (fullest, fullest[::-1])):
        return InputError(
            f"images and masks must be in two folders, neither inside the other, got {named[0]} and {named[1]} in "
            f"{files.base}; move the images to a folder named images next to that of the masks"
        )
    return InputError(
        f"an image and its mask must have the same name apart from an ending (a.jpg and a_mask.png), got "
        f"{named[0]} and {named[1]} in {files.base}, where no names match; rename the images or the masks"
    )
