"""A user's own photographs with masks: two folders and a list of classes, no code.

``images/*.jpg`` (or png ...) and ``masks/*.png`` have the same stems, also in subfolders (``site-a/001``), and may have
endings of their own (``001_mask``). A mask is a palette or grey image of labels, or of other numbers or colours that
encode classes. Lists, folders, patterns or a share define the splits. ``groups`` says which images belong together,
such as the frames of a video.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any

from study.data.group_names import LISTED, groups_of
from study.data.image_mask_pairs import Classes, Gap, Longest, Pad, Pairs, Tune, folder, rows
from study.data.mask_codes import UNKNOWN, VOID_NAME, Codes, codes_of_palette, palette_of
from study.data.pixels import Colour
from study.data.stems import files_by_stem, folders, listed_stems, stem_of
from study.seeds import number
from study.spec.checks import (
    Block,
    Broken,
    FolderText,
    Text,
    different,
    is_path,
    is_share,
    kind,
    listed,
    matching,
    rule,
    shown,
    sides,
)
from study.spec.constants import VOID
from study.spec.errors import InputError

WAYS = ("folder", "pattern")  # to define a split, besides a list


def _is_pattern(text: str) -> bool:
    """Whether a text is a regular expression with a group, or the name of a list of groups."""
    try:
        return text.endswith(LISTED) or re.compile(text).groups > 0
    except re.error:
        return False


def _is_number(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_way(value: Any) -> bool:
    """Whether a value defines the images of a split: a list, a folder or a pattern."""
    if isinstance(value, dict):
        return len(value) == 1 and all(way in WAYS and isinstance(text, str) and text for way, text in value.items())
    return is_path(value)


def _is_colour(value: Any) -> bool:
    return listed(value, lambda part: type(part) is int and 0 <= part <= 255) and len(value) == 3


def _is_palette(value: Any) -> bool:
    """Whether a value has one or several colours by name, or is the path of a file with them."""
    if not isinstance(value, dict):
        return is_path(value)
    return bool(value) and all(_is_colour(c) or (listed(c, _is_colour) and bool(c)) for c in value.values())


Suffix = Annotated[
    str,
    matching(
        r"[^/\\\n]{1,100}", "be the end of names, before the dot", "write e.g. _mask, in quotes if it is a number"
    ),
]


class Options(Block):
    images: FolderText
    masks: FolderText
    classes: Classes
    void: (
        Annotated[
            int | list[int],
            kind(
                lambda value: _is_number(value) or (listed(value, _is_number) and bool(value) and different(value)),
                "be a whole number from 0 up, or a list of such",
                "write e.g. 255 or [0, 255]",
                editor=int | list[int],
            ),
        ]
        | None
    ) = None  # labels
    val: Annotated[
        float | str | dict[str, str],
        kind(
            lambda value: is_share(value) or _is_way(value),
            "be a number from 0 to 1 (a share), the name of a list, {folder: name} or {pattern: expression}",
            "write one of them",
            editor=float | str | dict[str, str],
        ),
    ]
    train: (
        Annotated[
            str | dict[str, str],
            kind(
                _is_way,
                "be the name of a list, {folder: name} or {pattern: expression}",
                "write one of them",
                editor=str | dict[str, str],
            ),
        ]
        | None
    ) = None
    tune: Tune
    pad: Pad
    image_suffix: Suffix | None = None
    mask_suffix: Suffix | None = None
    palette: (
        Annotated[
            str | dict[str, Any],
            kind(
                _is_palette,
                "be colours by class, or the name of a file of them",
                "write e.g. {roof: [128, 0, 0], tree: [[0, 128, 0], [0, 64, 0]]}, or palette.txt",
                editor=str | dict[str, Any],
            ),
        ]
        | None
    ) = None
    labels: (
        Annotated[
            dict[str, Any],
            kind(
                lambda value: isinstance(value, dict) and bool(value),
                "be classes by number",
                "write e.g. {7: ground, 11: roof}",
                editor=dict[str, Any],
            ),
        ]
        | None
    ) = None
    others: Any = None  # a class, its index or void: the meaning of all values in neither palette nor labels
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
        for key, way in (("val", self.val), ("train", self.train)):
            if isinstance(way, dict) and "pattern" in way:
                try:
                    re.compile(way["pattern"])
                except re.error as error:
                    told = f"{shown(way['pattern'])} ({error})"
                    raise Broken("be a regular expression", told, "correct it", f"{key}.pattern") from None
        if self.palette is not None and (self.labels is not None or self.void is not None):
            other = "labels" if self.labels is not None else "void"
            raise Broken(
                "not be set together with palette (masks hold colours or numbers)", shown(getattr(self, other)),
                f"drop one of them; to ignore a colour, write {VOID_NAME}: [0, 0, 0] in the palette", other,
            )  # fmt: skip
        if self.others is not None:
            if self.palette is None and self.labels is None:
                raise Broken(
                    "be set with palette or labels", shown(self.others), "drop it, or say what masks hold", "others"
                )
            _check_meaning(self.others, self.classes, "others")
        if self.labels is not None:
            _check_labels(self)
        elif wrong := [label for label in _voids(self.void) if not len(self.classes) <= label <= 255]:
            several = f", or say what numbers mean, such as labels: {{1: {self.classes[0]}, 2: {self.classes[1]}}}"
            raise Broken(
                f"be a label that no class has, {len(self.classes)} to 255", shown(wrong[0]),
                f"name a class for each label from 0 up, or another label{several}", "void",
            )  # fmt: skip


def _voids(void: Any) -> tuple[int, ...]:
    """The void labels in an option."""
    return () if void is None else tuple(void) if isinstance(void, list | tuple) else (void,)


def _check_meaning(meaning: Any, classes: tuple[str, ...], at: str) -> None:
    """Raises Broken for a meaning that is not a label."""
    if _meant(meaning, classes) == UNKNOWN:
        raise Broken(
            f"be a class, its index from 0 to {len(classes) - 1}, or {VOID_NAME}", shown(meaning),
            f"write e.g. {at.removeprefix('labels.')}: {classes[0]}", at,
        )  # fmt: skip


def _check_labels(options: Options) -> None:
    """Raises Broken for invalid numbers or meanings, and for a class without a number."""
    labels, classes, voids = options.labels or {}, options.classes, _voids(options.void)
    for name, meaning in labels.items():
        if not (re.fullmatch(r"0|[1-9]\d{0,2}", name) and int(name) <= 255):
            raise Broken("have numbers from 0 to 255 as keys", shown(name), "correct it", "labels")
        _check_meaning(meaning, classes, f"labels.{name}")
    if again := [label for label in voids if str(label) in labels]:
        raise Broken("be numbers that labels does not name", shown(again[0]), "drop it from one of them", "void")
    if wrong := [label for label in voids if label > 255]:
        raise Broken("be numbers from 0 to 255", shown(wrong[0]), "correct it", "void")
    meant = {_meant(meaning, classes) for meaning in (*labels.values(), options.others)}
    if lacking := [name for number, name in enumerate(classes) if number not in meant]:
        raise Broken("have a number for each class", f"none for {lacking[0]}", "add it, or drop the class", "labels")


def _meant(meaning: Any, classes: tuple[str, ...]) -> int:
    """The label of a class, of its index or of void; UNKNOWN for anything else."""
    if type(meaning) is int:
        return meaning if 0 <= meaning < len(classes) else UNKNOWN
    if meaning in classes:
        return classes.index(meaning)
    return VOID if meaning == VOID_NAME else UNKNOWN


def open(options: Options, root: Path | None, cache: Path) -> Pairs:
    """Options: images and masks (folders below the root), classes (names, from label 0 up), val (a share of the images,
    the name of a list of stems, {folder: ...} or {pattern: ...}), tune (images kept apart), pad (height, width).

    Optional:
    void: labels that are neither trained on nor scored;
    train: as val, except a share; by default train.txt if it exists, or else all images outside val;
    image_suffix, mask_suffix: endings of names that are not part of the stem;
    palette (colours by class, or a file of them), or labels (classes by number): the content of masks if not labels;
    others: the meaning of all values that these do not name;
    range (low, high): the values that become black and white in grey pictures of more than 8 bits (D107);
    groups: the images that belong together, as a regular expression whose first group, found in the stem, is the name,
    or as a CSV file below the root with the columns stem and group;
    gap: images left out of training on either side of the tune split, which is then a block of one group (of all images
    if there are no groups) in the order of train.txt, or of the stems;
    longest: larger images are reduced to this longest side in px when they are read. They are scored at their own size
    (D123).

    Shares are chosen by the digests of names: an added image moves no other, except at the edge of the share. Raises
    InputError for folders, lists, patterns or palettes that do not fit the files.
    """
    base, classes, size = folder(root, "folder's data.root"), options.classes, options.pad
    notes: list[str] = []
    images, masks = _pairs(base, options, notes)
    train, val = (
        [(stem, images[stem], masks[stem]) for stem in split] for split in _splits(base, options, images, notes)
    )
    scale = options.range
    if scale is not None:
        notes.append(
            f"grey values from {scale[0]} to {scale[1]} are scaled to 0 to 255, others cut off at these (D107)"
        )
    grouped = groups_of(base, options.groups, [stem for stem, *_ in train + val])
    voids, palette = _voids(options.void), _palette(base, options)
    source = Pairs(
        classes,
        train,
        val,
        tune=options.tune,
        void=voids[0] if voids else None,
        size=size,
        codes=_codes(base, options, palette),
        beside=[base / options.palette] if isinstance(options.palette, str) else [],
        scale=scale,
        longest=options.longest,
        notes=notes,
        grouped=grouped,
        gap=options.gap,
    )
    if palette is not None:  # a class with several colours is shown in the first
        source.colours = {classes.index(name): colours[0] for name, colours in palette.items() if name in classes}
    return source


def _palette(base: Path, options: Options) -> dict[str, list[Colour]] | None:
    """The colours of each class and of void; None if masks hold numbers."""
    palette = options.palette
    if isinstance(palette, str):
        return palette_of(rows(base / palette), base / palette)
    if palette is None:
        return None
    return {name: [colours] if _is_colour(colours) else list(colours) for name, colours in palette.items()}


def _codes(base: Path, options: Options, palette: dict[str, list[Colour]] | None) -> Codes | None:
    """The codes of the classes in masks; None if masks hold labels, with at most one void."""
    classes, labels = options.classes, options.labels
    voids, rest = _voids(options.void), _meant(options.others, classes)
    if palette is not None:
        where = f"the palette {base / options.palette}" if isinstance(options.palette, str) else "the palette of folder"
        return codes_of_palette(palette, classes, rest, where)
    if labels is None and len(voids) < 2:
        return None
    meant = {
        name: _meant(meaning, classes)
        for name, meaning in (labels or {str(label): name for label, name in enumerate(classes)}).items()
    }
    return Codes({int(name): label for name, label in meant.items()} | dict.fromkeys(voids, VOID), rest=rest)


def _pairs(base: Path, options: Options, notes: list[str]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Images and masks by stem. Raises InputError for images without masks and masks without images."""
    ends = {"image": options.image_suffix or "", "mask": options.mask_suffix or ""}
    places = [folder for _, folder in folders(base, options.masks)]

    def is_mask(path: Path) -> bool:
        """Masks may be in the same folder as their images."""
        end = ends["mask"]
        return bool(end) and any(path.is_relative_to(place) for place in places) and stem_of(path).endswith(end)

    images = files_by_stem(base, options.images, "images of folder", end=ends["image"], notes=notes, is_other=is_mask)
    masks = files_by_stem(base, options.masks, "masks of folder", end=ends["mask"], notes=notes)
    ways = [way["folder"] for way in (options.train, options.val) if isinstance(way, dict) and "folder" in way]
    if len(ways) == 2:  # images in neither folder, such as a test split, need no mask
        below = tuple(map(_below, ways))
        if out := {stem for stem in images if stem not in masks and not stem.startswith(below)}:
            notes.append(f"{len(out)} images without mask are neither of train nor of val, such as {min(out)}")
            images = {stem: path for stem, path in images.items() if stem not in out}
    alone = (sorted(images.keys() - masks.keys()), sorted(masks.keys() - images.keys()))
    if any(alone):
        told = (
            f"{what} {stems[0]} without {lacks}"
            for stems, what, lacks in zip(alone, ("an image", "a mask"), ("mask", "image"), strict=True)
            if stems
        )
        more = sum(map(len, alone)) - sum(map(bool, alone))
        remedy = "rename, add or remove them"
        if not any(ends.values()) and all(alone) and alone[1][0].startswith(alone[0][0]):
            remedy += f", or name what masks end in: mask_suffix: {alone[1][0].removeprefix(alone[0][0])}"
        raise InputError(
            f"images and masks must have the same stems, got {' and '.join(told)} and {more} more such files below "
            f"{base}; {remedy}"
        )
    return images, masks


def _splits(base: Path, options: Options, images: dict[str, Path], notes: list[str]) -> tuple[list[str], list[str]]:
    """The stems of train and val. Raises InputError if they share one, or if an option selects none."""
    end = options.image_suffix or ""
    how, asked = options.train, options.val
    if how is None and (base / "train.txt").is_file():
        how = "train.txt"
    stems = list(images) if how is None else _chosen(base, how, images, "train", notes=notes, end=end)
    if isinstance(asked, int | float):
        val = sorted(stems, key=lambda stem: number("val", stem))[: round(asked * len(stems))]
    else:
        val = _chosen(base, asked, images, "val", notes=notes, end=end)
        if how is not None and (shared := sorted({*val} & {*stems})):
            raise InputError(
                f"{_said(how)} and {_said(asked)} must share no image (it would be trained on and then scored), got "
                f"{shared[0]} in both; remove it from one"
            )
    used = {*stems, *val}
    if unused := [stem for stem in images if stem not in used]:
        notes.append(f"{len(unused)} images are neither of train nor of val, such as {unused[0]}")
    apart = set(val)
    return [stem for stem in stems if stem not in apart], val


def _chosen(
    base: Path, way: str | dict[str, str], images: dict[str, Path], split: str, *, notes: list[str], end: str
) -> list[str]:
    """Stems by a list, a folder or a pattern. Raises InputError if a folder or pattern selects none."""
    if isinstance(way, str):
        return listed_stems(base / way, images, notes, end)
    if "folder" in way:
        found = [stem for stem in images if stem.startswith(_below(way["folder"]))]
    else:
        found = [stem for stem in images if re.search(way["pattern"], stem)]
    if not found:
        raise InputError(
            f"{split} of folder must select an image, got none of {len(images)} by {_said(way)}, such as "
            f"{next(iter(images))}; correct it"
        )
    return found


def _below(folder: str) -> str:
    """The beginning of the stems of a folder."""
    return unicodedata.normalize("NFC", Path(folder).as_posix()) + "/"


def _said(way: str | dict[str, str]) -> str:
    return way if isinstance(way, str) else " ".join(f"{name} {shown(text)}" for name, text in way.items())
