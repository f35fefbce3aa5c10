"""A DAG of jobs on an engine -> events. Ray or the calling process; knows neither torch nor what a job does."""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from study.spec.errors import InputError
from study.spec.words import first_line

LOST = "NodeLost"  # of a job: the engine lost it, and is ready for it again
ANSWER_S = 10.0  # that a cluster has
# Variables that name another Ray, or what is to be done in it: the one that is started here is this driver's own.
OTHERS = ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_RUNTIME_ENV_HOOK", "RAY_TMPDIR")


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


@dataclass(frozen=True)
class Need:
    """What a job takes of a machine: CPU cores, and GPUs or a share of one."""

    cpus: float = 1
    gpus: float = 0


class Engine(Protocol):
    """Executes ``function(payload)``; ``wait`` returns what has ended within ``timeout_s``, perhaps nothing.

    ``cancel`` kills the process of a job, which then ends with kind Cancelled. ``alone(need)`` is what a job must need
    to have its device, or its machine, to itself.
    """

    def submit(self, key: str, payload: Any, need: Need) -> None: ...

    def cancel(self, key: str) -> None: ...

    def alone(self, need: Need) -> Need: ...

    def wait(self, timeout_s: float) -> list[Event]: ...

    def close(self) -> None: ...


class Inline:
    """Runs each job in the calling process, one after the other: for tests and debugging."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.waiting: list[tuple[str, Any]] = []

    def submit(self, key: str, payload: Any, need: Need) -> None:
        self.waiting.append((key, payload))

    def cancel(self, key: str) -> None:
        """Nothing: whoever asks is the process that would have to be killed."""

    def alone(self, need: Need) -> Need:
        return need

    def wait(self, timeout_s: float) -> list[Event]:
        if not self.waiting:
            return []
        key, payload = self.waiting.pop(0)
        try:
            return [Event(key, self.function(payload))]
        except Exception as error:  # a job's failure is a result; it never stops the others
            return [Event(key, kind=type(error).__name__, reason=first_line(error))]

    def close(self) -> None:
        self.waiting.clear()


class Ray:
    """Runs each job as a Ray task in a worker process, with ``gpus`` GPUs and ``cpus`` cores of one machine. A task
    whose worker dies, or that raises ConnectionError (a process it needs is gone), is started again ``retries`` times.
    Where the Ray of this machine itself dies, it is started anew, and what it was asked for ends with kind NodeLost.

    Raises InputError where no Ray answers at ``address``.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        cores: int,
        address: str | None,
        retries: int,
        pythonpath: str,
    ) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if not address:
            # Ray's word for "this machine is no cluster": its servers listen on the loopback interface alone.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
            for name in OTHERS:
                os.environ.pop(name, None)
            if not os.access(os.path.expanduser("~"), os.W_OK):  # where Ray would keep the secret of its processes
                os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        import ray

        self.ray, self.function, self.retries, self.address = ray, function, retries, address
        environment: dict[str, Any] = {
            "env_vars": {"PYTHONPATH": pythonpath, "OMP_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        }
        if (quoted := shlex.quote(sys.executable)) != sys.executable:  # Ray hands it to a shell as it is
            environment["py_executable"] = quoted
        local: dict[str, Any] = {} if address else {"num_cpus": cores, "include_dashboard": False}
        self.options = local | {"runtime_env": environment}
        self.running: dict[Any, str] = {}
        self.cancelled: set[str] = set()
        self._start()

    def _start(self) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        try:
            _knock(self.address or "")
            self.ray.init(
                address=self.address or "local",  # else Ray would join a cluster that happens to run on this machine
                logging_level=logging.ERROR,
                log_to_driver=False,
                **self.options,
            )
        except (ConnectionError, TimeoutError, socket.gaierror) as error:
            if not self.address:  # nothing that a user wrote
                raise
            raise InputError(
                f"execution.address must be that of a Ray cluster which answers, got {self.address} "
                f"({first_line(error)}); start it with `ray start --head`, or write null to use this machine alone"
            ) from None
        if threading.current_thread() is threading.main_thread():  # Ray has taken the driver's for itself
            signal.signal(signal.SIGTERM, handler)
        self.task = self.ray.remote(self.function)

    def submit(self, key: str, payload: Any, need: Need) -> None:
        task = self.task.options(
            num_cpus=need.cpus, num_gpus=need.gpus, max_retries=self.retries, retry_exceptions=[ConnectionError]
        )
        self.running[task.remote(payload)] = key

    def cancel(self, key: str) -> None:
        self.cancelled.add(key)
        for reference in [reference for reference, known in self.running.items() if known == key]:
            self.ray.cancel(reference, force=True)

    def alone(self, need: Need) -> Need:
        if need.gpus:
            return Need(need.cpus, max(1, need.gpus))
        cores = [node["Resources"].get("CPU", 0) for node in self.ray.nodes() if node["Alive"]]
        return Need(max([need.cpus, *cores]))

    def wait(self, timeout_s: float) -> list[Event]:
        ready, _ = self.ray.wait(list(self.running), timeout=timeout_s)  # until one has ended
        events = [self._event(reference, self.running.pop(reference)) for reference in ready]
        if lost := next((event.reason for event in events if event.kind == LOST), ""):
            events += [Event(key, kind=LOST, reason=lost) for key in self.running.values()]
            self._start_again()
        return events

    def _start_again(self) -> None:
        """Where Ray's own process on this machine has died, its workers live on, and no other can be had."""
        for reference in self.running:
            self.ray.cancel(reference, force=True)
        self.running.clear()
        self.cancelled.clear()
        self.ray.shutdown()
        self._start()

    def _event(self, reference: Any, key: str) -> Event:
        errors = self.ray.exceptions
        cancelled = key in self.cancelled
        self.cancelled.discard(key)
        try:
            return Event(key, self.ray.get(reference))
        except (errors.TaskCancelledError, errors.WorkerCrashedError) as error:
            return Event(key, kind="Cancelled" if cancelled else type(error).__name__, reason=first_line(error))
        except errors.LocalRayletDiedError:
            return Event(key, kind=LOST, reason="the Ray of this machine died")
        except errors.OutOfMemoryError as error:
            return Event(key, kind="OutOfMemory", reason=first_line(error))
        except errors.RayTaskError as error:
            return Event(key, kind=type(error.cause).__name__, reason=first_line(error.cause))
        except errors.RayError as error:
            return Event(key, kind=type(error).__name__, reason=first_line(error))

    def close(self) -> None:
        self.ray.shutdown()


def _knock(address: str) -> None:
    """Connect to where a cluster is said to be: Ray itself would try for two minutes. Raises OSError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), ANSWER_S).close()


@dataclass
class _Held:
    """A job that waits: for those in ``after``, and until ``due`` (of the monotonic clock)."""

    payload: Any
    after: tuple[str, ...]
    need: Need
    due: float = 0.0


class Schedule:
    """At most ``slots`` jobs on the engine at a time; a job starts after those that it names in ``after``."""

    def __init__(
        self,
        engine: Engine,
        slots: int,
        begun: Callable[[str], None] = lambda key: None,
        settle: Callable[[Event], Event | None] = lambda event: event,
    ) -> None:
        """``begun(key)`` is called when a job is handed to the engine, ``settle`` with what the engine tells of its
        end: it gives the event to report, or None where this is no end (see ``again``) or nobody is to know."""
        self.engine, self.slots, self.begun, self.settle = engine, slots, begun, settle
        self.held: dict[str, _Held] = {}
        self.running: dict[str, _Held] = {}
        self.ended: dict[str, bool] = {}  # key -> whether it went well

    @property
    def free(self) -> int:
        """Slots left, those of jobs that could start now taken off; a job that waits for another holds none."""
        return self.slots - len(self.running) - sum(self._ready(job) for job in self.held.values())

    def _ready(self, job: _Held) -> bool:
        """Whether all that a job names has ended (or was never submitted: it was done before), and it is due."""
        after = all(self.ended.get(name, name not in self.held and name not in self.running) for name in job.after)
        return after and time.monotonic() >= job.due

    @property
    def busy(self) -> bool:
        return bool(self.running or self.held)

    def submit(self, key: str, payload: Any, after: tuple[str, ...] = (), need: Need = Need()) -> None:
        self.held[key] = _Held(payload, after, need)

    def again(self, key: str, need: Need | None = None, wait_s: float = 0.0) -> None:
        """Put back a job whose event is being settled, with another ``need``, not before ``wait_s`` have passed."""
        job = self.running[key]
        self.held[key] = _Held(job.payload, job.after, need or job.need, time.monotonic() + wait_s)

    def forget_held(self) -> None:
        """Start no more: forget every job that waits."""
        self.held.clear()

    def wait(self, timeout_s: float) -> list[Event]:
        """Start what can start; return what has ended. A job whose predecessor failed ends with kind NotRun."""
        events = []
        for key, job in list(self.held.items()):
            if failed := [name for name in job.after if self.ended.get(name) is False]:
                del self.held[key]
                self.ended[key] = False  # so that what comes after it in this very loop does not start either
                events.append(Event(key, kind="NotRun", reason=f"the training before it failed ({failed[0][:12]})"))
            elif len(self.running) < self.slots and self._ready(job):
                del self.held[key]
                self.running[key] = job
                self.begun(key)
                self.engine.submit(key, job.payload, job.need)
        if self.running:
            for event in self.engine.wait(0 if events else timeout_s):
                if settled := self.settle(event):
                    self.ended[event.key] = not settled.failed
                    events.append(settled)
                self.running.pop(event.key, None)
        elif not events and self.held:
            time.sleep(timeout_s)  # nothing runs: what is held is not due yet
        return events
