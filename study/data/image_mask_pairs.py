"""Code shared by data sets of photographs with masks: CamVid, VOC and a user's own folder."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from os.path import isfile  # accepts names on which Path.is_file fails, such as very long ones
from pathlib import Path
from typing import Annotated

import numpy as np

from study.data import groups, pixels
from study.data.mask_codes import Codes
from study.seeds import number
from study.spec.checks import names, sides, whole
from study.spec.constants import VOID
from study.spec.errors import InputError

Pair = tuple[str, Path, Path]  # name, image, mask
# Option types that several data sets share.
Tune = Annotated[int, whole(0)]  # images kept apart; the upper limit is checked when the set is opened
Gap = Annotated[int, whole(0, 1_000_000)]  # images left out of training on either side of the tune split
Pad = Annotated[tuple[int, int], sides(32_768)]  # px
Longest = Annotated[int, whole(1, 32_768)]  # px: the longest side of an image as read
Classes = Annotated[
    tuple[str, ...],
    names(
        2,
        VOID,
        f"be a list of 2 to {VOID} different names (labels 0 to {VOID - 1} of 8 bits; {VOID} is void)",
        "write it in brackets",
    ),
]  # of a user's own data set


def folder(root: Path | None, what: str) -> Path:
    """The user's data folder. Raises InputError if none is named, or if it is missing or empty."""
    if root is None:
        raise InputError(
            f"{what} must have a folder, got none; set data.root of the tier in params.yaml or STUDY_DATA_<TIER>"
        )
    if not root.is_dir() or not any(root.iterdir()):
        state = "an empty folder" if root.is_dir() else "no folder"
        raise InputError(f"{what} must be a folder with the data set, got {root} ({state}); name the right one")
    return root


def rows(path: Path) -> list[str]:
    """The non-empty lines of a list file. Raises InputError if the file is missing or is not text."""
    if not path.is_file():
        raise InputError(f"a data set must have its list {path.name}, got no file {path}; name the folder that has it")
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeError as error:
        raise InputError(f"a list must be plain text (UTF-8), got {path} ({error}); write it again") from error


def lines(path: Path, notes: list[str] | None = None) -> list[str]:
    """The rows of a list file without duplicates, which are reported in ``notes``."""
    found = rows(path)
    again = {line: number for line, number in Counter(found).items() if number > 1}
    if again and notes is not None:
        first, number = next(iter(again.items()))
        more = f" (and {len(again) - 1} more so)" if len(again) > 1 else ""
        notes.append(f"{path.name} lists {first} {number} times{more}; each counts once")
    return list(dict.fromkeys(found))


def there(path: Path) -> Path:
    """The path of a file in the spelling of its folder: Unicode can write the same letters in two ways (NFC, NFD)."""
    spelt = (path.with_name(unicodedata.normalize(form, path.name)) for form in ("NFC", "NFD"))
    return path if isfile(path) else next((other for other in spelt if isfile(other)), path)


def _once(pairs: list[Pair], notes: list[str]) -> list[Pair]:
    """The pairs without duplicate images, which are reported in ``notes``.

    Raises InputError for an image with two masks.
    """
    first: dict[Path, Pair] = {}
    again = Counter[str]()
    for name, image, mask in pairs:
        known = first.setdefault(image, (name, image, mask))
        if known[2] != mask:
            raise InputError(
                f"an image must have one mask, got {known[2]} and {mask} for {image}; remove one of them from the list"
            )
        again[known[0]] += 1
    notes += [
        f"{number} lines of a list name the image {name}; it counts once"
        for name, number in again.items()
        if number > 1
    ]
    return list(first.values())


class Pairs:
    """Image files with mask files. ``tune`` pairs, chosen by the digest of their names, are kept apart from training.

    They are chosen from ``pool``, or from the training pairs if there is none. Sets that share a pool share their tune
    split, and none of them trains on its images. If ``grouped`` {name: group} says which images belong together, whole
    groups are chosen or, with a ``gap``, a block of one group; then ``gap`` images on either side of the block are left
    out (study.data.groups). A share ``coarse_share`` of the remaining training masks, chosen likewise, is annotated
    coarsely with a margin of ``coarse_px`` (see boundaries.coarse). ``void`` is the mask label without meaning, None if
    there is none; ``codes``, if given, say what masks hold, and ``void`` is not used. ``scale`` is that of
    pixels.picture, ``longest`` that of study.data.prepare; ``notes`` are lines for the user, ``beside`` files that
    explain the others.
    """

    sizes: dict[str, tuple[int, int]]  # see study.data.prepare
    listed: dict[str, int]
    colours: dict[int, pixels.Colour] | None = None

    def __init__(
        self,
        classes: tuple[str, ...],
        train: list[Pair],
        val: list[Pair],
        *,
        tune: int,
        void: int | None,
        size: tuple[int, int],
        pool: list[Pair] | None = None,
        coarse_share: float = 0,
        coarse_px: int = 0,
        scale: tuple[int, int] | None = None,
        longest: int | None = None,
        codes: Codes | None = None,
        beside: Iterable[Path] = (),
        notes: Iterable[str] = (),
        grouped: Mapping[str, str] | None = None,
        gap: int | None = None,
    ) -> None:
        self.notes = list(notes)
        train, val = _once(train, self.notes), _once(val, self.notes)
        pool = train if pool is None else _once(pool, [])
        for name, *paths in dict.fromkeys(pool + train + val):
            for path in paths:
                if not isfile(path):
                    raise InputError(
                        f"a list must name files that exist, got {name} without {path}; add the file or remove the line"
                    )
        if shared := sorted({image for _, image, _ in val} & {image for _, image, _ in pool + train}):
            raise InputError(
                f"train and val must share no image (it would be trained on and then scored), got {shared[0]} and "
                f"{len(shared) - 1} more in both; remove it from one list"
            )
        if len(pool) < 2:
            raise InputError(
                f"a data set must have at least two training images (one is kept apart), got {len(pool)}; add images"
            )
        if type(tune) is not int or not 0 < tune < len(pool):
            raise InputError(
                f"tune must be at least 1 and less than the {len(pool)} training images, got {tune!r}; use fewer"
            )
        self.grouped = dict(grouped or {})
        apart = groups.apart([n for n, *_ in pool], [n for n, *_ in train], self.grouped, tune, gap)
        out = apart.tune | apart.left
        self.pairs = {
            "train": [pair for pair in train if pair[0] not in out],
            "tune": [pair for pair in pool if pair[0] in apart.tune],
            "val": val,
        }
        trained = sorted((name for name, *_ in self.pairs["train"]), key=lambda name: number("coarse", name))
        self.coarsely, self.coarse_px = set(trained[: round(coarse_share * len(trained))]), coarse_px
        self.classes, self.void, self.size, self.scale, self.longest = classes, void, size, scale, longest
        self.codes, self.beside = codes, list(beside)
        if longest is not None:
            self.notes.append(
                f"images with a side above {longest} px are made smaller; scores are of the masks' own size (D123)"
            )
        self.splits = {split: len(pairs) for split, pairs in self.pairs.items()}
        self.notes += apart.notes
        self.sizes, self.listed = {}, {}
        self._colours: dict[int, tuple[pixels.Colour, Path]] = {}  # colour of each label, and the first mask with it

    def name(self, split: str, index: int) -> str:
        return self.pairs[split][index][0]

    def group(self, split: str, index: int) -> str:
        """The group of an image; its own name if it stands alone."""
        name = self.name(split, index)
        return self.grouped.get(name, name)

    def files(self) -> list[Path]:
        return [path for pairs in self.pairs.values() for _, *paths in pairs for path in paths] + self.beside

    def read(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        """image uint8 (H, W, 3), labels uint8 (H, W) with 255 = void. Raises InputError for a file that is damaged or
        that study.data.pixels refuses, and if a label has different colours in two masks."""
        name, image_path, mask_path = self.pairs[split][index]
        limit = self.sizes.get(split, self.size) if self.longest is None else None
        image, mask = pixels.picture(image_path, limit, self.scale), self.mask(mask_path, limit)
        if self.longest is not None:  # check first: resizing may hide errors
            pixels.check_labels(mask, (image.shape[0], image.shape[1]), len(self.classes), name)
            image, mask = pixels.smaller(image, self.longest), pixels.smaller(mask, self.longest)
        if split == "train" and name in self.coarsely:
            from study.data.boundaries import coarse  # scipy, which only reading needs

            mask = coarse(mask, self.coarse_px)
        return image, mask

    def original(self, split: str, index: int) -> np.ndarray:
        """The labels uint8 (H, W) of an image at the size of its file."""
        return self.mask(self.pairs[split][index][2], None)

    def mask(self, path: Path, limit: tuple[int, int] | None) -> np.ndarray:
        """The labels uint8 (H, W) of a mask file."""
        if self.codes is not None and self.codes.colours:
            return self.codes.labels(pixels.colours(path, limit), path)
        mask, colours = pixels.labels(path, limit)
        for label, colour in (colours or {}).items():
            known, first = self._colours.setdefault(label, (colour, path))
            if known != colour:
                raise InputError(
                    f"a label must have one colour in all palette masks (otherwise its numbers mean different things), "
                    f"got {label} as {known} in {first} and as {colour} in {path}; write all with one palette"
                )
        if self.codes is not None:
            return self.codes.labels(mask, path)
        if self.void == VOID:
            return mask
        if (mask == VOID).any():
            also = "" if self.void is None else f" or {self.void} (void)"
            raise InputError(
                f"a mask must hold class labels 0 to {len(self.classes) - 1}{also} only, got {VOID} in "
                f"{path}; correct the mask, or name {VOID} as void"
            )
        return mask if self.void is None else np.where(mask == self.void, np.uint8(VOID), mask)
