"""`study predict`: predicts the classes of the user's images with a trained network, as masks and as pictures."""

from __future__ import annotations

import errno
import glob
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from study.ablation import headline_models
from study.config import tiers
from study.data.stems import SUFFIXES
from study.spec.documents.models import HeadlineModel
from study.spec.documents.reading import read
from study.spec.errors import InputError
from study.spec.words import counted
from study.store import stage

if TYPE_CHECKING:
    from study.inference.exported import Model

MASK, PICTURE = "-classes.png", "-overlay.jpg"  # suffixes of the files written for an image
LARGE = 2  # with more windows along a side, objects probably look larger than in training


def model_file(tier: str | None, cell: str | None, model: Path | None) -> Path:
    """The file of a model: ``model`` if given, or the model of a tier's cell. Raises InputError for a tier without
    models and for a cell without one; the error lists the cells that have one."""
    if model is not None:
        return model
    name = tiers.load(tiers.read(), tier).name
    folder = Path("reports") / name / "weights"
    if not (folder / headline_models.INDEX).is_file():
        raise InputError(
            f"the tier {name} must have trained its networks, got no models in {folder}; run `make repro TIER={name}`, "
            "or name a file with --model"
        )
    index = read(folder / headline_models.INDEX, dict[str, HeadlineModel])
    files = {told["cell"]: folder / file for file, told in index.items()}
    if cell not in files:
        having = ", ".join(f'"{known}"' if " " in known else known for known in files)
        raise InputError(
            f"--cell must have a model in {folder} ({having or 'no cell has one: the trainings failed'}), got "
            f"{cell or 'none'}; name one of them"
        )
    return files[cell]


def main(model: Path, images: tuple[str, ...], to: Path, longest: int | None = None) -> int:
    """Write the mask and the picture of each image below ``to``; returns 1 if an image could not be predicted. Raises
    InputError for a model that cannot be loaded, for missing images, and for a folder that is not writable."""
    found = images_of(images)
    _can_write(to)
    from study.inference.exported import load  # imports torch, after the cheap checks
    from study.training.device import settle

    settle("cpu")
    network = load(model)
    told = network.about
    print(
        f"{counted(len(found), 'image')} by {told['label']} ({told['cell']} of {told['tier']}, seed {told['seed']}; "
        f"{len(network.names)} classes)",
        flush=True,
    )
    if told["meaningless"]:
        print(f"note: {told['tier']} only shows that the pipeline works; its predictions mean nothing")
    pixels, images_with = np.zeros(len(network.names), np.int64), np.zeros(len(network.names), np.int64)
    failed, large, tick = 0, 0, stage.ticker("predicted")
    for done, (name, path) in enumerate(found.items(), start=1):
        try:
            image = network.read(path)
            classes = network.predict(image, longest)
            _write(network, image, classes, to / name)
        except InputError as error:
            failed += 1
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
            continue
        counts = np.bincount(classes.ravel(), minlength=len(network.names))
        pixels, images_with = pixels + counts, images_with + (counts > 0)
        large += max(np.divide(image.shape[:2], network.size)) > LARGE
        tick(done, len(found))
    if large and longest is None and told["data"]["longest"] is None:
        height, width = network.size
        print(
            f"note: {counted(large, 'image')} had a side more than {LARGE} times as long as the network's window "
            f"({height} x {width} px, as in training); if objects look larger than in training, try "
            f"--longest {max(height, width)}"
        )
    _summary(network.names, pixels, images_with)
    ends = f"labels in *{MASK}, pictures in *{PICTURE}"
    print(f"{counted(len(found) - failed, 'image')} predicted in {to} ({ends})")
    if failed:
        print(f"error: {counted(failed, 'image')} of {len(found)} could not be predicted, see above", file=sys.stderr)
    return 1 if failed else 0


def images_of(named: Iterable[str]) -> dict[str, Path]:
    """The images that files, folders and patterns name, by the names of their predictions: the file name without its
    suffix, or for a folder the path below it. Raises InputError if one matches nothing or two names are equal."""
    found: dict[str, Path] = {}
    for text in named:
        path = Path(text).expanduser()
        if path.is_dir():
            files, base = _below(path), path
        else:
            matches = [path] if path.is_file() else sorted(map(Path, glob.glob(str(path), recursive=True)))
            files, base = [file for file in matches if file.is_file()], None
            if not files:
                raise InputError(
                    f"an image must be a file, a folder or a pattern that matches files, got {text}; correct it"
                )
        for file in files:
            name = (file.relative_to(base) if base else Path(file.name)).with_suffix("").as_posix()
            if found.setdefault(name, file).resolve() != file.resolve():
                raise InputError(
                    f"images must have different names (their predictions use them), got {found[name]} and "
                    f"{file}; rename one, or predict them into different folders with --to"
                )
    return found


def _below(folder: Path) -> list[Path]:
    """The images in a folder and its subfolders; prints a note on other files. Raises InputError if there are none."""
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not images:
        raise InputError(
            f"a folder must hold images ({', '.join(sorted(SUFFIXES))}), got none in {folder}; name the right folder"
        )
    made = {path for path in images if path.name.endswith((MASK, PICTURE))}
    if left := [path for path in files if path not in images or path in made]:
        print(
            f"note: skipped in {folder}: {counted(len(left), 'file')} (not images, or earlier predictions), such as "
            f"{left[0].relative_to(folder)}"
        )
    return [path for path in images if path not in made]


def _can_write(to: Path) -> None:
    try:
        to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=to):
            pass
    except OSError as error:
        raise InputError(f"--to must be a writable folder, got {to} ({error.strerror}); name another") from error


def _write(network: Model, image: np.ndarray, classes: np.ndarray, at: Path) -> None:
    from study.inference import pictures

    picture = pictures.overlay(image, classes, network.names, network.colours)
    try:
        at.parent.mkdir(parents=True, exist_ok=True)
        pictures.mask(classes, network.colours).save(at.with_name(at.name + MASK))
        picture.save(at.with_name(at.name + PICTURE), quality=90)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"a prediction could not be written ({error}); remove what is there, or name another folder with --to"
        ) from error


def _summary(names: tuple[str, ...], pixels: np.ndarray, images_with: np.ndarray) -> None:
    """Print a line for each class that was found, largest first, and one that lists the others."""
    if not pixels.sum():
        return
    width = max(len(name) for name in (*names, "class"))
    print(f"{'class':{width}}  images   pixels")
    for label in np.argsort(-pixels, kind="stable"):
        if pixels[label]:
            print(f"{names[label]:{width}}  {images_with[label]:6,}  {100 * pixels[label] / pixels.sum():5.1f} %")
    if none := [name for name, number in zip(names, pixels, strict=True) if not number]:
        print(f"not found: {', '.join(none)}")
