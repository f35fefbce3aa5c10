"""Checks that every place a run writes to is writable, before hours are spent: the run store, the reports, MLflow's
files, temporary files."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from study.config import mlflow_address
from study.spec.documents.tier import Params
from study.spec.errors import InputError
from study.store.runs import Store

GIB = 2**30
SQLITE, FILE = "sqlite:///", "file"


def check(params: Params, store: Store, tier: str) -> None:
    """Raises InputError for a place that is not writable."""
    for folder in (store.root, store.cache, store.drivers, store.study_log(tier).parent):
        _try(folder, "the run store", "fix the permissions, or name another in STUDY_STORE")
    _try(Path("reports") / tier, "the folder of the report", "fix the permissions, or move the file in its place")
    _try(Path(tempfile.gettempdir()), "the folder for temporary files", "name another in TMPDIR")
    place = mlflow_address.place(params, store)
    where = f"change {place.named}" if place.named else "fix the permissions, or name another in STUDY_STORE"
    if place.uri.startswith(SQLITE):
        database = Path(place.uri.removeprefix(SQLITE).partition("?")[0])
        _try(database.parent, "the folder of MLflow's database", where)
        if database.exists():
            _try(database, "MLflow's database", where)
    artifacts = urlsplit(place.artifacts or "")
    if artifacts.scheme == FILE:
        _try(Path(unquote(artifacts.path)), "the folder of MLflow's artifacts", f"{where}, or tracking.artifacts")


def too_small(store: Store, needed: float) -> str:
    """An error message if the run store's disk has fewer than ``needed`` bytes left, else an empty text."""
    free = shutil.disk_usage(store.root).free
    if free >= needed:
        return ""
    return (
        f"the disk of the run store must have room for the rest of the plan, {needed / GIB:,.1f} GiB, got "
        f"{free / GIB:,.1f} GiB free in {store.root}; free some (`make gc`), or name another folder in STUDY_STORE"
    )


def _try(path: Path, what: str, remedy: str) -> None:
    """Try to write to ``path``, leaving nothing behind. If it does not exist, try its nearest existing folder."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        if path.is_dir():
            with tempfile.TemporaryFile(dir=path):
                pass
        else:
            with path.open("r+b") as file:  # a file where a folder should be is refused below
                file.fileno()
    except OSError as error:
        raise InputError(f"{what} must be writable, got {path} ({error.strerror}); {remedy}") from error
    if path.is_file() and "database" not in what:
        raise InputError(f"{what} must be writable, got {path}, which is a file; {remedy}")
