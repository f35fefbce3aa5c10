"""Whether the GPU of this process works, and what to do if it does not."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import torch

from study.spec.constants import GPU_FAULT, WORKER
from study.spec.words import first_line
from study.store.runs import Run, write_json
from study.training.loop import OutOfMemory, TrainingFailed

DRIVER = Path("/proc/driver/nvidia/version")
ENDED = 70  # status of a process whose GPU failed
# Words of errors after which a process cannot use its GPU any more.
BROKEN = (
    "CUDA error", "device-side assert", "CUDNN_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_INTERNAL_ERROR",
    "CUBLAS_STATUS_EXECUTION_FAILED", "CUBLAS_STATUS_INTERNAL_ERROR",
)  # fmt: skip
NO_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
NO_ENGINE = "unable to find an engine"  # of cuDNN: it lacks memory for each, or none is repeatable
UNREPEATABLE = "does not have a deterministic implementation"
FULL = 0.05  # share of a GPU's memory; with less of it free, memory was what an engine lacked


class GpuMissing(RuntimeError):
    """The GPU cannot be used from any process of this machine. The message says why and what to do."""


def check() -> None:
    """Raises GpuMissing unless torch can compute on a GPU."""
    if fault := fault_of_gpu():
        raise GpuMissing(fault)


def fault_of_gpu() -> str:
    """Why torch cannot compute on a GPU here, with the remedy; empty if it can."""
    with warnings.catch_warnings(record=True) as said:  # torch says why only in a warning
        warnings.simplefilter("always")
        if torch.version.cuda is None:
            return (
                f"torch must be built for CUDA, got {torch.__version__}; install the locked torch (`make setup`), or "
                "set execution.device to cpu"
            )
        if not torch.cuda.is_available():
            return explained(" ".join(str(warning.message) for warning in said))
    try:
        torch.ones(1, device="cuda").add_(1).item()
    except RuntimeError as error:
        if any(words in str(error) for words in NO_MEMORY):
            return ""  # another process uses it all now
        return explained(str(error))
    return ""


def explained(said: str) -> str:
    """torch's reason against a GPU, as a rule, a value and a remedy."""
    built = f"torch {torch.__version__.partition('+')[0]} is built for CUDA {torch.version.cuda}"
    if found := re.search(r"driver on your system is too old \(found version (\d+)\)", said):
        number = int(found[1])
        newest = f"{number // 1000}.{number % 1000 // 10}"  # 11040: CUDA 11.4
        return (
            f"the NVIDIA driver must support CUDA {torch.version.cuda} ({built}), got driver {driver()} for "
            f"CUDA {newest}; update the driver, or install a torch that is built for CUDA {newest}"
        )
    if "no kernel image" in said or "not compatible" in said:
        return (
            f"the GPU must be one that torch has kernels for ({built}), got {first_line(ValueError(said))}; install a "
            "torch that is built for this GPU"
        )
    return (
        f"a GPU must be there and answer ({built}, driver {driver()}), got: "
        f"{said.strip().splitlines()[0] if said.strip() else 'no GPU'}; run `nvidia-smi`, restart the machine if it "
        "lists none, then run the same command again: trainings go on from their checkpoints. Without a GPU, set "
        "execution.device to cpu"
    )


def driver() -> str:
    """The version of NVIDIA's driver, or ``unknown``."""
    try:
        found = re.search(r"Kernel Module\D*([\d.]+)", DRIVER.read_text())
    except OSError:
        return "unknown"
    return found[1] if found else "unknown"


def is_broken(error: BaseException) -> bool:
    """Whether an error means that this process has lost its GPU."""
    text = str(error)
    return any(words in text for words in BROKEN) and not any(words in text for words in NO_MEMORY)


def out_of_memory(error: BaseException) -> OutOfMemory | None:
    """The error as OutOfMemory, if it is about missing memory, in whatever words."""
    lacking = any(words in str(error) for words in NO_MEMORY) or (NO_ENGINE in str(error) and _is_full())
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or (isinstance(error, RuntimeError) and lacking):
        return OutOfMemory(f"out of memory ({first_line(error)})")
    return None


def _is_full() -> bool:
    if not torch.cuda.is_available():
        return False
    free, total = torch.cuda.mem_get_info()
    return free < FULL * total


@contextmanager
def faults(device: str, run: Run) -> Iterator[None]:
    """Turn errors about missing memory into OutOfMemory, and layers that cannot repeat their numbers into
    TrainingFailed. A process whose GPU failed ends (see ``leave``)."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if memory := out_of_memory(error):
            raise memory from error
        if device != "cpu" and (UNREPEATABLE in str(error) or NO_ENGINE in str(error)):
            raise TrainingFailed(
                f"every layer must have a repeatable implementation on a GPU, got {first_line(error)}; set "
                "recipe.deterministic to false"
            ) from error
        if device != "cpu" and is_broken(error):
            leave(error, run)
        raise


def leave(error: BaseException, run: Run) -> NoReturn:
    """End this process, whose GPU failed, if an engine can start another in its place; raises GpuMissing if not. The
    reason is kept in ``run``; its checkpoint has all else."""
    if os.environ.get(WORKER):
        write_json(run.path(GPU_FAULT), {"reason": f"the GPU failed ({first_line(error)})"})
        print(f"error: the GPU failed ({first_line(error)}); another process goes on", file=sys.stderr, flush=True)
        os._exit(ENDED)
    raise GpuMissing(explained(str(error))) from error
