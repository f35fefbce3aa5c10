"""`make setup` installs the lock once for each content, into an environment that works at its path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PYTHON = """#!/bin/sh
echo "python $*" >> "{calls}"
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with a Makefile and an environment of a real Python that passes for set up."""
    folder = tmp_path / "clone"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "requirements.lock").write_text("a==1\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    shutil.copy(folder / "requirements.lock", folder / ".venv" / "ready")
    return folder


def setup(folder: Path) -> tuple[str, list[str]]:
    """The output of `make setup`, and its calls of a stand-in Python that makes no environment."""
    calls = folder.parent / "calls"
    calls.unlink(missing_ok=True)
    python = folder.parent / "python"
    python.write_text(PYTHON.format(calls=calls))
    python.chmod(0o755)
    outer = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}  # set by an outer make
    command = ["make", "setup", f"PYTHON={python}"]
    said = subprocess.run(command, cwd=folder, env=outer, capture_output=True, text=True)
    asked = calls.read_text().splitlines() if calls.exists() else []
    return said.stdout, [call for call in asked if "-m venv" in call]


def test_touching_an_unchanged_lock_installs_nothing(clone: Path) -> None:
    for name in ("requirements.lock", "Makefile"):
        (clone / name).touch()
    assert setup(clone) == ("", [])


def test_a_changed_lock_is_installed_into_the_environment(clone: Path) -> None:
    (clone / "requirements.lock").write_text("a==2\n")
    said, asked = setup(clone)
    assert asked == ["python -m venv .venv"] and "made again" not in said
    assert not (clone / ".venv" / "ready").exists(), "what has ended half-way is not ready, for no lock"


def test_a_clone_without_an_environment_gets_one(clone: Path) -> None:
    shutil.rmtree(clone / ".venv")
    assert setup(clone)[1] == ["python -m venv .venv"]


def test_a_missing_python_rebuilds_the_environment(clone: Path) -> None:
    for path in (clone / ".venv" / "bin").glob("python*"):
        path.unlink()
        path.symlink_to("/nowhere/python3")
    said, asked = setup(clone)
    assert said.startswith("note: .venv is made again: the Python that made it is gone or was moved\n")
    assert asked == ["python -m venv --clear .venv"]


def test_another_python_rebuilds_the_environment(clone: Path) -> None:
    """As after an upgrade of the system's python3 that it links to."""
    (clone / ".venv" / "lib" / f"python3.{sys.version_info.minor}").rename(clone / ".venv" / "lib" / "python3.1")
    assert setup(clone)[1] == ["python -m venv --clear .venv"]


def test_the_target_of_a_link_is_not_cleared(clone: Path) -> None:
    other = (clone / ".venv").rename(clone.with_name("other"))
    (clone / ".venv").symlink_to(other)
    assert setup(clone) == ("", []) and (other / "bin").is_dir()  # the reason is on stderr


def test_moving_an_environment_rebuilds_it_linking_does_not(clone: Path) -> None:
    link = clone.with_name("link")
    link.symlink_to(clone)
    assert setup(link) == ("", [])
    moved = clone.rename(clone.with_name("moved"))
    said, asked = setup(moved)
    assert said.startswith(f"note: .venv is made again: it was made as {clone}/.venv, and works only there\n")
    assert asked == ["python -m venv --clear .venv"]
