"""What a tier searches for each variant on the tune split: settings, values, seeds, and where a training may end (D93).

The paper leaves the learning rate open, and one rate for all variants can favour some of them. Every variant is tried
at the same values, for the same number of steps at most; what is behind at a rung is dropped there.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from study import checks
from study.spec import InputError, Recipe, gcn

SEARCHED = ("lr", "weight_decay", "momentum", "warmup")  # parts of a recipe that the paper leaves open or barely names


@dataclass(frozen=True)
class Tuning:
    """``search`` are the values of each searched part of the recipe, all combinations of which are tried with each of
    ``seeds``. At each of ``rungs`` (shares of the steps) the best ``keep`` of a variant's combinations go on.
    ``factorial`` are the kernel sizes whose trials are all trained to their end, with and without BR, so that the
    importance of each factor can be told; what was dropped before is still no variant's best."""

    settings: tuple[str, ...]
    search: tuple[tuple[str, tuple[float, ...]], ...]
    seeds: tuple[int, ...]
    rungs: tuple[float, ...]
    keep: float
    factorial: tuple[int, ...]

    def recipes(self, recipe: Recipe) -> list[Recipe]:
        """Every combination of the searched values, the shared one (``recipe`` itself) first: it is always among them,
        else a variant's best could be worse."""
        names = [name for name, _ in self.search]
        grid = itertools.product(*(sorted({*values, getattr(recipe, name)}) for name, values in self.search))
        combinations: list[dict[str, Any]] = [dict(zip(names, values, strict=True)) for values in grid]
        found = [dataclasses.replace(recipe, **combination) for combination in combinations]
        return sorted(found, key=lambda other: other != recipe)

    def stops(self, recipe: Recipe) -> list[int]:
        """The steps at which a training is asked for its score: the rungs and its end."""
        return [math.ceil(share * recipe.steps) for share in (*self.rungs, 1)]


def tuning(block: dict[str, Any] | None, where: str, free: Sequence[str], seeds: Sequence[int]) -> Tuning | None:
    """``free`` are the settings that may be searched, ``seeds`` those of the tier. Raises InputError, as all of parsing
    does."""
    if block is None:
        return None
    checks.keys(block, where, {"search", "seeds", "rungs", "keep", "factorial"}, {"settings"})
    settings = block.get("settings", ["main"])
    for key, value in (("settings", settings), *((k, block[k]) for k in ("seeds", "rungs", "factorial"))):
        checks.sequence(value, f"{where}.{key}")
    for name in settings:
        checks.choice(name, free, f"{where}.settings")
    checks.mapping(block["search"], f"{where}.search")
    for name, values in block["search"].items():
        _values(name, values, f"{where}.search")
    if not block["search"]:
        raise InputError(f"{where}.search must name what is searched, got nothing; write e.g. lr: [0.004, 0.008]")
    for seed in block["seeds"]:
        checks.whole(seed, 0, f"{where}.seeds")
    if not block["seeds"] or set(block["seeds"]) & set(seeds):
        raise InputError(
            f"{where}.seeds must be seeds that no reported number uses (so that no variant is chosen for its luck with "
            f"one), got {block['seeds']} beside {list(seeds)}; write e.g. [{max(seeds) + 100}]"
        )
    for share in block["rungs"]:
        checks.number(share, 0, 1, f"{where}.rungs")
    if list(block["rungs"]) != sorted({s for s in block["rungs"] if 0 < s < 1}):
        raise InputError(
            f"{where}.rungs must be rising shares of the steps between 0 and 1, got {block['rungs']}; write e.g. "
            "[0.25, 0.5]"
        )
    checks.number(block["keep"], 0, 1, f"{where}.keep")
    for k in block["factorial"]:
        gcn(k)  # it refuses what is no kernel size
    search = tuple((name, tuple(map(float, values))) for name, values in block["search"].items())
    return Tuning(
        tuple(settings), search, tuple(block["seeds"]), tuple(map(float, block["rungs"])), float(block["keep"]),
        tuple(block["factorial"]),
    )  # fmt: skip


def _values(name: str, values: Any, where: str) -> None:
    checks.choice(name, SEARCHED, where)
    checks.sequence(values, f"{where}.{name}")
    for value in values:
        if name == "lr":
            checks.number(value, 0, None, f"{where}.{name}")
        else:
            checks.number(value, 0, 1, f"{where}.{name}")
    if len(set(values)) != len(values):
        raise InputError(f"{where}.{name} must be different values, got {values}; drop the second of two equal ones")
