"""Run a DAG of jobs on an engine, Ray or the calling process, and return events. Knows neither torch nor the jobs."""

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

from study.spec.constants import WORKER
from study.spec.errors import InputError
from study.spec.words import first_line

LOST = "NodeLost"  # a kind of failure: the engine lost the job, and can take it again
ANSWER_S = 10.0  # for a cluster to answer
# Variables that refer to another Ray or configure it: the Ray started here belongs to this driver only.
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
    """What a job needs of a machine: CPU cores, and GPUs or a share of one."""

    cpus: float = 1
    gpus: float = 0


class Engine(Protocol):
    """Executes ``function(payload)``; ``wait`` returns what has ended within ``timeout_s``, perhaps nothing.

    ``cancel`` kills the process of a job, which then ends with kind Cancelled. ``alone(need)`` is the need with which a
    job has its device, or its machine, to itself.
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
        """Does nothing: the calling process is the one that would have to be killed."""

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
    If the Ray of this machine itself dies, it is restarted, and its jobs end with kind NodeLost.

    Raises InputError if no Ray answers at ``address``.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        cores: int,
        address: str | None,
        retries: int,
        pythonpath: str,
        *,
        on_gpu: bool = False,
    ) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if not address:
            # Tells Ray that this machine is no cluster, so that its servers listen on the loopback interface only.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
            for name in OTHERS:
                os.environ.pop(name, None)
            if not os.access(os.path.expanduser("~"), os.W_OK):  # where Ray would keep its token
                os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        import ray

        self.ray, self.function, self.retries, self.address = ray, function, retries, address
        environment: dict[str, Any] = {
            "env_vars": {
                "PYTHONPATH": pythonpath,
                "OMP_NUM_THREADS": "1",
                "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
                WORKER: "1",  # one whose GPU failed may end: Ray starts another
            }
        }
        if (quoted := shlex.quote(sys.executable)) != sys.executable:  # Ray passes it to a shell unquoted
            environment["py_executable"] = quoted
        local: dict[str, Any] = {} if address else {"num_cpus": cores, "include_dashboard": False}
        self.options = local | {"runtime_env": environment}
        # A process keeps its GPU's memory, and the number of its GPU, as long as it lives.
        self.lasting: dict[str, Any] = {"max_calls": 1} if on_gpu else {}
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
            if not self.address:  # a user wrote no address
                raise
            raise InputError(
                f"no Ray cluster answers at execution.address {self.address} "
                f"({first_line(error)}); start it with `ray start --head`, or write null to use this machine alone"
            ) from None
        if threading.current_thread() is threading.main_thread():  # Ray has replaced the driver's handler
            signal.signal(signal.SIGTERM, handler)
        self.task = self.ray.remote(**self.lasting)(self.function) if self.lasting else self.ray.remote(self.function)

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
        """Restart Ray after its own process on this machine died: its workers live on, but no new ones can start."""
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
    """Connect to a cluster's address once: Ray itself would try for two minutes. Raises OSError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), ANSWER_S).close()


@dataclass
class _Held:
    """A job that waits: for those in ``after``, and until ``due`` (monotonic clock)."""

    payload: Any
    after: tuple[str, ...]
    need: Need
    due: float = 0.0


class Schedule:
    """Runs at most ``slots`` jobs on the engine at a time; a job starts after those in its ``after``."""

    def __init__(
        self,
        engine: Engine,
        slots: int,
        begun: Callable[[str], None] = lambda key: None,
        settle: Callable[[Event], Event | None] = lambda event: event,
    ) -> None:
        """``begun(key)`` is called when a job goes to the engine, ``settle(event)`` when the engine reports its end.
        ``settle`` returns the event to report. None reports nothing: the job runs again (see ``again``) or was stopped.
        """
        self.engine, self.slots, self.begun, self.settle = engine, slots, begun, settle
        self.held: dict[str, _Held] = {}
        self.running: dict[str, _Held] = {}
        self.ended: dict[str, bool] = {}  # key -> whether it succeeded

    @property
    def free(self) -> int:
        """Slots left, less those of jobs that could start now; a job that waits for another holds none."""
        return self.slots - len(self.running) - sum(self._ready(job) for job in self.held.values())

    def _ready(self, job: _Held) -> bool:
        """Whether a job is due, and all jobs that it waits for have ended (or were done before, so never submitted)."""
        after = all(self.ended.get(name, name not in self.held and name not in self.running) for name in job.after)
        return after and time.monotonic() >= job.due

    @property
    def busy(self) -> bool:
        return bool(self.running or self.held)

    def submit(self, key: str, payload: Any, after: tuple[str, ...] = (), need: Need = Need()) -> None:
        self.held[key] = _Held(payload, after, need)

    def again(self, key: str, need: Need | None = None, wait_s: float = 0.0) -> None:
        """Put back a job whose event is being settled, with another ``need``, to start in ``wait_s`` or later."""
        job = self.running[key]
        self.held[key] = _Held(job.payload, job.after, need or job.need, time.monotonic() + wait_s)

    def forget_held(self) -> None:
        """Start no more jobs: forget those that wait."""
        self.held.clear()

    def wait(self, timeout_s: float) -> list[Event]:
        """Start what can start; return what has ended. A job whose predecessor failed ends with kind NotRun."""
        events = []
        for key, job in list(self.held.items()):
            if failed := [name for name in job.after if self.ended.get(name) is False]:
                del self.held[key]
                self.ended[key] = False  # so that jobs after it in this same loop do not start either
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
            time.sleep(timeout_s)  # nothing runs, and no held job is due yet
        return events
