"""How trainings are executed: the block `execution:` of params.yaml."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from study.config import schema
from study.spec.checks import checked
from study.spec.documents.tier import Params
from study.spec.errors import InputError
from study.spec.jobs import GpuStep
from study.store import machine
from study.store.runs import Store

MOST_A_GPU = 4  # trainings per GPU
SPARE = 0.1  # share of a GPU's memory that stays free (D101)
CONTEXT_MB = 600  # GPU memory of a process besides its tensors, for CUDA itself
MOST_LOADERS = 12  # processes that read ahead for one training


@dataclass(frozen=True)
class Execution:
    """How trainings are executed. Only ``device`` changes results, and it is part of each key. Several processes per
    training change results by rounding only (D100)."""

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
    gpu: GpuStep = field(default_factory=GpuStep)

    @property
    def processes(self) -> int:
        """How many processes share a training: one per GPU, or ``processes_per_training`` on a CPU."""
        return self.processes_per_training if self.device == "cpu" else max(1, int(self.gpus_per_training))


def trainings_a_gpu(peak_mb: float, memory_mb: float) -> int:
    """How many trainings with at most ``peak_mb`` MiB of tensors fit on a GPU with ``memory_mb`` MiB (D101)."""
    fitting = (1 - SPARE) * memory_mb / (peak_mb + CONTEXT_MB)
    return max(1, min(MOST_A_GPU, int(fitting)))


def rehearsed(tier: str) -> tuple[float, float] | None:
    """GPU memory (MiB) that the largest training of a tier's last rehearsal took, and the GPU's total; None without a
    rehearsal."""
    try:
        told = json.loads(Store().peak(tier).read_text())
        return float(told["peak_mb"]), float(told["memory_mb"])
    except (OSError, ValueError, KeyError):
        return None


def execution_of(params: Params) -> Execution:
    """The block `execution:` of ``params``, with each ``auto`` resolved.

    ``workers: auto`` is as many as fit, ``device: auto`` a GPU if there is one. ``gpus_per_training: auto`` is what the
    tier's rehearsal measured (D101), or 1 without a rehearsal.

    Raises InputError for an invalid value, or if too few GPUs are found for one training.
    """
    block = dict(checked(schema.Execution, params["execution"], "execution"))
    if block["device"] == "auto":
        # Planning must not import torch. This device file exists where NVIDIA's driver is loaded.
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
            "execution.workers must be a number from 1 up if this machine has too few GPUs for one training, got auto; "
            "write one, or execution.device: cpu"
        )
    if block["loaders"] == "auto":
        cores = machine.cores()
        block["loaders"] = 0 if block["device"] == "cpu" else min(MOST_LOADERS, max(1, cores // block["workers"]))
    return Execution(**block | {"gpu": block["gpu"].made()})
