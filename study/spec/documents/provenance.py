"""provenance.json: what ran, on which machine, and on which data."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from study.spec.documents.gpu_check import GpuCheckFile
from study.spec.typed import Json, closed


@closed
class Page(TypedDict):
    """A page of MLflow."""

    name: str
    link: str


@closed
class RanRun(TypedDict):
    """A training or an evaluation: seconds by part, digests of its counts, and the commit that ran it."""

    status: str
    seconds: NotRequired[dict[str, float]]
    sha256: NotRequired[str]
    tune_sha256: NotRequired[str]
    commit: NotRequired[str]
    mlflow: NotRequired[Page | None]


@closed
class Numbers(TypedDict):
    """How many were planned, done, failed and executed."""

    planned: int
    done: int
    failed: int
    executed: NotRequired[int]


@closed
class Ran(TypedDict):
    """What ran, on which machine, and on which data. ``data`` are fingerprints by setting; ``seconds`` are sums over
    trainings."""

    tier: str
    commit: str
    dirty: bool
    lacking: str
    versions: dict[str, str]
    hardware: dict[str, Json]
    seconds: dict[str, float]
    workers: int
    engine: str
    trainings: Numbers
    evaluations: Numbers
    data: dict[str, str]
    runs: dict[str, RanRun]


@closed
class ProvenanceFile(Ran):
    """The provenance of a report; ``tuned`` is the provenance of the trainings at each variant's best values, and
    ``gpu_check`` the last check of the device that trained."""

    version: Literal[1]
    tuned: NotRequired[Ran]
    gpu_check: NotRequired[GpuCheckFile]
