"""Predicts the classes of a benchmark's test images, whose masks only its server has.

Predictions are in ``submissions/<key>/`` of the run store, each named by the digest of its image. So an interrupted run
repeats no prediction, and no prediction is mistaken for that of another image.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from study.data.pixels import picture
from study.data.prepare import padded
from study.inference.benchmark_format import pack, save, validate
from study.inference.predict import check
from study.inference.predict import predict as classes_of
from study.inference.worker import network_of
from study.models.build import stride_of
from study.spec.data_set_plugins import module_of
from study.spec.errors import InputError
from study.spec.jobs import SubmissionJob
from study.spec.training import Data
from study.store.runs import Run, file_digest
from study.training import gpu
from study.training.device import settle


def run_of(job: SubmissionJob) -> Run:
    """The run that holds the predictions."""
    return Run(job.context.store / "submissions" / job.key, ())


def test_images(data: Data, root: Path | None) -> dict[str, Path]:
    """{name: file} of a data set's test images. Raises InputError if it has none, or if they are missing."""
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


def files_of(job: SubmissionJob, images: dict[str, Path]) -> dict[str, Path]:
    """{name: file} of the images' predictions, whether they exist or not."""
    return {name: run_of(job).path(f"{file_digest(image)}.png") for name, image in images.items()}


def left(images: dict[str, Path], files: dict[str, Path]) -> list[str]:
    """The names of the images that are not predicted yet."""
    return [name for name in images if not files[name].is_file()]


def predict(
    job: SubmissionJob, images: dict[str, Path], files: dict[str, Path], tick: Callable[[int, int], None]
) -> None:
    """Predict the remaining images. Each is padded as in training, and its prediction is cut to the image's own size.

    Raises InputError for a damaged image, one larger than those of training, an impossible inference, or a network with
    other classes than the server's.
    """
    module, _ = module_of(job.subject.training.data)
    if tuple(job.subject.facts["classes"]) != module.CLASSES:
        raise InputError(
            f"a submission must be from a network with the server's {len(module.CLASSES)} classes (it scores these), "
            f"got {len(job.subject.facts['classes'])} others; remove `classes` from the data set"
        )
    run = run_of(job)
    with run.writing(), gpu.faults(job.context.device, run):
        todo, size = left(images, files), (job.subject.facts["size"][0], job.subject.facts["size"][1])
        if not todo:
            return
        settle(job.context.device)
        device, stride = torch.device(job.context.device), stride_of(job.subject.training.network)
        check(job.inference, size, stride)
        network = network_of(job.subject, job.context)
        for done, name in enumerate(todo, start=1):
            image = picture(images[name])
            height, width, _ = image.shape
            if height > size[0] or width > size[1]:
                raise InputError(
                    f"a test image must fit into {size} (height, width, as in training), got {(height, width)} in "
                    f"{images[name]}; enlarge `pad` in params.yaml"
                )
            whole, _ = padded(image, 0, size)
            (classes,) = classes_of(network, whole[None], job.inference, stride, device)
            save(job.format, files[name], classes[:height, :width])
            tick(done, len(todo))


def write(job: SubmissionJob, images: dict[str, Path], files: dict[str, Path], archive: Path) -> None:
    """Pack the predictions into the archive of the format, and validate it. Raises InputError as validate does."""
    sizes = {}
    for name, path in images.items():
        with Image.open(path) as image:
            sizes[name] = (image.height, image.width)
    pack(job.format, files, archive)
    try:
        validate(job.format, archive, sizes)
    except InputError:
        archive.unlink()  # so that nobody sends it
        raise
