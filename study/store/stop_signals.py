"""Ending gracefully: a signal or a file asks a driver and its trainings to save what they have and stop.

The file lies in the shared run store, so that ``make stop`` reaches trainings on every machine. A preemption notice is
a SIGTERM to the process of one training: it saves a checkpoint and is started again, elsewhere if need be.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Stopped(RuntimeError):
    """The study was asked to stop; what it had done is saved."""


class Preempted(RuntimeError):
    """The process of this training was asked to end; a checkpoint is saved."""


_notice = threading.Event()
_driver = threading.Event()  # set in the process that drives: its signals ask for all trainings to stop


def check(file: Path | None) -> None:
    """Raises Preempted where this process got a notice, Stopped where ``file`` exists."""
    if _notice.is_set():
        raise Preempted("the process was asked to end (SIGTERM)")
    if file is not None and file.exists():
        raise Stopped("the study was asked to stop")


@contextmanager
def saving(save: Callable[[], object]) -> Iterator[None]:
    """A block of ``check``: ``save`` is called before the process goes."""
    try:
        yield
    except (Stopped, Preempted):
        save()
        raise


@contextmanager
def noticing() -> Iterator[None]:
    """Let SIGTERM be a preemption notice for the training that this process does; a driver's signals stay its own."""
    _notice.clear()
    if _driver.is_set() or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _handling({signal.SIGTERM: _notice.set}):
        yield


@contextmanager
def driving(stop: Callable[[], object]) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM of the driver call ``stop``; the next one interrupts at once."""
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
