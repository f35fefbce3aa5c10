"""A tier's search for each variant's best values on the tune split: settings, values, seeds and rungs (D93).

The paper leaves the learning rate open, and one rate for all variants can favour some of them. Every variant is tried
at the same values, for at most the same number of steps. At each rung the worst candidates are dropped.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Any

from study.spec.training import Recipe


@dataclass(frozen=True)
class Tuning:
    """The search of a tier.

    ``search`` holds the values of each searched part of the recipe; all combinations are tried with each of ``seeds``.
    At each of ``rungs`` (shares of the steps) the best share ``keep`` of a variant's combinations continues.
    ``factorial`` are the kernel sizes whose trials are all trained to their end, with and without BR, so that the
    importance of each factor can be estimated. A combination that was dropped at a rung cannot become a variant's best.
    """

    settings: tuple[str, ...]
    search: tuple[tuple[str, tuple[float, ...]], ...]
    seeds: tuple[int, ...]
    rungs: tuple[float, ...]
    keep: float
    factorial: tuple[int, ...]

    def recipes(self, recipe: Recipe) -> list[Recipe]:
        """Every combination of the searched values, with the shared one (``recipe`` itself) first. The shared one is
        always included, or a variant's best could be worse than it."""
        names = [name for name, _ in self.search]
        grid = itertools.product(*(sorted({*values, getattr(recipe, name)}) for name, values in self.search))
        combinations: list[dict[str, Any]] = [dict(zip(names, values, strict=True)) for values in grid]
        found = [dataclasses.replace(recipe, **combination) for combination in combinations]
        return sorted(found, key=lambda other: other != recipe)

    def stops(self, recipe: Recipe) -> list[int]:
        """The steps at which a training is scored: the rungs and the last step."""
        return [math.ceil(share * recipe.steps) for share in (*self.rungs, 1)]
