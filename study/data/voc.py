"""PASCAL VOC 2012 in the VOCdevkit layout, with the SBD-augmented list and masks where they are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study.data.pairs import Pair, Pairs, folder, lines

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
OPTIONS = {"tune", "pad"}


def open(options: dict[str, Any], root: Path | None) -> Pairs:
    """options: tune (images kept apart), pad (height, width). Trains on train_aug.txt where there is one (D14)."""
    base = folder(root, "voc's data.root")
    nested = base / "VOCdevkit" / "VOC2012"
    base = nested if nested.is_dir() else base
    lists = base / "ImageSets" / "Segmentation"
    augmented = (lists / "train_aug.txt").is_file()

    def listed(split: str, masks: str) -> list[Pair]:
        # Published augmented lists name either bare ids or the two paths; the id is the stem in both.
        names = [Path(line.split()[0]).stem for line in lines(lists / f"{split}.txt")]
        return [(name, base / "JPEGImages" / f"{name}.jpg", base / masks / f"{name}.png") for name in names]

    train = listed("train_aug", "SegmentationClassAug") if augmented else listed("train", "SegmentationClass")
    val = listed("val", "SegmentationClass")
    return Pairs(CLASSES, train, val, options["tune"], 255, tuple(options["pad"]))
