"""MLflow's database is locked, deleted, damaged or on a full disk, or clocks jump: nothing is lost, all is reported."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.config.mlflow_address import Place
from study.statistics import results
from study.tracking import mlflow_access
from tests.conftest import ROOT, Project
from tests.tracking.test_mlflow_runs import FACTS, content, copied, log, logged  # noqa: F401 (fixtures)

# Runs before any other code of a process: its clock is a month behind, right and a month ahead, in turn.
JUMPING = """
import itertools, time
calls, true, true_ns = itertools.count(), time.time, time.time_ns
def off():
    return (next(calls) // 20 % 3 - 1) * 30 * 86400
time.time = lambda: true() + off()
time.time_ns = lambda: true_ns() + off() * 10**9
"""


def _place(root: Path) -> Place:
    return Place(f"sqlite:///{root / 'mlflow' / 'mlflow.db'}", (root / "mlflow" / "artifacts").as_uri(), "", "")


def _write(root: Path, plan: dict[str, Any], lost: bool = False) -> None:
    """Log everything, as a stage does; if ``lost``, the database is deleted once it is open."""
    with mlflow_access.kept(_place(root), "smoke"), mlflow_access.writing(_place(root), "smoke", root) as tracker:
        if lost:
            (root / "mlflow" / "mlflow.db").unlink()
        log(tracker, root, plan)


NEXT = """
import json, sys
from tests.tracking.test_faults import Path, _write
_write(Path(sys.argv[1]), *json.load(sys.stdin))
"""


def _write_next(root: Path, plan: dict[str, Any], lost: bool = False) -> str:
    """The same in a new process, like the next stage, because MLflow caches what it opened. Returns its messages."""
    ran = subprocess.run(
        [sys.executable, "-c", NEXT, str(root)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input=json.dumps([plan, lost]),
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stderr


@pytest.fixture
def results_only(tmp_path, logged, monkeypatch) -> tuple[Path, dict[str, Any]]:  # noqa: F811
    """Results, and a database that has only its tables."""
    root, plan = logged
    copy = tmp_path / "copy"
    shutil.copytree(root / "results", copy / "results")
    shutil.copytree(root / "empty", copy / "mlflow")
    monkeypatch.setenv("STUDY_STORE", str(copy))
    return copy, plan


@pytest.mark.slow
def test_a_locked_database_is_caught_up_later(results_only, logged, capsys):  # noqa: F811
    root, plan = results_only
    other = sqlite3.connect(root / "mlflow" / "mlflow.db")
    other.execute("BEGIN EXCLUSIVE")
    _write(root, plan)
    said = capsys.readouterr().err
    assert "is behind" in said and "database is locked" in said and "make replay TIER=smoke" in said
    other.close()
    _write(root, plan)
    assert capsys.readouterr().err == "" and content(root) == content(logged[0])


@pytest.mark.slow
def test_a_lock_between_trainings_keeps_earlier_ones(results_only, logged, capsys):  # noqa: F811
    root, plan = results_only
    place, keys = _place(root), list(plan["trainings"])
    with mlflow_access.kept(place, "smoke"), mlflow_access.writing(place, "smoke", root) as tracker:
        tracker.training(keys[0], plan["trainings"][keys[0]], root / "results" / keys[0], {"miou": 0.5}, FACTS)
        other = sqlite3.connect(root / "mlflow" / "mlflow.db")
        other.execute("BEGIN EXCLUSIVE")
        log(tracker, root, plan)
    assert "is behind" in capsys.readouterr().err
    other.close()
    assert len(content(root)) == 1
    _write(root, plan)
    assert content(root) == content(logged[0])


@pytest.mark.slow
def test_a_database_lost_while_logging_is_rebuilt(results_only, logged):  # noqa: F811
    root, plan = results_only
    assert "Traceback" not in _write_next(root, plan, lost=True)
    assert _write_next(root, plan) == "" and content(root) == content(logged[0])


@pytest.mark.slow
def test_a_damaged_database_is_reported_with_its_remedy(results_only, logged):  # noqa: F811
    root, plan = results_only
    database = root / "mlflow" / "mlflow.db"
    database.write_bytes(bytes(range(256)) * 64)
    said = _write_next(root, plan)
    assert "is behind" in said and f"delete {database}" in said and len(said.splitlines()) == 1
    database.unlink()
    assert _write_next(root, plan) == "" and content(root) == content(logged[0])


@pytest.fixture
def small_disk(results_only) -> Iterator[Path]:
    """The root of a store whose MLflow folder is on its own file system with hardly any room."""
    root, _ = results_only
    folder, kept = root / "mlflow", root / "kept"
    folder.rename(kept)
    folder.mkdir()
    size = sum(path.stat().st_size for path in kept.rglob("*")) + (64 << 10)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system of limited size needs rights that this user has not")
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    yield root
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_in_mlflow_loses_no_result(small_disk, results_only, logged, capsys):  # noqa: F811
    _, plan = results_only
    before = sorted(path.read_bytes() for path in (small_disk / "results").rglob("*.json"))
    _write(small_disk, plan)
    assert "is behind" in capsys.readouterr().err
    assert sorted(path.read_bytes() for path in (small_disk / "results").rglob("*.json")) == before
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk / "mlflow"], check=True)
    _write(small_disk, plan)
    assert capsys.readouterr().err == "" and content(small_disk) == content(logged[0])


@pytest.mark.long
@pytest.mark.slow
def test_clock_jumps_affect_neither_trainings_nor_scores(project: Project, tmp_path_factory):
    project.params["execution"] |= {"engine": "ray", "workers": 1, "hung_s": 60, "checkpoint_s": 1, "retries": 0}
    project.save()
    project.stages("data", "plan")
    elsewhere = {}
    for name, path in (("steady", ""), ("jumping", str(tmp_path_factory.mktemp("clock")))):
        if path:
            (Path(path) / "sitecustomize.py").write_text(JUMPING)
            project.environment["PYTHONPATH"] = f"{project.folder}:{path}"
            for done in (project.folder / "runs").glob("*/DONE"):
                shutil.rmtree(done.parent)
            clock = project.run(sys.executable, "-c", "import time; print({time.time() // 864000 for _ in range(99)})")
            assert clock.stdout.count(",") >= 2, "it does not jump"
        said = project.run(sys.executable, "-m", "pipelines.ablate").stdout
        assert "FAILED" not in said and "is started again" not in said
        found = project.reports / "results"
        assert all(results.status(found / key) == results.DONE for key in project.runs())
        elsewhere[name] = {key: np.load(found / key / "counts.npz")["counts"] for key in project.runs()}
    assert elsewhere["steady"].keys() == elsewhere["jumping"].keys()
    assert all((elsewhere["steady"][key] == counts).all() for key, counts in elsewhere["jumping"].items())
