"""Writes and validates submissions to benchmark servers: PNG files of classes in one archive, in a format for each.

voc: palette images in results/VOC2012/Segmentation/comp6_test_cls/ of a .tar.gz. cityscapes: grey images of label ids
in a .zip, found by the beginning of their names. In both, predictions have the sizes of their images.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from study.data.pixels import voc_palette
from study.data.sets.cityscapes import CLASSES, TRAIN_IDS
from study.spec.errors import InputError
from study.store.runs import write

Pack = Callable[[BinaryIO, Iterator[tuple[str, bytes]]], None]
Unpack = Callable[[Path], Iterator[tuple[str, bytes]]]
MADE = (1980, 1, 1, 0, 0, 0)  # of every member: equal predictions give equal archives (and zip has no earlier time)


def _label_ids() -> np.ndarray:
    """The label id of each class that Cityscapes trains on, uint8 (19,)."""
    known = {train: label for label, train in TRAIN_IDS.items()}
    return np.array([known[train] for train in range(len(CLASSES))], np.uint8)


def _pack_tar(file: BinaryIO, members: Iterator[tuple[str, bytes]]) -> None:
    with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)  # without time and owner
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def _unpack_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path, "r:gz") as archive:
        for entry in archive:
            file = archive.extractfile(entry) if entry.isfile() else None
            if file is not None:
                yield entry.name.removeprefix("./"), file.read()


def _pack_zip(file: BinaryIO, members: Iterator[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(file, "w") as archive:  # PNG files are compressed already
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name, MADE), content)


def _unpack_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.is_dir():
                yield entry.filename, archive.read(entry)


@dataclass(frozen=True)
class Format:
    """``folder`` holds the files in the archive. Their names are the images' names, which must match ``names``, and
    ``ending``; ``mode`` is that of the images (P: with VOC's palette, L: grey); the server knows the ids 0 to ``ids`` -
    1. ``label_ids`` gives each class's id, None if classes are ids."""

    folder: str
    ending: str
    names: str
    mode: str
    ids: int
    suffix: str
    pack: Pack
    unpack: Unpack
    label_ids: Callable[[], np.ndarray] | None = None


FORMATS = {
    "voc": Format(
        folder="results/VOC2012/Segmentation/comp6_test_cls/",
        ending=".png",
        names=r"\w+",
        mode="P",
        ids=21,
        suffix=".tar.gz",
        pack=_pack_tar,
        unpack=_unpack_tar,
    ),
    "cityscapes": Format(
        folder="",
        ending="_labelIds.png",
        names=r"[^_/]+_\d{6}_\d{6}(_\w+)?",
        mode="L",
        ids=34,
        suffix=".zip",
        pack=_pack_zip,
        unpack=_unpack_zip,
        label_ids=_label_ids,
    ),
}


def place(form: Format, name: str) -> str:
    """The place of an image's file in the archive. Raises InputError for a name that the server does not know."""
    if not re.fullmatch(form.names, name):
        raise InputError(
            f"a test image must have a name that the server knows (of the form {form.names}), got {name!r}; use the "
            "official names of the images"
        )
    return f"{form.folder}{name}{form.ending}"


def save(format: str, path: Path, classes: np.ndarray) -> None:
    """Write the classes that a network gives, uint8 (H, W), to a PNG file of the format: as a whole or not at all."""
    form = FORMATS[format]
    image = Image.fromarray(classes if form.label_ids is None else form.label_ids()[classes])
    if form.mode == "P":
        image.putpalette(voc_palette().tobytes())  # turns the grey image into mode P
    write(path, lambda file: image.save(file, "png"))


def pack(format: str, files: dict[str, Path], archive: Path) -> None:
    """Write the archive of PNG files, which are given by the names of their images. Equal files give equal bytes."""
    form = FORMATS[format]
    members = sorted((place(form, name), path) for name, path in files.items())
    write(archive, lambda file: form.pack(file, ((name, path.read_bytes()) for name, path in members)))


def validate(format: str, archive: Path, expected: dict[str, tuple[int, int]]) -> None:
    """Raises InputError unless the archive has one file of the format for each image in ``expected`` {name: (height,
    width)}, and no other file."""
    form = FORMATS[format]
    missing = {place(form, name): size for name, size in expected.items()}
    known = set(missing)
    try:
        for name, content in form.unpack(archive):
            if not _inside(form, name):
                raise InputError(
                    f"a file of {archive.name} must be in {form.folder or 'no folder'} (its place in the format), got "
                    f"{name}; move it there"
                )
            if name not in known:
                raise InputError(
                    f"{archive.name} must hold the test images only ({len(known)} files), got {name}; remove it"
                )
            if name not in missing:
                raise InputError(
                    f"{archive.name} must hold each image once (the server takes one), got {name} twice; remove one"
                )
            _check(form, name, content, missing.pop(name))
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{archive.name} must be a whole {form.suffix} archive, got one that cannot be read ({error}); write it "
            "again"
        ) from error
    if missing:
        raise InputError(
            f"{archive.name} must hold every test image (the server scores all of them), got none for {min(missing)}; "
            f"add the {len(missing)} missing ones"
        )


def _inside(form: Format, name: str) -> bool:
    return name.startswith(form.folder) and "/" not in name.removeprefix(form.folder)


def _check(form: Format, name: str, content: bytes, size: tuple[int, int]) -> None:
    try:
        with Image.open(io.BytesIO(content)) as image:
            ids, mode, kind, colours = np.asarray(image), image.mode, image.format, image.getpalette()
    except (OSError, SyntaxError) as error:
        raise InputError(f"{name} must be a whole PNG file, got {error}; write it again") from error
    if (kind, mode) != ("PNG", form.mode):
        rule = "a palette" if form.mode == "P" else "a grey"
        raise InputError(f"{name} must be {rule} PNG (mode {form.mode}), got {kind} of mode {mode}; convert it")
    if ids.shape != size:
        raise InputError(
            f"{name} must have the size of its image, {size} (height, width), got {ids.shape}; cut off the padding"
        )
    if form.mode == "P" and colours != voc_palette().ravel().tolist()[: len(colours or ())]:
        raise InputError(f"{name} must have VOC's palette (the server shows it), got another; write it again")
    if ids.max() >= form.ids:
        raise InputError(
            f"{name} must hold ids that the server knows, 0 to {form.ids - 1}, got {ids.max()}; write one of these"
        )
