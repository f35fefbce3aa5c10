"""The run store ``runs/<key>/``, the record of what was trained. Only this module knows its paths.

Files are written under a temporary name and renamed. DONE comes last and holds the digest of every file, so a run that
is half written or was damaged later is detected and never read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from study.spec.documents.runs import Progress
from study.spec.errors import InputError
from study.spec.training import Network
from study.store import machine

EVALUATED = ("counts.npz", "result.json", "samples.npz")  # products of an evaluation
RECEPTIVE = ("receptive.npz",)
CONFUSION = ("confusion.npz",)
PRODUCTS = ("counts.npz", "curve.json", "result.json", "samples.npz", "training.json", "tune.npz", "weights.pt")


class StoreError(RuntimeError):
    """The store cannot be written. The message says what was saved and what to do."""


class Busy(RuntimeError):
    """Another process, perhaps on another machine, is working on this run."""


def default_root() -> Path:
    """``STUDY_STORE``, or ``runs/`` of the project."""
    return machine.named("STUDY_STORE") or project() / "runs"


def project() -> Path:
    """The project's own folder, which DVC's temporary workspaces and Git's worktrees share. Does not call Git: it may
    be missing, may refuse another user's repository, and its variables may name another repository."""
    here = Path.cwd().absolute()
    for depth, pair in enumerate(zip(here.parts, here.parts[1:], strict=False)):
        if pair == (".dvc", "tmp"):
            return Path(*here.parts[:depth])
    own, top = _above(here, "params.yaml"), _above(here, ".git")
    if own is None or top is None:
        return own or top or here
    main = _main_worktree(top / ".git")
    if main is None or not own.is_relative_to(top):
        return own
    shared = main / own.relative_to(top)  # a project may be a folder of a larger repository
    return shared if shared.is_dir() else own


def _above(here: Path, name: str) -> Path | None:
    """The nearest folder, from ``here`` upwards, that contains ``name``."""
    return next((folder for folder in (here, *here.parents) if (folder / name).exists()), None)


def _main_worktree(git: Path) -> Path | None:
    """The folder of the main worktree, given the file ``.git`` of a linked one; None if ``git`` is the main one's."""
    try:
        own = git.parent / git.read_text().removeprefix("gitdir:").strip()
        common = (own / (own / "commondir").read_text().strip()).resolve()
        config = (common / "config").read_text()
    except OSError:
        return None
    if found := re.search(r"(?m)^\s*worktree\s*=\s*(.+?)\s*$", config):  # the repository is a submodule
        return (common / found[1].strip('"')).resolve()
    return common.parent if common.name == ".git" else None


def located(path: str) -> Path:
    """A file or folder that params.yaml names; a relative path starts at the project's own folder."""
    return project() / os.path.expanduser(path)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_digest(network: Network) -> str:
    """The part of a key for a backbone's pretrained weights: the digest of their file, or the option's text.

    Raises InputError if the file cannot be read.
    """
    named = dict(network.options).get("weights")
    if named in (None, "imagenet"):
        return str(named)
    path = located(named)
    try:
        return file_digest(path)
    except OSError as error:
        raise InputError(
            f"network.options.weights must name a file, got {named!r} ({path}: {error.strerror}); write the path of one"
        ) from error


def write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file by temporary file, fsync and rename. Raises StoreError if it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # torch.save hides a full disk behind its own error.
        cause = error.__context__ if isinstance(error, RuntimeError) else error
        if not isinstance(cause, OSError):
            raise
        raise StoreError(
            f"{path} could not be written to the run store ({cause}); earlier results are kept: free some space or fix "
            "the permissions there, then run the same command again"
        ) from error


def allocate(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A new array in a file, mapped into memory. Raises StoreError at once if the disk has no room for it.

    The space is reserved first: otherwise a disk that fills up later would end the process by a signal.
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StoreError(
            f"no room on the disk for {array.nbytes / 2**20:.0f} MiB in {path} ({error}); earlier results are kept: "
            "free some space and run the same command again"
        ) from error
    return array


def json_bytes(value: Any) -> bytes:
    """The content of a JSON file: equal values give equal bytes."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    content = json_bytes(value)
    write(path, lambda file: file.write(content))


def read_json_or_none(path: Path) -> Any:
    """The content of a JSON file; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


@contextmanager
def first(lock: Path) -> Iterator[bool]:
    """Try to hold ``lock``; yields whether that worked. Another process may be working on the same study."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    tried = FileLock(lock, blocking=False)
    try:
        tried.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        tried.release()


def held(lock: Path) -> bool:
    """Whether some process, on any machine, holds this lock."""
    if not lock.is_file():
        return False
    with first(lock) as alone:
        return not alone


class Run:
    """The folder of one training or evaluation; ``products`` are the files of a finished run."""

    def __init__(self, folder: Path, products: tuple[str, ...] = PRODUCTS) -> None:
        self.folder, self.products = folder, products
        self.key = folder.name

    def path(self, name: str) -> Path:
        return self.folder / name

    @contextmanager
    def writing(self, wait: bool = True) -> Iterator[None]:
        """Hold the run's lock; the kernel frees it when its holder is killed. Without ``wait``, raises Busy if another
        process holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path("lock"), blocking=wait)
        try:
            lock.acquire()
        except Timeout:
            raise Busy(f"another process is writing run {self.key[:12]}; wait for it") from None
        try:
            yield
        finally:
            lock.release()

    def finish(self) -> None:
        """Mark the run as whole: write DONE with the digest of every product, and remove the files that only resuming
        needs."""
        write_json(self.path("DONE"), {name: file_digest(self.path(name)) for name in self.products})
        for name in ("checkpoint.pt", "failed.json"):
            self.path(name).unlink(missing_ok=True)

    def done(self) -> bool:
        """Whether DONE exists and every product has the digest that DONE records."""
        try:
            digests = json.loads(self.path("DONE").read_text())
            return digests == {name: file_digest(self.path(name)) for name in self.products}
        except (OSError, ValueError):
            return False

    def held(self) -> bool:
        """Whether a process, on any machine, is working on this run."""
        return held(self.path("lock"))

    def fail(self, kind: str, reason: str) -> None:
        write_json(self.path("failed.json"), {"kind": kind, "reason": reason})

    def failure(self) -> dict[str, str] | None:
        return self.read("failed.json")

    def progress(self) -> Progress | None:
        """The worker's last progress report: step, steps, loss, score, time, pid."""
        return self.read("progress.json")

    def read(self, name: str) -> Any:
        """The content of a JSON file of the run; None if it is missing or damaged."""
        return read_json_or_none(self.path(name))

    def clear(self) -> None:
        """Delete all files of this run except its lock."""
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            if path.name != "lock":
                path.unlink()

    def copy_products(self, target: Path, names: tuple[str, ...]) -> None:
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(self.path(name), target / name)


class Store:
    """All runs below one folder, and what they share: the cache of prepared data, the study, MLflow's database."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.root, error) from error

    def run(self, key: str, products: tuple[str, ...] = PRODUCTS) -> Run:
        return Run(self.root / key, products)

    def now(self) -> float:
        """Seconds since 1970 by the clock of the store's file system, which all machines share. Raises InputError if
        the store cannot be written."""
        try:
            with TemporaryFile(dir=self.root) as file:
                return os.fstat(file.fileno()).st_mtime
        except OSError as error:
            raise _unwritable(self.root, error) from error

    @property
    def drivers(self) -> Path:
        return self.root / "drivers"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def peak(self, tier: str) -> Path:
        """The file with the GPU memory that the largest training of a tier's rehearsal took (D101)."""
        return self.cache / f"peak-{tier}.json"

    def ablated(self, study: str) -> Path:
        """The file that records where and how the last trainings of a study were executed, and for how long."""
        return self.cache / f"ablate-{study.replace(' ', '-')}.json"

    def drawn(self, tier: str) -> set[str]:
        """The keys that the looks of a tier have called for so far (D149); empty before the first look."""
        return set(read_json_or_none(self.cache / f"drawn-{tier}.json") or ())

    def keep_drawn(self, tier: str, keys: set[str]) -> None:
        write_json(self.cache / f"drawn-{tier}.json", sorted(keys))

    def foretold(self, study: str) -> Path:
        """The file with the predicted seconds of a study's trainings or of a tier's evaluations."""
        return self.cache / f"foretold-{study.replace(' ', '-')}.json"

    def study_log(self, tier: str) -> Path:
        return self.root / "optuna" / f"{tier}.log"

    @property
    def tracking_database(self) -> Path:
        return self.root / "mlflow" / "mlflow.db"

    @property
    def tracking_lock(self) -> Path:
        """The lock for writing to MLflow: processes that open a new sqlite file at the same time corrupt it."""
        return self.root / "mlflow.lock"

    @property
    def tracking_artifacts(self) -> Path:
        return self.root / "mlflow" / "artifacts"


def _unwritable(root: Path, error: OSError) -> InputError:
    return InputError(f"STUDY_STORE must be a writable folder, got {root} ({error}); name another")
