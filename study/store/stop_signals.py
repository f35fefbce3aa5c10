"""Graceful stops: a signal or a file asks a driver and its trainings to save a checkpoint and end.

The file is in the shared run store, so ``make stop`` reaches trainings on every machine. A preemption notice is a
SIGTERM to the process of one training: the training saves a checkpoint and is restarted, on another machine if needed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Stopped(RuntimeError):
    """The study was asked to stop; its work so far is saved."""


class Preempted(RuntimeError):
    """The process of this training was asked to end; a checkpoint is saved."""


_notice = threading.Event()
_driver = threading.Event()  # set in the driver's process, where a signal stops all trainings


def check(file: Path | None) -> None:
    """Raises Preempted if this process got a preemption notice, Stopped if ``file`` exists."""
    if _notice.is_set():
        raise Preempted("the process was asked to end (SIGTERM)")
    if file is not None and file.exists():
        raise Stopped("the study was asked to stop")


@contextmanager
def saving(save: Callable[[], object]) -> Iterator[None]:
    """A context for calls of ``check``: calls ``save`` before Stopped or Preempted leaves it."""
    try:
        yield
    except (Stopped, Preempted):
        save()
        raise


@contextmanager
def noticing() -> Iterator[None]:
    """Treat SIGTERM as a preemption notice for the training of this process; a driver keeps its own handlers."""
    _notice.clear()
    if _driver.is_set() or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _handling({signal.SIGTERM: _notice.set}):
        yield


@contextmanager
def driving(stop: Callable[[], object]) -> Iterator[None]:
    """Call ``stop`` on the driver's first SIGINT or SIGTERM; the next one interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first = threading.Event()

    def asked() -> None:
        if first.is_set():
            raise KeyboardInterrupt
        first.set()
        stop()

    _driver.set()
    try:
        with _handling({signal.SIGINT: asked, signal.SIGTERM: asked}):
            yield
    finally:
        _driver.clear()


@contextmanager
def _handling(actions: dict[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    def handler(number: int, frame: Any) -> None:
        actions[signal.Signals(number)]()

    before = {number: signal.signal(number, handler) for number in actions}
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)
