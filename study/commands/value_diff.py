"""Compares a file with its recomputed content, value by value. Uses the standard library only."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

NAMED = (
    "address",
    "metric",
    "seed",
    "table",
    "source",
    "cost",
    "label",
    "against",
    "head",
    "kernel_size",
    "step",
    "share",
    "setting",
    "variant",
    "inference",
    "class",
)  # columns that identify rows
SHOWN = 10  # differences of one file that are listed one by one
ABSENT = "nothing"


def files(name: str, stands: bytes, again: bytes) -> list[str]:
    """How the file ``name`` (.csv or .json) differs from its recomputed content; empty if the bytes are equal."""
    if stands == again:
        return []
    try:
        found = _csv(stands, again) if name.endswith(".csv") else values(json.loads(stands), json.loads(again))
    except (ValueError, csv.Error, IndexError) as error:
        return [f"{name} must be what the stored counts give, but it cannot be read ({error})"]
    if not found:
        return [f"{name} must be byte for byte what the stored counts give, got equal values in another format"]
    lines = [
        f"{name}, {where}: must be {now}, which the stored counts give, got {was}" for where, was, now in found[:SHOWN]
    ]
    if len(found) > SHOWN:
        lines.append(f"{name}: {len(found) - SHOWN} more values must be what the stored counts give, got others")
    return lines


def values(stands: Any, again: Any, path: str = "") -> list[tuple[str, str, str]]:
    """(path, value in the file, recomputed value) of every leaf that differs between two JSON values."""
    if isinstance(stands, dict) and isinstance(again, dict):
        names = [*again, *(name for name in stands if name not in again)]
        steps = [(f"{path} {name}".strip(), stands.get(name, _ABSENT), again.get(name, _ABSENT)) for name in names]
    elif isinstance(stands, list) and isinstance(again, list) and len(stands) == len(again):
        steps = [(f"{path} [{i}]".strip(), *pair) for i, pair in enumerate(zip(stands, again, strict=True))]
    else:
        # Compared as text: then nan equals itself, and 1 differs from 1.0.
        pair = _text(stands), _text(again)
        return [] if pair[0] == pair[1] else [(path or "all of it", *pair)]
    return [line for where, was, now in steps for line in values(was, now, where)]


def numbers(content: bytes, name: str) -> int:
    """The number of numbers in a file."""
    text = content.decode()
    if name.endswith(".csv"):
        return sum(_is_number(cell) for row in list(csv.reader(io.StringIO(text)))[1:] for cell in row)
    return _count(json.loads(text))


_ABSENT = object()


def _text(value: Any) -> str:
    return ABSENT if value is _ABSENT else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _count(value: Any) -> int:
    if isinstance(value, dict | list):
        return sum(map(_count, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _rows(content: bytes) -> dict[str, dict[str, str]]:
    """Rows by the columns that identify them, in words such as ``T1/score/3, miou, seed 0``."""
    found: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(io.StringIO(content.decode())):
        named = [(column, row[column]) for column in NAMED if row.get(column)]
        alone = {"address", "metric"}
        place = ", ".join(text if column in alone else f"{column} {text}" for column, text in named)
        while place in found:
            place += ", again"
        found[place] = row
    return found


def _csv(stands: bytes, again: bytes) -> list[tuple[str, str, str]]:
    old, new = _rows(stands), _rows(again)
    found = []
    for place in [*new, *(place for place in old if place not in new)]:
        if place not in old or place not in new:
            found.append((place, ABSENT if place not in old else "a row", ABSENT if place not in new else "a row"))
            continue
        columns = [*new[place], *(column for column in old[place] if column not in new[place])]
        for column in columns:
            was, now = (row[place].get(column, ABSENT) or "''" for row in (old, new))
            if was != now:
                found.append((f"{place}, {column}", str(was), str(now)))
    return found
