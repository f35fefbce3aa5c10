"""gpu-check.json: what a check of a GPU found."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from study.spec.typed import Json, closed

FILE = "gpu-check.json"  # in the run store


@closed
class CheckedLine(TypedDict):
    """A promise and what was found; ``kept`` is None if nothing was promised there."""

    check: str
    promise: str
    found: str
    kept: bool | None
    seconds: float


@closed
class CheckedStep(TypedDict):
    """Seconds of a training step and of inference on a batch. ``flop_per_s`` of a training step counts multiply-adds as
    two, ``work_per_s`` counts them in blocks of channels as a plan's cost does."""

    train_s: float
    infer_s: float
    batch: int
    size: list[int]
    precision: str
    flop_per_s: float
    work_per_s: float


@closed
class GpuCheckFile(TypedDict):
    """A check of a device: its promises, and steps by tier."""

    version: Literal[1]
    device: dict[str, Json]
    lines: list[CheckedLine]
    steps: dict[str, CheckedStep]
    seconds: float
