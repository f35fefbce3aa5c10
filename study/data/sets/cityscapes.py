"""Cityscapes as its archives unpack: ``leftImg8bit``, ``gtFine`` and ``gtCoarse`` at the root or in ``cityscapes``.

Its masks have 34 labels: 19 are scored, the others are void.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np

from study.data.download import Archive
from study.data.image_mask_pairs import Pad, Pair, Pairs, Tune, folder
from study.spec.checks import Block, choice
from study.spec.constants import VOID
from study.spec.errors import InputError

CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
SCORED = (
    7,
    8,
    11,
    12,
    13,
    17,
    19,
    20,
    21,
    22,
    23,
    24,
    25,
    26,
    27,
    28,
    31,
    32,
    33,
)  # label ids, in the order of CLASSES
COLOURS = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
    (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70),
    (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # of CLASSES, as the benchmark draws them  # fmt: skip
LABELS = 34
TRAIN_IDS = {label: SCORED.index(label) if label in SCORED else VOID for label in range(LABELS)}
DEFECTIVE = "troisdorf_000000_000073"  # in train_extra: a black image whose mask labels nothing (D53)
WHERE = "https://www.cityscapes-dataset.com/downloads/, with a (free) login for research"
FINE = (
    Archive(
        "leftImg8bit_trainvaltest.zip",
        ("leftImg8bit/train", "leftImg8bit/val", "leftImg8bit/test"),
        11_592_327_197,
        "sha256:3ccff9ac1fa1d80a6a064407e589d747ed0657aac7dc495a4403ae1235a37525",
        where=WHERE,
    ),
    Archive(
        "gtFine_trainvaltest.zip",
        ("gtFine/train", "gtFine/val"),
        252_567_705,
        "sha256:40461a50097844f400fef147ecaf58b18fd99e14e4917fb7c3bf9c0d87d95884",
        where=WHERE,
    ),
)
COARSE = (
    Archive(
        "leftImg8bit_trainextra.zip",
        ("leftImg8bit/train_extra",),
        47_000_000_000,  # about
        "sha256:e41cc14c0c06aad051d52042465d9b8c22bacf6e4c93bb98de273ed7177b7133",
        where=WHERE,
    ),
    Archive(
        "gtCoarse.zip",
        ("gtCoarse/train_extra",),
        1_400_000_000,  # about
        "sha256:3555e09349ed49127053d940eaa66a87a79a175662b329c1a26a58d47e602b5b",
        where=WHERE,
    ),
)
_LABEL_OF = np.full(256, LABELS, np.uint8)  # LABELS marks an id that does not exist
_LABEL_OF[list(TRAIN_IDS)] = list(TRAIN_IDS.values())
_LABEL_OF[255] = VOID  # -1, the licence plates


class Options(Block):
    train: Annotated[str, choice("fine", "coarse+fine")]
    tune: Tune
    pad: Pad


class Cityscapes(Pairs):
    """Pairs whose masks hold label ids."""

    def mask(self, path: Path, limit: tuple[int, int] | None) -> np.ndarray:
        labels = super().mask(path, limit)
        found = _LABEL_OF[labels]
        if (found == LABELS).any():
            raise InputError(
                f"a mask must hold label ids 0 to {LABELS - 1} (or -1), got {labels[found == LABELS][0]} in {path}; "
                "take the file that ends in labelIds"
            )
        return found


def open(options: Options, root: Path | None, cache: Path) -> Cityscapes:
    """Options: train (fine; coarse+fine: with train_extra and its coarse masks, Table 9's Stage-1), tune (at least so
    many images of the fine training split are kept apart, in whole cities, the same for both), pad (height, width)."""
    base = _base(root)
    fine, val = _pairs(base, "train", "gtFine"), _pairs(base, "val", "gtFine")
    train, listed = fine, {"cityscapes/train": len(fine), "cityscapes/val": len(val)}
    if options.train == "coarse+fine":
        coarse = _pairs(base, "train_extra", "gtCoarse")
        train = [pair for pair in coarse if pair[0] != DEFECTIVE] + fine
        listed |= {"cityscapes/coarse": len(coarse), "cityscapes/stage1": len(coarse) + len(fine)}
    if test := _images(base, "test"):
        listed["cityscapes/test"] = len(test)
    cities = {name: name.split("_")[0] for name, *_ in train + val}
    source = Cityscapes(CLASSES, train, val, tune=options.tune, void=VOID, size=options.pad, pool=fine, grouped=cities)
    source.listed, source.colours = listed, dict(enumerate(COLOURS))
    return source


def archives(options: Options) -> tuple[Archive, ...]:
    """The archives to unpack below the root."""
    return FINE + COARSE if options.train == "coarse+fine" else FINE


def tests(options: Options, root: Path | None) -> list[tuple[str, Path]]:
    """Names and paths of the test split's images."""
    return [(_name(path), path) for path in _images(_base(root), "test", required=True)]


def _base(root: Path | None) -> Path:
    base = folder(root, "cityscapes's data.root")
    return base / "cityscapes" if (base / "cityscapes" / "leftImg8bit").is_dir() else base


def _name(path: Path) -> str:
    return path.name.removesuffix("_leftImg8bit.png")


def _images(base: Path, split: str, required: bool = False) -> list[Path]:
    """Images of a split in the order of their names. Raises InputError if there are none although ``required``."""
    found = sorted((base / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
    if required and not found:
        raise InputError(
            f"cityscapes must have images in leftImg8bit/{split}/<city>/, got none below {base}; unpack its archives "
            f"there ({WHERE})"
        )
    return found


def _pairs(base: Path, split: str, kind: str) -> list[Pair]:
    """Images of a split with their masks of a kind, gtFine or gtCoarse."""
    pairs = []
    for path in _images(base, split, required=True):
        name = _name(path)
        pairs.append((name, path, base / kind / split / path.parent.name / f"{name}_{kind}_labelIds.png"))
    return pairs
