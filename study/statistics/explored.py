"""Compare the winners of an exploration with the paper's networks, and trials with a part with those without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from study.statistics.intervals import half_width

LEVEL = 0.05


@dataclass(frozen=True)
class Tried:
    """A network with its cost and its scores on val (fractions), one per seed."""

    label: str
    cost: float
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))


@dataclass(frozen=True)
class Comparison:
    """A winner compared with its ``rival``: the difference of the means, winner less rival, with its 95 % interval
    (fractions), and the p value adjusted for the number of comparisons (Holm)."""

    rival: str
    difference: float
    low: float
    high: float
    p: float

    @property
    def decided(self) -> bool:
        return self.p <= LEVEL

    @property
    def better(self) -> bool:
        return self.decided and self.difference > 0


def against(winners: Sequence[Tried], rivals: Sequence[Tried]) -> list[Comparison | None]:
    """Compare each winner with the best of the rivals that cost at most as much. None if there is no such rival, or if
    one of the two has fewer than two seeds.

    The rival has the best mean on the same images, so luck favours it.
    """
    found: list[tuple[str, float, float, float, float] | None] = []
    for winner in winners:
        cheaper = [rival for rival in rivals if rival.cost <= winner.cost]
        rival = max(cheaper, key=lambda one: one.mean, default=None)
        if rival is None or min(len(winner.scores), len(rival.scores)) < 2:
            found.append(None)
        else:
            found.append((rival.label, *difference(winner.scores, rival.scores)))
    adjusted = iter(_holm([one[4] for one in found if one is not None]))
    return [None if one is None else Comparison(*one[:4], next(adjusted)) for one in found]


def paired(best: Mapping[str, float], others: Sequence[Mapping[str, float]]) -> list[Comparison | None]:
    """Compare each of the other networks with the best one: scores by seed, other minus best, over the seeds that both
    have. None with fewer than two of them. ``rival`` is empty."""
    from scipy import stats

    found: list[tuple[float, float, float, float] | None] = []
    for other in others:
        gaps = np.array([other[seed] - best[seed] for seed in sorted(best.keys() & other.keys())])
        if len(gaps) < 2:
            found.append(None)
            continue
        mean, half = float(np.mean(gaps)), half_width(gaps)
        p = float(stats.ttest_1samp(gaps, 0).pvalue) if np.ptp(gaps) else float(mean == 0)
        found.append((mean, mean - half, mean + half, p))
    adjusted = iter(_holm([one[3] for one in found if one is not None]))
    return [None if one is None else Comparison("", *one[:3], next(adjusted)) for one in found]


def difference(these: Sequence[float], those: Sequence[float]) -> tuple[float, float, float, float]:
    """Difference of two means with its 95 % interval and p value, without assuming equal variances (Welch). Each needs
    at least two values."""
    from scipy import stats

    gap = float(np.mean(these) - np.mean(those))
    if np.ptp(these) == np.ptp(those) == 0:
        return gap, gap, gap, float(gap == 0)
    found = stats.ttest_ind(these, those, equal_var=False)
    interval = found.confidence_interval()
    return gap, float(interval.low), float(interval.high), float(found.pvalue)


def _holm(values: list[float]) -> list[float]:
    """p values adjusted for their number (Holm)."""
    adjusted, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = least
    return adjusted
