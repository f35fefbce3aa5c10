"""Run jobs on the engine that params.yaml names: start, watch, retry where that helps, and stop them gracefully."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from study.ablation import queue
from study.config.execution import Execution
from study.spec.constants import GPU_FAULT
from study.spec.errors import InputError
from study.spec.words import counted, duration
from study.store import drivers, stop_signals
from study.store.code_digest import ROOT
from study.store.runs import Store, StoreError

WAIT_S = 0.5
WATCH_S = 2.0  # between two reads of the heartbeats of running trainings
BUSY_S = 5.0  # until a training that another driver runs is tried again
PREEMPTED_S = 5.0  # a machine that is being taken away should be gone by then
CRASHED = "WorkerCrashedError"  # Ray's name for a process that died, after all retries
OpenEngine = Callable[[Callable[[Any], Any], Execution], queue.Engine]
ELSEWHERE_S = 60.0  # until a training is tried again that met a machine of a cluster without its GPU
AGAIN = {"Busy", "Preempted", "OutOfMemory", "Cancelled", "GpuMissing", queue.LOST}


def open_engine(function: Callable[[Any], Any], execution: Execution) -> queue.Engine:
    """Open the engine that ``execution`` names; it calls ``function`` with each job."""
    if execution.engine == "inline":
        return queue.Inline(function)
    cores = execution.workers * execution.processes
    on_gpu = execution.device == "cuda"
    return queue.Ray(function, cores, execution.address, execution.retries, str(ROOT), on_gpu=on_gpu)


class Work:
    """A context that opens the engine that params.yaml names, runs each job until it has ended for good, and closes it.

    A job is run again: alone on its device if memory ran out (D102), up to ``execution.retries`` times if it hung
    (D103) or its engine lost it, and without limit while another driver runs it or its process gets preemption notices.
    On the first SIGINT or SIGTERM, or on ``make stop``, all jobs save what they have and Stopped is raised.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        execution: Execution,
        store: Store,
        tier: str,
        *,
        begun: Callable[[str], None] = lambda key: None,
        open_engine: OpenEngine = open_engine,
    ) -> None:
        self.open_engine = open_engine
        self.execution, self.store, self.tier = execution, store, tier
        self.function, self.begun = function, begun
        self.need = queue.Need(execution.processes, execution.gpus_per_training)
        self.failures: Counter[tuple[str, str]] = Counter()  # (key, why it was started again)
        self.broken: set[str] = set()  # keys of trainings whose GPU failed each time
        self.seen: dict[str, tuple[Any, float]] = {}  # key -> its last heartbeat, and since when
        self.watched = 0.0
        self.stopping = False

    def __enter__(self) -> Work:
        with ExitStack() as stack:
            self.stop = stack.enter_context(drivers.registered(self.store, self.tier))
            stack.enter_context(stop_signals.driving(self.stop.touch))
            self.engine = self.open_engine(self.function, self.execution)
            stack.callback(self.engine.close)
            slots = 1 if self.execution.engine == "inline" else self.execution.workers
            self.queue = queue.Schedule(self.engine, slots, self._begin, self._settle)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stack.close()

    @property
    def free(self) -> int:
        """How many more jobs could start at once."""
        return 0 if self.stopping else self.queue.free

    def submit(self, key: str, job: Any, after: tuple[str, ...] = ()) -> None:
        """Submit ``job``, to start after those with the keys ``after``."""
        self.queue.submit(key, job, after, self.need)

    def ends(self) -> Iterator[queue.Event | None]:
        """Yield the end of each job until none is left, and None whenever none has ended for a while.

        Raises StoreError if a job found the run store unusable (no other could keep its result either), InputError if
        a GPU is gone for good, Stopped if the study was asked to stop.
        """
        while self.queue.busy:
            if not self.stopping and self.stop.exists():
                self.stopping = True
                self.queue.forget_held()
                print("stopping: trainings save what they have (Ctrl-C again: at once)", flush=True)
                continue
            events = self.queue.wait(WAIT_S)
            yield from events
            if not events:
                yield None
            self._watch()
        if self.stopping or self.stop.exists():  # the last job may have seen it first
            raise stop_signals.Stopped

    def _begin(self, key: str) -> None:
        self.seen[key] = (self.store.run(key).progress(), math.inf)  # from an earlier process
        self.begun(key)

    def _settle(self, event: queue.Event) -> queue.Event | None:
        """The event that ends a job for good; None if the job is run again or was stopped."""
        key, short = event.key, event.key[:12]
        if event.kind == "StoreError":
            raise StoreError(event.reason)
        if event.kind == "Stopped" or (self.stopping and event.kind in AGAIN):
            return None
        if event.kind == "GpuMissing":
            self.failures[key, event.kind] += 1
            if self.failures[key, event.kind] > self.execution.retries:
                raise InputError(event.reason)  # no other training could run there either
            print(f"{short} is started again, if possible elsewhere: {event.reason}", flush=True)
            self.queue.again(key, wait_s=ELSEWHERE_S if self.execution.address else BUSY_S)
        elif event.kind == CRASHED and (fault := self.store.run(key).read(GPU_FAULT)):
            self.broken.add(key)
            if len(self.broken) > 1:  # all trainings would end so
                raise InputError(
                    f"a GPU must survive a training, got {fault['reason']} in {len(self.broken)} of them, each tried "
                    f"{self.execution.retries + 1} times; run `nvidia-smi` and look at the system's log, then run the "
                    "same command again: trainings go on from their checkpoints"
                )
            return queue.Event(key, kind="GpuFailed", reason=fault["reason"])
        elif event.kind == "Busy":
            self.queue.again(key, wait_s=BUSY_S)
        elif event.kind == "Preempted":
            print(f"{short} was preempted and goes on from its checkpoint", flush=True)
            self.queue.again(key, wait_s=PREEMPTED_S)
        elif event.kind == "OutOfMemory" and (alone := self.engine.alone(need := self.queue.running[key].need)) != need:
            print(f"{short} ran out of memory and is tried again alone on its device", flush=True)
            self.queue.again(key, alone)
        elif event.kind in ("Cancelled", queue.LOST):
            kind, why = event.kind, event.reason
            if kind == "Cancelled":
                kind, why = "Hung", f"it reported no progress for {duration(self.execution.hung_s)}"
            self.failures[key, kind] += 1
            if (times := self.failures[key, kind]) > self.execution.retries:
                return queue.Event(key, kind=kind, reason=f"{why}, {counted(times, 'time')}")
            print(f"{short} is started again: {why}", flush=True)
            self.queue.again(key)
        else:
            return event
        return None

    def _watch(self) -> None:
        """Kill jobs that have reported nothing new for ``execution.hung_s``, by this process's own monotonic clock. The
        time counts from the first heartbeat, or from when the job took its lock: before, it may wait for a machine."""
        now = time.monotonic()
        if now - self.watched < WATCH_S:
            return
        self.watched = now
        for key in self.queue.running:
            said, since = self.seen[key]
            run = self.store.run(key)
            if (told := run.progress()) != said or (since == math.inf and run.held()):
                self.seen[key] = (told, now)
            elif now - since > self.execution.hung_s:
                self.seen[key] = (told, math.inf)
                self.engine.cancel(key)
