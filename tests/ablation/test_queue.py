"""The scheduler on both engines: results and failures are events, order and slots are kept, the dead are retried."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from study.ablation.queue import Event, Inline, Ray, Schedule
from study.spec.errors import InputError
from tests.conftest import ROOT, listening


def work(payload: dict) -> object:
    """What a payload asks for: its value, an exception, or the death of the process that does it."""
    if log := payload.get("log"):
        with Path(log).open("a") as file:
            file.write(f"{payload['name']}\n")
    if payload.get("raise"):
        raise ValueError("the value must be good, got bad\nand a second line")
    if marker := payload.get("dies_until"):  # killed on its first attempt only
        if not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "second attempt"
    if marker := payload.get("lost_until"):  # a process that it needs is gone on its first attempt
        if not Path(marker).exists():
            Path(marker).touch()
            raise ConnectionResetError("a process of this training was lost")
        return "second attempt"
    if payload.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if payload.get("meet"):  # wait until another one has begun, however long its process takes to start
        begun, place = time.time(), Path(payload["meet"])
        (place / str(os.getpid())).touch()
        while len(list(place.iterdir())) < 2 and time.time() - begun < 50:
            time.sleep(0.01)
        return begun, time.time()
    if payload.get("environment"):
        return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "PYTHONPATH")} | {"pid": os.getpid()}
    return payload.get("value")


def drain(jobs: Schedule, timeout_s: float = 60) -> dict[str, Event]:
    """All events until nothing is left, by key; each key ends once."""
    found: dict[str, Event] = {}
    end = time.monotonic() + timeout_s
    while jobs.busy:
        assert time.monotonic() < end, f"stuck with {jobs.running} running and {list(jobs.held)} held"
        for event in jobs.wait(0.5):
            assert event.key not in found
            found[event.key] = event
    return found


class Counting(Inline):
    """The inline engine, watched: the greatest number of jobs it held at a time, and their order."""

    def __init__(self) -> None:
        super().__init__(work)
        self.most, self.order = 0, []

    def submit(self, key, payload, need):
        super().submit(key, payload, need)
        self.order.append(key)
        self.most = max(self.most, len(self.waiting))


@pytest.fixture(scope="module")
def ray_engine():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # a cluster that was not asked for is not joined
        engine = Ray(work, cores=2, address=None, retries=2, pythonpath=str(ROOT))
    yield engine
    engine.close()


@pytest.fixture
def inline():
    return Counting()


@pytest.fixture(params=["inline", pytest.param("ray_engine", marks=pytest.mark.slow)])
def engine(request):
    return request.getfixturevalue(request.param)


def test_a_failed_job_does_not_stop_the_others(engine):
    jobs = Schedule(engine, 2)
    jobs.submit("good", {"value": 7})
    jobs.submit("bad", {"raise": True})
    found = drain(jobs)
    assert found == {
        "good": Event("good", 7),
        "bad": Event("bad", kind="ValueError", reason="the value must be good, got bad"),
    }
    assert not found["good"].failed and found["bad"].failed


def test_a_job_starts_after_those_that_it_names(engine, tmp_path):
    log = tmp_path / "log"
    jobs = Schedule(engine, 4)
    after = {"last": ("left", "right"), "left": ("first",), "right": ("first",), "first": ()}
    for name, before in after.items():
        jobs.submit(name, {"name": name, "log": str(log)}, before)
    assert not any(event.failed for event in drain(jobs).values())
    order = log.read_text().split()
    assert order[0] == "first" and order[-1] == "last" and sorted(order) == sorted(after)


def test_only_descendants_of_a_failed_job_are_skipped(engine, tmp_path):
    log = tmp_path / "log"
    jobs = Schedule(engine, 8)
    after = {"root": (), "child": ("root",), "grandchild": ("child",), "great-grandchild": ("grandchild", "other")}
    after |= {"other": (), "other's child": ("other",)}
    for name, before in after.items():
        jobs.submit(name, {"name": name, "log": str(log), "raise": name == "root"}, before)
    found = drain(jobs)
    kinds = {name: event.kind for name, event in found.items()}
    assert kinds == {
        "root": "ValueError", "child": "NotRun", "grandchild": "NotRun", "great-grandchild": "NotRun",
        "other": "", "other's child": "",
    }  # fmt: skip
    assert found["child"].reason == "the training before it failed (root)"
    assert found["grandchild"].reason == "the training before it failed (child)"
    assert sorted(log.read_text().splitlines()) == ["other", "other's child", "root"]


def test_a_job_does_not_wait_for_finished_dependencies(engine):
    jobs = Schedule(engine, 1)
    jobs.submit("child", {"value": 1}, after=("in the store already",))
    assert drain(jobs) == {"child": Event("child", 1)}


def test_running_jobs_never_exceed_the_slots(inline):
    jobs = Schedule(inline, 2)
    for number in range(7):
        jobs.submit(str(number), {"value": number})
    assert len(drain(jobs)) == 7
    assert inline.most == 2
    assert inline.order == [str(number) for number in range(7)]


def test_free_slots_exclude_running_and_ready_jobs(inline):
    jobs = Schedule(inline, 3)
    assert jobs.free == 3 and not jobs.busy
    jobs.submit("a", {})
    jobs.submit("b", {})
    jobs.submit("c", {}, after=("a",))  # holds no slot before it could start
    assert jobs.free == 1 and jobs.busy
    drain(jobs)
    assert jobs.free == 3 and not jobs.busy


def test_an_engine_without_jobs_has_no_events(engine):
    assert engine.wait(0.01) == []
    assert Schedule(engine, 2).wait(0.01) == []


def test_interrupting_an_inline_job_is_not_a_failure():
    def stop(payload):
        raise KeyboardInterrupt

    jobs = Schedule(Inline(stop), 1)
    jobs.submit("a", None)
    with pytest.raises(KeyboardInterrupt):
        jobs.wait(1)


def test_an_exception_without_a_message_shows_its_name():
    def fail(payload):
        raise MemoryError

    jobs = Schedule(Inline(fail), 1)
    jobs.submit("a", None)
    assert jobs.wait(1) == [Event("a", kind="MemoryError", reason="MemoryError")]


@pytest.mark.slow
def test_ray_workers_are_separate_single_threaded_processes(ray_engine):
    jobs = Schedule(ray_engine, 2)
    jobs.submit("a", {"environment": True})
    said = drain(jobs)["a"].result
    assert said["OMP_NUM_THREADS"] == "1"
    assert str(ROOT) in said["PYTHONPATH"].split(os.pathsep)
    assert said["pid"] != os.getpid()


@pytest.mark.slow
def test_a_killed_or_disconnected_ray_worker_is_restarted(ray_engine, tmp_path):
    jobs = Schedule(ray_engine, 2)
    jobs.submit("a", {"dies_until": str(tmp_path / "killed")})
    jobs.submit("b", {"lost_until": str(tmp_path / "lost")})
    assert drain(jobs) == {name: Event(name, "second attempt") for name in "ab"}
    assert (tmp_path / "killed").exists() and (tmp_path / "lost").exists()


@pytest.mark.slow
def test_a_ray_job_fails_after_its_last_retry(ray_engine, tmp_path):
    jobs = Schedule(ray_engine, 2)
    jobs.submit("dead", {"dies": True, "name": "dead", "log": str(tmp_path / "log")})
    jobs.submit("child", {"value": 1}, after=("dead",))
    jobs.submit("other", {"value": 2})
    found = drain(jobs)
    assert found["dead"].kind == "WorkerCrashedError" and found["dead"].reason
    assert found["child"].kind == "NotRun"
    assert found["other"] == Event("other", 2)
    assert (tmp_path / "log").read_text().split() == ["dead"] * 3  # once and two retries


@pytest.mark.slow
def test_ray_jobs_fill_but_never_exceed_the_slots(ray_engine, tmp_path):
    jobs = Schedule(ray_engine, 2)
    for name in "abcd":
        jobs.submit(name, {"meet": str(tmp_path)})
    spans = [event.result for event in drain(jobs).values()]
    at_once = [sum(begun <= moment < ended for begun, ended in spans) for moment, _ in spans]
    assert max(at_once) == 2


@pytest.mark.slow
def test_an_unreachable_ray_address_is_refused():
    with pytest.raises(InputError, match=r"execution.address 127\.0\.0\.1:1 .*; start it with `ray start --head`"):
        Ray(work, cores=1, address="127.0.0.1:1", retries=0, pythonpath="")


@pytest.mark.slow
def test_a_local_ray_listens_on_loopback_only(ray_engine):
    jobs = Schedule(ray_engine, slots=1)
    jobs.submit("one", {"value": 1})
    assert drain(jobs)["one"].result == 1, "its worker processes listen too"
    assert listening(os.getpid()) == {"127.0.0.1"}
