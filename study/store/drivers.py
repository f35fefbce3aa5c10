"""Who trains into a run store: each driver holds a lock there while it runs, so that every machine knows of it.

A held lock is the only sign of life that needs no clock: the kernel frees it when its holder is killed. Folders whose
locks do not hold between machines are refused (D104).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from study.spec.documents.runs import Driver
from study.spec.errors import InputError
from study.store.runs import Store, held, read_json_or_none, write_json

MOUNTS = Path("/proc/self/mountinfo")
# Options of a mount with which a lock excludes processes of the same machine only.
NO_LOCKS = {"nolock", "local_lock=all", "local_lock=flock", "localflock", "noflock", "nobrl"}
# Shared file systems whose locks are known to hold between machines, with the option that they need for it.
SHARED = {"nfs": "", "nfs4": "", "lustre": "flock", "ceph": "", "gpfs": "", "beegfs": "", "cifs": "", "smb3": ""}


def locks_hold(folder: Path, mounts: Path = MOUNTS) -> None:
    """Raises InputError where ``folder`` lies on a file system whose locks do not hold between machines."""
    if not mounts.is_file():  # not Linux: nothing to read it from
        return
    best, kind, options = "", "", set[str]()
    for line in mounts.read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")
        if len(point) >= len(best) and folder.resolve().is_relative_to(point):
            best, kind = point, after.split()[0]
            options = {*before.split()[5].split(","), *after.split()[2].split(",")}
    shared = kind in SHARED or kind.startswith("fuse.") or kind == "9p"
    missing = SHARED.get(kind, "")
    if shared and (kind not in SHARED or options & NO_LOCKS or (missing and missing not in options)):
        told = ", ".join(sorted(options & NO_LOCKS)) or (
            f"without the option {missing}" if missing else "no such locks"
        )
        raise InputError(
            f"the run store must lie where file locks hold between machines (or two of them would train the same thing "
            f"at a time), got {folder} on {kind} ({told}); mount it with locks (NFS 4, Lustre with `flock`) or name "
            "another folder in STUDY_STORE"
        )


@contextmanager
def registered(store: Store, tier: str) -> Iterator[Path]:
    """Be known as a driver of ``tier``; gives the file whose existence asks this driver and its trainings to stop."""
    locks_hold(store.root)
    facts = {"tier": tier, "host": socket.gethostname(), "pid": os.getpid(), "since": store.now()}  # or it is refused
    name = f"{socket.gethostname()}-{os.getpid()}"
    store.drivers.mkdir(parents=True, exist_ok=True)
    stop = store.drivers / f"{name}.stop"
    with FileLock(store.drivers / f"{name}.lock"):
        stop.unlink(missing_ok=True)
        write_json(store.drivers / f"{name}.json", facts)
        try:
            yield stop
        finally:
            _forget(store, name)


def running(store: Store, tier: str | None = None) -> list[Driver]:
    """The drivers at work on any machine (of ``tier``): tier, host, pid, since (the store's time), name. What killed
    ones left is cleared away."""
    found: list[Driver] = []
    for path in sorted(store.drivers.glob("*.json")):
        if held(path.with_suffix(".lock")):
            facts: Driver | None = read_json_or_none(path)
            if facts and tier in (None, facts["tier"]):
                found.append({**facts, "name": path.stem})
        else:
            _forget(store, path.stem)
    return found


def ask_to_stop(store: Store, driver: Driver) -> None:
    """Ask one of the ``running`` drivers to save what its trainings have and to end."""
    (store.drivers / f"{driver['name']}.stop").touch()


def _forget(store: Store, name: str) -> None:
    for suffix in ("stop", "json", "lock"):
        (store.drivers / f"{name}.{suffix}").unlink(missing_ok=True)
