"""What was collected for the cells of a plan, and the parts of a claim put to the trial on it.

A part is one contrast and its bounds (study.predicates); here it is tested on the counts of every seed and image
(study.statistics). Scores are fractions here, bounds and margins points of per cent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from study import metrics, results, statistics
from study.predicates import Part

# The other region of a metric of one: its counts are put to zero, so that the accuracy of all pixels is that of one.
REGIONS = {"boundary_accuracy": metrics.INTERNAL, "internal_accuracy": metrics.BOUNDARY}


class Tested(NamedTuple):
    """A part on measured counts: p that it holds by chance, and p that it fails by chance; nan where there is none.

    Both are two-sided (of an equivalence that holds: of two one-sided tests). At most one of them is small.
    """

    part: Part
    effect: statistics.Effect
    holds: float
    fails: float

    @property
    def p(self) -> float:
        """The smaller of the two, nan where there is none."""
        return min(self.holds, self.fails)


def tested(part: Part, effect: statistics.Effect, margin: Fraction, alpha: float) -> Tested:
    """Test a part by the effect of its terms (a fraction) at a tier's ``margin`` in points."""
    low, high = (None if bound is None else float(bound / 100) for bound in part.bounds(margin))
    if not math.isfinite(effect.low):  # one seed, a score without a value, or scores that do not vary
        return Tested(part, effect, math.nan, math.nan)
    if low is not None and high is not None:
        middle, half = (low + high) / 2, (high - low) / 2
        moved = replace(effect, estimate=effect.estimate - middle)
        beyond = abs(moved.estimate) - half
        return Tested(
            part, effect, statistics.equivalent(moved, half, alpha), effect.spread.p(beyond) if beyond > 0 else 1.0
        )
    bound, sign = (low, 1) if low is not None else (high, -1)
    over = (effect.estimate - (bound or 0.0)) * sign
    p = effect.spread.p(over)
    return Tested(part, effect, p if over > 0 else 1.0, p if over < 0 else 1.0)


def distance(found: Tested, margin: Fraction) -> float:
    """How far a part's effect is from the nearest bound of its claim, as a fraction."""
    bounds = [float(bound / 100) for bound in found.part.bounds(margin) if bound is not None]
    return min(abs(found.effect.estimate - bound) for bound in bounds)


class Collected:
    """The results of a plan's cells. ``folders`` hold what was collected by key, ``computed`` counted cells by address;
    arrays are read once."""

    def __init__(self, plan: Mapping[str, Any], folders: Iterable[Path], computed: Mapping[str, float]) -> None:
        self.plan, self.folders, self.computed = plan, tuple(folders), computed
        self.cells: dict[str, dict[str, Any]] = {cell["address"]: cell for cell in plan["cells"]}
        self.arrays: dict[str, np.ndarray] = {}

    def seeds(self, addresses: Iterable[str]) -> list[int]:
        """The seeds that every one of the cells has results of."""
        return sorted(set.intersection(*({*self._done(address)} for address in addresses)))

    def failed(self, addresses: Iterable[str]) -> list[str]:
        """Trainings and evaluations of the cells that have no result, by name."""
        lost = {
            (address, seed): key
            for address in addresses
            for seed, key in self.cells[address]["runs"].items()
            if int(seed) not in self._done(address)
        }
        planned = self.plan["trainings"] | self.plan["evaluations"]
        return [f"{planned[key]['label']}, seed {planned[key]['seed']}" for key in dict.fromkeys(lost.values())]

    def effect(
        self, part: Part, seeds: list[int], alpha: float, draws: int, address: statistics.Address
    ) -> statistics.Effect:
        """The effect of a part's terms. Raises InputError where its cells were not measured on the same images."""
        terms = [(float(weight), self._counts(cell, seeds)) for weight, cell in part.terms]
        return statistics.contrast(terms, self._score(part.terms[0][1]), alpha, draws, address)

    def number(self, address: str) -> Fraction | None:
        """Our number of a cell that is counted, None where there is none."""
        value = self.computed.get(address, self.cells[address]["parameters"])
        return None if value is None else Fraction(value)

    def recorded(self) -> dict[str, int]:
        """The digest of the claims that each training wrote down before it began -> number of trainings; the empty
        digest stands for those that wrote none."""
        found: dict[str, int] = {}
        for key in self.plan["trainings"]:
            folder = results.place(key, self.folders)
            if results.status(folder) == results.DONE:
                labels = results.labels(folder)
                digest = labels.get("claims", "")
                found[digest] = found.get(digest, 0) + 1
        return found

    def _done(self, address: str) -> dict[int, str]:
        runs = self.cells[address]["runs"].items()
        state = {key: results.status(results.place(key, self.folders)) for _, key in runs}
        return {int(seed): key for seed, key in runs if state[key] == results.DONE}

    def _counts(self, address: str, seeds: list[int]) -> statistics.Counts:
        """Counts of a cell by seed, of one region where its metric is of one (see ``_score``)."""
        keys, metric = self._done(address), self.cells[address]["metric"]
        found = [self._read(keys[seed]) for seed in seeds]
        if metric not in REGIONS:
            return found
        found = [counts.copy() for counts in found]
        for counts in found:
            counts[:, REGIONS[metric]] = 0
        return found

    def _score(self, address: str) -> Callable[[np.ndarray], float]:
        """The score of ``_counts``: one for both regions, so that a contrast can hold the two together."""
        metric = self.cells[address]["metric"]
        return metrics.pixel_accuracy if metric in REGIONS else (metrics.METRICS | metrics.ERRORS)[metric]

    def _read(self, key: str) -> np.ndarray:
        if key not in self.arrays:
            with np.load(results.place(key, self.folders) / "counts.npz") as archive:
                (name,) = archive.files
                self.arrays[key] = archive[name]
        return self.arrays[key]
