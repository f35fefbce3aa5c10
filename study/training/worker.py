"""Runs one training from its start or its last checkpoint to DONE, in this process and on the given device."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from study import metrics
from study.models.build import Classifier, Segmenter, build, inherit
from study.spec.constants import GPU_FAULT, PAUSES
from study.spec.digest import canonical
from study.spec.jobs import TrainingJob
from study.store import stop_signals
from study.store.runs import Run, Store, write, write_json
from study.training import class_weights, distributed, gpu
from study.training.batches import Source, open_source
from study.training.count import measure, predict
from study.training.device import settle
from study.training.loop import Step, TrainingFailed, fit, start
from study.training.memory import forget_peak, peak_mb
from study.training.observers import Attempt, Checkpoints, Curve, Heartbeat, Pause, StopRequest, saved_step
from study.training.prefetch import batches


def train(job: TrainingJob) -> dict[str, float]:
    """Run one training, unless it is done. Returns its scores, on val or (``until``) on tune. Raises TrainingFailed if
    it cannot continue, OutOfMemory if its device has no room, GpuMissing if it has no device, Busy if another process
    is running it, Stopped or Preempted if it was asked to end and has saved a checkpoint, InputError or ProcessLost as
    study.training.distributed does."""
    context = job.context
    distributed.check(job.subject.training, context.processes, context.device)
    run = Store(context.store).run(job.key)
    with run.writing(wait=False), stop_signals.noticing(), gpu.faults(context.device, run):
        stop_signals.check(context.stop)
        if context.device == "cuda":
            gpu.check()
        if job.until is not None:
            return {"tune": metrics.main_score(*_on_tune(job, run), job.classes)}
        if not run.done():
            _begin(job, run)
    with np.load(run.path("counts.npz")) as archive:
        (name,) = archive.files
        return metrics.score_all(name, archive[name])


def _begin(job: TrainingJob, run: Run) -> None:
    settle(job.context.device, job.subject.training.recipe.deterministic)
    for name in ("DONE", "failed.json", GPU_FAULT):  # of an earlier attempt
        run.path(name).unlink(missing_ok=True)
    with distributed.together(follow, job, job.context.processes, job.context.device) as team:
        _train(job, run, team)


def _train(job: TrainingJob, run: Run, team: distributed.Team) -> None:
    attempt = _open(job, run)
    if not attempt.resumed or not run.path("training.json").is_file():  # it states the spec before the first step
        spec = canonical(job.subject.training)
        write_json(run.path("training.json"), {"key": job.key, "labels": job.labels, "spec": spec})
    forget_peak()
    if job.context.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    attempt.tell()
    pause = Pause(attempt, job.pause) if job.pause else None
    if pause and attempt.state.step == job.pause:  # saved there by a training that was not asked to pause
        return pause.count()
    observers: list[Callable[[int, torch.Tensor | None], None]] = [
        Curve(attempt),
        Heartbeat(attempt),
        *([pause] if pause else []),
        StopRequest(attempt, job.context.stop),
        Checkpoints(attempt, job.context.checkpoint_s),
    ]
    for step, loss in _steps(job, team, attempt):
        for observe in observers:
            observe(step, loss)
        if step == job.pause:
            return
    _finish(job, attempt)


def follow(job: TrainingJob, team: distributed.Team) -> None:
    """Run the steps of a training in a process other than the first. Evaluates and writes nothing."""
    settle(job.context.device, job.subject.training.recipe.deterministic)
    attempt = _open(job, Store(job.context.store).run(job.key))
    if attempt.state.step == job.pause:
        return
    for step, _ in _steps(job, team, attempt):
        if step == job.pause:
            return


def _open(job: TrainingJob, run: Run) -> Attempt:
    """The data of a training, and its network before the next step."""
    training, store = job.subject.training, Store(job.context.store)
    device = torch.device(job.context.device)
    subject = job.subject
    source = open_source(training, subject.facts, store.cache, device, origin=subject.origin, root=subject.root)
    model = build(training.variant, training.network, source.classes, training.seed)
    if job.init is not None:
        inherit(model, weights_of(store.run(job.init)), f"those of the earlier training {job.init[:12]}")
    state = start(model.to(device).to(memory_format=torch.channels_last), training.recipe)
    attempt = Attempt(run, training.recipe, source, state, job.context.gpu if device.type == "cuda" else None)
    attempt.restore()
    return attempt


def _steps(job: TrainingJob, team: distributed.Team, attempt: Attempt) -> Iterator[Step]:
    source, state, recipe = attempt.source, attempt.state, attempt.recipe
    facts = job.subject.facts
    loaders = job.context.loaders if facts["streamed"] else 0
    weights = class_weights.weights_of(recipe, facts)
    on_device = None if weights is None else torch.tensor(weights, device=source.device)
    how, on_gpu = job.context.gpu, source.device.type == "cuda"
    batch = batches(team.part(source), state.step, recipe.steps, loaders, how.copy_ahead)
    return team.run(fit, state, batch, recipe, on_device, capture=how.capture and on_gpu)


def _finish(job: TrainingJob, attempt: Attempt) -> None:
    """Save the weights, evaluate them, and mark the run as done."""
    run, source, model = attempt.run, attempt.source, attempt.state.model
    assert isinstance(model, Segmenter | Classifier)
    if not attempt.curve["loss"]:
        raise TrainingFailed(
            f"a training must see a labelled pixel in one of its steps, got none in {attempt.recipe.steps}; label "
            "more pixels, or make batch or crop larger"
        )
    trained = attempt.seconds
    attempt.save()
    measuring = time.monotonic()
    write(run.path("weights.pt"), lambda file: torch.save(model.state_dict(), file))
    for split, file in (("val", "counts.npz"), ("tune", "tune.npz")):
        _write_counts(run, file, *measure(model, source, split, beat=attempt.beat, on_device=attempt.counts_on_device))
    _write_samples(run, model, source, job.context.samples)
    write_json(run.path("curve.json"), {name: attempt.curve[name] for name in ("loss", "score")})
    seconds = {"train": trained, "evaluate": time.monotonic() - measuring}
    recorded = {"recorded": attempt.state.refused or "yes"} if job.context.device == "cuda" else {}
    write_json(run.path("result.json"), _result(model, job, seconds, attempt.resumed) | recorded)
    run.finish()


def _on_tune(job: TrainingJob, run: Run) -> tuple[str, np.ndarray]:
    """What the score on the tune split at the job's pause or end is made from: the array's name and the array. From an
    earlier call, or by training up to there."""
    if job.pause is None:
        if not run.done():
            _begin(job, run)
        with np.load(run.path("tune.npz")) as archive:
            (name,) = archive.files
            return name, archive[name]
    wanted = str(job.pause)
    if wanted not in (known := run.read(PAUSES) or {}):
        if run.done() or saved_step(run) > job.pause:  # it is past that step, whose weights are gone
            run.clear()
        _begin(job, run)
        known = run.read(PAUSES) or {}
    ((name, measured),) = known[wanted].items()
    return name, np.array(measured)


def _write_counts(run: Run, name: str, what: str, measured: np.ndarray) -> None:
    arrays: dict[str, Any] = {what: measured}
    write(run.path(name), lambda file: np.savez_compressed(file, **arrays))


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    """The final weights of a training. Raises TrainingFailed if it is not done or was damaged."""
    if not run.done():
        raise TrainingFailed(
            f"the training {run.key[:12]} must be done and intact before its weights are used, got no intact run in "
            f"{run.folder}; run `make repro` to train it again"
        )
    return torch.load(run.path("weights.pt"), map_location="cpu", weights_only=True)


def _result(
    model: Segmenter | Classifier, job: TrainingJob, seconds: dict[str, float], resumed: list[int]
) -> dict[str, Any]:
    def size(module: torch.nn.Module | None) -> int:
        return sum(p.numel() for p in module.parameters()) if module is not None else 0

    on_gpu = job.context.device == "cuda"
    return {
        "parameters": size(model),
        "head_parameters": size(model.decoder.heads if isinstance(model, Segmenter) else model.linear),
        "seconds": seconds,
        "peak_memory_mb": peak_mb(),
        # What torch took from the GPU: a recorded step keeps its memory while predictions are made.
        "peak_gpu_memory_mb": torch.cuda.max_memory_reserved() / 2**20 if on_gpu else None,
        "gpu_memory_mb": torch.cuda.get_device_properties(0).total_memory / 2**20 if on_gpu else None,
        "device": job.context.device,
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "host": socket.gethostname(),
        "threads": torch.get_num_threads(),
        "processes": job.context.processes,
        "steps": job.subject.training.recipe.steps,
        "resumed": resumed,
        "pid": os.getpid(),
        "commit": job.context.commit,
    }


def samples_of(images: int, number: int) -> list[int]:
    """At most ``number`` indices of ``images``, spread evenly (D16)."""
    return sorted({round(i) for i in np.linspace(0, images - 1, min(number, images))})


def _write_samples(run: Run, model: Segmenter | Classifier, source: Source, number: int) -> None:
    """Write predictions on val images, spread evenly over the list: none is picked by hand (D16)."""
    model.eval()
    rows = [source.sample(i) for i in samples_of(len(source.array("val-labels.npy")), number)]
    found: dict[str, Any] = {
        "images": np.stack([image for _, image, _, _ in rows]),
        "predictions": np.concatenate([predict(model, inputs, labels.shape) for inputs, _, labels, _ in rows]),
        "labels": np.stack([labels for _, _, labels, _ in rows]),
        "names": np.array([name for *_, name in rows]),
    }
    write(run.path("samples.npz"), lambda file: np.savez_compressed(file, **found))
