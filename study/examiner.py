"""Trained networks asked in other ways: crops, several scales, a CRF (Sec. 4.2, 4.3), and where they look (Fig. 3).

Never a training: each evaluation is a run of its own in the store, named by its training and by how it is asked.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from study import checkpoint, inference, metrics, receptive, stopping
from study.data import PAD_COLOUR
from study.evaluate import image_counts
from study.models import build, stride_of
from study.source import FromImages, Source, open_source
from study.spec import Inference, Training
from study.store import EVALUATED, RECEPTIVE, Run, Store, write, write_json
from study.worker import PROGRESS_S, samples_of, settle, tell, weights_of

PROBE_BATCH = 16


@dataclass(frozen=True)
class Examination:
    """One evaluation: ``key`` names it, ``trained`` its training; ``origin``, ``commit``, ``stop`` as in worker.Job."""

    key: str
    trained: str
    training: Training
    inference: Inference
    facts: dict[str, Any]
    origin: dict[str, Any]
    store: Path
    device: str
    samples: int
    checkpoint_s: float
    commit: str = ""
    stop: Path | None = None


def examine(job: Examination) -> dict[str, float]:
    """Do one evaluation on the val split, or nothing if it is done; returns its scores. Raises Stopped or Preempted
    where it was asked to end and has saved the images it did, Busy where another process is at it."""
    store = Store(job.store)
    run = store.run(job.key, EVALUATED)
    with run.writing(wait=False), stopping.noticing():
        stopping.check(job.stop)
        if not run.done():
            settle(job.device)
            run.path("failed.json").unlink(missing_ok=True)
            device = torch.device(job.device)
            source = open_source(job.training, job.facts, store.cache, device, job.origin)
            network = network_of(job.trained, job.training, job.facts, job.origin, store, device)
            seconds = {"evaluate": _examine(job, run, network, source)}
            write_json(run.path("result.json"), {"seconds": seconds, "commit": job.commit})
            run.finish()
    with np.load(run.path("counts.npz")) as archive:
        return metrics.score_all("counts", archive["counts"])


@dataclass(frozen=True)
class Look:
    """Figure 3: ``trainings`` {label: (key, training)} of one seed and one data set, whose facts are ``facts``."""

    key: str
    trainings: dict[str, tuple[str, Training]]
    facts: dict[str, Any]
    origin: dict[str, Any]
    probe: dict[str, Any]
    images: int
    store: Path
    device: str


def look(job: Look) -> None:
    """Valid and effective receptive fields of the trainings on val images spread evenly; nothing if it is done.

    Writes receptive.npz: the arrays of receptive.figure3 for image i under the prefix ``i/``.
    """
    store = Store(job.store)
    run = store.run(job.key, RECEPTIVE)
    with run.writing():
        if run.done():
            return
        settle(job.device)
        device = torch.device(job.device)
        networks: dict[str, receptive.Network] = {
            label: _on(device, network_of(key, training, job.facts, job.origin, store, device))
            for label, (key, training) in job.trainings.items()
        }
        _, first = next(iter(job.trainings.values()))
        source = open_source(first, job.facts, store.cache, device, job.origin)
        stride = max(stride_of(training.network) for _, training in job.trainings.values())
        background = 0 if job.facts["classes"][0] == "background" else None
        probe = receptive.Probe(**job.probe, colour=PAD_COLOUR, batch=PROBE_BATCH, stride=stride, background=background)
        images, labels = source.array("val-images.npy"), source.array("val-labels.npy")
        found: dict[str, Any] = {}
        for number, index in enumerate(_with_objects(labels, background, job.images)):
            arrays = receptive.figure3(networks, np.array(images[index]), np.array(labels[index]), probe)
            found |= {f"{number}/{name}": array for name, array in arrays.items()}
        write(run.path("receptive.npz"), lambda file: np.savez_compressed(file, **found))
        run.finish()


def _on(device: torch.device, network: FromImages) -> receptive.Network:
    return lambda images: network(images.to(device))


def _with_objects(labels: np.ndarray, background: int | None, number: int) -> list[int]:
    """The first image with an object at or after each of ``number`` evenly spread places."""
    found: list[int] = []
    for start in samples_of(len(labels), number + 2)[1:-1]:
        places = (i for i in range(start, len(labels)) if receptive.centre(labels[i], background) is not None)
        found += [place for place in [next(places, None)] if place is not None and place not in found]
    return found


def network_of(
    key: str, training: Training, facts: dict[str, Any], origin: dict[str, Any], store: Store, device: torch.device
) -> FromImages:
    """A finished training as a network from images (N, 3, H, W) in 0..255 to scores, in evaluation mode."""
    model = build(training.variant, training.network, len(facts["classes"]), training.seed)
    model.load_state_dict(weights_of(store.run(key)))
    return FromImages(model, training, origin, store.cache).to(device).eval()


def _examine(job: Examination, run: Run, network: FromImages, source: Source) -> float:
    """Write counts and samples of every val image, going on from a checkpoint; returns the seconds that all took."""
    stride = stride_of(job.training.network)
    images, labels, band = (source.array(name) for name in ("val-images.npy", "val-labels.npy", source.band["val"]))
    shown = samples_of(len(labels), job.samples)
    kept = checkpoint.load(run.path("checkpoint.pt"))
    if kept is None or kept["shown"] != shown:  # the key does not hold how many samples are kept (D16)
        kept = {"counts": [], "predictions": [], "seconds": 0.0, "shown": shown}
    first = len(kept["counts"])
    told = saved = time.monotonic()
    began = told - kept["seconds"]
    tell(run, first, len(labels), kept["seconds"])
    for index in range(first, len(labels)):
        (prediction,) = inference.predict(network, images[index : index + 1], job.inference, stride, source.device)
        kept["counts"].append(torch.from_numpy(image_counts(labels[index], prediction, band[index], source.classes)))
        if index in shown:
            kept["predictions"].append(torch.from_numpy(prediction))
        now = time.monotonic()
        kept["seconds"] = now - began
        if now - saved >= job.checkpoint_s:
            checkpoint.save(run.path("checkpoint.pt"), kept)
            saved = now
        if now - told >= PROGRESS_S:
            tell(run, index + 1, len(labels), kept["seconds"])
            told = now
            with stopping.saving(lambda: checkpoint.save(run.path("checkpoint.pt"), kept)):
                stopping.check(job.stop)
    counts = torch.stack(kept["counts"]).numpy()
    write(run.path("counts.npz"), lambda file: np.savez_compressed(file, counts=counts))
    names = source.array("val-names.npy")
    samples: dict[str, Any] = {
        "images": images[shown],
        "labels": labels[shown],
        "names": names[shown],
        "predictions": torch.stack(kept["predictions"]).numpy(),
    }
    write(run.path("samples.npz"), lambda file: np.savez_compressed(file, **samples))
    return kept["seconds"]
