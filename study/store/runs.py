"""The run store ``runs/<key>/``: the truth about what was trained, and the only place that knows its paths.

Files are written beside their place and renamed; DONE comes last and holds the digest of every file, so a run that is
half written or was damaged later is told from a whole one and is never read.
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

EVALUATED = ("counts.npz", "result.json", "samples.npz")  # of a training that is asked in another way
RECEPTIVE = ("receptive.npz",)
CONFUSION = ("confusion.npz",)
PRODUCTS = ("counts.npz", "curve.json", "result.json", "samples.npz", "training.json", "tune.npz", "weights.pt")


class StoreError(RuntimeError):
    """The store cannot be written; the message says what was saved and what to do."""


class Busy(RuntimeError):
    """Another process, perhaps on another machine, is at this run."""


def default_root() -> Path:
    """``STUDY_STORE``, or ``runs/`` of the project."""
    return machine.named("STUDY_STORE") or project() / "runs"


def project() -> Path:
    """The project's own folder, which DVC's temporary workspaces and Git's worktrees share. Git is not asked: it may be
    missing, refuse a repository of another user, or be told of another repository by its variables."""
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
    """The first of a folder and those above it that has ``name``."""
    return next((folder for folder in (here, *here.parents) if (folder / name).exists()), None)


def _main_worktree(git: Path) -> Path | None:
    """The folder of the first of the worktrees to one of which the file ``git`` belongs; None where it is the first."""
    try:
        own = git.parent / git.read_text().removeprefix("gitdir:").strip()
        common = (own / (own / "commondir").read_text().strip()).resolve()
        config = (common / "config").read_text()
    except OSError:
        return None
    if found := re.search(r"(?m)^\s*worktree\s*=\s*(.+?)\s*$", config):  # a submodule's
        return (common / found[1].strip('"')).resolve()
    return common.parent if common.name == ".git" else None


def located(path: str) -> Path:
    """A file or folder that params.yaml names; one that is not absolute lies in the project's own folder."""
    return project() / os.path.expanduser(path)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_digest(network: Network) -> str:
    """What names a backbone's pretrained weights in keys: the digest of their file, or what the option says.

    Raises InputError where it cannot be read.
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
    """Write a file by temporary file, fsync and rename. Raises StoreError where the disk refuses."""
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
        # torch.save hides a full disk behind an error of its own.
        cause = error.__context__ if isinstance(error, RuntimeError) else error
        if not isinstance(cause, OSError):
            raise
        raise StoreError(
            f"the run store must be writable, but {path} could not be written ({cause}); what was written before "
            "is kept: free some space or the permission there and run the same command again"
        ) from error


def allocate(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A new array in a file, mapped into memory. Raises StoreError at once where the disk has no room for it.

    Without the room reserved first, a disk that fills up would end the process by a signal, at some later write.
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StoreError(
            f"the disk must have {array.nbytes / 2**20:.0f} MiB free for {path} ({error}); what was written before is "
            "kept: free some space and run the same command again"
        ) from error
    return array


def json_bytes(value: Any) -> bytes:
    """A JSON file's content: equal values are equal bytes."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    content = json_bytes(value)
    write(path, lambda file: file.write(content))


def read_json_or_none(path: Path) -> Any:
    """A JSON file, None where there is none or it is damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


@contextmanager
def first(lock: Path) -> Iterator[bool]:
    """Whether this process is the only holder of ``lock`` meanwhile: another one may be at the same study."""
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
    """The folder of one training, or of one evaluation of a training; ``products`` are the files that make it whole."""

    def __init__(self, folder: Path, products: tuple[str, ...] = PRODUCTS) -> None:
        self.folder, self.products = folder, products
        self.key = folder.name

    def path(self, name: str) -> Path:
        return self.folder / name

    @contextmanager
    def writing(self, wait: bool = True) -> Iterator[None]:
        """Hold the run's lock; the kernel frees it when its holder is killed. Raises Busy where another holds it and
        this one is not to ``wait``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path("lock"), blocking=wait)
        try:
            lock.acquire()
        except Timeout:
            raise Busy(f"a run must have one writer at a time, got another at {self.key[:12]}; wait for it") from None
        try:
            yield
        finally:
            lock.release()

    def finish(self) -> None:
        """Mark the run as whole: DONE names every product with its digest; what only resuming needs goes."""
        write_json(self.path("DONE"), {name: file_digest(self.path(name)) for name in self.products})
        for name in ("checkpoint.pt", "failed.json"):
            self.path(name).unlink(missing_ok=True)

    def done(self) -> bool:
        """True if DONE is there and every product has the digest that DONE names."""
        try:
            digests = json.loads(self.path("DONE").read_text())
            return digests == {name: file_digest(self.path(name)) for name in self.products}
        except (OSError, ValueError):
            return False

    def held(self) -> bool:
        """Whether a process, on any machine, is at this run."""
        return held(self.path("lock"))

    def fail(self, kind: str, reason: str) -> None:
        write_json(self.path("failed.json"), {"kind": kind, "reason": reason})

    def failure(self) -> dict[str, str] | None:
        return self.read("failed.json")

    def progress(self) -> Progress | None:
        """What the worker last wrote: step, steps, loss, score, time, pid."""
        return self.read("progress.json")

    def read(self, name: str) -> Any:
        """A JSON file of the run, None where there is none or it is damaged."""
        return read_json_or_none(self.path(name))

    def clear(self) -> None:
        """Forget all of this run but its lock."""
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            if path.name != "lock":
                path.unlink()

    def copy_products(self, target: Path, names: tuple[str, ...]) -> None:
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(self.path(name), target / name)


class Store:
    """All runs under one folder, and what they share: the cache of prepared data, the study, the tracker's database."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.root, error) from error

    def run(self, key: str, products: tuple[str, ...] = PRODUCTS) -> Run:
        return Run(self.root / key, products)

    def now(self) -> float:
        """Seconds since 1970 by the file system that holds the store: one clock for all machines. Raises InputError
        where nothing can be written there."""
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
        """What the largest training of a tier's rehearsal took of a GPU's memory (D101)."""
        return self.cache / f"peak-{tier}.json"

    def ablated(self, study: str) -> Path:
        """Where and how the last trainings of a study were executed, and for how long."""
        return self.cache / f"ablate-{study.replace(' ', '-')}.json"

    def drawn(self, tier: str) -> set[str]:
        """The keys that the looks of a tier have called for so far (D149); nothing where it has not begun."""
        return set(read_json_or_none(self.cache / f"drawn-{tier}.json") or ())

    def keep_drawn(self, tier: str, keys: set[str]) -> None:
        write_json(self.cache / f"drawn-{tier}.json", sorted(keys))

    def foretold(self, study: str) -> Path:
        """The seconds that the trainings of a study, or the evaluations of a tier, should take."""
        return self.cache / f"foretold-{study.replace(' ', '-')}.json"

    def study_log(self, tier: str) -> Path:
        return self.root / "optuna" / f"{tier}.log"

    @property
    def tracking_database(self) -> Path:
        return self.root / "mlflow" / "mlflow.db"

    @property
    def tracking_lock(self) -> Path:
        """Held by whoever writes to the tracker: several writers that first touch one sqlite file corrupt it."""
        return self.root / "mlflow.lock"

    @property
    def tracking_artifacts(self) -> Path:
        return self.root / "mlflow" / "artifacts"


def _unwritable(root: Path, error: OSError) -> InputError:
    return InputError(f"STUDY_STORE must be a folder that can be written, got {root} ({error}); name another")
