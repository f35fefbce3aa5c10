"""A user's own photographs with masks: two folders and a list of classes, no code.

``images/*.jpg`` (or png ...) and ``masks/*.png`` have the same stems, in subfolders too (``site-a/001``); a mask is a
palette or grey image of labels. Lists of stems, ``train.txt`` and the one that ``val`` names, say which are which;
without them shares do.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Annotated, Any

from study.data.pairs import Classes, Pad, Pairs, Tune, folder, lines
from study.pixels import check_name
from study.seeds import number
from study.spec import InputError
from study.values import Block, Broken, FolderText, rule, share_or_path, shown, sides, whole

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


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
    more than 8 bits (D107).

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
    return Pairs(classes, train, val, options["tune"], options["void"], size, scale=scale, notes=notes)


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


def _stems(path: Path, images: dict[str, Path], notes: list[str]) -> list[str]:
    """Stems of a list. Raises InputError for one that has no image."""
    named = (Path(line) for line in lines(path, notes))
    stems = list(
        dict.fromkeys(
            _stem(place) if place.suffix.lower() in SUFFIXES else unicodedata.normalize("NFC", place.as_posix())
            for place in named
        )
    )
    if unknown := [stem for stem in stems if stem not in images]:
        raise InputError(
            f"a list must name images that are there, got {unknown[0]!r} in {path}; add the image or unlist it"
        )
    return stems
