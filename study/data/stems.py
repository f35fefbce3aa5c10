"""Files of a folder by stem: the path below it without suffix, in one Unicode form. Lists name files by their stems."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from study.data.image_mask_pairs import lines
from study.data.pixels import check_name
from study.spec.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


def stem_of(place: Path) -> str:
    """A path without its suffix, in one Unicode form (NFC): Unicode can write the same letters in two ways."""
    return unicodedata.normalize("NFC", place.with_suffix("").as_posix())


def stem_in(text: str) -> str:
    """The stem in a line, with or without the suffix of the image."""
    place = Path(text)
    return stem_of(place) if place.suffix.lower() in SUFFIXES else unicodedata.normalize("NFC", place.as_posix())


def folders(base: Path, name: str) -> list[tuple[str, Path]]:
    """The folders that match a name, each with the prefix of its stems. In ``*/images``, ``*`` matches any folder,
    whose name becomes the first part of the stems."""
    starred = re.fullmatch(r"(?:([^*]*)/)?\*/([^*]+)", name)
    if starred is None:
        return [("", base / name)] if (base / name).is_dir() else []
    above = base / (starred[1] or "")
    places = sorted(path for path in above.iterdir() if not path.name.startswith(".")) if above.is_dir() else []
    return [(place.name, place / starred[2]) for place in places if (place / starred[2]).is_dir()]


def files_by_stem(
    base: Path,
    name: str,
    where: str,
    *,
    end: str,
    notes: list[str],
    is_other: Callable[[Path], bool] = lambda path: False,
) -> dict[str, Path]:
    """Image files below a folder by stem, without the ending ``end`` and except files for which ``is_other`` holds.
    ``notes`` reports how many have another ending. Raises InputError for a missing folder, one without images, or two
    files with one stem."""
    places = folders(base, name)
    if not places:
        raise InputError(f"{where} must be a folder below {base}, got {name!r}; name the one that has them")
    found: dict[str, Path] = {}
    left: list[str] = []
    end = unicodedata.normalize("NFC", end)
    for start, below, path in ((*one, path) for one in places for path in sorted(one[1].rglob("*"))):
        place = start / path.relative_to(below)
        if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in place.parts) or is_other(path):
            continue
        check_name(path)
        stem = stem_of(place)
        if not stem.endswith(end) or stem.rpartition("/")[2] == end:
            left.append(stem)
            continue
        stem = stem.removesuffix(end)
        if stem in found:
            raise InputError(
                f"{where} must have one file per stem, got {found[stem].name} and {path.name} in {path.parent}; "
                "remove one"
            )
        found[stem] = path
    if not found and left:
        raise InputError(
            f"{where} must have names that end in {end!r} (its suffix), got none of {len(left)} in {base / name}, such "
            f"as {left[0]}; correct the suffix or rename them"
        )
    if not found:
        raise InputError(
            f"{where} must hold images ({', '.join(sorted(SUFFIXES))}), got none in {base / name} or its folders; name "
            "the folder that has them"
        )
    if left:
        notes.append(f"{len(left)} files of {name} do not end in {end} and are left alone, such as {left[0]}")
    return found


def listed_stems(path: Path, images: dict[str, Path], notes: list[str], end: str) -> list[str]:
    """Stems of a list, whose lines may have the ``end`` of the images' names. Raises InputError for an unknown stem."""
    named = (stem_in(line) for line in lines(path, notes))
    stems = list(dict.fromkeys(stem if stem in images else stem.removesuffix(end) for stem in named))
    if unknown := [stem for stem in stems if stem not in images]:
        raise InputError(
            f"a list must name existing images, got {unknown[0]!r} in {path}; add the image or remove the line"
        )
    return stems
