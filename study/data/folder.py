"""A user's own photographs with masks: two folders and a list of classes, no code.

``images/*.jpg`` (or png ...) and ``masks/*.png`` have the same stems; a mask is a palette or grey image of labels.
Lists of stems, ``train.txt`` and the one that ``val`` names, say which are which; without them shares do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from study.data.pairs import Classes, Pad, Pairs, Tune, folder, lines
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
    apart), pad (height, width).

    Shares are chosen by the digests of names: an image that is added moves no other but those at the edge of the share.
    """
    base, classes, size = folder(root, "folder's data.root"), tuple(options["classes"]), tuple(options["pad"])
    images, masks = (_files(base, options[key], f"{key} of folder") for key in ("images", "masks"))
    if alone := sorted(images.keys() ^ masks.keys()):
        has, lacks = ("an image", "mask") if alone[0] in images else ("a mask", "image")
        raise InputError(
            f"images and masks must have the same stems, got {has} {alone[0]} without {lacks} and "
            f"{len(alone) - 1} more such files below {base}; add or remove them"
        )
    stems, listed = list(images), (base / "train.txt").is_file()
    if listed:
        stems = _stems(base / "train.txt", images)
    if isinstance(options["val"], str):
        measured = _stems(base / options["val"], images)
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
    return Pairs(classes, train, val, options["tune"], options["void"], size)


def _files(base: Path, name: Any, where: str) -> dict[str, Path]:
    """Image files of a folder by stem. Raises InputError for no such folder or two files of one stem."""
    if not isinstance(name, str) or not (base / name).is_dir():
        raise InputError(f"{where} must be a folder below {base}, got {name!r}; name the one that has them")
    found: dict[str, Path] = {}
    for path in sorted((base / name).iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise InputError(
                    f"{where} must have one file a stem, got {found[path.stem].name} and {path.name} in {path.parent}; "
                    "remove one"
                )
            found[path.stem] = path
    return found


def _stems(path: Path, images: dict[str, Path]) -> list[str]:
    """Stems of a list. Raises InputError for one that has no image."""
    stems = list(
        dict.fromkeys(Path(line).stem if Path(line).suffix.lower() in SUFFIXES else line for line in lines(path))
    )
    if unknown := [stem for stem in stems if stem not in images]:
        raise InputError(
            f"a list must name images that are there, got {unknown[0]!r} in {path}; add the image or unlist it"
        )
    return stems
