"""Finds the classes in masks: the values of their pixels, how often they occur, and names from a file next to them
(D125)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from study.data import pixels
from study.data.image_mask_pairs import rows
from study.data.mask_codes import VOID_NAME, palette_of
from study.data.pair_search import spread
from study.data.pixels import Colour
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.typed import Json
from study.spec.words import counted

MOST_MASKS, MOST_PX = 2000, 200_000_000  # limits on what is read, unless the user asks for all masks
READERS = 8
BLEND = 1e-3  # share of a mask's pixels: a colour below it, on average, may come from smoothing
SURE = 5  # times that share: certainly a class, even if most colours are blends
VOID_NAMES = re.compile(r"void|ignored?|unlabell?ed|unlabell?ed area|don'?t ?care|undefined", re.IGNORECASE)
LISTS = re.compile(r"class|label|colou?r|palette|code|name", re.IGNORECASE)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
VOC_VOID = (224, 224, 192)  # VOC's colour for void
PAIR = ("background", "object")  # names for black and white, or 0 and 255
FEW = 64  # colours or numbers: if there are more, most may be blends

Code = int | Colour


class Shown(NamedTuple):
    """Counts of pixels and of masks by number or colour, from ``read`` of ``all`` masks, which have ``px`` pixels in
    total."""

    pixels: Counter[Code]
    masks: Counter[Code]
    read: int
    all: int
    px: int
    colours: bool


class Classes(NamedTuple):
    """Names of classes, other options of the data block for masks, each class's share of the labelled pixels, and
    notes."""

    names: list[str]
    options: dict[str, Json]
    shares: dict[str, float]
    said: list[str]


def classes_of(masks: list[Path], sizes: Iterable[pixels.Size], lists: list[Path], whole: bool) -> Classes:
    """The classes of masks with the given ``sizes`` (height, width), named by the files ``lists``. ``whole`` reads all
    masks.

    Raises InputError for masks that cannot be read, or that show no classes.
    """
    shown = _shown(masks, sizes, whole)
    names, source = _names(lists, shown)
    return _of_colours(shown, names, source) if shown.colours else _of_numbers(shown, names, source)


def _shown(masks: list[Path], sizes: Iterable[pixels.Size], whole: bool) -> Shown:
    largest = max(height * width for height, width in sizes)
    sampled = masks if whole else spread(masks, max(1, min(MOST_MASKS, MOST_PX // largest)))
    with ThreadPoolExecutor(READERS) as readers:
        coloured = any(readers.map(_is_coloured, sampled))
        if not coloured:
            found = list(readers.map(_numbers, sampled))
            palettes: dict[int, Colour] = {}
            # If a number has two colours, the colours carry the meaning.
            coloured = any(
                palettes.setdefault(number, colour) != colour
                for _, colours in found
                for number, colour in colours.items()
            )
        counts = list(readers.map(_colours, sampled)) if coloured else [numbers for numbers, _ in found]
    total, where = Counter[Code](), Counter[Code]()
    for count in counts:
        total.update(count)
        where.update(count.keys())
    return Shown(total, where, read=len(sampled), all=len(masks), px=total.total(), colours=coloured)


def _is_coloured(path: Path) -> bool:
    try:
        with Image.open(path) as file:
            return file.mode in ("RGB", "RGBA", "PA")
    except Exception:  # reported when the mask is read
        return False


def _numbers(path: Path) -> tuple[dict[Code, int], dict[int, Colour]]:
    found, colours = pixels.labels(path)
    counts = np.bincount(found.ravel(), minlength=256)
    return {int(number): int(counts[number]) for number in np.flatnonzero(counts)}, colours or {}


def _colours(path: Path) -> dict[Code, int]:
    found = pixels.colours(path).astype(np.uint32)
    values, counts = np.unique(found[..., 0] << 16 | found[..., 1] << 8 | found[..., 2], return_counts=True)
    return {
        (value >> 16, value >> 8 & 255, value & 255): count
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
    }


def _names(lists: list[Path], shown: Shown) -> tuple[dict[Code, str], str]:
    """Names by number or colour from the first file that has any, and that file's name."""
    for path in lists:
        if not LISTS.search(path.stem) or path.stat().st_size > 100_000:
            continue
        try:
            lines = [line for line in rows(path) if not line.startswith(("#", "//"))]
        except InputError:
            continue
        found = _by_colour(lines, path) if shown.colours else _by_number(lines)
        if found and any(code in found for code in shown.pixels):
            return found, path.name
    return {}, ""


def _by_colour(lines: list[str], path: Path) -> dict[Code, str]:
    # roof:128,0,0:: as CVAT writes it
    lines = [re.sub(r"^([^:,]+):(\d+,\d+,\d+):.*$", r"\1,\2", line) for line in lines]
    try:
        return {colour: name for name, colours in palette_of(lines, path).items() for colour in colours}
    except InputError:
        return {}


def _by_number(lines: list[str]) -> dict[Code, str]:
    """Names by number, from lines such as ``7 roof``, ``7: roof``, ``7,roof`` or ``roof,7``, or from plain names
    counted from 0."""
    numbered = [re.fullmatch(r"(\d{1,3})\s*[\s,;:=]\s*(\S.*)|(.*\S)\s*[,;:=]\s*(\d{1,3})", line) for line in lines]
    first = 0 if numbered and numbered[0] else 1  # skip a header such as "Pixel Value, Class"
    if len(numbered) > first and all(numbered[first:]):
        return {int(m[1] or m[4]): (m[2] or m[3]).strip() for m in numbered if m}
    if len(lines) <= VOID and len(set(lines)) == len(lines) and not any(re.search(r"[,;:=\t]", line) for line in lines):
        return dict(enumerate(lines))
    return {}


def _without_blends(shown: Shown) -> tuple[list[Code], str]:
    """The codes of classes, in order, and a note if other codes were dropped as smoothed edges."""
    codes = sorted(shown.pixels, key=lambda code: code if isinstance(code, tuple) else (code,))
    least = max(2.0, BLEND * shown.px / shown.read)
    parts = {code: shown.pixels[code] / shown.masks[code] for code in codes}
    what = "colours" if shown.colours else "numbers"
    if sum(part < least for part in parts.values()) > len(codes) / 2 and len(codes) > FEW:
        kept = [code for code, part in parts.items() if part >= SURE * least]
        lost = 1 - sum(shown.pixels[code] for code in kept) / shown.px
        if len(kept) > 1 and lost < 0.2:
            return kept, (
                f"{len(codes) - len(kept)} more {what} on {lost:.1%} of the pixels look like smoothed edges and are "
                "void (others: void)"
            )
    if len(codes) > VOID - 1:
        raise InputError(
            f"masks must hold at most {VOID - 1} {what}, got {len(codes):,} in {_of(shown)} (are they photographs, or "
            "saved in a lossy format?); name the folder whose masks hold classes"
        )
    return codes, ""


def _of(shown: Shown) -> str:
    part = f"{shown.read:,} of {shown.all:,} masks"
    return f"all {counted(shown.read, 'mask')}" if shown.read == shown.all else part


def _called(code: Code, number: int, names: dict[Code, str]) -> str:
    name = names.get(code, f"class-{number}")
    return VOID_NAME if VOID_NAMES.fullmatch(name) else name


def _told(shown: Shown, codes: int, names: list[str], source: str, blends: str) -> list[str]:
    invented = [name for name in names if re.fullmatch(r"class-\d+", name)]
    what = ("colour" if codes == 1 else "colours") if shown.colours else ("number" if codes == 1 else "numbers")
    told = f"{codes} {what} in {_of(shown)}"
    if invented:
        several = f"{invented[0]} to {invented[-1]}: rename them" if len(invented) > 1 else f"{invented[0]}: rename it"
        told += f"; names are {several}" if len(invented) == len(names) else f"; {source} lacks names, so {several}"
    else:
        told += f"; names come from {source}" if source else "; names are a guess: rename them"
    more = [
        f"{counted(shown.all - shown.read, 'mask')} were not read: classes only in these are missing (--all reads them)"
    ] * (shown.read < shown.all)
    return [told, *more, *[blends] * bool(blends)]


def _shares(shown: Shown, named: dict[Code, str]) -> dict[str, float]:
    found = Counter[str]()
    for code, name in named.items():
        if name != VOID_NAME:
            found[name] += shown.pixels[code]
    return {name: n / max(1, found.total()) for name, n in found.items()}


def _check_several(names: list[str], shown: Shown) -> None:
    if len(names) < 2:
        raise InputError(
            f"masks must show at least two classes, got only {', '.join(names) or 'void'} in {_of(shown)}; name a "
            "folder whose masks hold classes"
        )


def _of_colours(shown: Shown, names: dict[Code, str], source: str) -> Classes:
    codes, blends = _without_blends(shown)
    if shown.read < shown.all:
        codes += [code for code in names if code not in shown.pixels]  # the masks that were not read may show them
    if codes == [BLACK, WHITE] and not names:
        names = dict(zip(codes, PAIR, strict=True))
    if VOC_VOID in codes and VOC_VOID not in names:
        names = {**names, VOC_VOID: VOID_NAME}
        painted = [f"void is {[*VOC_VOID]}, as VOC paints it, on {shown.pixels[VOC_VOID] / shown.px:.1%} of the pixels"]
    else:
        painted = []
    named = {code: _called(code, number, names) for number, code in enumerate(codes)}
    classes = list(dict.fromkeys(name for name in named.values() if name != VOID_NAME))
    _check_several(classes, shown)
    palette: dict[str, list[Json]] = {}
    for code, name in named.items():
        palette.setdefault(name, []).append([*code] if isinstance(code, tuple) else code)
    if VOID_NAME in palette:
        palette[VOID_NAME] = palette.pop(VOID_NAME)  # void goes last
    options: dict[str, Json] = {
        "palette": {name: colours[0] if len(colours) == 1 else colours for name, colours in palette.items()}
    }
    if blends:
        options["others"] = VOID_NAME
    said = _told(shown, len(codes), classes, source, blends) + painted
    if VOID_NAME not in palette and not blends and not names:
        said.append(
            f"no colour is void; if one should be, such as {palette[classes[0]][0]}, name it {VOID_NAME} in palette "
            "and drop its class"
        )
    return Classes(classes, options, _shares(shown, named), said)


def _of_numbers(shown: Shown, names: dict[Code, str], source: str) -> Classes:
    codes, blends = _without_blends(shown)
    numbers = [code for code in codes if isinstance(code, int)]
    guessed = numbers == [0, VOID] and not names
    if guessed:
        names = {0: PAIR[0], VOID: PAIR[1]}
    # 0, 85, 170, 255 are classes spread over all greys. Otherwise 255 is void by convention.
    spread_out = len(numbers) > 2 and numbers[0] == 0 and len(set(np.diff(numbers).tolist())) == 1
    void = {number for number in numbers if _called(number, number, names) == VOID_NAME}
    if VOID in numbers and VOID not in names and not spread_out:
        void.add(VOID)
    if shown.read < shown.all:  # unread masks may show the numbers in between, and those that the file names
        known = {n for n in names if isinstance(n, int) and n < VOID and _called(n, n, names) != VOID_NAME}
        places = set(range(max(set(numbers) - void, default=0))) if not spread_out and 0 in numbers else set()
        numbers = sorted({*numbers, *known, *(places - void)} if not blends and not guessed else numbers)
    numbers = [number for number in numbers if number not in void]
    of_classes: dict[Code, str] = {number: _called(number, number, names) for number in numbers}
    classes = list(dict.fromkeys(of_classes.values()))
    _check_several(classes, shown)
    options: dict[str, Json] = {}
    marks = sorted(void)
    if not len(classes) == len(of_classes) == max(numbers) + 1 or len(marks) > 1 or blends:
        options["labels"] = {str(number): name for number, name in of_classes.items()}
    if marks:
        options["void"] = marks[0] if len(marks) == 1 else list(marks)
    if blends:
        options["others"] = VOID_NAME
    said = _told(shown, len(codes), classes, source, blends)
    if marks:
        why = "by convention" if marks == [VOID] and VOID not in names else f"by {source}"
        part = sum(shown.pixels[n] for n in marks) / shown.px
        said.append(f"void is {', '.join(map(str, marks))}, {why}, on {part:.1%} of the pixels")
    elif not names:
        said.append("no number is void; if one should be, set `void:` to it and drop its class")
    return Classes(classes, options, _shares(shown, of_classes), said)
