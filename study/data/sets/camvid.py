"""CamVid in the SegNet tutorial's layout: ``train/ trainannot/ val/ valannot/ train.txt val.txt``, 11 classes."""

from __future__ import annotations

import re
from pathlib import Path

from study.data.coarse import Coarse
from study.data.image_mask_pairs import Gap, Pad, Pair, Pairs, Tune, folder, lines, there
from study.spec.errors import InputError

CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
VOID_LABEL = 11
COLOURS = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
    (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
)  # of CLASSES, as the SegNet tutorial draws them  # fmt: skip


class Options(Coarse):
    tune: Tune
    pad: Pad
    gap: Gap | None = None


def open(options: Options, root: Path | None, cache: Path) -> Pairs:
    """Options: tune (images kept apart), pad (height, width), coarse_share (of the training masks) and coarse_px (an
    analogue of Cityscapes' coarse annotations), and optionally gap (images left out on either side of the tune split,
    which is then a block of one drive). Paths in the lists end in folder/file below the root and are in order of
    time."""
    base = folder(root, "camvid's data.root")
    notes: list[str] = []

    def listed(split: str) -> list[Pair]:
        pairs = []
        for line in lines(base / f"{split}.txt", notes):
            # Names may contain blanks, so the second path begins after a suffix.
            named = re.fullmatch(r"(.+\.(?:png|jpe?g|bmp|tiff?))\s+(\S.*)", line, re.IGNORECASE)
            if not named:
                raise InputError(f"a line of {split}.txt must name an image and a mask, got {line!r}; correct the list")
            image, mask = (there(base / Path(part).parent.name / Path(part).name) for part in named.groups())
            pairs.append((image.stem, image, mask))
        return pairs

    train, val = listed("train"), listed("val")
    drives = {name: name.split("_")[0] for name, *_ in train + val}  # of 0016E5_08370: 0016E5
    source = Pairs(
        CLASSES,
        train,
        val,
        tune=options.tune,
        void=VOID_LABEL,
        size=options.pad,
        gap=options.gap,
        coarse_share=options.coarse_share,
        coarse_px=options.coarse_px,
        notes=notes,
        grouped=drives,
    )
    source.colours = dict(enumerate(COLOURS))
    return source
