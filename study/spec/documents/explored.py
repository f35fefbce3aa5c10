"""explored/explored.json: what an exploration tried, what it found, and what became of the winners."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from study.spec.checks import Json, closed

COMPLETE = "COMPLETE"  # the state of a trial that was trained to its end
REFINE = "BR"  # what is suggested of boundary refinement where all places have it alike


@closed
class ExploredTrial(TypedDict):
    """A trial of the study. ``values`` are what was suggested by name, ``k`` the kernel size by level; ``score`` is on
    the tune split after ``step`` (None: none was reached), ``refine`` has the places of boundary refinement; ``macs``,
    ``parameters`` and ``memory`` (bytes of a training step, by count) are the network's, ``work`` tera multiply-adds of
    its training, ``key`` that of its run; ``reason`` says why it has no score or was not trained to its end."""

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
class Winner(TypedDict):
    """A network that was tried again with new seeds: why, the trial that found it, and its key by seed. ``label`` is
    its name among the cells of explored/plan.json."""

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
    """The exploration of the stage explore; only ``on`` (False) where none was asked for. With one of ``workers`` the
    same study comes out again; with several its order depends on who was faster."""

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
    winners: NotRequired[list[Winner]]
    importances: NotRequired[list[Importance]]
