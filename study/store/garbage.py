"""Finds what no current plan references in the run store, by kind and size, and removes it.

A store may serve several clones, and their plans are not visible here. So whatever was used within ``keep_days`` stays:
each training, evaluation or collection of a run touches its lock. Unknown files stay too.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from study.spec.documents.plan import PlanFile
from study.spec.documents.search import SearchFile
from study.spec.words import DAY_S
from study.store.runs import Run, Store

WRITTEN_S = 3600.0  # a process, here or elsewhere, may still be writing what was touched within an hour
KEY = re.compile(r"[0-9a-f]{64}")
TEMPORARY = re.compile(r"\..+\.\d+")  # the name that runs.write uses; it remains if the writer is killed
CACHED = re.compile(r"([0-9a-f]{16})(-streamed)?|features-[0-9a-f]{16}|coco-[0-9a-f]{16}")
HALF_READ = re.compile(r"(reading|features)-\d{1,10}")  # a process's own folder: its pid is shorter than a digest
KINDS = ("runs", "checkpoints of finished runs", "prepared data", "temporary files")


@dataclass
class Named:
    """What plans reference: ``runs`` and ``looks`` (receptive fields) by key, ``cached`` folders of the cache by name.
    None means unknown: all of that kind are kept."""

    runs: set[str] = field(default_factory=set)
    cached: set[str] | None = field(default_factory=set)
    looks: set[str] | None = field(default_factory=set)

    def add(self, plan: PlanFile, search: SearchFile | None = None) -> None:
        """Add all that a plan.json references, and the trials of the search.json next to it."""
        self.runs |= plan["trainings"].keys() | plan["evaluations"].keys()
        self.runs |= {asked["training"] for asked in plan["evaluations"].values()}
        self.runs |= {key for cell in plan["cells"] for key in cell["runs"].values()}
        self.runs |= {key for trial in (search["trials"] if search else ()) for key in trial["keys"].values()}


@dataclass(frozen=True)
class Waste:
    """A file, or a folder with its content, that may be removed; ``size`` in bytes."""

    kind: str
    path: Path
    size: int


def used(run: Run) -> None:
    """Record that a plan uses a run now."""
    with contextlib.suppress(OSError):  # a read-only store, or a run that does not exist
        run.path("lock").touch()


def find(store: Store, named: Named, keep_days: float) -> list[Waste]:
    """What may be removed, in the order of KINDS: nothing that is referenced, being written or younger than
    ``keep_days``."""
    now = store.now()
    found = [*_runs(store, named, keep_days, now), *_cached(store.cache, named, keep_days, now)]
    found += [Waste(KINDS[3], path, size_of(path)) for path in _left(store.root) if _age(path, now) > WRITTEN_S]
    return sorted(found, key=lambda waste: (KINDS.index(waste.kind), waste.path))


def free(found: Collection[Waste], store: Store) -> int:
    """Remove what was found; returns the bytes freed. What a process has started to write meanwhile stays."""
    freed, now = 0, store.now()
    for waste in found:
        run = next((parent for parent in (waste.path, *waste.path.parents) if parent.parent == store.root), None)
        with _unlocked(run) as still:
            if not still or _age(waste.path, now) <= WRITTEN_S:
                continue
            size = size_of(waste.path)
            if waste.path.is_dir():
                (waste.path / "DONE").unlink(missing_ok=True)  # first: after a kill here, the run does not look whole
                shutil.rmtree(waste.path, ignore_errors=True)
            else:
                waste.path.unlink(missing_ok=True)
            freed += size - size_of(waste.path)
    return freed


def told(found: Collection[Waste]) -> list[str]:
    """A line for each kind found, and one for the sum."""
    lines = []
    for kind in (kind for kind in KINDS if any(waste.kind == kind for waste in found)):
        own = [waste.size for waste in found if waste.kind == kind]
        lines.append(f"{kind}: {len(own):,}, {sized(sum(own))}")
    return [*lines, f"in all: {sized(sum(waste.size for waste in found))}"]


def sized(size: int) -> str:
    """Bytes in words, such as ``1.5 MB``."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size} bytes"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 if it does not exist. Links are not followed."""
    total = 0
    for part in (path, *path.rglob("*")):
        with contextlib.suppress(OSError):
            total += part.lstat().st_size if part.is_symlink() or not part.is_dir() else 0
    return total


def _runs(store: Store, named: Named, keep_days: float, now: float) -> Iterator[Waste]:
    for folder in sorted(store.root.iterdir()):
        if not KEY.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
            continue
        with _unlocked(folder) as free_now:
            if not free_now or _age(folder, now) <= WRITTEN_S:
                continue
            look = (folder / "receptive.npz").exists()
            known = folder.name in named.runs or (look and (named.looks is None or folder.name in named.looks))
            if not known and _age(folder, now) > keep_days * DAY_S:
                yield Waste(KINDS[0], folder, size_of(folder))
                continue
            checkpoint = folder / "checkpoint.pt"  # finishing deletes it, unless the process is killed
            if checkpoint.is_file() and (folder / "DONE").is_file():
                yield Waste(KINDS[1], checkpoint, size_of(checkpoint))
            for path in _left(folder):
                yield Waste(KINDS[3], path, size_of(path))


def _cached(cache: Path, named: Named, keep_days: float, now: float) -> Iterator[Waste]:
    for path in sorted(cache.iterdir()) if cache.is_dir() else ():
        age = _age(path, now)
        if (HALF_READ.fullmatch(path.name) or TEMPORARY.fullmatch(path.name)) and age > WRITTEN_S:
            yield Waste(KINDS[3], path, size_of(path))
        elif named.cached is None or age <= keep_days * DAY_S:
            continue
        elif path.name not in named.cached and (CACHED.fullmatch(path.name) or _stamps(path, named.cached)):
            yield Waste(KINDS[2], path, size_of(path))


def _stamps(path: Path, kept: set[str]) -> bool:
    """Whether a file is the record of having read a data set that is not kept."""
    if not re.fullmatch(r"seen-[0-9a-f]{16}\.json", path.name):
        return False
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return facts["fingerprint"][:16] + "-streamed" * facts["streamed"] not in kept
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _left(folder: Path) -> list[Path]:
    """Files that a killed writer left in a folder."""
    return sorted(path for path in folder.iterdir() if path.is_file() and TEMPORARY.fullmatch(path.name))


def _age(path: Path, now: float) -> float:
    """Seconds from the last write to a file, or to any file of a folder, until ``now``; 0 if unknown. Both times come
    from the file system's clock, not this machine's."""
    try:
        return now - max(part.lstat().st_mtime for part in (path, *path.rglob("*")))
    except OSError:  # it is being moved or deleted
        return 0.0


@contextlib.contextmanager
def _unlocked(folder: Path | None) -> Iterator[bool]:
    """Hold a run's lock if no other process does; yields whether it was free. The lock file is neither created nor
    touched, because its time records the last use."""
    try:
        file = (folder / "lock").open("rb") if folder else None
    except OSError:
        file = None  # no process has ever locked it
    if file is None:
        yield True
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
