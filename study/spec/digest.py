"""The identity of a frozen value, as JSON and as sha256."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from fractions import Fraction
from typing import Any

PLAIN = frozenset((str, int, float, bool, type(None)))


def canonical(value: Any) -> Any:
    """The identity of a frozen value as plain JSON types: labels (``compare=False``) are left out."""
    if type(value) in PLAIN:
        return value
    if dataclasses.is_dataclass(value):
        return {f.name: canonical(getattr(value, f.name)) for f in dataclasses.fields(value) if f.compare}
    if isinstance(value, tuple | list):
        return [canonical(item) for item in value]
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    return value


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of a value, in hexadecimal."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
