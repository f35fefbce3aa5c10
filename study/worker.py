"""One training from its start or its last checkpoint to DONE, in the process and on the device it is given."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from study import checkpoint, metrics, parallel, stopping
from study.allocator import forget_peak, keep_freed_memory, peak_mb
from study.engine import OutOfMemory, State, Step, TrainingFailed, fit, start
from study.evaluate import measure, predict
from study.loader import batches
from study.models import Classifier, Segmenter, build, inherit
from study.source import Source, open_source
from study.spec import Training, canonical
from study.store import Run, Store, write, write_json

PROGRESS_S = 1.0
SAVING_SHARE = 50  # times as long as a checkpoint took is trained before the next: they cost at most 2 % of the time
LOSS_POINTS = 50
RUNGS = "rungs.json"  # of a training that pauses: {steps done: score on the tune split}
SCORED_IMAGES = 64  # of the tune split, for a point of the learning curve


@dataclass(frozen=True)
class Job:
    """What a worker needs to know of one training. ``init`` is the key of the training whose weights it starts from,
    ``origin`` the facts of the data of the first of them (its own without one). ``root`` is the folder of its data set,
    ``loaders`` the number of processes that read ahead where the data set is streamed, ``commit`` the project's.
    With ``until`` the training pauses after that step and is asked for its score on the whole tune split (D93). When
    the file ``stop`` is there it saves a checkpoint and ends. ``processes`` share it (D100)."""

    key: str
    training: Training
    labels: dict[str, Any]
    facts: dict[str, Any]
    store: Path
    device: str
    checkpoint_s: float
    samples: int
    init: str | None = None
    origin: dict[str, Any] | None = None
    root: Path | None = None
    loaders: int = 0
    commit: str = ""
    until: int | None = None
    stop: Path | None = None
    processes: int = 1


class _Curve:
    """Loss (mean of the steps since the last point) and tune-split score by step."""

    def __init__(self, steps: int, validations: int) -> None:
        self.loss: list[tuple[int, float]] = []
        self.score: list[tuple[int, float]] = []
        self.losses: list[float] = []
        self.loss_steps = {math.ceil(steps * (i + 1) / LOSS_POINTS) for i in range(LOSS_POINTS)}
        self.score_steps = {math.ceil(steps * (i + 1) / validations) for i in range(validations)}

    def dump(self) -> dict[str, Any]:
        return {"loss": self.loss, "score": self.score, "losses": self.losses}

    def restore(self, dumped: dict[str, Any]) -> None:
        self.loss, self.score, self.losses = dumped["loss"], dumped["score"], dumped["losses"]


def train(job: Job) -> dict[str, float]:
    """Do one training, or nothing if it is done; returns its scores, on val or (``until``) on tune. Raises
    TrainingFailed where it cannot go on, OutOfMemory where its device has no room, Busy where another is at it, Stopped
    or Preempted where it was asked to end and has saved a checkpoint, InputError or ProcessLost as study.parallel does.
    """
    parallel.check(job.training, job.processes, job.device)
    run = Store(job.store).run(job.key)
    with run.writing(wait=False), stopping.noticing(), _memory():
        stopping.check(job.stop)
        if job.until is not None:
            return {"tune": _rung(job, job.until, run)}
        if not run.done():
            _begin(job, run)
    with np.load(run.path("counts.npz")) as archive:
        (name,) = archive.files
        return metrics.score_all(name, archive[name])


@contextmanager
def _memory() -> Iterator[None]:
    """Tell a device without room, in whatever words, from other failures."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(f"out of memory ({_first_line(error)})") from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # torch has no class of its own for the memory of a CPU
            raise
        raise OutOfMemory(f"out of memory ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _begin(job: Job, run: Run) -> None:
    settle(job.device)
    for name in ("DONE", "failed.json"):  # of an earlier attempt
        run.path(name).unlink(missing_ok=True)
    with parallel.together(follow, job, job.processes, job.device) as team:
        _train(job, run, team)


def follow(job: Job, team: parallel.Team) -> None:
    """The steps of a training in each of its processes but the first: nothing is evaluated or written."""
    settle(job.device)
    source, state = _open(job)
    _restore(Store(job.store).run(job.key), state, _Curve(1, 1))
    for step, _ in _steps(job, team, source, state):
        if step == job.until:
            return


def _rung(job: Job, until: int, run: Run) -> float:
    """The score on the tune split after ``until`` steps: of an earlier call, or of going on till then."""
    known = run.read(RUNGS) or {}
    if str(until) not in known:
        if run.done() or any(int(step) > until for step in known):  # it went past: its weights of then are gone
            run.clear()
        _begin(job, run)
        known = run.read(RUNGS) or {}
    if str(until) not in known:
        raise TrainingFailed(f"a training must not have gone past step {until} unasked; delete {run.folder}")
    return known[str(until)]


def settle(device: str) -> None:
    """One thread a training: two 1-thread trainings beat one of two threads, and sums do not depend on the machine."""
    keep_freed_memory()
    if device == "cpu":
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        # Of use only to find reads of it, and slow.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def _open(job: Job) -> tuple[Source, State]:
    """The data of a training, and its network as it is before the first step."""
    training, store, device = job.training, Store(job.store), torch.device(job.device)
    source = open_source(training, job.facts, store.cache, device, job.origin, job.root)
    model = build(training.variant, training.network, source.classes, training.seed)
    if job.init is not None:
        inherit(model, weights_of(store.run(job.init)), f"those of the training {job.init[:12]} before this one")
    return source, start(model.to(device).to(memory_format=torch.channels_last), training.recipe)


def _steps(job: Job, team: parallel.Team, source: Source, state: State) -> Iterator[Step]:
    recipe, loaders = job.training.recipe, job.loaders if job.facts["streamed"] else 0
    return team.run(fit, state, batches(team.part(source), state.step, recipe.steps, loaders), recipe)


def _train(job: Job, run: Run, team: parallel.Team) -> None:
    training, recipe = job.training, job.training.recipe
    source, state = _open(job)
    model: Any = state.model
    curve = _Curve(recipe.steps, recipe.validations)
    spent, resumed = _restore(run, state, curve)
    if not resumed or not run.path("training.json").is_file():  # it says what was claimed before the first step
        write_json(run.path("training.json"), {"key": job.key, "labels": job.labels, "spec": canonical(training)})
    forget_peak()
    _tell(run, job, state, curve, spent)
    took, began = 0.0, time.monotonic()
    told = saved = began

    def beat() -> None:
        nonlocal told
        if time.monotonic() - told >= PROGRESS_S:
            told = time.monotonic()
            _tell(run, job, state, curve, spent + told - began)

    for step, loss in _steps(job, team, source, state):
        if loss is not None:
            value = float(loss)
            if not math.isfinite(value):
                raise TrainingFailed(
                    f"the loss must be finite, got {value} at step {step} of {recipe.steps}; lower the rate"
                )
            curve.losses.append(value)
        if step in curve.loss_steps and curve.losses:
            curve.loss.append((step, sum(curve.losses) / len(curve.losses)))
            curve.losses = []
        if step in curve.score_steps:
            scores = metrics.score_all(*measure(model, source, "tune", SCORED_IMAGES, beat))
            if (score := next(iter(scores.values()))) == score:  # there is none where no pixel of them is labelled
                curve.score.append((step, score))
        now = time.monotonic()
        if now - told >= PROGRESS_S or step == recipe.steps:
            told = now
            _tell(run, job, state, curve, spent + now - began)
            with stopping.saving(partial(_save, run, state, curve, spent + now - began)):
                stopping.check(job.stop)
        if now - saved >= job.checkpoint_s and (now - saved >= SAVING_SHARE * took or not job.checkpoint_s):
            _save(run, state, curve, spent + now - began)
            saved = time.monotonic()
            took = saved - now
        if step == job.until:
            scores = metrics.score_all(*measure(model, source, "tune", beat=beat))
            write_json(run.path(RUNGS), (run.read(RUNGS) or {}) | {str(step): next(iter(scores.values()))})
            if step < recipe.steps:
                _save(run, state, curve, spent + time.monotonic() - began)
                return
    if not curve.loss:
        raise TrainingFailed(
            f"a training must see a labelled pixel in one of its steps, got none in {recipe.steps}; label more, or "
            "make batch or crop larger"
        )
    trained = spent + time.monotonic() - began
    _save(run, state, curve, trained)
    measuring = time.monotonic()
    write(run.path("weights.pt"), lambda file: torch.save(model.state_dict(), file))
    for split, file in (("val", "counts.npz"), ("tune", "tune.npz")):
        _write_counts(run, file, *measure(model, source, split, beat=beat))
    _write_samples(run, model, source, job.samples)
    write_json(run.path("curve.json"), {"loss": curve.loss, "score": curve.score})
    seconds = {"train": trained, "evaluate": time.monotonic() - measuring}
    write_json(run.path("result.json"), _result(model, job, seconds, resumed))
    run.finish()


def _write_counts(run: Run, name: str, what: str, measured: np.ndarray) -> None:
    arrays: dict[str, Any] = {what: measured}
    write(run.path(name), lambda file: np.savez_compressed(file, **arrays))


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    """The final weights of a training. Raises TrainingFailed where it is not done or was damaged."""
    if not run.done():
        raise TrainingFailed(
            f"the training {run.key[:12]} must be done and whole before its weights are used, got no whole run in "
            f"{run.folder}; run `make repro`, which trains it again"
        )
    return torch.load(run.path("weights.pt"), map_location="cpu", weights_only=True)


def _result(model: Segmenter | Classifier, job: Job, seconds: dict[str, float], resumed: list[int]) -> dict[str, Any]:
    def size(module: torch.nn.Module | None) -> int:
        return sum(p.numel() for p in module.parameters()) if module is not None else 0

    on_gpu = job.device == "cuda"
    return {
        "parameters": size(model),
        "head_parameters": size(model.decoder.heads if isinstance(model, Segmenter) else model.linear),
        "seconds": seconds,
        "peak_memory_mb": peak_mb(),
        "peak_gpu_memory_mb": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None,
        "gpu_memory_mb": torch.cuda.get_device_properties(0).total_memory / 2**20 if on_gpu else None,
        "device": job.device,
        "host": socket.gethostname(),
        "threads": torch.get_num_threads(),
        "processes": job.processes,
        "steps": job.training.recipe.steps,
        "resumed": resumed,
        "pid": os.getpid(),
        "commit": job.commit,
    }


def samples_of(images: int, number: int) -> list[int]:
    """At most ``number`` indices of ``images``, spread evenly (D16)."""
    return sorted({round(i) for i in np.linspace(0, images - 1, min(number, images))})


def _write_samples(run: Run, model: Segmenter | Classifier, source: Source, number: int) -> None:
    """Predictions on val images spread evenly over the list: none is picked by hand (D16)."""
    model.eval()
    rows = [source.sample(i) for i in samples_of(len(source.array("val-labels.npy")), number)]
    found: dict[str, Any] = {
        "images": np.stack([image for _, image, _, _ in rows]),
        "predictions": np.concatenate([predict(model, inputs, labels.shape) for inputs, _, labels, _ in rows]),
        "labels": np.stack([labels for _, _, labels, _ in rows]),
        "names": np.array([name for *_, name in rows]),
    }
    write(run.path("samples.npz"), lambda file: np.savez_compressed(file, **found))


def _tell(run: Run, job: Job, state: State, curve: _Curve, seconds: float) -> None:
    last = {name: points[-1][1] if points else None for name, points in (("loss", curve.loss), ("score", curve.score))}
    tell(run, state.step, job.training.recipe.steps, seconds, **last)


def tell(run: Run, step: int, steps: int, seconds: float, **said: float | None) -> None:
    """Let the driver, and whoever asks for the status, know how far a run is, and where."""
    where = {"pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}
    write_json(run.path("progress.json"), said | where | {"step": step, "steps": steps, "seconds": seconds})


def _save(run: Run, state: State, curve: _Curve, seconds: float) -> None:
    content = {"state": state.dump(), "curve": curve.dump(), "seconds": seconds}
    checkpoint.save(run.path("checkpoint.pt"), content)


def _restore(run: Run, state: State, curve: _Curve) -> tuple[float, list[int]]:
    """Go on from the checkpoint, if a whole one is there; returns the seconds spent before and the step resumed at."""
    dumped = checkpoint.load(run.path("checkpoint.pt"))
    if dumped is None:
        return 0.0, []
    state.restore(dumped["state"])
    curve.restore(dumped["curve"])
    return dumped["seconds"], [state.step]
