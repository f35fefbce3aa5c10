"""Observers of a training: learning curve, heartbeat, stop requests, checkpoints, pause.

An observer is called with (steps done, loss) after every step.
"""

from __future__ import annotations

import math
import os
import socket
import time
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import torch

from study import metrics
from study.spec.constants import PAUSES
from study.spec.jobs import GpuStep
from study.spec.training import Recipe
from study.store import stop_signals
from study.store.runs import Run, write_json
from study.training import checkpoint
from study.training.batches import Source
from study.training.count import measure
from study.training.loop import Dumped, State, TrainingFailed

PROGRESS_S = 1.0
SAVING_SHARE = 50  # train this many times as long as a checkpoint took before the next one: at most 2 % of the time
LOSS_POINTS = 50
SCORED_IMAGES = 64  # of the tune split, for a point of the learning curve


class _Dumped(TypedDict):
    """The content of a training's checkpoint."""

    state: Dumped
    curve: dict[str, list[Any]]
    seconds: float


class Attempt:
    """A training in one process: its state, its learning curve and the seconds that it has taken, all of which a
    checkpoint holds."""

    def __init__(self, run: Run, recipe: Recipe, source: Source, state: State, gpu: GpuStep | None = None) -> None:
        """``gpu`` says how often losses are copied from a GPU, since each copy waits for it, and where predictions are
        counted (D152); None: on a CPU."""
        self.run, self.recipe, self.source, self.state = run, recipe, source, state
        self.look_every = gpu.look_every if gpu else 1
        self.counts_on_device = bool(gpu and gpu.count)
        self._unseen: list[tuple[int, torch.Tensor]] = []  # losses by step
        self.curve: dict[str, list[Any]] = {"loss": [], "score": [], "losses": []}
        self.resumed: list[int] = []  # the step of the checkpoint
        self._before, self._began = 0.0, time.monotonic()
        self._told = self._began

    @property
    def seconds(self) -> float:
        """Seconds of training so far, including earlier attempts."""
        return self._before + time.monotonic() - self._began

    def restore(self) -> None:
        """Resume from the checkpoint, if there is an intact one."""
        dumped = cast(_Dumped | None, checkpoint.load(self.run.path("checkpoint.pt")))
        if dumped is not None:
            self.state.restore(dumped["state"])
            self.curve, self._before = dumped["curve"], dumped["seconds"]
            self.resumed = [self.state.step]

    def note(self, step: int, loss: torch.Tensor) -> None:
        """Keep the loss of a step, and look at those of the last ``look_every`` steps."""
        self._unseen.append((step, loss))
        if len(self._unseen) >= self.look_every:
            self.look()

    def look(self) -> None:
        """Copy the losses of the steps since the last look. Raises TrainingFailed for the first that is not finite."""
        if not self._unseen:
            return
        unseen, self._unseen = self._unseen, []
        for (step, _), value in zip(unseen, torch.stack([loss for _, loss in unseen]).tolist(), strict=True):
            if not math.isfinite(value):
                raise TrainingFailed(
                    f"the loss must be finite, got {value} at step {step} of {self.recipe.steps}; lower the learning "
                    "rate"
                )
            self.curve["losses"].append(value)

    def save(self) -> None:
        """Write a checkpoint. Raises TrainingFailed if the training went wrong since the last look."""
        self.look()
        content = {"state": self.state.dump(), "curve": self.curve, "seconds": self.seconds}
        checkpoint.save(self.run.path("checkpoint.pt"), content)

    def tell(self) -> None:
        """Write the progress of the training."""
        self._told = time.monotonic()
        last = {name: self.curve[name][-1][1] if self.curve[name] else None for name in ("loss", "score")}
        tell(self.run, self.state.step, self.recipe.steps, self.seconds, **last)

    def beat(self) -> bool:
        """Call ``tell``, unless the last call was less than PROGRESS_S ago. Returns whether it was called."""
        due = time.monotonic() - self._told >= PROGRESS_S
        if due:
            self.tell()
        return due

    def score(self, images: int | None = None) -> float:
        """The score on the tune split, or on its first images; NaN if none of their pixels is labelled."""
        return metrics.main_score(*self.measure(images))

    def measure(self, images: int | None = None) -> tuple[str, np.ndarray]:
        """What scores on the tune split are made from (see study.metrics): the array's name and the array."""
        return measure(self.state.model, self.source, "tune", images, self.beat, on_device=self.counts_on_device)


def saved_step(run: Run) -> int:
    """The step of a run's checkpoint; 0 if it has none."""
    dumped = cast(_Dumped | None, checkpoint.load(run.path("checkpoint.pt")))
    return dumped["state"]["step"] if dumped is not None else 0


def tell(run: Run, step: int, steps: int, seconds: float, **said: float | None) -> None:
    """Write the progress and the place of a run, for the driver and for status requests."""
    where = {"pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}
    write_json(run.path("progress.json"), said | where | {"step": step, "steps": steps, "seconds": seconds})


class Curve:
    """Records, by step, the loss (mean of the steps since the last point) and the score on the tune split. Raises
    TrainingFailed for a loss that is not finite, when it is looked at."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt, recipe = attempt, attempt.recipe
        self.loss_steps = {math.ceil(recipe.steps * (i + 1) / LOSS_POINTS) for i in range(LOSS_POINTS)}
        self.score_steps = {math.ceil(recipe.steps * (i + 1) / recipe.validations) for i in range(recipe.validations)}

    def __call__(self, step: int, loss: torch.Tensor | None) -> None:
        curve = self.attempt.curve
        if loss is not None:
            self.attempt.note(step, loss)
        if step in self.loss_steps or step in self.score_steps:
            self.attempt.look()
        if step in self.loss_steps and curve["losses"]:
            curve["loss"].append((step, sum(curve["losses"]) / len(curve["losses"])))
            curve["losses"] = []
        if step in self.score_steps and not math.isnan(score := self.attempt.score(SCORED_IMAGES)):
            curve["score"].append((step, score))


class Heartbeat:
    """Reports the progress of the training, every PROGRESS_S and at its end."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt

    def __call__(self, step: int, loss: torch.Tensor | None) -> None:
        if not self.attempt.beat() and step == self.attempt.recipe.steps:
            self.attempt.tell()


class StopRequest:
    """Checks every PROGRESS_S, and after the last step, whether the training should end early. If so, it saves a
    checkpoint and raises Stopped or Preempted."""

    def __init__(self, attempt: Attempt, stop: Path | None) -> None:
        self.attempt, self.stop, self.looked = attempt, stop, time.monotonic()

    def __call__(self, step: int, loss: torch.Tensor | None) -> None:
        now = time.monotonic()
        if now - self.looked >= PROGRESS_S or step == self.attempt.recipe.steps:
            self.looked = now
            with stop_signals.saving(self.attempt.save):
                stop_signals.check(self.stop)


class Checkpoints:
    """Saves a checkpoint every ``every_s`` seconds, or less often if saving takes long."""

    def __init__(self, attempt: Attempt, every_s: float) -> None:
        self.attempt, self.every_s = attempt, every_s
        self.saved, self.took = time.monotonic(), 0.0

    def __call__(self, step: int, loss: torch.Tensor | None) -> None:
        now = time.monotonic()
        wait = max(self.every_s, SAVING_SHARE * self.took) if self.every_s else 0.0
        if now - self.saved >= wait:
            self.attempt.save()
            self.saved = time.monotonic()
            self.took = self.saved - now


class Pause:
    """Counts on the whole tune split after ``until`` steps (D93), and then saves a checkpoint to resume from. It comes
    before all that saves or ends a training: a checkpoint at this step means that its counts are written."""

    def __init__(self, attempt: Attempt, until: int) -> None:
        self.attempt, self.until = attempt, until

    def __call__(self, step: int, loss: torch.Tensor | None) -> None:
        if step == self.until:
            self.count()

    def count(self) -> None:
        """Write the counts of this step, and save the training."""
        self.attempt.look()
        run, (name, measured) = self.attempt.run, self.attempt.measure()
        found = {name: (metrics.total(measured) if name == "counts" else measured).tolist()}
        write_json(run.path(PAUSES), (run.read(PAUSES) or {}) | {str(self.until): found})
        self.attempt.save()
