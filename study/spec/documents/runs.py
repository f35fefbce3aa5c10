"""Files of each run in the run store and in results/, and of the drivers."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from study.spec.typed import Json, closed


@closed
class Progress(TypedDict):
    """A worker's last progress report: steps done of all, seconds so far, its host and process, and the time."""

    step: int
    steps: int
    seconds: float
    host: str
    pid: int
    time: float
    loss: NotRequired[float | None]
    score: NotRequired[float | None]


@closed
class Result(TypedDict):
    """What a run records at its end; an evaluation records only seconds and commit. Memory is in MiB. ``recorded`` says
    whether a GPU's step was replayed as a graph: yes, or why not."""

    seconds: dict[str, float]
    commit: NotRequired[str]
    parameters: NotRequired[int]
    head_parameters: NotRequired[int]
    peak_memory_mb: NotRequired[float]
    peak_gpu_memory_mb: NotRequired[float | None]
    gpu_memory_mb: NotRequired[float | None]
    device: NotRequired[str]
    gpu: NotRequired[str | None]
    recorded: NotRequired[str]
    host: NotRequired[str]
    threads: NotRequired[int]
    processes: NotRequired[int]
    steps: NotRequired[int]
    resumed: NotRequired[list[int]]
    pid: NotRequired[int]


@closed
class Driver(TypedDict):
    """A running driver: when it started, by the store's clock, and the name of its files."""

    tier: str
    host: str
    pid: int
    since: float
    name: NotRequired[str]


@closed
class Executed(TypedDict):
    """Where and how trainings were executed, for how long, and how many were trained."""

    engine: str
    workers: int
    device: str
    wall_s: float
    trained: int
    hardware: dict[str, Json]
