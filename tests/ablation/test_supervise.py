"""Jobs that hang, run out of memory, are preempted or are another driver's are done again; a stop loses nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest

from study.ablation import progress, queue
from study.ablation.supervise import Work
from study.commands import trainings
from study.config.execution import Execution
from study.spec.errors import InputError
from study.store import drivers, stop_signals
from study.store.runs import Store, write_json
from study.training import gpu
from study.training.loop import OutOfMemory
from tests.conftest import ROOT

INLINE = Execution("inline", None, 1, "cpu", 0, 1, 15, 1, 2, 0)


@dataclass(frozen=True)
class Order:
    """What a job shall do, on its first attempts (``ills``, by name) and then well."""

    store: Path
    key: str
    ills: tuple[str, ...] = ()
    stop: Path | None = None
    extra: dict = field(default_factory=dict)


def work(order: Order) -> str:
    import ray

    run = Store(order.store).run(order.key)
    with run.writing(wait=False), stop_signals.noticing():
        stop_signals.check(order.stop)
        with run.path("attempts").open("a") as file:
            file.write("x")
        attempt = len(run.path("attempts").read_text())
        ill = order.ills[attempt - 1] if attempt <= len(order.ills) else ""
        if ill == "hangs at once":
            time.sleep(600)
        write_json(run.path("progress.json"), {"step": 1, "attempt": attempt})
        if ill == "hangs":
            time.sleep(600)
        if ill == "full" and ray.get_runtime_context().get_assigned_resources()["CPU"] < 2:
            raise OutOfMemory("out of memory (it asked for all there is)")
        if ill == "gpu fails":
            gpu.leave(RuntimeError("CUDA error: unspecified launch failure"), run)
        if ill == "gpu gone":
            raise gpu.GpuMissing("a GPU must be there and answer, got: no GPU; run nvidia-smi")
        if ill == "preempted":
            os.kill(os.getpid(), signal.SIGTERM)
            stop_signals.check(order.stop)
        while ill == "until told" and not (order.store / "told").exists():
            time.sleep(0.05)
        while ill == "goes on":
            time.sleep(0.05)
            stop_signals.check(order.stop)
        return f"attempt {attempt}"


HOLD = "import sys, time; from study.store.runs import Store; from pathlib import Path\n" + (
    "with Store(Path(sys.argv[1])).run('shared').writing():\n    print('held', flush=True)\n    time.sleep(600)"
)


@pytest.mark.slow
def test_recoverable_failures_are_retried_and_others_are_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("study.ablation.supervise.PREEMPTED_S", 0.1)
    monkeypatch.setattr("study.ablation.supervise.BUSY_S", 0.3)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert other.stdout.readline() == "held\n"
    execution = Execution("ray", None, 2, "cpu", 0, 1, 15, retries=1, hung_s=3, loaders=0)
    orders = {
        "well": (), "hangs once": ("hangs at once",), "hangs": ("hangs", "hangs"), "full": ("full",),
        "preempted": ("preempted", "preempted", "preempted"), "shared": (), "gpu failed": ("gpu fails",),
        "gpu back": ("gpu gone",),
    }  # fmt: skip
    found = {}
    with Work(work, execution, Store(tmp_path), "smoke") as jobs:
        (driver,) = drivers.running(Store(tmp_path), "smoke")
        assert (driver["pid"], drivers.running(Store(tmp_path), "other")) == (os.getpid(), [])
        for key, ills in orders.items():
            jobs.submit(key, Order(tmp_path, key, ills, jobs.stop))
        for event in filter(None, jobs.ends()):
            found[event.key] = event.result or (event.kind, event.reason)
            if len(found) == len(orders) - 1:
                assert "shared" not in found
                other.kill()
    other.communicate()
    assert other.returncode == -signal.SIGKILL
    assert drivers.running(Store(tmp_path)) == []
    assert found == {
        "well": "attempt 1",
        "hangs once": "attempt 2",
        "hangs": ("Hung", "it reported no progress for 3 s, 2 times"),
        "full": "attempt 2",
        "preempted": "attempt 4",
        "shared": "attempt 1",
        "gpu failed": "attempt 2",
        "gpu back": "attempt 2",
    }
    said = capsys.readouterr().out
    assert "full ran out of memory and is tried again alone on its device" in said
    assert said.count("preempted was preempted and goes on from its checkpoint") == 3
    assert "gpu back is started again, if possible elsewhere: a GPU must be there" in said


@pytest.mark.slow
def test_a_gpu_that_fails_each_training_ends_the_study(tmp_path: Path) -> None:
    """The first is a hole with its reason; after the second, the others are not tried."""
    execution = dataclasses.replace(INLINE, engine="ray", hung_s=600)
    with Work(work, execution, Store(tmp_path), "smoke") as jobs:
        for key in ("one", "two", "three"):
            jobs.submit(key, Order(tmp_path, key, ("gpu fails",) * 9, jobs.stop))
        ends = filter(None, jobs.ends())
        first = next(ends)
        assert (first.key, first.kind) == ("one", "GpuFailed")
        assert first.reason == "the GPU failed (CUDA error: unspecified launch failure)"
        with pytest.raises(InputError, match=r"a GPU must survive a training, got the GPU failed \(CUDA error: unsp"):
            next(ends)
    assert len((tmp_path / "one" / "attempts").read_text()) == 1 + INLINE.retries
    assert not (tmp_path / "three" / "attempts").exists()


def test_a_gpu_that_is_gone_ends_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one training after another: none of them could run there."""
    monkeypatch.setattr("study.ablation.supervise.BUSY_S", 0.0)
    with Work(work, INLINE, Store(tmp_path), "smoke") as jobs:
        for key in ("one", "two", "three"):
            jobs.submit(key, Order(tmp_path, key, ("gpu gone",) * 9, jobs.stop))
        with pytest.raises(InputError, match="a GPU must be there and answer"):
            list(jobs.ends())
    assert len((tmp_path / "one" / "attempts").read_text()) == 1 + INLINE.retries
    assert not any((tmp_path / key / "failed.json").exists() for key in ("one", "two", "three"))


@pytest.mark.slow
def test_ray_restarts_after_a_crash_without_losing_jobs(tmp_path, monkeypatch, capsys):
    execution = Execution("ray", None, 2, "cpu", 0, 1, 15, retries=1, hung_s=600, loaders=0)
    with Work(work, execution, Store(tmp_path), "smoke") as jobs:
        for key, ills in {"runs": ("until told",), "hangs": ("hangs",), "waits": ()}.items():
            jobs.submit(key, Order(tmp_path, key, ills, jobs.stop))
        ends = jobs.ends()
        while not all((tmp_path / key / "progress.json").exists() for key in ("runs", "hangs")):
            assert next(ends) is None
        (raylet,) = [child for child in psutil.Process().children(recursive=True) if child.name() == "raylet"]
        raylet.kill()
        (tmp_path / "told").touch()
        found = {event.key: event.result for event in ends if event}
    assert found == {"runs": "attempt 1", "hangs": "attempt 2", "waits": "attempt 1"}
    assert "hangs is started again: the Ray of this machine died" in capsys.readouterr().out


def test_a_job_lost_too_often_fails(tmp_path):
    class Losing(queue.Inline):
        def wait(self, timeout_s: float) -> list[queue.Event]:
            return [queue.Event(self.waiting.pop(0)[0], kind=queue.LOST, reason="its machine went")]

    with Work(print, INLINE, Store(tmp_path), "smoke", open_engine=lambda function, _: Losing(function)) as jobs:
        jobs.submit("a", Order(tmp_path, "a"))
        (event,) = filter(None, jobs.ends())
    assert (event.kind, event.reason) == ("NodeLost", "its machine went, 2 times")


def test_a_lone_job_out_of_memory_fails(tmp_path):
    def full(order: Order) -> None:
        raise OutOfMemory("out of memory (it asked for all there is)")

    with Work(full, INLINE, Store(tmp_path), "smoke") as jobs:
        jobs.submit("a", Order(tmp_path, "a"))
        (event,) = list(jobs.ends())
    assert (event.kind, event.reason) == ("OutOfMemory", "out of memory (it asked for all there is)")


@pytest.mark.parametrize("ask", ["file", signal.SIGTERM, signal.SIGINT])
def test_a_stop_request_starts_no_further_job(tmp_path, ask):
    begun, before = [], signal.getsignal(signal.SIGTERM)

    def asks(order: Order) -> str:
        begun.append(order.key)
        if order.key == "b":
            if ask == "file":
                (driver,) = drivers.running(Store(tmp_path))
                drivers.ask_to_stop(Store(tmp_path), driver)
            else:
                os.kill(os.getpid(), ask)
            stop_signals.check(order.stop)
        return "done"

    ended = []
    with Work(asks, INLINE, Store(tmp_path), "smoke") as jobs:
        for key in "abc":
            jobs.submit(key, Order(tmp_path, key, stop=jobs.stop))
        events = filter(None, jobs.ends())
        ended.append(next(events).key)
        with pytest.raises(stop_signals.Stopped):
            next(events)
        assert jobs.free == 0
    assert (begun, ended) == (["a", "b"], ["a"])
    assert signal.getsignal(signal.SIGTERM) == before
    assert list(Store(tmp_path).drivers.iterdir()) == []


def test_a_driver_that_was_killed_is_forgotten(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from study.store import drivers; from study.store.runs import Store\n"
        "with drivers.registered(Store(Path(sys.argv[1])), 'smoke'):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    store = Store(tmp_path)
    assert len(list(store.drivers.glob("*.json"))) == 1
    assert drivers.running(store) == []
    assert list(store.drivers.iterdir()) == []


MOUNTS = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /lab rw,relatime shared:2 - nfs4 server:/lab rw,vers=4.2,hard
31 22 0:41 / /lab/old rw,relatime shared:3 - nfs server:/old rw,vers=3,nolock,local_lock=all
32 22 0:42 / /lab/far rw,relatime shared:4 - fuse.sshfs me@far: rw
33 22 0:43 / /scratch rw,relatime shared:5 - lustre mds:/scratch rw,checksum
34 22 0:44 / /work\\040space rw,relatime shared:6 - lustre mds:/work rw,flock
"""


@pytest.mark.parametrize(
    ("folder", "got"),
    [
        ("/home/me/runs", ""), ("/lab/runs", ""), ("/work space/runs", ""),
        ("/lab/old/runs", "/lab/old/runs on nfs (local_lock=all, nolock)"),
        ("/lab/far/runs", "/lab/far/runs on fuse.sshfs (no such locks)"),
        ("/scratch/runs", "/scratch/runs on lustre (without the option flock)"),
    ],
)  # fmt: skip
def test_a_store_without_reliable_locks_is_refused(tmp_path, folder, got):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    if not got:
        drivers.locks_hold(Path(folder), mounts)
        return
    with pytest.raises(InputError, match="must be on a file system whose locks hold") as told:
        drivers.locks_hold(Path(folder), mounts)
    assert got in str(told.value) and "STUDY_STORE" in str(told.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_unwritable_store_is_refused_at_the_start():
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        store = Store(Path(name))
        told, read = os.pipe()[::-1]
        if not (child := os.fork()):
            try:
                os.setuid(65534)
                with Work(lambda order: None, INLINE, store, "smoke"):
                    os.write(told, b"it started")
            except InputError as error:
                os.write(told, str(error).encode())
            except BaseException as error:
                os.write(told, repr(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        line = os.read(read, 4096).decode()
    assert line.startswith(f"STUDY_STORE must be a writable folder, got {name} (")


def pids(results: list[Path]) -> set[int]:
    return {json.loads(path.read_text())["pid"] for path in results}


@pytest.mark.slow
def test_two_drivers_share_a_plan_without_duplicate_trainings(project, tmp_path_factory):
    project.tier["tables"], project.tier["recipe"]["steps"] = ["T1"], 100
    project.save()
    store = Store(tmp_path_factory.mktemp("store"))
    project.environment["STUDY_STORE"] = str(store.root)
    project.stages("data", "plan")
    planned = json.loads((project.reports / "plan.json").read_text())["trainings"]
    second = tmp_path_factory.mktemp("second") / "project"
    subprocess.run(["cp", "-r", str(project.folder), str(second)], check=True)
    environment = project.environment | {"PYTHONPATH": ""}
    with ExitStack() as stack:  # nothing can be trained before both are at work
        for key in planned:
            stack.enter_context(store.run(key).writing())
        both = [
            subprocess.Popen([sys.executable, "-m", "pipelines.ablate"], cwd=folder, env=environment,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for folder in (project.folder, second)
        ]  # fmt: skip
        while len(drivers.running(store)) < 2 and all(process.poll() is None for process in both):
            time.sleep(0.1)
    said = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("another driver keeps the Optuna study" in text for text in said) == 1
    results = sorted(store.root.glob("*/result.json"))
    assert len(results) == len(planned)
    assert pids(results) == {process.pid for process in both}
    for path in results:
        same = [folder / "reports/smoke/results" / path.parent.name for folder in (project.folder, second)]
        counts = [np.load(folder / "counts.npz")["counts"] for folder in same]
        assert (counts[0] == counts[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["inline", "ray"])
def test_a_stopped_driver_saves_and_the_next_resumes(project, monkeypatch, capsys, engine):
    """By `make stop`, and by SIGTERM, which Ray would take for itself."""
    project.params["execution"] |= {"checkpoint_s": 600, "engine": engine, "workers": 1}  # only the stop writes one
    project.tier["recipe"]["steps"] = 120
    project.save()
    project.stages("data", "plan")
    store, plan = Store(project.folder / "runs"), json.loads((project.reports / "plan.json").read_text())
    driver = subprocess.Popen(
        [sys.executable, "-m", "pipelines.ablate"], cwd=project.folder, env=project.environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    said = ""
    while " steps a second" not in said and driver.poll() is None:
        time.sleep(0.2)  # each look takes the lock for a moment
        said = progress.status(store, plan, 1, drivers.running(store, "smoke"))
    assert f"(process {driver.pid}) for " in said and "0 of 3 trainings done, 1 running, 0 failed, 2 left" in said
    if engine == "ray":
        driver.terminate()
    else:
        monkeypatch.chdir(project.folder)
        monkeypatch.setenv("STUDY_STORE", str(store.root))
        trainings.stop(None)  # in this process: a start takes as long as a training
        asked = capsys.readouterr().out
        assert f"(process {driver.pid}) has stopped; `make repro` continues from there" in asked
        trainings.stop(None)
        assert capsys.readouterr().out.startswith("no run of tier smoke is active")
    assert driver.wait(60) == 130
    assert "the same command continues from here" in driver.communicate()[0]
    (stopped,) = (path.parent for path in store.root.glob("*/checkpoint.pt"))
    assert " 0 running, 0 failed, " in progress.status(store, plan, 1)
    project.stages("ablate")
    assert json.loads((stopped / "result.json").read_text())["resumed"][0] > 0
