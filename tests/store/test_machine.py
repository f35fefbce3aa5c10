"""Neither the machine nor settings for other programs change a result or cause a traceback."""

from __future__ import annotations

import atexit
import hashlib
import io
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from study.spec.errors import InputError
from study.store import machine
from tests.conftest import Project

NOTEBOOK = "module://matplotlib_inline.backend_inline"
QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"
STAGES = ("data", "plan", "ablate", "evaluate", "tune", "score", "report")


def _files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/a/b\n", {}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "350000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "250000 100000\n", "a/cpu.max": "350000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/../host/a\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/a\n", {"unified/a/cpu.max": "200000 100000\n"}, 2),
        ("3:cpu,cpuacct:/a\n", {f"cpu,cpuacct/a/{QUOTA}": "400000", f"cpu,cpuacct/a/{PERIOD}": "100000"}, 4),
        ("1:cpu:/docker/x\n", {f"cpu/{QUOTA}": "400000", f"cpu/{PERIOD}": "100000"}, 4),
        ("1:cpu:/a\n2:cpuset:/a\n", {f"cpu/a/{QUOTA}": "-1", f"cpu/a/{PERIOD}": "100000"}, 8),
    ],
)  # fmt: skip
def test_cores_respect_a_containers_quota(tmp_path, monkeypatch, own, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    root = _files(tmp_path / "cgroup", files)
    assert machine.cores(root, _files(tmp_path, {"own": own}) / "own") == cores


def test_without_a_cgroup_cores_follow_cpu_affinity(tmp_path):
    assert machine.cores(tmp_path, tmp_path / "none") == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("name", ["100%", "a?", "it's", 'a"b', "a\\b", "a:b", "$HOME", "a`b", "a\nb"])
def test_project_paths_that_confuse_tools_are_rejected(tmp_path, monkeypatch, name):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(InputError, match=r"the project's folder must be a path without any of .*; move the project"):
        machine.ready()


@pytest.mark.parametrize("name", ["josé", "it's", "d" * 60])
def test_temporary_folders_unfit_for_ray_get_links(monkeypatch, name):
    short = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(_made(short / name)))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(atexit, "register", lambda remove, *what: removals.append((remove, what)))
    removals = []
    machine.ready()
    link = Path(tempfile.gettempdir())
    assert link.resolve() == short / name and re.fullmatch(r"[\w/.-]{1,36}", str(link), re.ASCII)
    ((remove, what),) = removals
    remove(*what)
    assert not link.parent.exists() and (short / name).is_dir()
    shutil.rmtree(short)


def test_names_outside_the_terminals_encoding_are_escaped(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    machine.ready()
    print("\u0141\u0105ka")
    assert written.getvalue() == rb"\u0141\u0105ka" + b"\n"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _rounded(text: str) -> str:
    """An SVG to 1/1000 pt: matplotlib's layout solver varies in the sixth digit, and identifiers depend on it."""
    if not text.startswith("<?xml"):
        return text
    text = re.sub(r"\b[mp][0-9a-f]{10}\b", "id", text)
    return re.sub(r"\d+\.\d{4,}", lambda found: f"{float(found[0]):.3f}", text)


@pytest.mark.slow
def test_unusual_paths_and_variables_change_no_result(project, tmp_path):
    def made(reports: Path) -> dict[str, str]:
        figures = sorted((reports / "figures").glob("*.svg"))
        paths = [reports / "scores.csv", *(path for path in figures if path.stem != "costs")]  # seconds
        return {path.name: hashlib.sha256(_rounded(path.read_text()).encode()).hexdigest() for path in paths}

    project.stages(*STAGES)
    plain = made(project.reports)
    assert len(plain) > 1
    unusual, store = Project(_made(tmp_path / "x y (a) #1 é&;[b]" / "p")), tmp_path / "my (store) #2"
    (unusual.folder / ".venv").symlink_to(sys.prefix)
    style = _files(tmp_path, {"style": "text.usetex: True\nfont.size: 33\nsavefig.dpi: 7\n"}) / "style"
    long = _made(tmp_path / ("d" * 60) / ("e" * 60))
    unusual.params["execution"] |= {"engine": "ray"}  # its sockets are in TMPDIR
    unusual.save()
    nowhere, nobody = "/proc/nowhere", "http://127.0.0.1:9"
    unusual.environment |= {
        "STUDY_STORE": str(store), "MPLBACKEND": NOTEBOOK, "MATPLOTLIBRC": str(style), "MPLCONFIGDIR": nowhere,
        "TMPDIR": str(long), "HOME": nowhere, "XDG_CACHE_HOME": nowhere, "TORCH_HOME": nowhere, "LANG": "C",
        "LC_ALL": "C", "TZ": "Asia/Tokyo", "COLUMNS": "20", "TERM": "dumb", "NO_COLOR": "1", "PYTHONSTARTUP": nowhere,
        "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "3", "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "7",
        "MKL_NUM_THREADS": "5", "RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "nowhere", "RAY_ADDRESS": "127.0.0.1:1",
        "RAY_TMPDIR": nowhere, "RAY_RUNTIME_ENV_HOOK": "nothing.there", "RAY_NAMESPACE": "x",
        "MLFLOW_EXPERIMENT_NAME": "other", "MLFLOW_EXPERIMENT_ID": "99", "MLFLOW_RUN_ID": "x",
        "MLFLOW_REGISTRY_URI": nobody, "http_proxy": nobody, "https_proxy": nobody, "all_proxy": nobody,
        "OPTUNA_STORAGE": f"sqlite:///{nowhere}/x.db", "SOURCE_DATE_EPOCH": "12345", "GIT_DIR": nowhere,
        "GIT_WORK_TREE": "/",
    }  # fmt: skip
    for name in STAGES:  # by the interpreter's path in the project, with which Ray starts its workers
        unusual.run(f"{unusual.folder}/.venv/bin/python", "-m", f"pipelines.{name}")
    assert made(unusual.reports) == plain and (unusual.reports / "report.pdf").is_file()
    assert len(list(store.glob("*/DONE"))) == 6  # trainings and confusions
