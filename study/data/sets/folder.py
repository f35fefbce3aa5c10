"""A user's own photographs with masks: two folders and a list of classes, no code.

``images/*.jpg`` (or png ...) and ``masks/*.png`` have the same stems, in subfolders too (``site-a/001``); a mask is a
palette or grey image of labels. Lists of stems, ``train.txt`` and the one that ``val`` names, say which are which;
without them shares do. Images that belong together, such as the frames of a video, are told by ``groups``.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any

from study.data.image_mask_pairs import Classes, Gap, Longest, Pad, Pairs, Tune, folder, lines, rows
from study.data.pixels import check_name
from study.seeds import number
from study.spec.checks import Block, Broken, FolderText, Text, checked, rule, share_or_path, shown, sides, whole
from study.spec.errors import InputError

LISTED = ".csv"  # the end of what names a list of groups; else it is a pattern
COLUMNS = ("stem", "group")  # of such a list
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


def _is_pattern(text: str) -> bool:
    """Whether a regular expression says what the group is; the name of a list is another matter."""
    try:
        return text.endswith(LISTED) or re.compile(text).groups > 0
    except re.error:
        return False


class Options(Block):
    images: FolderText
    masks: FolderText
    classes: Classes
    void: Annotated[int, whole(0)]  # a label
    val: Annotated[float | str, share_or_path("be a number from 0 to 1 (a share) or the name of a list")]
    tune: Tune
    pad: Pad
    range: (
        Annotated[
            tuple[int, int],
            sides(65_535, "be [low, high], whole numbers from 0 up", "write e.g. [0, 4095]", least=0),
            rule(lambda ends: ends[0] < ends[1], "be [low, high] with low below high", "write e.g. [0, 4095]"),
        ]
        | None
    ) = None  # grey levels of an image
    groups: (
        Annotated[
            Text,
            rule(
                _is_pattern,
                f"be a pattern whose first part in parentheses is the group, or the name of a {LISTED} file",
                "write e.g. '([^/]*)/', the first folder",
            ),
        ]
        | None
    ) = None
    gap: Gap | None = None
    longest: Longest | None = None

    def check(self) -> None:
        if not len(self.classes) <= self.void <= 255:
            raise Broken(
                f"be a label that no class has, {len(self.classes)} to 255", shown(self.void),
                "name a class for each label from 0 up, or another label", "void",
            )  # fmt: skip


def open(options: dict[str, Any], root: Path | None, cache: Path) -> Pairs:
    """options: images and masks (folders below the root), classes (names, from label 0 up), void (the label that is
    neither trained on nor scored), val (a share of the images, or the name of a list of stems), tune (images kept
    apart), pad (height, width), and maybe range (low, high): the values that become black and white in grey pictures of
    more than 8 bits (D107); groups: which images belong together, as a regular expression whose first group, found in
    the stem, is its name, or as a CSV file below the root with the columns stem and group; gap: images left out of
    training on either side of the tune split, which is then a block of one group (of all where there are no groups) in
    the order of train.txt, or of the stems; longest: the px of an image's longest side, to which larger ones are made
    smaller when they are read. They are scored at their own size (D123).

    Shares are chosen by the digests of names: an image that is added moves no other but those at the edge of the share.
    """
    base, classes, size = folder(root, "folder's data.root"), tuple(options["classes"]), tuple(options["pad"])
    images, masks = (_files(base, options[key], f"{key} of folder") for key in ("images", "masks"))
    sides_alone = (sorted(images.keys() - masks.keys()), sorted(masks.keys() - images.keys()))
    if any(sides_alone):
        told = (
            f"{what} {alone[0]} without {lacks}"
            for alone, what, lacks in zip(sides_alone, ("an image", "a mask"), ("mask", "image"), strict=True)
            if alone
        )
        more = sum(map(len, sides_alone)) - sum(map(bool, sides_alone))
        raise InputError(
            f"images and masks must have the same stems, got {' and '.join(told)} and {more} more such files below "
            f"{base}; rename, add or remove them"
        )
    notes: list[str] = []
    stems, listed = list(images), (base / "train.txt").is_file()
    if listed:
        stems = _stems(base / "train.txt", images, notes)
    if isinstance(options["val"], str):
        measured = _stems(base / options["val"], images, notes)
    else:
        ranked = sorted(stems, key=lambda stem: number("val", stem))
        measured = ranked[: round(options["val"] * len(ranked))]
    apart = set(measured)
    if isinstance(options["val"], str) and listed and (shared := sorted(apart & set(stems))):
        raise InputError(
            f"train.txt and {options['val']} must share no image (it would be trained on and then measured), got "
            f"{shared[0]} in both; take it out of one"
        )
    train, val = (
        [(stem, images[stem], masks[stem]) for stem in split]
        for split in ((stem for stem in stems if stem not in apart), measured)
    )
    scale = tuple(options["range"]) if options.get("range") else None
    if scale is not None:
        notes.append(
            f"grey values from {scale[0]} to {scale[1]} are scaled to 0 to 255, others cut off at these (D107)"
        )
    grouped = _groups(base, options.get("groups"), [stem for stem, *_ in train + val])
    fixed = {"tune": options["tune"], "void": options["void"], "size": size, "gap": options.get("gap")}
    longest = options.get("longest")
    return Pairs(classes, train, val, **fixed, scale=scale, longest=longest, notes=notes, grouped=grouped)


def _groups(base: Path, named: str | None, stems: list[str]) -> dict[str, str]:
    """The group of each stem, by a pattern or by a list; {} where neither is named.

    Raises InputError for a stem that the pattern finds no group in, or that the list does not have once.
    """
    if named is None:
        return {}
    if named.endswith(LISTED):
        return _listed_groups(base / named, stems)
    found = {stem: re.search(named, stem) for stem in stems}
    if without := [stem for stem, match in found.items() if match is None or not match[1]]:
        raise InputError(
            f"groups of folder must find a group in every stem, got none by {named!r} in {without[0]} and "
            f"{len(without) - 1} more; write another pattern, or a list of groups"
        )
    return {stem: match[1] for stem, match in found.items() if match}


def _listed_groups(path: Path, stems: list[str]) -> dict[str, str]:
    table = csv.DictReader(rows(path), skipinitialspace=True, strict=True)
    found: dict[str, str] = {}
    try:
        if lacking := [column for column in COLUMNS if column not in (table.fieldnames or ())]:
            raise InputError(
                f"a list of groups must have the columns {' and '.join(COLUMNS)}, got no {lacking[0]!r} in {path}; "
                f"write {','.join(COLUMNS)} as its first line"
            )
        for row in table:
            if not row["stem"] or not row["group"]:
                raise InputError(
                    f"a row of a list of groups must have a stem and a group, got {shown(list(row.values()))} in "
                    f"{path}; complete it"
                )
            stem = _named(row["stem"].strip())
            if stem in found:
                raise InputError(f"a list of groups must have each stem once, got {stem} twice in {path}; remove a row")
            found[stem] = checked(Text, row["group"].strip(), f"a group in {path}")
    except csv.Error as error:
        raise InputError(f"a list of groups must be a CSV file, got {path} ({error}); write it again") from error
    if without := [stem for stem in stems if stem not in found]:
        raise InputError(
            f"a list of groups must have every image's stem, got none of {without[0]} and {len(without) - 1} more in "
            f"{path}; add a row for each"
        )
    return found


def _files(base: Path, name: Any, where: str) -> dict[str, Path]:
    """Image files of a folder and those in it, by stem below the folder. Raises InputError for no such folder, none
    with an image, or two files of one stem."""
    if not isinstance(name, str) or not (base / name).is_dir():
        raise InputError(f"{where} must be a folder below {base}, got {name!r}; name the one that has them")
    found: dict[str, Path] = {}
    for path in sorted((base / name).rglob("*")):
        place = path.relative_to(base / name)
        if path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in place.parts):
            check_name(path)
            stem = _stem(place)
            if stem in found:
                raise InputError(
                    f"{where} must have one file a stem, got {found[stem].name} and {path.name} in {path.parent}; "
                    "remove one"
                )
            found[stem] = path
    if not found:
        raise InputError(
            f"{where} must hold images ({', '.join(sorted(SUFFIXES))}), got none in {base / name} or its folders; name "
            "the folder that has them"
        )
    return found


def _stem(place: Path) -> str:
    """A path without its suffix; the same letters can be written in two ways in Unicode, of which one stands here."""
    return unicodedata.normalize("NFC", place.with_suffix("").as_posix())


def _named(text: str) -> str:
    """The stem that a line names, with its image's suffix or without."""
    place = Path(text)
    return _stem(place) if place.suffix.lower() in SUFFIXES else unicodedata.normalize("NFC", place.as_posix())


def _stems(path: Path, images: dict[str, Path], notes: list[str]) -> list[str]:
    """Stems of a list. Raises InputError for one that has no image."""
    stems = list(dict.fromkeys(_named(line) for line in lines(path, notes)))
    if unknown := [stem for stem in stems if stem not in images]:
        raise InputError(
            f"a list must name images that are there, got {unknown[0]!r} in {path}; add the image or unlist it"
        )
    return stems
