"""A trained network asked for the classes of the images whose masks only a benchmark's server has.

Predictions lie in ``submissions/<key>/`` of the run store, each named by the digest of its image: so what was predicted
before a kill is not predicted again, and no prediction is taken for that of another image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from study import inference
from study.data import module_of, padded
from study.examiner import network_of
from study.models import stride_of
from study.pixels import picture
from study.spec import Data, Inference, InputError, Training
from study.store import Run, Store, file_digest
from study.submission import pack, save, validate
from study.worker import settle


@dataclass(frozen=True)
class Submission:
    """``key`` names the training ``trained`` asked by ``inference``; ``facts``, ``origin`` and ``root`` are as in
    worker.Job, ``format`` is one of submission.FORMATS."""

    key: str
    trained: str
    training: Training
    inference: Inference
    facts: dict[str, Any]
    origin: dict[str, Any]
    root: Path | None
    store: Path
    device: str
    format: str

    @property
    def run(self) -> Run:
        return Run(self.store / "submissions" / self.key, ())


def test_images(data: Data, root: Path | None) -> dict[str, Path]:
    """{name: file} of a data set's test images. Raises InputError where it has none, or where they are not there."""
    module, options = module_of(data)
    if not hasattr(module, "tests"):
        raise InputError(
            f"a submission must be for a data set with test images (its module's `tests`), got {data.name}; name a "
            "cell whose data set has them"
        )
    found = dict(module.tests(options, root))
    if not found:
        raise InputError(f"a submission must have at least one test image, got none of {data.name}; list them")
    return found


def files_of(job: Submission, images: dict[str, Path]) -> dict[str, Path]:
    """{name: file} of the predictions of the images, whether they are there or not."""
    return {name: job.run.path(f"{file_digest(image)}.png") for name, image in images.items()}


def left(images: dict[str, Path], files: dict[str, Path]) -> list[str]:
    """The names of the images that are not predicted yet."""
    return [name for name in images if not files[name].is_file()]


def predict(job: Submission, images: dict[str, Path], files: dict[str, Path], tick: Callable[[int, int], None]) -> None:
    """Predict what is left, each image padded as in training and its prediction cut to the image's own size.

    Raises InputError for a damaged image, one that is larger than those of training, an inference that cannot be, or a
    network of other classes than the server's.
    """
    module, _ = module_of(job.training.data)
    if tuple(job.facts["classes"]) != module.CLASSES:
        raise InputError(
            f"a submission must be of a network of the server's {len(module.CLASSES)} classes (it scores these), got "
            f"{len(job.facts['classes'])} others; remove `classes` of the data set"
        )
    with job.run.writing():
        todo, size = left(images, files), (job.facts["size"][0], job.facts["size"][1])
        if not todo:
            return
        settle(job.device)
        device, store, stride = torch.device(job.device), Store(job.store), stride_of(job.training.network)
        inference.check(job.inference, size, stride)
        network = network_of(job.trained, job.training, job.facts, job.origin, store, device)
        for done, name in enumerate(todo, start=1):
            image = picture(images[name])
            height, width, _ = image.shape
            if height > size[0] or width > size[1]:
                raise InputError(
                    f"a test image must fit into {size} (height, width, as in training), got {(height, width)} in "
                    f"{images[name]}; enlarge `pad` in params.yaml"
                )
            whole, _ = padded(image, 0, size)
            (classes,) = inference.predict(network, whole[None], job.inference, stride, device)
            save(job.format, files[name], classes[:height, :width])
            tick(done, len(todo))


def write(job: Submission, images: dict[str, Path], files: dict[str, Path], archive: Path) -> None:
    """Pack the predictions into the archive of the format, and validate it. Raises InputError as validate does."""
    sizes = {}
    for name, path in images.items():
        with Image.open(path) as image:
            sizes[name] = (image.height, image.width)
    pack(job.format, files, archive)
    try:
        validate(job.format, archive, sizes)
    except InputError:
        archive.unlink()  # nobody shall send it
        raise
