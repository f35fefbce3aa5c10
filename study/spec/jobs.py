"""What processes are asked to do: a training, an evaluation, a look at receptive fields, predictions for a server.

Jobs are plain values, so that they can be sent to another process or machine before anything imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from study.spec.documents.data import Facts
from study.spec.documents.plan import PlannedTraining, Probe
from study.spec.training import Inference, Training


@dataclass(frozen=True)
class Context:
    """What the jobs of one driver share.

    A job saves a checkpoint every ``checkpoint_s`` seconds and keeps ``samples`` predictions. ``loaders`` processes
    read ahead where images are streamed; ``processes`` share each training (D100). ``commit`` is the project's. When
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


@dataclass(frozen=True)
class Subject:
    """A training, the facts of the data that it reads, and the folder ``root`` of that data.

    ``origin`` are the facts of the data of the first of several stages, by whose training split features are
    standardised; None: the training's own.
    """

    key: str
    training: Training
    facts: Facts
    origin: Facts | None = None
    root: Path | None = None


@dataclass(frozen=True)
class TrainingJob:
    """``init`` is the key of the training whose weights this one starts from. With ``until`` it pauses after that step
    and is asked for its score on the whole tune split (D93)."""

    subject: Subject
    context: Context
    labels: PlannedTraining
    init: str | None = None
    until: int | None = None

    @property
    def key(self) -> str:
        """The name of its run."""
        return self.subject.key


@dataclass(frozen=True)
class EvaluationJob:
    """One evaluation of a finished training; ``key`` names its run. With a CRF, ``plain`` is the key of the evaluation
    that differs in having none, where the plan has it: it takes the same passes."""

    key: str
    subject: Subject
    context: Context
    inference: Inference
    plain: str | None = None


@dataclass(frozen=True)
class ReceptiveFieldJob:
    """Figure 3: the trainings by label, of one seed and one data set, on ``images`` val images, probed by ``probe``
    (see receptive_field.Probe); ``key`` names the run."""

    key: str
    subjects: dict[str, Subject]
    context: Context
    probe: Probe
    images: int


@dataclass(frozen=True)
class ConfusionJob:
    """Which classes a finished training takes for which, on val; ``key`` names the run."""

    key: str
    subject: Subject
    context: Context


@dataclass(frozen=True)
class SubmissionJob:
    """A finished training asked for the classes of a benchmark's test images, in one of benchmark_format.FORMATS."""

    key: str
    subject: Subject
    context: Context
    inference: Inference
    format: str
