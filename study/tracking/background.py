"""Collect and log trainings that have ended while others still run. MLflow takes a tenth of a second for each, so a
separate process does it. It stops when the driver does, however that ends; the driver logs later what is left.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from study.config.mlflow_address import Place
from study.spec.documents.plan import PlanFile
from study.store.code_digest import ROOT
from study.store.garbage import used
from study.store.runs import Store, first, write_json
from study.tracking import mlflow_access

COLLECTED = ("counts.npz", "curve.json", "result.json", "samples.npz", "training.json", "tune.npz")
FAILED = "failed.json"
NICE = 10  # trainings go first
# D119
START_S, SHARE = 5.0, 0.02  # CPU time to import MLflow and open the database; its largest share of all trainings' time


class Target(NamedTuple):
    """Where trainings of the run store ``store`` are collected (``folder``) and logged (the experiment of ``tier`` at
    ``place``). ``retry`` is the command that retries failures."""

    store: Path
    folder: Path
    retry: str
    place: Place
    tier: str


def collect(key: str, target: Target) -> None:
    """Copy a training's small results, or its failure, to the stage's output, replacing those of an earlier run."""
    run, folder = Store(target.store).run(key), target.folder / key
    if run.path("DONE").is_file():
        run.copy_products(folder, COLLECTED)
        (folder / FAILED).unlink(missing_ok=True)
        used(run)
    else:
        for name in COLLECTED:
            (folder / name).unlink(missing_ok=True)
        failure = run.failure() or {"kind": "Missing", "reason": "it did not run"}
        write_json(folder / FAILED, failure | {"retry": target.retry})


@contextmanager
def logging(manifest: PlanFile, target: Target, number: int, workers: int) -> Iterator[Callable[[str], None]]:
    """Yield a function to call with the key of each training that ends; there are ``number``, on ``workers`` workers.

    A background process then collects and logs the training at once. It starts only when its start costs less than
    SHARE of the time that all trainings will take. The caller logs the rest at the end."""
    began, ended = time.monotonic(), list[str]()
    process: Beside | None = None
    with ExitStack() as stack:

        def tell(key: str) -> None:
            nonlocal process
            ended.append(key)
            if process is not None:
                process.ended(key)
            elif len(ended) < number and worth_it(time.monotonic() - began, len(ended), number, workers):
                process = stack.enter_context(Beside(manifest, target))
                for earlier in ended:
                    process.ended(earlier)

        yield tell


def worth_it(seconds: float, ended: int, number: int, workers: int) -> bool:
    """Whether the process is worth its start, now that ``ended`` of ``number`` trainings have ended in ``seconds``."""
    whole = seconds * number / max(ended, min(workers, number))
    return SHARE * whole >= START_S


class Beside:
    """A context with a background process that collects and logs a training on ``ended(key)``. After it the process has
    stopped, and the caller is the only writer of the database."""

    def __init__(self, manifest: PlanFile, target: Target) -> None:
        self.told = manifest, target

    def __enter__(self) -> Beside:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "study.tracking.background"], stdin=subprocess.PIPE, env=environment, text=True
        )
        manifest, target = self.told
        self._tell([manifest, [str(target.store), str(target.folder), target.retry, target.place, target.tier]])
        return self

    def ended(self, key: str) -> None:
        self._tell(key)

    def __exit__(self, *exc: object) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()

    def _tell(self, value: Any) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it was killed; the caller logs the rest at the end
            self.process.stdin.write(json.dumps(value) + "\n")
            self.process.stdin.flush()


def main() -> None:
    os.nice(NICE)
    manifest, (store, folder, retry, place, tier) = json.loads(sys.stdin.readline())
    target = Target(Path(store), Path(folder), retry, Place(*place), tier)
    ended: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    stopped = threading.Event()

    def listen() -> None:  # reads at once, so that the driver never waits
        for line in sys.stdin:
            ended.put(json.loads(line))
        stopped.set()
        ended.put(None)

    threading.Thread(target=listen, daemon=True).start()
    lock = mlflow_access.turn(target.place, target.tier, target.store)
    with mlflow_access.kept(target.place, target.tier), first(lock) as alone:
        tracker = mlflow_access.opened(target.place, target.tier) if alone else None  # else another driver logs them
        while (key := ended.get()) is not None and not stopped.is_set():
            collect(key, target)
            if tracker is not None:
                mlflow_access.training(key, manifest, target.folder, tracker)


if __name__ == "__main__":
    main()
