"""Jobs for worker processes: a training, an evaluation, receptive fields, confusions, predictions for a server.

Jobs are plain values, so they can be sent to another process or machine before anything imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from study.spec.documents.data import Facts
from study.spec.documents.plan import PlannedTraining, Probe
from study.spec.training import Inference, Training


@dataclass(frozen=True)
class GpuStep:
    """How a training step runs on a GPU; nothing of it changes a number (D152). The loss is copied from the device
    every ``look_every`` steps. ``copy_ahead`` copies batches beside the work, ``capture`` replays the step as one
    graph, and ``count`` counts predictions on the device."""

    look_every: int = 20
    copy_ahead: bool = True
    capture: bool = True
    count: bool = True


@dataclass(frozen=True)
class Context:
    """Options that all jobs of one driver share.

    A job saves a checkpoint every ``checkpoint_s`` seconds and keeps ``samples`` predictions. If images are streamed,
    ``loaders`` processes read ahead; ``processes`` share each training (D100). ``commit`` is the project's commit. Once
    the file ``stop`` exists, a job saves a checkpoint and ends.
    """

    store: Path
    device: str
    checkpoint_s: float
    samples: int
    loaders: int = 0
    processes: int = 1
    commit: str = ""
    stop: Path | None = None
    gpu: GpuStep = GpuStep()


@dataclass(frozen=True)
class Subject:
    """A training, the facts of its data, and the folder ``root`` of that data.

    For a training of several stages, ``origin`` are the facts of the first stage's data: its training split
    standardises the features. None: the training's own data does.
    """

    key: str
    training: Training
    facts: Facts
    origin: Facts | None = None
    root: Path | None = None


@dataclass(frozen=True)
class TrainingJob:
    """One training. ``init`` is the key of the training whose weights it starts from. With ``until`` it pauses after
    that step and is scored on the whole tune split (D93), by the mean over ``classes`` (None: all)."""

    subject: Subject
    context: Context
    labels: PlannedTraining
    init: str | None = None
    until: int | None = None
    classes: tuple[int, ...] | None = None

    @property
    def key(self) -> str:
        """The name of the run."""
        return self.subject.key

    @property
    def pause(self) -> int | None:
        """The step to pause after; None: it trains to its end."""
        return self.until if self.until is not None and self.until < self.subject.training.recipe.steps else None


@dataclass(frozen=True)
class EvaluationJob:
    """One evaluation of a finished training; ``key`` names its run. With a CRF, ``plain`` is the key of the same
    evaluation without one, if the plan has it: both need the same passes."""

    key: str
    subject: Subject
    context: Context
    inference: Inference
    plain: str | None = None


@dataclass(frozen=True)
class ReceptiveFieldJob:
    """Figure 3: probes the trainings ``subjects`` (by label; one seed, one data set) on ``images`` val images with
    ``probe`` (see receptive_field.Probe). ``key`` names the run."""

    key: str
    subjects: dict[str, Subject]
    context: Context
    probe: Probe
    images: int


@dataclass(frozen=True)
class ConfusionJob:
    """The confusion matrix of a finished training on val; ``key`` names the run."""

    key: str
    subject: Subject
    context: Context


@dataclass(frozen=True)
class SubmissionJob:
    """Predictions of a finished training for a benchmark's test images, in one of benchmark_format.FORMATS."""

    key: str
    subject: Subject
    context: Context
    inference: Inference
    format: str
