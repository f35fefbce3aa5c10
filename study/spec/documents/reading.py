"""Reads a file as its declared type, and refuses a file of another version or kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from study.spec.errors import InputError

Kind = TypeVar("Kind")
AGAIN = "run `make repro` for its tier, which writes it again"


def columns_of(kind: type) -> list[str]:
    """The columns of a table of rows of this kind, in the order of their declaration."""
    return list(get_type_hints(kind))


def version_of(kind: type) -> int:
    """The version of a file's format."""
    (version,) = get_args(get_type_hints(kind)["version"])
    return int(version)


def read(path: Path, kind: type[Kind]) -> Kind:
    """A JSON file as ``kind``. Raises InputError if it is missing, damaged, or of another version or kind."""
    from study.spec.checks import fits  # imported here: a training reads no such file, and can do without pydantic

    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} must exist and be readable, got {error}; {AGAIN}") from error
    if "version" in getattr(kind, "__annotations__", {}):
        got = found.get("version") if isinstance(found, dict) else None
        if got != version_of(kind):
            raise InputError(
                f"{path} must have format version {version_of(kind)}, got {'none' if got is None else got} (another "
                f"version of the code wrote it); {AGAIN}"
            )
    if wrong := fits(kind, found):
        raise InputError(f"{path} must have the format that this code writes, got {wrong}; {AGAIN}")
    return found  # type: ignore[no-any-return]
