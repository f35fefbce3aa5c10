"""Checks of values that a user gives. Each failure is one InputError: the place, the rule, the value, the remedy."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from study.spec import InputError


def choice(value: Any, allowed: Any, where: str) -> None:
    if value not in allowed:
        raise InputError(f"{where} must be one of {', '.join(map(str, allowed))}, got {value!r}; rename it")


def mapping(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be a mapping, got {value!r}; write its keys below it")


def sequence(value: Any, where: str) -> None:
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list, got {value!r}; write it in brackets")


def whole(value: Any, least: int, where: str) -> None:
    if type(value) is not int or value < least:
        raise InputError(f"{where} must be a whole number from {least} up, got {value!r}; write one")


def number(value: Any, low: float, high: float | None, where: str) -> None:
    """A number above ``low`` where there is no ``high``, from low to high where there is."""
    if type(value) not in (int, float) or not (low < value < float("inf") if high is None else low <= value <= high):
        rule = f"a positive number, above {low}" if high is None else f"a number from {low} to {high}"
        remedy = (
            "write it with a dot, such as 0.001 (YAML takes 1e-3 for text)" if isinstance(value, str) else "write one"
        )
        raise InputError(f"{where} must be {rule}, got {value!r}; {remedy}")


def yes_or_no(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{where} must be true or false, got {value!r}; write one of them")


def keys(block: Any, where: str, required: Set[str], optional: Set[str] = frozenset()) -> None:
    mapping(block, where)
    if missing := sorted(required - block.keys()):
        raise InputError(f"{where} must have the key {missing[0]!r}, got {sorted(block)}; add it")
    if unknown := sorted(block.keys() - required - optional):
        raise InputError(
            f"{where} must have known keys only, got {unknown[0]!r}; take one of {sorted(required | optional)}"
        )
