"""How trainings are executed: the block `execution:` of params.yaml."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from study.config import schema
from study.spec.checks import checked
from study.spec.documents.tier import Params
from study.spec.errors import InputError
from study.store import machine
from study.store.runs import Store

MOST_A_GPU = 4  # trainings
SPARE = 0.1  # of a GPU's memory (D101)
CONTEXT_MB = 600  # of a GPU's memory that a process takes beside its tensors, for CUDA itself
MOST_LOADERS = 12  # processes that read ahead for one training


@dataclass(frozen=True)
class Execution:
    """How trainings are executed; none of it changes a result (several processes a training: only by rounding, D100)
    but ``device``, which is part of each key."""

    engine: str
    address: str | None
    workers: int
    device: str
    gpus_per_training: float
    processes_per_training: int
    checkpoint_s: float
    retries: int
    hung_s: float
    loaders: int

    @property
    def processes(self) -> int:
        """How many processes share a training: one a GPU, or as many as are wanted of a CPU."""
        return self.processes_per_training if self.device == "cpu" else max(1, int(self.gpus_per_training))


def trainings_a_gpu(peak_mb: float, memory_mb: float) -> int:
    """How many trainings of at most ``peak_mb`` (MiB of tensors) fit on a GPU of ``memory_mb`` (MiB; D101)."""
    fitting = (1 - SPARE) * memory_mb / (peak_mb + CONTEXT_MB)
    return max(1, min(MOST_A_GPU, int(fitting)))


def rehearsed(tier: str) -> tuple[float, float] | None:
    """MiB that the largest training of a tier's last rehearsal took of a GPU, and that the GPU has; None before one."""
    try:
        told = json.loads(Store().peak(tier).read_text())
        return float(told["peak_mb"]), float(told["memory_mb"])
    except (OSError, ValueError, KeyError):
        return None


def execution_of(params: Params) -> Execution:
    """The block `execution:` of ``params``. ``workers: auto`` is as many as fit, ``device: auto``
    a GPU if there is one, ``gpus_per_training: auto`` what a rehearsal of the tier has shown (D101), else 1.

    Raises InputError.
    """
    block = dict(checked(schema.Execution, params["execution"], "execution"))
    if block["device"] == "auto":
        # Planning must not import torch; where NVIDIA's driver is loaded this device exists.
        block["device"] = "cuda" if Path("/dev/nvidiactl").exists() else "cpu"
    if block["gpus_per_training"] == "auto":
        known = rehearsed(params["tier"]) if block["device"] == "cuda" else None
        block["gpus_per_training"] = 1 / trainings_a_gpu(*known) if known else 1
    share = block["gpus_per_training"]
    if block["device"] == "cpu":
        block["gpus_per_training"] = 0
    if block["workers"] == "auto":
        gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
        cores = machine.cores()
        on_cpu = max(1, cores // block["processes_per_training"])
        block["workers"] = on_cpu if block["device"] == "cpu" else int(gpus / share + 1e-6)
    if not block["workers"]:
        raise InputError(
            "execution.workers must be a number from 1 up where too few GPUs are found for one training, got auto; "
            "write one, or execution.device: cpu"
        )
    if block["loaders"] == "auto":
        cores = machine.cores()
        block["loaders"] = 0 if block["device"] == "cpu" else min(MOST_LOADERS, max(1, cores // block["workers"]))
    return Execution(**block)
