"""The run store: runs are whole or not done, have one writer and are found from everywhere; a full disk is reported."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.spec.errors import InputError
from study.spec.training import Network
from study.store.code_digest import ROOT
from study.store.runs import (
    PRODUCTS,
    Run,
    Store,
    StoreError,
    default_root,
    file_digest,
    located,
    weights_digest,
    write,
    write_json,
)


@pytest.fixture
def run(tmp_path) -> Run:
    """A run that is done."""
    found = Store(tmp_path / "runs").run("0123abcd")
    for name in PRODUCTS:
        write(found.path(name), lambda file, name=name: file.write(f"{name} of a training".encode() * 20))
    found.finish()
    return found


def _child(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A real second process of this project."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_finished_run_is_done_and_lists_digests(run):
    assert run.done()
    assert json.loads(run.path("DONE").read_text()) == {name: file_digest(run.path(name)) for name in PRODUCTS}


def test_a_run_with_missing_products_cannot_finish(run):
    run.path("DONE").unlink()
    run.path("samples.npz").unlink()
    with pytest.raises(FileNotFoundError):
        run.finish()
    assert not run.path("DONE").exists() and not run.done()


def test_finishing_removes_files_of_an_unfinished_run(run):
    write(run.path("checkpoint.pt"), lambda file: file.write(b"weights"))
    run.fail("WorkerCrashedError", "the worker died")
    run.finish()
    assert run.done()
    assert not run.path("checkpoint.pt").exists() and run.failure() is None


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("place", [0, 100, -1])
def test_one_flipped_bit_makes_a_run_not_done(run, name, place):
    content = bytearray(run.path(name).read_bytes())
    content[place] ^= 1
    run.path(name).write_bytes(content)
    assert not run.done()
    content[place] ^= 1
    run.path(name).write_bytes(content)
    assert run.done()


@pytest.mark.parametrize("name", PRODUCTS)
def test_missing_or_truncated_products_make_runs_not_done(run, name):
    content = run.path(name).read_bytes()
    run.path(name).write_bytes(content[:-1])
    assert not run.done()
    run.path(name).unlink()
    assert not run.done()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_half_written_done_is_not_done(run, share):
    content = run.path("DONE").read_bytes()
    run.path("DONE").write_bytes(content[: int(share * len(content))])
    assert not run.done()


@pytest.mark.parametrize("text", ["{}", "[]", "null", "5", "\x00\x00", json.dumps(PRODUCTS)])
def test_a_damaged_done_counts_as_not_done(run, text):
    run.path("DONE").write_text(text)
    assert not run.done()


def test_a_done_with_fewer_products_is_not_done(run):
    digests = json.loads(run.path("DONE").read_text())
    del digests["counts.npz"]
    write_json(run.path("DONE"), digests)
    assert not run.done()


def test_a_damaged_json_file_reads_as_none(run):
    run.path("progress.json").write_text('{"step": 3')
    assert run.progress() is None
    run.path("progress.json").write_bytes(b"\xff\xfe\x00")
    assert run.progress() is None


def test_clearing_removes_everything_but_the_lock(run):
    with run.writing():
        run.clear()
        assert [path.name for path in run.folder.iterdir()] == ["lock"]
    assert not run.done()
    Store(run.folder.parent).run("never begun").clear()


def test_a_failure_is_reported_until_cleared(run):
    run.fail("TrainingFailed", "the loss must be finite")
    assert run.failure() == {"kind": "TrainingFailed", "reason": "the loss must be finite"}


HOLD = """
import sys, time
from pathlib import Path
from study.store.runs import Run
with Run(Path(sys.argv[1])).writing():
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
    (Path(sys.argv[1]) / "first").touch()
"""


def test_two_processes_never_write_one_run_together(run):
    with _child(HOLD, run.folder, 0.7) as first:
        assert first.stdout.readline() == "held\n"
        assert not run.path("first").exists()
        with run.writing():
            assert run.path("first").exists(), "this process must have waited for the first one"
    assert first.returncode == 0


def test_another_run_can_be_written_meanwhile(run):
    with _child(HOLD, run.folder, 60) as first:
        assert first.stdout.readline() == "held\n"
        began = time.monotonic()
        with Run(run.folder.with_name("another")).writing():
            assert time.monotonic() - began < 10
        first.kill()


def test_a_killed_process_frees_its_lock_at_once(run):
    with _child(HOLD, run.folder, 600) as first:
        assert first.stdout.readline() == "held\n"
        first.send_signal(signal.SIGKILL)
        began = time.monotonic()
        with run.writing():
            assert time.monotonic() - began < 10
        assert not run.path("first").exists()
    assert first.returncode == -signal.SIGKILL


def test_a_kill_while_writing_keeps_the_old_file(run):
    script = """
import os, signal, sys
from pathlib import Path
from study.store.runs import write
def fill(file):
    file.write(b"new" * 100000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
write(Path(sys.argv[1]), fill)
"""
    with _child(script, run.path("counts.npz")) as writer:
        writer.wait(timeout=30)
    assert writer.returncode == -signal.SIGKILL
    assert run.done()


def test_the_store_is_named_by_study_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDY_STORE", "elsewhere")
    assert default_root() == tmp_path / "elsewhere"
    monkeypatch.setenv("STUDY_STORE", str(tmp_path / "far"))
    temporary = tmp_path / "main" / ".dvc" / "tmp" / "exps" / "tmpabc"
    temporary.mkdir(parents=True)
    monkeypatch.chdir(temporary)
    assert Store().root == tmp_path / "far"


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A Git repository, and no STUDY_STORE."""
    monkeypatch.delenv("STUDY_STORE", raising=False)
    folder = tmp_path / "main"
    folder.mkdir()
    subprocess.run(["git", "init", "-q", folder], check=True)
    (folder / "params.yaml").touch()
    return folder


@pytest.mark.parametrize("inside", [".", "study/models"])
def test_subfolders_use_the_store_of_the_checkout(checkout, monkeypatch, inside):
    (checkout / inside).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(checkout / inside)
    assert default_root() == checkout / "runs"


@pytest.mark.parametrize("own_repository", [False, True])
def test_dvc_workspaces_use_the_main_checkouts_store(checkout, monkeypatch, own_repository):
    workspace = checkout / ".dvc" / "tmp" / "exps" / "standalone" / "tmpabc"
    workspace.mkdir(parents=True)
    if own_repository:  # as DVC makes it
        subprocess.run(["git", "init", "-q", workspace], check=True)
    monkeypatch.chdir(workspace)
    assert default_root() == checkout / "runs"


def test_worktrees_use_the_main_checkouts_store(checkout, monkeypatch):
    _git(checkout, "add", ".")
    _git(checkout, "commit", "-qm", "start")
    _git(checkout, "worktree", "add", "-q", str(checkout.with_name("tree")))
    monkeypatch.chdir(checkout.with_name("tree"))
    assert default_root() == checkout / "runs"


def _git(folder: Path, *words: str) -> None:
    own = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", "-C", str(folder), *own, *words], check=True, capture_output=True)


@pytest.fixture
def larger(checkout, tmp_path) -> Path:
    """A repository that has the project as a folder and as a submodule."""
    _git(checkout, "add", ".")
    _git(checkout, "commit", "-qm", "start")
    larger = tmp_path / "larger"
    (larger / "folder").mkdir(parents=True)
    (larger / "folder" / "params.yaml").touch()
    subprocess.run(["git", "init", "-q", larger], check=True)
    _git(larger, "submodule", "add", "-q", str(checkout), "submodule")
    _git(larger, "add", ".")
    _git(larger, "commit", "-qm", "start")
    return larger


@pytest.mark.parametrize("place", ["folder", "submodule"])
def test_projects_inside_larger_repositories_keep_their_store(larger, monkeypatch, place):
    monkeypatch.chdir(larger / place)
    assert default_root() == larger / place / "runs" and located("data") == larger / place / "data"
    whole = larger if place == "folder" else larger / place
    _git(whole, "worktree", "add", "-q", str(larger.with_name("tree")))
    monkeypatch.chdir(larger.with_name("tree") / (place if place == "folder" else "."))
    assert default_root() == larger / place / "runs"


def test_git_environment_variables_do_not_move_the_store(checkout, monkeypatch, tmp_path):
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))
    assert default_root() == checkout / "runs"


def test_weights_are_found_in_the_projects_folder(larger, monkeypatch):
    monkeypatch.chdir(larger / "folder")
    network = Network("resnet", ("res5",), (("weights", "w.pt"),))
    with pytest.raises(InputError, match=r"weights must name a file, got 'w\.pt' .*; write the path of one"):
        weights_digest(network)
    Path("w.pt").write_bytes(b"w")
    assert weights_digest(network) == file_digest(larger / "folder" / "w.pt")


def test_study_store_accepts_home_but_rejects_odd_paths(monkeypatch):
    monkeypatch.setenv("STUDY_STORE", "~/store")
    assert default_root() == Path.home() / "store"
    for name, rule in (
        ("/x/100%/y", "without any of"),
        ("/x/a?b", "without any of"),
        ("~nobody-here/x", "home folder"),
    ):
        monkeypatch.setenv("STUDY_STORE", name)
        with pytest.raises(InputError, match=rf"STUDY_STORE must .*{rule}.*{re.escape(name)}"):
            default_root()


def test_without_git_the_store_is_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("STUDY_STORE", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert default_root() == tmp_path / "runs"


def test_an_impossible_store_is_the_users_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=rf"STUDY_STORE must be a writable folder.*{re.escape(str(tmp_path))}.*name"):
        Store(tmp_path / "file" / "runs")


@pytest.fixture
def full_disk(tmp_path):
    """A file system of one MiB."""
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], capture_output=True).returncode:
        pytest.skip("mounting a file system of limited size needs rights that this user has not")
    yield mount
    subprocess.run(["umount", mount], check=True)


def test_a_full_disk_keeps_the_old_file(full_disk):
    path = Store(full_disk / "runs").run("key").path("counts.npz")
    write(path, lambda file: file.write(b"old"))
    with pytest.raises(StoreError, match=rf"{re.escape(str(path))}.*No space left.*free some space.*again"):
        write(path, lambda file: file.write(bytes(4 << 20)))
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["counts.npz"], "nothing half written is left behind"
    write(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"


@pytest.mark.slow
def test_torch_and_numpy_report_a_full_disk_alike(full_disk):
    import numpy as np
    import torch

    path = full_disk / "key" / "checkpoint.pt"
    with pytest.raises(StoreError, match=r"checkpoint\.pt.*free some space"):
        write(path, lambda file: torch.save({"weights": torch.zeros(1 << 20)}, file))
    with pytest.raises(StoreError, match=r"checkpoint\.pt.*free some space"):
        write(path, lambda file: np.savez(file, counts=np.zeros(1 << 20)))
    assert not list(path.parent.iterdir())


def test_dev_full_is_reported_as_a_full_disk(tmp_path):
    """/dev/full refuses every byte; the temporary file next to the target is a link to it."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "curve.json"
    write_json(path, {"loss": 1})
    (tmp_path / f".curve.json.{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=rf"{re.escape(str(path))} could not be written.*free some space"):
        write_json(path, {"loss": 2})
    assert json.loads(path.read_text()) == {"loss": 1}
    assert os.listdir(tmp_path) == ["curve.json"]


def test_programming_errors_are_not_store_errors(tmp_path):
    def fill(file):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match") as caught:
        write(tmp_path / "a", fill)
    assert not isinstance(caught.value, StoreError)
    assert not list(tmp_path.iterdir())


def test_equal_values_are_equal_bytes(tmp_path):
    write_json(tmp_path / "a", {"x": 1, "y": [1.5, None]})
    write_json(tmp_path / "b", {"y": [1.5, None], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
