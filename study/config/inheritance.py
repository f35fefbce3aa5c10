"""Tiers that inherit from another tier (D118): ``like: shapes`` takes that tier's block; the other keys override it.

Mappings are merged deeply; a list or a value replaces the inherited one. A data set of another name and the options of
another backbone replace the inherited ones as a whole, because their keys differ. null removes an inherited key, such
as a mapping of settings, an evaluation, or anything optional. The budget of seeds is not inherited.
"""

from __future__ import annotations

from typing import Any

from study.spec.checks import NUMBERED, shown
from study.spec.errors import InputError

LIKE = "like"
WAYS = ("train", "val")  # {folder: ...} or {pattern: ...}: one way to choose images replaces the other
NAMED = (
    "controls",
    "mechanisms",
    "settings",
    "inference",
    "not_applicable",
    "not_asked",
    "submitted",
)  # mappings whose keys are names that the user chooses


def in_full(params: Any) -> Any:
    """The content of params.yaml with every tier in full, and numeric keys as text. Raises InputError if `like:` names
    an unknown tier or leads back to itself. Values that are not mappings are left for the schema to refuse."""
    blocks = params.get("tiers") if isinstance(params, dict) else None
    if not isinstance(blocks, dict):
        return params
    return params | {"tiers": {name: _in_words(_whole(name, blocks, ())) for name in blocks}}


def _in_words(value: Any) -> Any:
    """The value with the keys of each mapping in NUMBERED as text, because JSON has no other keys."""
    if not isinstance(value, dict):
        return value
    return {
        key: {str(n): item for n, item in inner.items()}
        if key in NUMBERED and isinstance(inner, dict)
        else _in_words(inner)
        for key, inner in value.items()
    }


def _whole(name: Any, blocks: dict[Any, Any], through: tuple[Any, ...]) -> Any:
    block = blocks[name]
    if not isinstance(block, dict) or LIKE not in block:
        return block
    other, where = block[LIKE], f"tiers.{name}.{LIKE}"
    if not isinstance(other, str) or other not in blocks:
        known = ", ".join(str(tier) for tier in blocks if tier != name)
        raise InputError(f"{where} must name another tier of params.yaml, got {shown(other)}; take one of {known}")
    if other in (name, *through):
        way = " -> ".join(map(str, (*through, name, other)))
        raise InputError(f"{where} must not lead back to itself, got {way}; write one of these tiers without `{LIKE}:`")
    base = _without_budget(_whole(other, blocks, (*through, name)))
    own = {key: value for key, value in block.items() if key != LIKE}
    return _left_out(_over(base, own)) if isinstance(base, dict) else own


def _without_budget(block: Any) -> Any:
    """A block without the budget of its seeds: a budget fits only the costs of its own tier."""
    if not isinstance(block, dict) or not isinstance(seeds := block.get("seeds"), dict):
        return block
    return block | {"seeds": {key: value for key, value in seeds.items() if key != "budget"}}


def _over(base: dict[Any, Any], changes: dict[Any, Any]) -> dict[Any, Any]:
    if changes.get("name", base.get("name")) != base.get("name"):  # another data set
        return changes
    found = dict(base)
    if changes.get("backbone", base.get("backbone")) != base.get("backbone"):
        found.pop("options", None)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict) and key not in WAYS
        found[key] = _over(found[key], value) if both else value
    return found


def _left_out(block: dict[Any, Any]) -> dict[Any, Any]:
    """The block without nulls: in its own keys, in the entries that users name, and in the keys of these entries."""
    found = _without_null(block)
    for key in NAMED:
        if isinstance(found.get(key), dict):
            entries = _without_null(found[key])
            found[key] = {n: _without_null(entry) if isinstance(entry, dict) else entry for n, entry in entries.items()}
    return found


def _without_null(block: dict[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in block.items() if value is not None}
