"""The colour of each class in pictures: the user's own where masks have colours, else VOC's (D142)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study.data.image_mask_pairs import rows
from study.data.mask_codes import palette_of
from study.data.pixels import voc_palette
from study.spec.training import Data, thawed


def class_colours(data: Data, root: Path | None, classes: list[str]) -> list[list[int]]:
    """[red, green, blue] of each class: the first that the option ``palette`` gives it (D120), else that of VOC's
    palette at its label. Raises InputError where the palette is a file that is missing or no palette."""
    named: Any = thawed(data.options).get("palette")
    if isinstance(named, str):
        path = (root or Path()) / named
        named = palette_of(rows(path), path)
    own = {name: given if isinstance(given[0], int) else given[0] for name, given in (named or {}).items()}
    return [
        list(own[name]) if name in own else colour
        for name, colour in zip(classes, voc_palette().tolist(), strict=False)
    ]
