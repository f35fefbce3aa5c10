"""Settings of torch for work on a device: threads, repeatable numbers, fp32 that is fp32 (D153)."""

from __future__ import annotations

import os

import torch

from study.training.memory import keep_freed_memory


def settle(device: str, deterministic: bool = True) -> None:
    """Prepare this process for trainings on ``device``, cpu or cuda.

    A CPU gets one thread per training: two 1-thread trainings beat one with two threads, and sums do not depend on the
    machine. Its numbers always repeat bit for bit, those of a GPU if ``deterministic``.
    """
    keep_freed_memory()
    # Slow, and useful only to find reads of uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device == "cpu":
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        # Gradients of a confident network underflow, and arithmetic on the denormal numbers that are left can be a
        # hundred times as slow.
        torch.set_flush_denormal(True)
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, before the first product
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = device != "cpu" and not deterministic
    torch.backends.cudnn.deterministic = deterministic
    # By default, convolutions in fp32 would round their inputs to ten bits on a GPU.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
