"""Data sets: ``study.data.<name>`` is the registration of ``<name>``; ``prepare`` reads one once, checks and caches it.

A data set has ``classes``, ``splits`` (name -> number of images), ``size`` (height, width) to which every image is
padded, ``read(split, i)`` -> (image uint8 (H, W, 3), labels uint8 (H, W), 255 = void), ``name(split, i)`` and
``files()``; several threads at once may call ``read``. Its splits are ``train``, ``tune`` (never trained on: curves and
choices) and ``val`` (measured once).

It may have ``task = "classify"``: then ``read`` gives the image's class, a whole number, in place of labels; ``sizes``
(split -> (height, width)) for splits whose images are not of ``size``, such as those to be cropped yet; and ``listed``
{name: number}: what the official lists hold before anything is kept apart (``voc/train`` ...).

Its options are those of its class ``Options`` (a Block of study.values, by which they are checked when params.yaml is
read), or the names in the set ``OPTIONS`` and maybe ``OPTIONAL``, which it checks itself when it is opened.

Beside these a module may have ``archives(options)``: what must lie below its root and where it
is fetched from, ``convert(options, root, cache, tick)``: what must be made of its annotations before it is opened, and
``tests(options, root)``: (name, path) of images whose masks nobody but a benchmark's server has.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
from filelock import FileLock

from study import code, values
from study.spec import VOID, Data, InputError, digest
from study.store import allocate, file_digest, read_json_or_none, write_json

Tick = Callable[[int, int], None]
READERS = 8  # at most: decoding leaves Python's lock alone, so threads are enough
PAD_COLOUR = (124, 116, 104)  # ImageNet's mean colour: zero after mean subtraction (D13)


class DataSet(Protocol):
    """What a module ``study.data.<name>`` gives by ``open(options, root, cache)``."""

    classes: tuple[str, ...]
    splits: dict[str, int]
    size: tuple[int, int]

    def read(self, split: str, index: int) -> tuple[np.ndarray, Any]: ...

    def name(self, split: str, index: int) -> str: ...

    def files(self) -> list[Path]: ...


def module_of(data: Data, where: str | None = None) -> tuple[Any, dict[str, Any]]:
    """The module of a data set and its options; ``where`` is their place in params.yaml, if they come from there.

    Raises InputError for options that it does not have, that lack, or whose values it does not take.
    """
    module, options = importlib.import_module(f"study.data.{data.name}"), dict(data.options)
    block: type[values.Block] | None = getattr(module, "Options", None)
    required, optional = values.keys_of(block) if block else (module.OPTIONS, getattr(module, "OPTIONAL", set()))
    if wrong := sorted(required - options.keys() | options.keys() - required - optional):
        raise InputError(
            f"data {data.name} must have the options {sorted(required)}"
            f"{f' and may have {sorted(optional)}' if optional else ''}, got {sorted(options)}; "
            f"{'add' if wrong[0] in required else 'remove'} {wrong[0]!r} in params.yaml"
        )
    if block:
        values.checked(block, options, where or (lambda key: f"the {key} of {data.name}"))
    return module, options


def open_data(data: Data, root: Path | None, cache: Path, tick: Tick = lambda done, all_: None) -> DataSet:
    """The data set, its listing checked; ``cache`` is where annotations are converted to, if its module does that.

    Raises InputError for wrong options, a missing folder, missing files.
    """
    module, options = module_of(data)
    if hasattr(module, "convert"):
        module.convert(options, root, cache, tick)
    return module.open(options, root, cache)


class Coarse(values.Block):
    """Options of sets whose training masks can be made coarse, as Cityscapes' are."""

    coarse_share: Annotated[float, values.number(0, 1)]  # of the training images
    coarse_px: Annotated[int, values.whole(0, 1000)]  # see regions.coarse

    def check(self) -> None:
        if self.coarse_share and not self.coarse_px:
            raise values.Broken(
                "be from 1 up where coarse_share is above 0 (else no mask is coarse)", "0",
                "set it, or set coarse_share to 0", "coarse_px",
            )  # fmt: skip


def training_size(source: DataSet) -> tuple[int, int]:
    """(height, width) that training images are padded to."""
    return getattr(source, "sizes", {}).get("train", source.size)


def folder_of(cache: Path, fingerprint: str, streamed: bool = False) -> Path:
    return cache / (fingerprint[:16] + "-streamed" * streamed)


def intact(folder: Path) -> bool:
    """True if every cached file has the digest that meta.json names."""
    try:
        files = json.loads((folder / "meta.json").read_text())["files"]
        return all(file_digest(folder / name) == known for name, known in files.items())
    except (OSError, ValueError, KeyError):
        return False


def band_name(split: str, band_px: int) -> str:
    """File name of a split's boundary band; it changes with the code that draws the band."""
    return f"{split}-band{band_px}-{code.code_digest(('study.regions', 'boundary_band'))[:8]}.npy"


def prepare(
    data: Data,
    root: Path | None,
    cache: Path,
    band_px: int,
    tick: Tick = lambda done, all_: None,
    stream: bool = False,
) -> dict[str, Any]:
    """Read every image and mask once, check them, and cache them as arrays; returns the data set's facts.

    Facts: name, task (segment or classify), classes, splits, fingerprint (sha256 of all pixels and names), size,
    images_with and pixels (per class, of the training split; for classes of images, both count images), listed (see
    above), streamed. Unchanged sources that were read before are not read again. ``tick(done, all)`` is called after
    each image. Cached are of each split ``images`` uint8 (n, H, W, 3), ``names`` and ``labels``: uint8 (n, H, W), or
    int64 (n,) for classes of images; of val's labels also the boundary band. With ``stream`` the training split's
    images and labels are checked, but not cached: a training reads their files (D56).
    Raises InputError for an unreadable image, sizes that differ, or a label that is no class.
    """
    source = open_data(data, root, cache, tick)
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in source.files()]
    reached = code.code_digest((f"study.data.{data.name}", ""), ("study.data", "_read_all"))
    stamp = cache / f"seen-{digest([data, [list(s) for s in stats], reached, band_px, stream])[:16]}.json"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(
        cache.with_name(f"{cache.name}.lock")
    ):  # two drivers that share the store must not read the same at a time
        known: dict[str, Any] | None = read_json_or_none(stamp)
        if known and intact(folder_of(cache, known["fingerprint"], stream)):
            return known
        temporary = cache / f"reading-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            facts: dict[str, Any] = {"name": data.name, "streamed": stream} | _read_all(
                source, temporary, band_px, tick, stream
            )
            folder = folder_of(cache, facts["fingerprint"], stream)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        files = {path.name: file_digest(path) for path in sorted(folder.glob("*.npy"))}
        write_json(folder / "meta.json", {"facts": facts, "files": files})
        write_json(stamp, facts)
    return facts


def _read_all(source: DataSet, folder: Path, band_px: int, tick: Tick, stream: bool) -> dict[str, Any]:
    import hashlib

    from study.regions import boundary_band  # scipy, which only reading needs

    task, sizes = getattr(source, "task", "segment"), getattr(source, "sizes", {})
    classes, seen = len(source.classes), hashlib.sha256()
    images_with, pixels = np.zeros(classes, int), np.zeros(classes, int)
    done, every = 0, sum(source.splits.values())
    for split, number in source.splits.items():
        if not number:
            raise InputError(
                f"split {split} must have at least one image, got none; name more images or a smaller tune"
            )
        size, kept = sizes.get(split, source.size), not (stream and split == "train")
        images, labels, band = _allocate(folder, split, (number, *size), band_px, task) if kept else (None,) * 3
        names = []
        for i, (image, label) in enumerate(_ahead(source, split, number)):
            mask = np.asarray(label, np.int64) if task == "classify" else label  # of no dimension, for a class
            names.append(source.name(split, i))
            _check(image, mask, names[-1], size, classes, task)
            seen.update(f"{split}/{names[-1]}/{image.shape}".encode() + image.tobytes() + mask.tobytes())
            height, width, _ = image.shape
            place = (i, slice(height), slice(width))
            if images is not None and labels is not None:
                images[place] = image
                labels[place[: labels.ndim]] = mask
            if band is not None:
                band[place] = boundary_band(mask, band_px)
            if split == "train":
                found = np.bincount(mask.ravel(), minlength=classes)[:classes]
                pixels += found
                images_with += found > 0
            done += 1
            tick(done, every)
        np.save(folder / f"{split}-names.npy", np.array(names))
    seen.update(repr((source.classes, source.size, PAD_COLOUR, VOID)).encode())
    return {
        "task": task,
        "classes": list(source.classes),
        "splits": dict(source.splits),
        "size": list(source.size),
        "fingerprint": seen.hexdigest(),
        "images_with": images_with.tolist(),
        "pixels": pixels.tolist(),
        "listed": dict(getattr(source, "listed", {})),
    }


def _ahead(source: DataSet, split: str, number: int) -> Iterator[tuple[np.ndarray, Any]]:
    """Images of a split with their labels, in order, decoded by a few threads ahead of the reader."""
    threads = min(READERS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[tuple[np.ndarray, Any]]] = deque()
        try:
            for i in range(number):
                waiting.append(pool.submit(source.read, split, i))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def padded(image: np.ndarray, label: Any, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """image uint8 (h, w, 3), its mask (h, w) or class -> both as the cache has them: images of ``size`` (H, W) in
    PAD_COLOUR, masks in void, at the right and below (D13)."""
    height, width, _ = image.shape
    whole = np.full((*size, 3), PAD_COLOUR, np.uint8)
    whole[:height, :width] = image
    if np.ndim(label) == 0:
        return whole, np.asarray(label, np.int64)
    mask = np.full(size, VOID, np.uint8)
    mask[:height, :width] = label
    return whole, mask


def _allocate(
    folder: Path, split: str, shape: tuple[int, ...], band_px: int, task: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Arrays for a split's images, their labels, and the boundary band if they are masks of val; ``shape`` is (n, H,
    W)."""
    images = allocate(folder / f"{split}-images.npy", np.uint8, (*shape, 3))
    images[:] = PAD_COLOUR
    path = folder / f"{split}-labels.npy"
    if task == "classify":
        return images, allocate(path, np.int64, shape[:1]), None
    labels = allocate(path, np.uint8, shape)
    labels[:] = VOID
    return images, labels, allocate(folder / band_name(split, band_px), bool, shape) if split == "val" else None


def _check(image: np.ndarray, labels: np.ndarray, name: str, size: tuple[int, int], classes: int, task: str) -> None:
    """``labels`` are a mask, or a class of no dimension."""
    if any(side > limit for side, limit in zip(image.shape[:2], size, strict=True)):
        raise InputError(f"{name} must fit into {size}, got {image.shape[:2]}; enlarge `pad` in params.yaml")
    if task == "classify":
        if not 0 <= labels < classes:
            raise InputError(
                f"the class of an image must be 0 to {classes - 1}, got {labels} for {name}; correct one of them"
            )
        return
    if image.shape[:2] != labels.shape:
        raise InputError(
            f"an image and its mask must have the same size, got {image.shape[:2]} and {labels.shape} for {name} "
            "(height, width); replace one of them"
        )
    values = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    wrong = [int(v) for v in values if v >= classes and v != VOID]
    if wrong:
        raise InputError(
            f"a mask must hold class labels 0 to {classes - 1} or void only, got {wrong[0]} in {name}; "
            "correct the mask or the class list"
        )


def frequent_classes(facts: dict[str, Any], rule: tuple[int, float] | None) -> list[int] | None:
    """Classes that stand in at least rule[0] training images and on at least rule[1] of their labelled pixels."""
    if rule is None:
        return None
    everything = sum(facts["pixels"])
    pairs = enumerate(zip(facts["images_with"], facts["pixels"], strict=True))
    return [c for c, (images, pixels) in pairs if images >= rule[0] and pixels >= rule[1] * everything]
