"""Typed dicts of files: what their types need that works where pydantic is not installed (a bare GPU machine)."""

from __future__ import annotations

from typing import Any, TypeVar

Json = Any  # any value that JSON has
Kind = TypeVar("Kind", bound=type)


def closed(kind: Kind) -> Kind:
    """A TypedDict that refuses unknown keys when a file is read."""
    kind.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    return kind
