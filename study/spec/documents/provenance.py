"""provenance.json: what ran, where and on what."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from study.spec.checks import Json, closed


@closed
class Page(TypedDict):
    """A page of the tracker."""

    name: str
    link: str


@closed
class RanRun(TypedDict):
    """A training or an evaluation: seconds by part, digests of its counts, the commit that ran it."""

    status: str
    seconds: NotRequired[dict[str, float]]
    sha256: NotRequired[str]
    tune_sha256: NotRequired[str]
    commit: NotRequired[str]
    mlflow: NotRequired[Page | None]


@closed
class Numbers(TypedDict):
    """How many were planned and what became of them."""

    planned: int
    done: int
    failed: int
    executed: NotRequired[int]


@closed
class Ran(TypedDict):
    """What ran, where and on what; ``data`` are fingerprints by setting, ``seconds`` sums over trainings."""

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
    """The provenance of a report; ``tuned`` that of the trainings at each variant's best."""

    version: Literal[1]
    tuned: NotRequired[Ran]
