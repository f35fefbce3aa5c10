"""Folders of photographs with masks: what CamVid, VOC and a user's own folder have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from study.seeds import number
from study.spec import VOID, InputError
from study.values import names, sides, whole

Pair = tuple[str, Path, Path]  # name, image, mask
# Kinds of options that several sets have.
Tune = Annotated[int, whole(0)]  # images kept apart; how many there may be is known when the set is opened
Pad = Annotated[tuple[int, int], sides(32_768)]  # px
Classes = Annotated[
    tuple[str, ...],
    names(2, VOID, f"be a list of 2 to {VOID} different names (the first is label 0)", "write it in brackets"),
]  # of a user's own


def folder(root: Path | None, what: str) -> Path:
    """The user's data folder. Raises InputError where none is named, or it is missing or empty."""
    if root is None:
        raise InputError(
            f"{what} must have a folder, got none; set data.root of the tier in params.yaml or STUDY_DATA_<TIER>"
        )
    if not root.is_dir() or not any(root.iterdir()):
        state = "an empty folder" if root.is_dir() else "no folder"
        raise InputError(f"{what} must be a folder with the data set, got {root} ({state}); name the right one")
    return root


def lines(path: Path) -> list[str]:
    """The lines of a list file that are not empty. Raises InputError where there is none."""
    if not path.is_file():
        raise InputError(f"a data set must have its list {path.name}, got no file {path}; name the folder that has it")
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeError as error:
        raise InputError(f"a list must be plain text (UTF-8), got {path} ({error}); write it again") from error


class Pairs:
    """Image files with mask files. ``tune`` pairs, chosen by the digest of their names, are kept apart from training.

    They are chosen from ``pool``, or from the training pairs where there is none: sets that share a pool share their
    tune split, and none is trained on its images. Of the training masks that are left a share, ``coarse_share``, chosen
    likewise, is annotated coarsely with a margin of ``coarse_px`` (see regions.coarse).
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        train: list[Pair],
        val: list[Pair],
        tune: int,
        void: int,
        size: tuple[int, int],
        pool: list[Pair] | None = None,
        coarse_share: float = 0,
        coarse_px: int = 0,
    ) -> None:
        pool = train if pool is None else pool
        for name, *paths in dict.fromkeys(pool + train + val):
            for path in paths:
                if not path.is_file():
                    raise InputError(
                        f"a list must name files that exist, got {name} without {path}; fetch or unlist it"
                    )
        if type(tune) is not int or not 0 < tune < len(pool):
            raise InputError(
                f"tune must be from 1 to one less than the {len(pool)} training images, got {tune!r}; name fewer"
            )
        apart = {name for name, *_ in sorted(pool, key=lambda pair: number("tune", pair[0]))[:tune]}
        self.pairs = {
            "train": [pair for pair in train if pair[0] not in apart],
            "tune": [pair for pair in pool if pair[0] in apart],
            "val": val,
        }
        trained = sorted((name for name, *_ in self.pairs["train"]), key=lambda name: number("coarse", name))
        self.coarsely, self.coarse_px = set(trained[: round(coarse_share * len(trained))]), coarse_px
        self.classes, self.void, self.size = classes, void, size
        self.splits = {split: len(pairs) for split, pairs in self.pairs.items()}

    def name(self, split: str, index: int) -> str:
        return self.pairs[split][index][0]

    def files(self) -> list[Path]:
        return [path for pairs in self.pairs.values() for _, *paths in pairs for path in paths]

    def read(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        """image uint8 (H, W, 3), labels uint8 (H, W) with 255 = void. Raises InputError for a damaged file."""
        name, image_path, mask_path = self.pairs[split][index]
        image, mask = decode(image_path, ("RGB",)), decode(mask_path, ("P", "L"))
        if self.void != VOID:
            mask = np.where(mask == self.void, np.uint8(VOID), mask)
        if split == "train" and name in self.coarsely:
            from study.regions import coarse  # scipy, which only reading needs

            mask = coarse(mask, self.coarse_px)
        return image, mask


def decode(path: Path, modes: tuple[str, ...]) -> np.ndarray:
    """Pixels of an image file: (H, W, 3) where ``modes`` is RGB (others are converted), else a mask's (H, W).

    Raises InputError for a damaged file, or a mask of another mode.
    """
    try:
        with Image.open(path) as file:
            if modes == ("RGB",):
                return np.asarray(file.convert("RGB"))
            if file.mode not in modes:
                raise InputError(f"a mask must be a palette or grey image, got mode {file.mode} in {path}; convert it")
            return np.asarray(file)
    except (OSError, SyntaxError) as error:
        raise InputError(f"an image must be whole, got {path} ({error}); fetch it again") from error
