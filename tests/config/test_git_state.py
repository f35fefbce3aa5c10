"""The commit that results name, and what is said and done where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from study.config import git_state
from study.store.code_digest import ROOT

DVC = Path(sys.executable).with_name("dvc")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("HOME", str(tmp_path))  # no list of folders that git trusts
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def _repository(folder: Path) -> None:
    for words in (["init", "-q"], ["add", "params.yaml"], ["commit", "-qm", "start"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=folder, check=True)


def test_an_unpacked_archive_reports_no_commit(folder, capsys):
    assert git_state.described() == "" and not git_state.dirty()
    git_state.note()
    said = capsys.readouterr().out
    assert said.startswith("note: results will have no commit, because the project is not in a git repository; ")


def test_a_repository_without_a_commit_is_reported(folder):
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    assert git_state.lacking() == "the repository has no commit yet; commit the project's files"


@pytest.mark.parametrize("variables", [{}, {"GIT_DIR": "/nowhere", "GIT_WORK_TREE": "/"}])
def test_git_variables_do_not_change_the_projects_commit(folder, monkeypatch, capsys, variables):
    _repository(folder)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert len(git_state.described()) == 40 and git_state.lacking() == ""
    git_state.note()
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_another_users_repository_is_reported_with_gits_remedy(folder):
    _repository(folder)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 1234, 1234)
    assert git_state.head() == ""
    assert git_state.lacking().endswith(f"another user; run `git config --global --add safe.directory {folder}`")


def test_a_null_git_dir_reports_nothing(folder, monkeypatch):
    monkeypatch.setenv("GIT_DIR", os.devnull)
    assert git_state.head() == "" and git_state.lacking() == ""


def test_dvc_runs_without_a_repository_until_one_exists(folder, capsys):
    settings = folder / ".dvc" / "config.local"
    settings.parent.mkdir()
    settings.write_text("[core]\n    remote = mine\n['remote \"mine\"']\n    url = /mine\n")
    before = settings.read_text()
    (settings.parent / "config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    git_state.tell_dvc()
    assert "`dvc exp` does not work" in capsys.readouterr().out
    git_state.tell_dvc()
    assert capsys.readouterr().out == "", "once is enough"
    told = subprocess.run([DVC, "config", "core.no_scm"], cwd=folder, capture_output=True, text=True)
    assert told.stdout.strip() == "true", told.stderr
    _repository(folder)
    git_state.tell_dvc()
    assert settings.read_text() == before
