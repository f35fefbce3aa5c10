"""Three machines, as far as one can play them: each node of a Ray cluster has processes and an address of its own.

The code path is that of a laptop: ``study.ablation.supervise`` and ``pipelines.ablate``, with ``execution.address``
set.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import ROOT, Project

CPU_ONLY = 0  # GPUs of the first machine, on which `make repro` runs
NODES = ((1, CPU_ONLY), (4, 2), (2, 1))  # cores and GPUs that each machine says it has
SHARE, SHARING = 0.5, 6  # of a GPU for each of so many jobs: all GPUs are full when each has two
STEPS = 12
WAIT_S = 240
# Tells where each job is, once all have begun: none waits for the place of another.
WHERE = f"""
import json, os, sys, time
from pathlib import Path
from study.config.execution import Execution
from study.store.runs import Store
from study.ablation.supervise import Work

def where(folder):
    import ray
    (Path(folder) / str(os.getpid())).touch()
    end = time.monotonic() + {WAIT_S}
    while (begun := len(list(Path(folder).iterdir()))) < {SHARING} and time.monotonic() < end:
        time.sleep(0.05)
    return ray.get_runtime_context().get_node_id(), os.environ.get("CUDA_VISIBLE_DEVICES"), begun

execution = Execution("ray", sys.argv[1], {SHARING}, "cuda", {SHARE}, 1, 60, 0, 600, 0)
with Work(where, execution, Store(Path(sys.argv[2]).parent / "store"), "smoke") as work:
    for number in range({SHARING}):
        work.submit(str(number), sys.argv[2])
    ended = [event for event in work.ends() if event]
    gpus = {{node["NodeID"]: node["Resources"].get("GPU", 0) for node in work.engine.ray.nodes()}}
print(json.dumps([[gpus[event.result[0]], *event.result] if not event.failed else event.reason for event in ended]))
"""


def _wait(for_: Callable[[], Any], told: Callable[[], str]) -> Any:
    """What ``for_`` finds at last. An error shows what was ``told``."""
    end = time.monotonic() + WAIT_S
    while not (found := for_()):
        assert time.monotonic() < end, told()
        time.sleep(0.05)
    return found


@dataclass
class Cluster:
    """``nodes`` are the `ray start --block` of each machine, the parents of all its processes."""

    folder: Path
    address: str
    environment: dict[str, str]
    nodes: list[psutil.Popen] = field(default_factory=list)

    def start(self, cores: int, gpus: int) -> None:
        number = len(self.nodes) + 1
        ray = str(Path(sys.executable).with_name("ray"))
        host, port = self.address.split(":")
        role = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self.folder}"]
        ip = host if number == 1 else f"127.0.0.{number}"
        options = [f"--node-ip-address={ip}", f"--num-cpus={cores}", f"--num-gpus={gpus}", "--disable-usage-stats"]
        options += ["--block", "--include-log-monitor=false", f"--object-store-memory={80 * 2**20}"]
        log = self.folder / f"node-{number}.log"
        with log.open("w") as out:
            command = [ray, "start", *(role if number == 1 else [f"--address={self.address}"]), *options]
            self.nodes.append(psutil.Popen(command, env=self.environment, stdout=out, stderr=out))
        if number == 1:  # the others join it; they start side by side
            self.ready(number)

    def ready(self, number: int) -> None:
        log = self.folder / f"node-{number}.log"
        node = self.nodes[number - 1]
        _wait(lambda: "Ray runtime started" in log.read_text() or node.poll() is not None, log.read_text)
        assert node.poll() is None, log.read_text()


def _family(node: psutil.Process) -> list[psutil.Process]:
    """All processes of a machine. A process that has just ended is none."""
    try:
        return [node, *node.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes that share this machine's disk, and demand a token as Ray does by default."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: sockets lie in it
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "STUDY_"))}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "PYTHONPATH": str(ROOT)}
    # A dead machine is noticed within a second or so instead of half a minute.
    environment |= {"RAY_health_check_period_ms": "300", "RAY_health_check_initial_delay_ms": "0"}
    environment |= {"RAY_worker_niceness": "0"}
    environment |= {"RAY_prestart_worker_first_driver": "0"}  # processes that no job would take
    started = Cluster(folder, f"127.0.0.1:{port}", environment)
    try:
        for cores, gpus in NODES:
            started.start(cores, gpus)
        for number in range(len(NODES)):
            started.ready(number + 1)
        yield started
    finally:
        everything = [process for node in started.nodes for process in _family(node)]
        _signal(everything, signal.SIGKILL)
        psutil.wait_procs(everything, timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_jobs_share_gpus_and_see_only_their_own(cluster: Cluster, tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", WHERE, cluster.address, str(tmp_path)],
        env=cluster.environment, capture_output=True, text=True, timeout=WAIT_S,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    placed: dict[tuple[float, str], int] = {}
    for gpus, _, seen, begun in json.loads(said.stdout):
        assert begun == SHARING  # all at a time
        placed[gpus, seen] = placed.get((gpus, seen), 0) + 1
    assert placed == {(2, "0"): 2, (2, "1"): 2, (1, "0"): 2}


def _training_on(node: psutil.Process, store: Path) -> str | None:
    """The key of a training that this machine has begun, and saved a checkpoint of."""
    for process in _family(node):
        try:
            opened = [Path(os.readlink(file)) for file in Path(f"/proc/{process.pid}/fd").iterdir()]
        except OSError:
            continue
        for path in opened:
            run = path.parent
            if path.name == "lock" and run.parent == store and (run / "checkpoint.pt").is_file():
                return run.name
    return None


def _kill_one_that_trains(cluster: Cluster, store: Path, driver: subprocess.Popen[str]) -> str:
    """End a machine other than the first at once, in the middle of a training; the training's key."""

    def frozen() -> tuple[psutil.Process, str] | None:
        assert driver.poll() is None, driver.communicate()
        if not list(store.glob("*/checkpoint.pt")):
            return None
        for node in cluster.nodes[1:]:
            family = _family(node)
            _signal(family, signal.SIGSTOP)  # so that nothing ends or begins between the look and the kill
            key = _training_on(node, store)
            if key and not (store / key / "DONE").is_file():
                return node, key
            _signal(family, signal.SIGCONT)
        return None

    node, key = _wait(frozen, lambda: "no training on a machine other than the first")
    dead = _family(node)
    _signal(dead, signal.SIGKILL)
    gone, alive = psutil.wait_procs(dead, timeout=20)
    assert not alive and len(gone) > 2  # `ray start`, the raylet, and at least the process that trained
    cluster.nodes.remove(node)
    return key


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_survives_a_machine_failure_with_identical_counts(
    cluster: Cluster, project: Project, tmp_path: Path
) -> None:
    project.tier["recipe"]["steps"] = STEPS
    project.save()
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    project.environment["STUDY_STORE"] = str(alone)
    project.stages("data", "plan", "ablate")
    planned = json.loads((project.reports / "plan.json").read_text())["trainings"]

    project.params["execution"] |= {
        "engine": "ray", "address": cluster.address, "workers": len(planned), "checkpoint_s": 0,
    }  # fmt: skip
    project.save()
    project.environment |= cluster.environment | {"PYTHONPATH": str(project.folder), "STUDY_STORE": str(shared)}
    driver = subprocess.Popen(
        [sys.executable, "-m", "pipelines.ablate"], cwd=project.folder, env=project.environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        killed = _kill_one_that_trains(cluster, shared, driver)
        out, errors = driver.communicate(timeout=WAIT_S)
    finally:
        driver.kill()
        driver.communicate()
    assert driver.returncode == 0, errors

    told = [line for line in out.splitlines() if line.startswith("[")]
    assert [line.split("]")[0] for line in told] == [f"[{n + 1}/{len(planned)}" for n in range(len(planned))], out
    assert all(sum(training["label"] + ", seed" in line for line in told) == 1 for training in planned.values())
    assert "FAILED" not in out and "NOT RUN" not in out
    assert {path.parent.name for path in shared.glob("*/DONE")} == set(planned)
    for key in planned:
        for name in ("counts.npz", "tune.npz"):
            assert (shared / key / name).read_bytes() == (alone / key / name).read_bytes()
    went_on = json.loads((shared / killed / "result.json").read_text())["resumed"]
    assert len(went_on) == 1 and 0 < went_on[0] <= STEPS  # not from its first step, and elsewhere
