"""explored/explored.json: the trials of an exploration, the networks it found, and the winners' new trainings."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from study.spec.typed import Json, closed

COMPLETE = "COMPLETE"  # state of a trial that was trained to its end
REFINE = "BR"  # name of the suggestion for boundary refinement, if all places share it


@closed
class ExploredTrial(TypedDict):
    """A trial of the study.

    ``values`` are the suggestions by name, ``k`` the kernel sizes by level, ``refine`` the places of boundary
    refinement. ``score`` is on the tune split after ``step`` (None: it reached no score). ``macs``, ``parameters`` and
    ``memory`` (bytes of a training step, counted) belong to the network; ``work`` is the training's cost in tera
    multiply-adds. ``key`` is the run's key. ``reason`` says why the trial has no score or was not trained to its end.
    """

    number: int
    state: str
    label: str
    head: str
    k: dict[str, int]
    width: float | None
    refine: list[str]
    lr: float
    values: dict[str, Json]
    key: str
    score: float | None
    step: int
    macs: int
    parameters: int
    memory: int
    work: float
    reason: str


@closed
class Retrained(TypedDict):
    """A network that was trained with new seeds: why, the trial that found it, and its keys by seed. ``label`` is its
    name among the cells of explored/plan.json. For a control, ``why`` is what differs from the network of the trial."""

    why: str
    number: int
    label: str
    keys: dict[str, str]


@closed
class Importance(TypedDict):
    """A factor's share of the variance of the scores, with the 90 % interval over resampled trials."""

    factor: str
    share: float
    low: float
    high: float


@closed
class ExploredFile(TypedDict):
    """The result of the stage explore; without an exploration, ``on`` is False and the other keys are absent.

    One worker reproduces the study exactly; with more ``workers`` its order depends on their speed.
    """

    version: Literal[1]
    on: bool
    objective: NotRequired[str]
    against: NotRequired[str]
    bounds: NotRequired[dict[str, float]]
    sampler: NotRequired[str]
    pruner: NotRequired[str]
    levels: NotRequired[list[str]]
    places: NotRequired[list[str]]
    steps: NotRequired[int]
    workers: NotRequired[int]
    trials: NotRequired[list[ExploredTrial]]
    front: NotRequired[list[int]]
    winners: NotRequired[list[Retrained]]
    controls: NotRequired[list[Retrained]]
    importances: NotRequired[list[Importance]]
