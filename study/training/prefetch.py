"""Reads training batches ahead in separate processes, and copies them to a GPU beside its work, so that the GPU waits
neither for files nor for copies (D57, D152)."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable
from multiprocessing import connection

import torch
from torch.utils.data import DataLoader, Dataset

from study.training.batches import Raw, Source
from study.training.loop import Batch, labelled

AHEAD = 4  # batches that each process reads ahead
LEAD = 3  # batches on a GPU whose steps have not begun


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


def batches(source: Source, start: int, stop: int, processes: int, copy_ahead: bool = False) -> Callable[[int], Batch]:
    """``batch(step)`` for the steps ``start`` .. ``stop`` in order, read ahead by ``processes`` (0: read by the
    caller), and on a GPU copied beside its work with ``copy_ahead``.

    A batch depends only on its step, so it does not matter which process reads it.
    """
    finish = _Copier(source) if copy_ahead and source.device.type == "cuda" else source.finish
    if not processes or start >= stop:
        return lambda step: finish(*source.raw_batch(step))
    loader = DataLoader(
        _Steps(source, start, stop),
        batch_size=None,
        num_workers=processes,
        prefetch_factor=AHEAD,
        pin_memory=source.device.type == "cuda",
        multiprocessing_context="forkserver",  # a plain fork of a process with threads may deadlock
        worker_init_fn=_begin,
    )
    ready = iter(loader)
    following = start

    def batch(step: int) -> Batch:
        nonlocal following
        assert step == following, "batches are read ahead in the order of their steps"
        following += 1
        return finish(*next(ready))

    return batch


def _begin(number: int) -> None:
    """Prepare a reading process: it must not outlive the training, however that ends, and the usual limits do not allow
    a descriptor for each tensor."""
    torch.multiprocessing.set_sharing_strategy("file_system")
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


class _Copier:
    """Copies batches to the GPU from pinned memory, in a stream of its own: a copy runs beside the passes of earlier
    steps. The process never gets further ahead than LEAD batches, which would only take memory."""

    def __init__(self, source: Source) -> None:
        self.source, self.stream = source, torch.cuda.Stream(source.device)
        self.begun: deque[torch.cuda.Event] = deque()

    def __call__(self, raw: Raw, labels: torch.Tensor) -> Batch:
        taught, now = labelled(labels), torch.cuda.current_stream()
        if len(self.begun) == LEAD:
            self.begun.popleft().synchronize()
        with torch.cuda.stream(self.stream):
            raw = {name: self._sent(maps) for name, maps in raw.items()}
            labels = self._sent(labels)
        now.wait_stream(self.stream)
        for tensor in (*raw.values(), labels):
            tensor.record_stream(now)
        self.begun.append(now.record_event())
        return Batch(self.source.inputs(raw), labels, taught)

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
        return pinned.to(self.source.device, non_blocking=True)
