"""Worker processes whose trainings sleep, then write small products: an engine of hundreds of workers on two cores.

One process that has imported only numpy forks the workers. They are used again for every training.
"""

from __future__ import annotations

import io
import json
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from study import metrics, seeds
from study.ablation.queue import Event, Need
from study.store.runs import Store, write, write_json

LONGEST = 1 << 16  # bytes of a message
IMAGES, SIDE, POINTS = 8, 16, 10


def message(job: Any, seconds: float) -> dict[str, Any]:
    """What a sleeping worker needs to know about ``job``. It sleeps for half to one and a half of ``seconds``."""
    return {
        "key": job.key,
        "store": str(job.store),
        "labels": job.labels,
        "classes": len(job.facts["classes"]),
        "steps": job.training.recipe.steps,
        "seconds": seconds * seeds.generator("sleep", job.key).uniform(0.5, 1.5),
    }


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Sleep, then write what a training writes. Returns its scores and when it began and ended (monotonic seconds)."""
    began = time.monotonic()
    time.sleep(job["seconds"])
    run = Store(Path(job["store"])).run(job["key"])
    rng = seeds.generator("products", job["key"])
    with run.writing():
        write_json(run.path("training.json"), {"key": job["key"], "labels": job["labels"], "spec": {}})
        name, measured = "ranks", rng.integers(0, 6, IMAGES)
        if job["labels"]["head"] != "classifier":
            hits = rng.binomial(100, 0.4 + 0.02 * min(15, job["labels"]["kernel_size"]), (IMAGES, 2, job["classes"]))
            name, measured = "counts", np.stack([hits, 100 - hits, 100 - hits], axis=-1)
        arrays: dict[str, Any] = {name: measured}
        for file_name in ("counts.npz", "tune.npz"):
            write(run.path(file_name), lambda file: np.savez_compressed(file, **arrays))
        maps = np.zeros((1, SIDE, SIDE), np.uint8)
        samples: dict[str, Any] = {"images": np.zeros((1, SIDE, SIDE, 3), np.uint8), "predictions": maps}
        samples |= {"labels": maps, "names": np.array(["a"])}
        write(run.path("samples.npz"), lambda file: np.savez_compressed(file, **samples))
        steps = [max(1, job["steps"] * (point + 1) // POINTS) for point in range(POINTS)]
        curve = {
            "loss": [(step, 1 / step) for step in steps], "score": [(step, step / 2 / job["steps"]) for step in steps]
        }  # fmt: skip
        write_json(run.path("curve.json"), curve)
        write(run.path("weights.pt"), lambda file: file.write(b"none"))
        counted = {"parameters": 1000, "head_parameters": 100, "steps": job["steps"], "peak_memory_mb": 1.0}
        counted |= {"peak_gpu_memory_mb": None}
        write_json(run.path("result.json"), counted | {"seconds": {"train": time.monotonic() - began, "evaluate": 0.0}})
        run.finish()
    return {"scores": metrics.score_all(name, measured), "began": began, "ended": time.monotonic()}


class Sleepers:
    """The engine (see study.ablation.queue.Engine). ``spans`` are the (begin, end) of every training, in monotonic
    seconds."""

    def __init__(self, workers: int, seconds: float) -> None:
        self.seconds = seconds
        self.spans: list[tuple[float, float]] = []
        self.cpu_s = 0.0  # of the driver, from the first worker to the last training
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "benchmarks.sleepers", str(theirs.fileno()), str(workers)]
        root = str(Path(__file__).resolve().parent.parent)
        self.process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
        )
        theirs.close()
        for _ in range(workers):
            self.socket.recv(LONGEST)  # each reports that it has started
        self.cpu_before = time.process_time()

    def submit(self, key: str, payload: Any, need: Need) -> None:
        self.socket.send(json.dumps(message(payload, self.seconds)).encode())

    def wait(self, timeout_s: float) -> list[Event]:
        events: list[Event] = []
        while select.select([self.socket], [], [], 0 if events else timeout_s)[0]:
            told = json.loads(self.socket.recv(LONGEST))
            self.spans.append((told["result"]["began"], told["result"]["ended"]))
            events.append(Event(told["key"], told["result"]["scores"]))
        return events

    def cancel(self, key: str) -> None:
        """Do nothing: no sleeper hangs."""

    def alone(self, need: Need) -> Need:
        return need

    def close(self) -> None:
        self.cpu_s = time.process_time() - self.cpu_before
        self.socket.close()  # which ends the workers
        self.process.wait()


def _serve(channel: socket.socket) -> None:
    channel.send(b"here")
    while asked := channel.recv(LONGEST):
        job = json.loads(asked)
        channel.send(json.dumps({"key": job["key"], "result": work(job)}).encode())


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    workers = range(int(sys.argv[2]))
    np.savez_compressed(io.BytesIO(), none=np.zeros(1))  # triggers late imports once, before the forks
    for _ in workers:
        if not os.fork():
            _serve(channel)
            return
    channel.close()
    for _ in workers:
        os.wait()


if __name__ == "__main__":
    main()
