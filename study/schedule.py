"""A DAG of jobs on an engine -> events. Ray or the calling process; knows neither torch nor the paper."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Event:
    """A job that ended: with its result, or with the kind of its failure and the reason."""

    key: str
    result: Any = None
    kind: str = ""
    reason: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.kind)


class Engine(Protocol):
    """Executes ``function(payload)``; ``wait`` returns what has ended within ``timeout_s``, perhaps nothing."""

    def submit(self, key: str, payload: Any) -> None: ...

    def wait(self, timeout_s: float) -> list[Event]: ...

    def close(self) -> None: ...


class Inline:
    """Runs each job in the calling process, one after the other: for tests and debugging."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.waiting: list[tuple[str, Any]] = []

    def submit(self, key: str, payload: Any) -> None:
        self.waiting.append((key, payload))

    def wait(self, timeout_s: float) -> list[Event]:
        if not self.waiting:
            return []
        key, payload = self.waiting.pop(0)
        try:
            return [Event(key, self.function(payload))]
        except Exception as error:  # a job's failure is a result; it never stops the others
            return [Event(key, kind=type(error).__name__, reason=_first_line(error))]

    def close(self) -> None:
        self.waiting.clear()


class Ray:
    """Runs each job as a Ray task in a worker process; a task whose worker dies is started again ``retries`` times."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        workers: int,
        address: str | None,
        gpus: float,
        retries: int,
        pythonpath: str,
    ) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        self.ray = ray
        environment = {"PYTHONPATH": pythonpath, "OMP_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        local: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
        ray.init(
            address=address or "local",  # else Ray would join a cluster that happens to run on this machine
            runtime_env={"env_vars": environment},
            logging_level=logging.ERROR,
            log_to_driver=False,
            **local,
        )
        self.task = ray.remote(function).options(num_cpus=1, num_gpus=gpus, max_retries=retries)
        self.running: dict[Any, str] = {}

    def submit(self, key: str, payload: Any) -> None:
        self.running[self.task.remote(payload)] = key

    def wait(self, timeout_s: float) -> list[Event]:
        ready, _ = self.ray.wait(list(self.running), timeout=timeout_s)  # until one has ended
        return [self._event(reference, self.running.pop(reference)) for reference in ready]

    def _event(self, reference: Any, key: str) -> Event:
        errors = self.ray.exceptions
        try:
            return Event(key, self.ray.get(reference))
        except errors.OutOfMemoryError as error:
            return Event(key, kind="OutOfMemory", reason=_first_line(error))
        except errors.RayTaskError as error:
            return Event(key, kind=type(error.cause).__name__, reason=_first_line(error.cause))
        except errors.RayError as error:
            return Event(key, kind=type(error).__name__, reason=_first_line(error))

    def close(self) -> None:
        self.ray.shutdown()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class Schedule:
    """At most ``slots`` jobs on the engine at a time; a job starts after those that it names in ``after``."""

    def __init__(self, engine: Engine, slots: int, begun: Callable[[str], None] = lambda key: None) -> None:
        """``begun(key)`` is called when a job is handed to the engine."""
        self.engine, self.slots, self.begun = engine, slots, begun
        self.held: dict[str, tuple[Any, tuple[str, ...]]] = {}
        self.running: set[str] = set()
        self.ended: dict[str, bool] = {}  # key -> whether it went well

    @property
    def free(self) -> int:
        """Slots left, those of jobs that could start now taken off; a job that waits for another holds none."""
        return self.slots - len(self.running) - sum(self._ready(after) for _, after in self.held.values())

    def _ready(self, after: tuple[str, ...]) -> bool:
        """Whether all that a job names has ended (or was never submitted: it was done before)."""
        return all(self.ended.get(name, name not in self.held and name not in self.running) for name in after)

    @property
    def busy(self) -> bool:
        return bool(self.running or self.held)

    def submit(self, key: str, payload: Any, after: tuple[str, ...] = ()) -> None:
        self.held[key] = (payload, after)

    def wait(self, timeout_s: float) -> list[Event]:
        """Start what can start; return what has ended. A job whose predecessor failed ends with kind NotRun."""
        events = []
        for key, (payload, after) in list(self.held.items()):
            if failed := [name for name in after if self.ended.get(name) is False]:
                del self.held[key]
                self.ended[key] = False  # so that what comes after it in this very loop does not start either
                events.append(Event(key, kind="NotRun", reason=f"the training before it failed ({failed[0][:12]})"))
            elif len(self.running) < self.slots and self._ready(after):
                del self.held[key]
                self.running.add(key)
                self.begun(key)
                self.engine.submit(key, payload)
        if self.running:
            events += self.engine.wait(0 if events else timeout_s)
        for event in events:
            self.running.discard(event.key)
            self.ended[event.key] = not event.failed
        return events
