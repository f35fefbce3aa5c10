"""The drivers that train into a run store. Each holds a lock there while it runs, so that every machine can see it.

A held lock is the only sign of life that needs no clock: the kernel frees it when its holder is killed. A folder whose
locks do not hold between machines is refused (D104).
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
# Mount options with which a lock only excludes processes of the same machine.
NO_LOCKS = {"nolock", "local_lock=all", "local_lock=flock", "localflock", "noflock", "nobrl"}
# Shared file systems whose locks hold between machines, with the mount option that this needs.
SHARED = {"nfs": "", "nfs4": "", "lustre": "flock", "ceph": "", "gpfs": "", "beegfs": "", "cifs": "", "smb3": ""}


def locks_hold(folder: Path, mounts: Path = MOUNTS) -> None:
    """Raises InputError if ``folder`` is on a file system whose locks do not hold between machines."""
    if not mounts.is_file():  # not Linux: the mount options are unknown
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
            f"the run store must be on a file system whose locks hold between machines (or two of them could train the "
            f"same run), got {folder} on {kind} ({told}); mount it with locks (NFS 4, Lustre with `flock`) or name "
            "another folder in STUDY_STORE"
        )


@contextmanager
def registered(store: Store, tier: str) -> Iterator[Path]:
    """Register this process as a driver of ``tier``. Yields the path of its stop file: once the file exists, the driver
    and its trainings stop. Raises InputError if the store's locks do not hold between machines or it is not writable.
    """
    locks_hold(store.root)
    # store.now() raises InputError for a store that cannot be written.
    facts = {"tier": tier, "host": socket.gethostname(), "pid": os.getpid(), "since": store.now()}
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
    """The running drivers (of ``tier``) on any machine: tier, host, pid, since (the store's time), name. Removes the
    files of killed drivers."""
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
    """Ask one of the ``running`` drivers to save its trainings' checkpoints and to end."""
    (store.drivers / f"{driver['name']}.stop").touch()


def _forget(store: Store, name: str) -> None:
    for suffix in ("stop", "json", "lock"):
        (store.drivers / f"{name}.{suffix}").unlink(missing_ok=True)
