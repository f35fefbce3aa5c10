"""Reads training batches ahead in separate processes, so that a GPU does not wait for files (D57)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.data import DataLoader, Dataset

from study.training.batches import Raw, Source
from study.training.loop import Batch

AHEAD = 4  # batches that each process reads ahead


class _Steps(Dataset[tuple[Raw, torch.Tensor]]):
    """The batches of steps ``start`` to ``stop``, by position."""

    def __init__(self, source: Source, start: int, stop: int) -> None:
        self.source, self.start, self.stop = source, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, position: int) -> tuple[Raw, torch.Tensor]:
        if position >= len(self):
            raise IndexError(position)
        return self.source.raw_batch(self.start + position)


def batches(source: Source, start: int, stop: int, processes: int) -> Callable[[int], Batch]:
    """``batch(step)`` for the steps ``start`` .. ``stop`` in order, read ahead by ``processes`` (0: read by the
    caller).

    A batch depends only on its step, so it does not matter which process reads it.
    """
    if not processes or start >= stop:
        return source.training_batch
    torch.multiprocessing.set_sharing_strategy("file_system")  # a descriptor per tensor would exceed the usual limits
    loader = DataLoader(
        _Steps(source, start, stop),
        batch_size=None,
        num_workers=processes,
        prefetch_factor=AHEAD,
        pin_memory=source.device.type == "cuda",
        multiprocessing_context="forkserver",  # a plain fork of a process with threads may deadlock
    )
    ready = iter(loader)
    following = start

    def batch(step: int) -> Batch:
        nonlocal following
        assert step == following, "batches are read ahead in the order of their steps"
        following += 1
        return source.finish(*next(ready))

    return batch
