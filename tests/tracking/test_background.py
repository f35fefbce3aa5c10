"""Trainings are logged while others run; after a kill, the next start completes the log."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from study.ablation import train
from study.config.mlflow_address import place
from study.store.runs import Store, write, write_json
from study.tracking import background, mlflow_access
from study.tracking.background import COLLECTED, Beside, Target, collect
from tests.tracking.test_mlflow_runs import _labels, content

KEYS = ("a", "b", "c", "d")


@pytest.fixture
def manifest(tmp_path: Path) -> dict:
    """Three finished trainings and a failed one in a store; MLflow's database is empty."""
    store = Store(tmp_path / "runs")
    counts = np.full((2, 2, 3, 3), 5)
    for key in KEYS[:3]:
        run = store.run(key)
        for name in ("counts.npz", "tune.npz"):
            write(run.path(name), lambda file: np.savez_compressed(file, counts=counts))
        maps = np.zeros((1, 8, 8), np.uint8)
        images, names = np.zeros((1, 8, 8, 3), np.uint8), np.array(["i"])
        samples = {"images": images, "predictions": maps, "labels": maps, "names": names}
        write(run.path("samples.npz"), lambda file, s=samples: np.savez_compressed(file, **s))
        write_json(run.path("curve.json"), {"loss": [[10, 2.0]], "score": [[10, 0.4]]})
        counted = {"parameters": 9, "head_parameters": 2, "steps": 10}
        write_json(run.path("result.json"), counted | {"seconds": {"train": 4, "evaluate": 1}})
        write_json(run.path("training.json"), {})
        write(run.path("weights.pt"), lambda file: file.write(b""))
        run.finish()
    store.run("d").fail("OutOfMemory", "3 GB asked")
    labels = _labels("GCN k=3") | {"steps": 10, "backbone": "shallow"}
    mlflow_access.opened(_target(tmp_path).place, "smoke")
    return {
        "trainings": {key: labels | {"seed": seed} for seed, key in enumerate(KEYS)},
        "data": {"main": {"task": "segment", "classes": ["a", "b"], "frequent": None}},
    }


def _target(root: Path) -> Target:
    at = place({}, Store(root / "runs"))
    return Target(root / "runs", root / "results", "make retry TIER=smoke", at, "smoke")


def _told(root: Path) -> dict:
    """Everything MLflow has about trainings, except when they were collected."""
    return {key: (*told[:4], told[5]) for key, told in content(root / "runs").items()}


def _until(holds) -> None:
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_catching_up_after_a_kill_logs_everything(manifest, tmp_path):
    alone = shutil.copytree(tmp_path, tmp_path.with_name("alone"))
    train.collect(manifest, _target(alone))
    with Beside(manifest, _target(tmp_path)) as beside:
        for key in KEYS[:2]:
            beside.ended(key)
        _until((tmp_path / "results" / "b" / "samples.npz").exists)
        os.kill(beside.process.pid, signal.SIGKILL)
        beside.process.wait()
        beside.ended("c")  # nobody receives it, and the driver goes on
    logged = {name: told for name, told in content(tmp_path / "runs").items() if told[0] == "FINISHED"}
    assert "a" in logged and "c" not in logged
    train.collect(manifest, _target(tmp_path))
    assert _told(tmp_path) == _told(alone)
    assert {path.name for path in (tmp_path / "results").iterdir()} == set(KEYS)


@pytest.mark.slow
def test_the_logging_process_stops_with_its_driver(manifest, tmp_path):
    """Even with work left, the driver's end must not wait for it."""
    with Beside(manifest, _target(tmp_path)) as beside:
        for key in KEYS:
            beside.ended(key)
    assert beside.process.returncode == 0
    train.collect(manifest, _target(tmp_path))
    assert {key: told[0] for key, told in content(tmp_path / "runs").items()} == dict.fromkeys(KEYS[:3], "FINISHED") | {
        "d": "FAILED"
    }


def test_collected_results_replace_those_of_earlier_attempts(manifest, tmp_path):
    target, runs = _target(tmp_path), tmp_path / "runs"
    for key in "ad":
        collect(key, target)
    before = {key: {path.name for path in (target.folder / key).iterdir()} for key in "ad"}
    assert before == {"a": set(COLLECTED), "d": {"failed.json"}}
    for source, key in (("a", "x"), ("d", "a"), ("x", "d")):  # now swap them
        (runs / source).rename(runs / key)
    for key in "ad":
        collect(key, target)
    assert {key: {path.name for path in (target.folder / key).iterdir()} for key in "da"} == {
        "d": before["a"], "a": before["d"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "ended", "number", "workers", "worth"),
    [
        (3600, 1, 3, 1, True),  # three long trainings: once the first one ends
        (60, 1, 3, 1, False), (70, 1, 4, 1, True),  # 5 s of 250 are 2 %
        (70, 1, 8, 2, True), (60, 1, 6, 2, False),  # two workers: another one is nearly done, too
        (10, 5, 38, 2, False),  # a tier of small trainings ends before it would be worth it
    ],
)  # fmt: skip
def test_the_process_starts_once_its_cost_is_small(seconds, ended, number, workers, worth) -> None:
    assert background.worth_it(seconds, ended, number, workers) == worth


@pytest.mark.slow
@pytest.mark.parametrize("worth", [True, False])
def test_few_trainings_are_logged_early_only_if_worthwhile(manifest, tmp_path, monkeypatch, worth) -> None:
    monkeypatch.setattr(background, "START_S", 0.0 if worth else 1e9)
    with background.logging(manifest, _target(tmp_path), len(KEYS), 1) as ended:
        ended("a")
        ended("b")
        if worth:
            _until(lambda: len(content(tmp_path / "runs")) == 2)
        assert (tmp_path / "results" / "b").is_dir() == worth


@pytest.mark.slow
def test_no_process_is_started_for_the_last_training(manifest, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(background, "START_S", 0.0)
    with background.logging(manifest, _target(tmp_path), 1, 1) as ended:
        ended("a")
    assert not (tmp_path / "results" / "a").exists(), "the driver logs it at once"
