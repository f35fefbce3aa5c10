"""Data sets: the file ``study.data.sets.<name>`` registers ``<name>``; ``prepare`` reads, checks and caches a data set.

A data set has ``classes``, ``splits`` (name -> number of images), ``size`` (height, width) to which every image is
padded, ``read(split, i)`` -> (image uint8 (H, W, 3), labels uint8 (H, W), 255 = void), ``name(split, i)`` and
``files()``. Several threads may call ``read`` at once. The splits are ``train``, ``tune`` (never trained on: for curves
and choices) and ``val`` (scored once). Optional attributes:

- ``task = "classify"``: ``read`` returns the image's class, a whole number, in place of labels.
- ``sizes`` (split -> (height, width)): for splits whose images do not have ``size``, such as images to be cropped.
- ``group(split, i)``: the group of an image (a drive, a city); its own name if it stands alone.
- ``listed`` {name: number}: entries of the official lists before any image is kept apart (``voc/train`` ...).
- ``notes``: lines for the user.
- ``longest``: ``read`` reduces larger images and their labels to this longest side in px (None: none is reduced). Then
  ``original(split, i)`` returns labels uint8 (H, W) at the size of their file, by which tune and val are scored.
- ``colours`` {label: (red, green, blue)}: the colours by which users know some or all of its classes.

The class ``Options`` of the module, a Block of study.spec.checks, declares its options, which are checked when
params.yaml is read.

Beside these a module may have:

- ``archives(options)``: the archives to unpack below its root.
- ``convert(options, root, cache, tick)``: converts annotations before the set is opened.
- ``tests(options, root)``: (name, path) of test images whose masks only a benchmark's server has.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from filelock import FileLock

from study.data import groups
from study.data.originals import Writer
from study.data.pixels import check_fits, check_labels, check_name
from study.spec.constants import VOID
from study.spec.data_set_plugins import module_of
from study.spec.digest import digest
from study.spec.documents.data import Facts, Groups, Read
from study.spec.errors import InputError
from study.spec.training import Data
from study.store import code_digest, machine
from study.store.runs import allocate, file_digest, read_json_or_none, write_json

Tick = Callable[[int, int], None]
READERS = 8  # at most; decoding releases Python's lock, so threads are enough
PAD_COLOUR = (124, 116, 104)  # ImageNet's mean colour: zero after mean subtraction (D13)


class DataSet(Protocol):
    """The result of ``open(options, root, cache)`` in a module ``study.data.sets.<name>``."""

    classes: tuple[str, ...]
    splits: dict[str, int]
    size: tuple[int, int]

    def read(self, split: str, index: int) -> tuple[np.ndarray, Any]: ...

    def name(self, split: str, index: int) -> str: ...

    def files(self) -> list[Path]: ...


def open_data(data: Data, root: Path | None, cache: Path, tick: Tick = lambda done, all_: None) -> DataSet:
    """Open a data set and check its list of files. Annotations that its module converts go to ``cache``.

    Raises InputError for wrong options, a missing folder or missing files.
    """
    module, options = module_of(data)
    if hasattr(module, "convert"):
        module.convert(options, root, cache, tick)
    source = module.open(options, root, cache)
    for path in source.files():
        check_name(path)
    return source


def training_size(source: DataSet) -> tuple[int, int]:
    """(height, width) that training images are padded to."""
    return getattr(source, "sizes", {}).get("train", source.size)


def folder_of(cache: Path, fingerprint: str, streamed: bool = False) -> Path:
    return cache / (fingerprint[:16] + "-streamed" * streamed)


def intact(folder: Path) -> bool:
    """True if every cached file has the digest recorded in meta.json."""
    try:
        files = json.loads((folder / "meta.json").read_text())["files"]
        return all(file_digest(folder / name) == known for name, known in files.items())
    except (OSError, ValueError, KeyError):
        return False


def band_name(split: str, band_px: int) -> str:
    """File name of a split's boundary band; it changes with the code that draws the band."""
    return f"{split}-band{band_px}-{code_digest.code_digest(('study.data.boundaries', 'boundary_band'))[:8]}.npy"


def originals_name(split: str, band_px: int) -> str:
    """File name of a split's labels and boundary bands at the size of their files (see study.data.originals)."""
    return f"{band_name(split, band_px).removesuffix('.npy')}.npz"


def prepare(
    data: Data,
    root: Path | None,
    cache: Path,
    band_px: int,
    *,
    tick: Tick = lambda done, all_: None,
    stream: bool = False,
) -> Facts:
    """Read every image and mask once, check them, and cache them as arrays. Returns the facts of the data set.

    Facts: name; task (segment or classify); classes; splits; fingerprint (sha256 of all pixels and names); size;
    images_with and pixels (per class, of the training split; for classes of images, both count images); listed, longest
    and colours (see above); notes (see above, and on unusual images); groups (of images with masks, by split, see
    groups.told; None if each image stands alone); streamed. Unchanged sources are not read again. ``tick(done, all)``
    is called after each image.

    The cache holds, for each split, ``images`` uint8 (n, H, W, 3), ``names`` and ``labels``: uint8 (n, H, W), or int64
    (n,) for classes of images. For tune and val it also holds the boundary band; if images are made smaller, labels and
    band are kept at the size of their files (study.data.originals). With ``stream``, images and labels of the training
    split are checked but not cached: a training reads their files (D56).

    Raises InputError for an unreadable image, sizes that differ, a label that is not a class, or a split without a
    labelled pixel.
    """
    source = open_data(data, root, cache, tick)
    grouped = _groups(source)
    stamp = _stamp(data, source, cache, band_px, stream=stream, grouped=grouped)
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(
        cache.with_name(f"{cache.name}.lock")
    ):  # two drivers that share the store must not read the same data at once
        known: Facts | None = read_json_or_none(stamp)
        if known and intact(folder_of(cache, known["fingerprint"], stream)):
            return _coloured(known, source)
        temporary = cache / f"reading-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            read = _read_all(source, temporary, band_px, tick, stream)
            facts: Facts = {**read, "name": data.name, "streamed": stream, "groups": grouped}
            facts["notes"] += groups.notes(grouped)
            folder = folder_of(cache, facts["fingerprint"], stream)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        files = {path.name: file_digest(path) for path in sorted(folder.glob("*.np[yz]"))}
        write_json(folder / "meta.json", {"facts": facts, "files": files})
        write_json(stamp, facts)
    return _coloured(facts, source)


def _coloured(facts: Facts, source: DataSet) -> Facts:
    """The facts with the colours of classes, which are not part of what was read: they change no number."""
    colours = getattr(source, "colours", None)
    if not colours:
        return facts
    return {**facts, "colours": {source.classes[label]: list(colour) for label, colour in sorted(colours.items())}}


def read_before(data: Data, source: DataSet, cache: Path, band_px: int, *, stream: bool) -> Facts | None:
    """The facts of an opened data set if ``prepare`` has read it in its present state and its cache exists; else
    None."""
    known: Facts | None = read_json_or_none(
        _stamp(data, source, cache, band_px, stream=stream, grouped=_groups(source))
    )
    there = known is not None and (folder_of(cache, known["fingerprint"], stream) / "meta.json").is_file()
    return known if there else None


def _stamp(
    data: Data, source: DataSet, cache: Path, band_px: int, *, stream: bool, grouped: dict[str, Groups] | None
) -> Path:
    """The file with the facts that were read from unchanged sources."""
    stats = [[str(path), (stat := path.stat()).st_size, stat.st_mtime_ns] for path in source.files()]
    reached = code_digest.code_digest((f"study.data.sets.{data.name}", ""), ("study.data.prepare", "_read_all"))
    return cache / f"seen-{digest([data, stats, reached, band_px, stream, grouped])[:16]}.json"


def _groups(source: DataSet) -> dict[str, Groups] | None:
    """The groups of each split's images, see groups.told."""
    named = getattr(source, "group", None)
    if named is None or getattr(source, "task", "segment") == "classify":
        return None
    return groups.told({split: [named(split, i) for i in range(n)] for split, n in source.splits.items()})


def _read_all(source: DataSet, folder: Path, band_px: int, tick: Tick, stream: bool) -> Read:
    from study.data.boundaries import boundary_band  # scipy, which only reading needs

    task, sizes = getattr(source, "task", "segment"), getattr(source, "sizes", {})
    classes, seen, longest = len(source.classes), hashlib.sha256(), getattr(source, "longest", None)
    images_with, pixels = np.zeros(classes, int), np.zeros(classes, int)
    done, every = 0, sum(source.splits.values())
    notes, shown = list(getattr(source, "notes", ())), dict[bytes, list[str]]()
    for split, number in source.splits.items():
        if not number:
            raise no_image(split)
        size, kept = sizes.get(split, source.size), not (stream and split == "train")
        measured = split != "train" and task == "segment"
        images, labels = _allocate(folder, split, (number, *size), task) if kept else (None, None)
        band = _band(folder, split, (number, *size), band_px) if measured and longest is None else None
        names, unlabelled = [], 0
        with contextlib.ExitStack() as stack:
            whole = measured and longest is not None
            originals = stack.enter_context(Writer(folder / originals_name(split, band_px))) if whole else None
            read = functools.partial(read_one, source, split, whole=whole)
            for i, (image, mask, original) in enumerate(ahead(read, range(number))):
                names.append(source.name(split, i))
                content = image.tobytes()
                seen.update(f"{split}/{names[-1]}/{image.shape}".encode() + content + mask.tobytes())
                shown.setdefault(hashlib.blake2b(content, digest_size=16).digest(), []).append(f"{split}/{names[-1]}")
                height, width, _ = image.shape
                place = (i, slice(height), slice(width))
                if images is not None and labels is not None:
                    images[place] = image
                    labels[place[: labels.ndim]] = mask
                if band is not None:
                    band[place] = boundary_band(mask, band_px)
                if originals is not None and original is not None:
                    seen.update(repr(original.shape).encode() + original.tobytes())
                    originals.add(i, original, boundary_band(original, band_px))
                scored = mask if original is None else original
                unlabelled += task == "segment" and bool((scored == VOID).all())
                if split == "train":
                    found = np.bincount(mask.ravel(), minlength=classes)[:classes]
                    pixels += found
                    images_with += found > 0
                done += 1
                tick(done, every)
        np.save(folder / f"{split}-names.npy", np.array(names))
        if unlabelled == number:
            raise no_label(split, number)
        if unlabelled:
            notes.append(f"{unlabelled} of {number} masks of {split} label no pixel; they teach and score nothing")
    seen.update(repr((source.classes, source.size, PAD_COLOUR, VOID)).encode())
    if longest is not None:  # its cache has other files, even if no image is longer
        seen.update(repr(longest).encode())
    if again := [places for places in shown.values() if len(places) > 1]:
        first = next((places for places in again if len({place.split("/")[0] for place in places}) > 1), again[0])
        others = sum(map(len, again)) - len(again) - 1
        more = f" (and {others} more so)" if others else ""
        notes.append(
            f"{first[0]} and {first[-1]} are the same picture{more}: in two splits it is trained on and then "
            "measured, in one it counts twice"
        )
    return {
        "task": task,
        "classes": list(source.classes),
        "splits": dict(source.splits),
        "size": list(source.size),
        "fingerprint": seen.hexdigest(),
        "images_with": images_with.tolist(),
        "pixels": pixels.tolist(),
        "listed": dict(getattr(source, "listed", {})),
        "longest": longest,
        "notes": notes,
    }


def no_image(split: str) -> InputError:
    """The error for an empty split."""
    return InputError(
        f"split {split} must have at least one image, got none; name more images, a smaller tune or a larger val"
    )


def no_label(split: str, number: int) -> InputError:
    """The error for a split without a labelled pixel."""
    return InputError(
        f"split {split} must have at least one labelled pixel, got {number} masks with only void; "
        "name other images, or another label as void"
    )


Checked = tuple[np.ndarray, np.ndarray, np.ndarray | None]
Found = TypeVar("Found")


def read_one(source: DataSet, split: str, index: int, *, whole: bool) -> Checked:
    """An image uint8 (H, W, 3) with its labels uint8 (H, W), or its class as an array without dimensions, and with
    ``whole`` its labels at the size of their file. Raises InputError for an image that ``prepare`` refuses."""
    task, sizes = getattr(source, "task", "segment"), getattr(source, "sizes", {})
    image, label = source.read(split, index)
    mask = np.asarray(label, np.int64) if task == "classify" else label
    size = sizes.get(split, source.size)
    _check(image, mask, source.name(split, index), size, classes=len(source.classes), task=task)
    original = source.original(split, index) if whole else None  # type: ignore[attr-defined]
    return image, mask, original


def ahead(read: Callable[[int], Found], indices: Iterable[int]) -> Iterator[Found]:
    """Yield ``read(index)`` for each index, in order, while a few threads read ahead."""
    threads = min(READERS, machine.cores())
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Found]] = deque()
        try:
            for i in indices:
                waiting.append(pool.submit(read, i))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def padded(image: np.ndarray, label: Any, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pad an image uint8 (h, w, 3) and its mask (h, w) to ``size`` (H, W) as in the cache: with PAD_COLOUR and void, at
    the right and bottom (D13). A class in place of the mask has no dimensions and is not padded."""
    height, width, _ = image.shape
    whole = np.full((*size, 3), PAD_COLOUR, np.uint8)
    whole[:height, :width] = image
    if np.ndim(label) == 0:
        return whole, np.asarray(label, np.int64)
    mask = np.full(size, VOID, np.uint8)
    mask[:height, :width] = label
    return whole, mask


def _allocate(folder: Path, split: str, shape: tuple[int, ...], task: str) -> tuple[np.ndarray, np.ndarray]:
    """Arrays for a split's images and their labels; ``shape`` is (n, H, W)."""
    images = allocate(folder / f"{split}-images.npy", np.uint8, (*shape, 3))
    images[:] = PAD_COLOUR
    path = folder / f"{split}-labels.npy"
    if task == "classify":
        return images, allocate(path, np.int64, shape[:1])
    labels = allocate(path, np.uint8, shape)
    labels[:] = VOID
    return images, labels


def _band(folder: Path, split: str, shape: tuple[int, ...], band_px: int) -> np.ndarray:
    """The array for the boundary band of a split's masks; ``shape`` is (n, H, W)."""
    return allocate(folder / band_name(split, band_px), bool, shape)


def _check(image: np.ndarray, labels: np.ndarray, name: str, size: tuple[int, int], *, classes: int, task: str) -> None:
    """Raises InputError for a wrong size or label. ``labels`` is a mask, or a class as an array without dimensions."""
    check_fits(image.shape[:2], size, name)
    if task == "classify":
        if not 0 <= labels < classes:
            raise InputError(
                f"the class of an image must be 0 to {classes - 1}, got {labels} for {name}; correct one of them"
            )
        return
    check_labels(labels, (image.shape[0], image.shape[1]), classes, name)


def frequent_classes(facts: Facts, rule: tuple[int, float] | None) -> list[int] | None:
    """Classes in at least rule[0] training images and on at least the share rule[1] of their labelled pixels."""
    if rule is None:
        return None
    everything = sum(facts["pixels"])
    pairs = enumerate(zip(facts["images_with"], facts["pixels"], strict=True))
    return [c for c, (images, pixels) in pairs if images >= rule[0] and pixels >= rule[1] * everything]
