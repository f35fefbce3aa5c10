"""How trainings are executed: the block `execution:` of params.yaml."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from study import checks
from study.spec import InputError

MOST_LOADERS = 12  # processes that read ahead for one training


@dataclass(frozen=True)
class Execution:
    """How trainings are executed; none of it changes a result but ``device``, which is part of each key."""

    engine: str
    address: str | None
    workers: int
    device: str
    gpus_per_training: float
    checkpoint_s: float
    retries: int
    hung_s: float
    loaders: int


def execution(params: dict[str, Any]) -> Execution:
    """The block `execution:` of ``params``. ``workers: auto`` is one per core or share of a GPU, ``device: auto`` a GPU
    if there is one.

    Raises InputError.
    """
    checks.keys(params["execution"], "execution", {field.name for field in fields(Execution)})
    block = dict(params["execution"])
    checks.choice(block["engine"], ("ray", "inline"), "execution.engine")
    checks.choice(block["device"], ("auto", "cpu", "cuda"), "execution.device")
    if block["device"] == "auto":
        # Planning must not import torch; where NVIDIA's driver is loaded this device exists.
        block["device"] = "cuda" if Path("/dev/nvidiactl").exists() else "cpu"
    if block["device"] == "cpu":
        block["gpus_per_training"] = 0
    if block["workers"] == "auto":
        gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
        share = block["gpus_per_training"]
        block["workers"] = int(gpus / share) if share else len(os.sched_getaffinity(0))
    if not isinstance(block["workers"], int) or block["workers"] < 1:
        raise InputError(f"execution.workers must be auto or a number from 1 up, got {block['workers']!r}; write auto")
    if block["loaders"] == "auto":
        cores = len(os.sched_getaffinity(0))
        block["loaders"] = 0 if block["device"] == "cpu" else min(MOST_LOADERS, max(1, cores // block["workers"]))
    checks.whole(block["loaders"], 0, "execution.loaders")
    checks.whole(block["retries"], 0, "execution.retries")
    checks.number(block["hung_s"], 1, math.inf, "execution.hung_s")
    return Execution(**block)
