"""Evaluates trained networks: crops, several scales, a CRF (Sec. 4.2, 4.3), receptive fields (Fig. 3), confusions.

It never trains. Each evaluation is a separate run in the store, named by its training and its inference.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import torch

from study import metrics
from study.data.prepare import PAD_COLOUR
from study.inference import predict, receptive_field
from study.models.build import build, stride_of
from study.spec.jobs import ConfusionJob, Context, EvaluationJob, ReceptiveFieldJob, Subject
from study.spec.training import Crf
from study.store import stop_signals
from study.store.runs import CONFUSION, EVALUATED, RECEPTIVE, Busy, Run, Store, write, write_json
from study.training import checkpoint, gpu
from study.training.batches import FromImages, Source, open_source
from study.training.count import confusion, counts_of_original, image_counts
from study.training.device import settle
from study.training.memory import return_freed_memory
from study.training.observers import PROGRESS_S, tell
from study.training.worker import samples_of, weights_of

PROBE_BATCH = 16


def evaluate(job: EvaluationJob) -> dict[str, float]:
    """Run one evaluation on the val split, unless it is done. Returns its scores. An evaluation with a CRF also does
    the one without, ``job.plain``, from the same passes. Raises Stopped or Preempted if it was asked to end and has
    saved its images so far, Busy if another process is running it."""
    context, store = job.context, Store(job.context.store)
    run = store.run(job.key, EVALUATED)
    with run.writing(wait=False), stop_signals.noticing(), gpu.faults(context.device, run), ExitStack() as beside:
        stop_signals.check(context.stop)
        if not run.done():
            settle(context.device)
            network, source = network_of(job.subject, context), source_of(job.subject, context)
            going = [(run, job.inference.crf)]
            if job.plain is not None and _claimed(plain := store.run(job.plain, EVALUATED), beside):
                going.append((plain, None))
            for one, _ in going:
                one.path("failed.json").unlink(missing_ok=True)
            _count_all(job, [_Counted(*one, source, context.samples) for one in going], network, source)
    with np.load(run.path("counts.npz")) as archive:
        return metrics.score_all("counts", archive["counts"])


def _claimed(run: Run, stack: ExitStack) -> bool:
    """Whether an evaluation is not done and no other process is running it; then ``stack`` holds its lock."""
    try:
        stack.enter_context(run.writing(wait=False))
    except Busy:
        return False
    return not run.done()


def look(job: ReceptiveFieldJob) -> None:
    """Measure valid and effective receptive fields of the trainings on evenly spread val images, unless this is done.

    Writes receptive.npz: the arrays of receptive_field.figure3 for image i under the prefix ``i/``.
    """
    context = job.context
    run = Store(context.store).run(job.key, RECEPTIVE)
    with run.writing(), gpu.faults(context.device, run):
        if run.done():
            return
        settle(context.device)
        networks: dict[str, receptive_field.Network] = {
            label: _on(torch.device(context.device), network_of(subject, context))
            for label, subject in job.subjects.items()
        }
        subjects = list(job.subjects.values())
        source, facts = source_of(subjects[0], context), subjects[0].facts
        stride = max(stride_of(subject.training.network) for subject in subjects)
        background = 0 if facts["classes"][0] == "background" else None
        probe = receptive_field.Probe(
            **job.probe, colour=PAD_COLOUR, batch=PROBE_BATCH, stride=stride, background=background
        )
        images, labels = source.array("val-images.npy"), source.array("val-labels.npy")
        found: dict[str, Any] = {}
        for number, index in enumerate(with_objects(labels, background, job.images)):
            arrays = receptive_field.figure3(networks, np.array(images[index]), np.array(labels[index]), probe)
            found |= {f"{number}/{name}": array for name, array in arrays.items()}
        write(run.path("receptive.npz"), lambda file: np.savez_compressed(file, **found))
        run.finish()


def ask(job: EvaluationJob | ConfusionJob) -> dict[str, float] | bool:
    """Run a job on a finished training."""
    return confuse(job) if isinstance(job, ConfusionJob) else evaluate(job)


def confuse(job: ConfusionJob) -> bool:
    """Count a training's val pixels by true and predicted class, unless this is done. Returns whether the counts equal
    those of the training: another device or library rounds differently. Raises as ``evaluate`` does.

    Writes confusion.npz: ``confusion`` int64 (K, K) [label, prediction].
    """
    subject, context = job.subject, job.context
    store = Store(context.store)
    run = store.run(job.key, CONFUSION)
    with run.writing(wait=False), stop_signals.noticing(), gpu.faults(context.device, run):
        stop_signals.check(context.stop)
        if not run.done():
            settle(context.device)
            source = source_of(subject, context)
            model = _model_of(subject, store).to(source.device).to(memory_format=torch.channels_last).eval()
            matrix = confusion(model, source, "val", beat=_Beat(run, subject.facts["splits"]["val"], context.stop))
            write(run.path("confusion.npz"), lambda file: np.savez_compressed(file, confusion=matrix))
            run.finish()
    with np.load(run.path("confusion.npz")) as kept, np.load(store.run(subject.key).path("counts.npz")) as counted:
        return not (metrics.counts(kept["confusion"]) != metrics.total(counted["counts"]).sum(0)).any()


class _Beat:
    """Called after each batch of an evaluation: reports progress, and ends it if the file ``stop`` exists."""

    def __init__(self, run: Run, images: int, stop: Path | None) -> None:
        self.run, self.images, self.stop = run, images, stop
        self.began = self.told = time.monotonic()

    def __call__(self) -> None:
        stop_signals.check(self.stop)
        now = time.monotonic()
        if now - self.told >= PROGRESS_S:
            self.told = now
            tell(self.run, 0, self.images, now - self.began)


def _on(device: torch.device, network: FromImages) -> receptive_field.Network:
    return lambda images: network(images.to(device))


def with_objects(labels: np.ndarray, background: int | None, number: int) -> list[int]:
    """The first image with an object at or after each of ``number`` evenly spread places."""
    found: list[int] = []
    for start in samples_of(len(labels), number + 2)[1:-1]:
        places = (i for i in range(start, len(labels)) if receptive_field.centre(labels[i], background) is not None)
        found += [place for place in [next(places, None)] if place is not None and place not in found]
    return found


def network_of(subject: Subject, context: Context) -> FromImages:
    """A finished training as a network from images (N, 3, H, W) in 0..255 to scores, in evaluation mode."""
    store = Store(context.store)
    model = _model_of(subject, store)
    standard = FromImages(model, subject.training, subject.origin or subject.facts, store.cache)
    return standard.to(torch.device(context.device)).eval()


def _model_of(subject: Subject, store: Store) -> torch.nn.Module:
    """A finished training's network as it was trained: from images, or from a frozen backbone's features."""
    training = subject.training
    model = build(training.variant, training.network, len(subject.facts["classes"]), training.seed)
    model.load_state_dict(weights_of(store.run(subject.key)))
    return model


def source_of(subject: Subject, context: Context) -> Source:
    """The cached data of a finished training."""
    cache, device = Store(context.store).cache, torch.device(context.device)
    return open_source(subject.training, subject.facts, cache, device, origin=subject.origin)


class _Kept(TypedDict):
    """The content of an evaluation's checkpoint: results of the images so far, and which images are shown."""

    counts: list[torch.Tensor]
    predictions: list[torch.Tensor]
    seconds: float
    shown: list[int]


class _Counted:
    """A running evaluation: counts of the images so far, resumed from a checkpoint."""

    def __init__(self, run: Run, crf: Crf | None, source: Source, samples: int) -> None:
        self.run, self.crf, self.source = run, crf, source
        self.images, self.labels = source.array("val-images.npy"), source.array("val-labels.npy")
        shown = samples_of(len(self.labels), samples)
        kept = cast(_Kept | None, checkpoint.load(run.path("checkpoint.pt")))
        if kept is None or kept["shown"] != shown:  # the key does not include the number of samples (D16)
            kept = {"counts": [], "predictions": [], "seconds": 0.0, "shown": shown}
        self.kept = kept

    @property
    def done(self) -> int:
        """Images so far."""
        return len(self.kept["counts"])

    def add(self, probabilities: np.ndarray, seconds: float) -> None:
        """Count the next image from its probabilities (K, H, W) before any CRF, which took ``seconds``."""
        index, source, began = self.done, self.source, time.monotonic()
        if self.crf is not None:
            probabilities = predict.refine(probabilities, self.images[index], self.crf)
        prediction = probabilities.argmax(0).astype(np.uint8)
        if source.longest is None:
            band = source.array(source.band["val"])[index]
            counts = image_counts(self.labels[index], prediction, band, source.classes)
        else:
            own = source.original("val", index)
            counts = counts_of_original(torch.from_numpy(probabilities), own, source.classes)
        self.kept["counts"].append(torch.from_numpy(counts))
        if index in self.kept["shown"]:
            self.kept["predictions"].append(torch.from_numpy(prediction))
        self.kept["seconds"] += seconds + time.monotonic() - began

    def tell(self) -> None:
        tell(self.run, self.done, len(self.labels), self.kept["seconds"])

    def save(self) -> None:
        checkpoint.save(self.run.path("checkpoint.pt"), self.kept)

    def finish(self, commit: str) -> None:
        """Write counts and samples of all images, and mark the run as done."""
        kept, every = self.kept, torch.stack(self.kept["counts"]).numpy()
        write(self.run.path("counts.npz"), lambda file: np.savez_compressed(file, counts=every))
        samples: dict[str, Any] = {
            "images": self.images[kept["shown"]],
            "labels": self.labels[kept["shown"]],
            "names": self.source.array("val-names.npy")[kept["shown"]],
            "predictions": torch.stack(kept["predictions"]).numpy(),
        }
        write(self.run.path("samples.npz"), lambda file: np.savez_compressed(file, **samples))
        write_json(self.run.path("result.json"), {"seconds": {"evaluate": kept["seconds"]}, "commit": commit})
        self.run.finish()


def _count_all(job: EvaluationJob, going: list[_Counted], network: FromImages, source: Source) -> None:
    """Count every val image for each of the evaluations, which share the network's passes and differ in their CRF."""
    stride, images = stride_of(job.subject.training.network), source.array("val-images.npy")

    def save() -> None:
        for one in going:
            one.save()

    told = saved = time.monotonic()
    for one in going:
        one.tell()
    for index in range(min(one.done for one in going), len(images)):
        began = time.monotonic()
        asked = (network, images[index : index + 1], job.inference, stride, source.device)
        (probabilities,) = predict.passes(*asked)
        seconds = time.monotonic() - began
        for one in going:
            if one.done == index:  # otherwise its checkpoint has the image
                one.add(probabilities, seconds)
        now = time.monotonic()
        if now - saved >= job.context.checkpoint_s:
            save()
            return_freed_memory()
            saved = now
        if now - told >= PROGRESS_S:
            for one in going:
                one.tell()
            told = now
            with stop_signals.saving(save):
                stop_signals.check(job.context.stop)
    for one in going:
        one.finish(job.context.commit)
