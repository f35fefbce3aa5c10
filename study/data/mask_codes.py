"""Masks that encode classes as colours (D120), or as numbers other than their index in the list of classes (D121)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from study.data.pixels import Colour
from study.spec.checks import shown
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.words import counted

VOID_NAME = "void"
UNKNOWN = -1
NAMED = 3  # unknown codes that an error names
HEADER = {"name", "r", "g", "b", "red", "green", "blue", "class", "label"}


class Codes:
    """Maps the values of mask pixels, numbers 0 to 255 or colours, to labels."""

    def __init__(self, labels: Mapping[int, int] | Mapping[Colour, int], *, rest: int = UNKNOWN) -> None:
        """``labels`` by number or colour; all other values get ``rest``."""
        packed = {int(_packed(np.array(c))) if isinstance(c, tuple) else c: label for c, label in labels.items()}
        self.colours = any(isinstance(code, tuple) for code in labels)
        self._table = np.full(2**24 if self.colours else 256, rest, np.int16)
        self._table[list(packed)] = list(packed.values())
        self._known = sorted(packed)

    def labels(self, values: np.ndarray, path: Path) -> np.ndarray:
        """Numbers (H, W) or colours (H, W, 3), both uint8 -> labels uint8 (H, W). Raises InputError for unknown values,
        with the number of their pixels."""
        codes = _packed(values) if self.colours else values
        found = self._table[codes]
        if (unknown := found == UNKNOWN).any():
            raise InputError(self._told(*np.unique(codes[unknown], return_counts=True), path))
        return found.astype(np.uint8)

    def _told(self, codes: np.ndarray, pixels: np.ndarray, path: Path) -> str:
        most = np.argsort(-pixels, kind="stable")[:NAMED]
        named = ", ".join(f"{self._shown(int(codes[i]))} on {counted(int(pixels[i]), 'pixel')}" for i in most)
        if len(codes) > NAMED:
            named += f", and {counted(len(codes) - NAMED, 'other')}"
        if self.colours:
            return (
                f"a mask must hold colours of the palette only, got {named}, in {path}; add them to the palette, or "
                f"`others: {VOID_NAME}` beside it, or save the mask again without smoothing or loss"
            )
        known = ", ".join(map(str, self._known))
        return (
            f"a mask must hold numbers that labels or void of its folder name ({known}) only, got {named}, in {path}; "
            f"name them, or write `others: {VOID_NAME}` beside labels"
        )

    def _shown(self, code: int) -> str:
        return str([code >> 16, code >> 8 & 255, code & 255]) if self.colours else str(code)


def _packed(colours: np.ndarray) -> np.ndarray:
    """uint8 (..., 3) -> one number each."""
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def codes_of_palette(palette: Mapping[str, Iterable[Colour]], classes: tuple[str, ...], rest: int, where: str) -> Codes:
    """Codes for the colours of each class and of void (in upper or lower case); all other colours get ``rest``.
    ``where`` names the palette in errors. Raises InputError for a name that is not a class, a class without a colour,
    or a colour with two names."""
    labels: dict[Colour, int] = {}
    owner: dict[Colour, str] = {}
    for name, colours in palette.items():
        if name in classes:
            label = classes.index(name)
        elif name.lower() == VOID_NAME:
            label = VOID
        else:
            raise InputError(
                f"{where} must name classes or {VOID_NAME}, got {name!r}; rename it to one of {', '.join(classes)}, or "
                f"to {VOID_NAME}"
            )
        for colour in colours:
            if owner.setdefault(colour, name) != name:
                raise InputError(
                    f"{where} must have each colour for one class, got {list(colour)} for {owner[colour]} and {name}; "
                    "remove it from one"
                )
            labels[colour] = label
    if lacking := [name for number, name in enumerate(classes) if number not in {*labels.values(), rest}]:
        raise InputError(
            f"{where} must have a colour for each class, got none for {lacking[0]}; add it, or drop the class"
        )
    return Codes(labels, rest=rest)


def palette_of(lines: list[str], path: Path) -> dict[str, list[Colour]]:
    """The colours of each name in the lines of a file: ``name,r,g,b`` or ``r g b name``, separated by commas,
    semicolons, tabs or blanks, with an optional header. Raises InputError for any other line."""
    found: dict[str, list[Colour]] = {}
    for number, line in enumerate(lines):
        parts = [part.strip() for part in re.split(r"[,;]" if re.search(r"[,;]", line) else r"\s+", line)]
        if number == 0 and {part.lower() for part in parts} <= HEADER:
            continue
        name, numbers = (parts[:-3], parts[-3:]) if _are_numbers(parts[-3:]) else (parts[3:], parts[:3])
        if not _are_numbers(numbers) or not any(name):
            raise InputError(
                f"a line of a palette must be a name and three numbers from 0 to 255, got {shown(line)} in {path}; "
                "write e.g. roof,128,0,0 or 128 0 0 roof"
            )
        red, green, blue = map(int, numbers)
        found.setdefault(" ".join(name), []).append((red, green, blue))
    if not found:
        raise InputError(f"a palette must have a colour, got none in {path}; write e.g. roof,128,0,0 a line")
    return found


def _are_numbers(parts: list[str]) -> bool:
    return len(parts) == 3 and all(re.fullmatch(r"\d{1,3}", part, re.ASCII) and int(part) < 256 for part in parts)
