"""PASCAL VOC 2012 in the VOCdevkit layout, with the SBD-augmented list and masks where they are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study import checks
from study.data.pairs import Pair, Pairs, folder, lines

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
OPTIONS = {"train", "tune", "pad"}


def open(options: dict[str, Any], root: Path | None) -> Pairs:
    """options: train (train, train_aug; auto: train_aug where there is its list, D14), tune (images kept apart), pad
    (height, width). The tune split is chosen from train_aug where there is its list: so it is the same for all three,
    and no image of it is trained on in any stage (Table 7). Its masks are those of the list that it was chosen from.
    """
    checks.choice(options["train"], ("auto", "train", "train_aug"), "train of voc")
    base = folder(root, "voc's data.root")
    nested = base / "VOCdevkit" / "VOC2012"
    base = nested if nested.is_dir() else base
    lists = base / "ImageSets" / "Segmentation"

    def listed(split: str, masks: str) -> list[Pair]:
        # Published augmented lists name either bare ids or the two paths; the id is the stem in both.
        names = [Path(line.split()[0]).stem for line in lines(lists / f"{split}.txt")]
        return [(name, base / "JPEGImages" / f"{name}.jpg", base / masks / f"{name}.png") for name in names]

    if options["train"] == "train_aug" or (lists / "train_aug.txt").is_file():
        pool = listed("train_aug", "SegmentationClassAug")
    else:
        pool = listed("train", "SegmentationClass")
    train = listed("train", "SegmentationClass") if options["train"] == "train" else pool
    val = listed("val", "SegmentationClass")
    return Pairs(CLASSES, train, val, options["tune"], 255, tuple(options["pad"]), pool)
