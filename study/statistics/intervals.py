"""Intervals, p values, power and detectable sizes of the mean of an effect over seeds.

Its variance has two independent parts: that of the seeds shrinks with their number n, that of the images does not. An
interval's half width is sqrt(t1^2 S^2 / n + t2^2 C), each part with the t quantile of its own degrees of freedom
(Banerjee 1961). If effects are normal, it never covers too seldom: let Z^2 be the squared error in standard errors, U1
and U2 the estimated over the true variances, and w the share of the seeds. The distribution function of Z^2 is concave,
so P(Z^2 <= w t1^2 U1 + (1 - w) t2^2 U2) is at least w P(Z^2 <= t1^2 U1) + (1 - w) P(Z^2 <= t2^2 U2), and both of these
are 1 - alpha. It may cover too often. The p value is the alpha at which the interval just touches zero.

Numpy and scipy only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

NONE = 1e-24  # a variance below this is rounding: the scores do not vary at all
LEAST_P = 1e-15  # the smallest p value that is reported


@dataclass(frozen=True)
class Spread:
    """How a mean over seeds varies. ``seed`` is the variance S^2 of one seed's effect, ``image`` the part C that all
    seeds share (squared fractions, nan if unknown), ``image_df`` the degrees of freedom of C. ``seed_df`` are those of
    S^2 if it was estimated from more than the seeds' own effects."""

    seed: float
    image: float
    seeds: int
    image_df: float
    seed_df: float | None = None

    @property
    def df_of_seeds(self) -> float:
        """Degrees of freedom of S^2: ``seed_df``, or one less than the seeds."""
        return self.seeds - 1.0 if self.seed_df is None else self.seed_df

    @property
    def se(self) -> float:
        """Standard error of the mean over seeds, a fraction."""
        return math.sqrt(self.seed / self.seeds + self.image)

    @property
    def varies(self) -> bool:
        """False if all seeds and images agree to rounding, or if one seed cannot show it."""
        return self.se**2 > NONE

    @property
    def still(self) -> bool:
        """True if all seeds and images agree to rounding."""
        return self.se**2 <= NONE

    def half_width(self, alpha: float) -> float:
        """Half the width of the 1 - alpha interval, a fraction."""
        return math.sqrt(sum(self._squares(alpha)))

    def p(self, distance: float) -> float:
        """Two-sided p of an effect at this distance from the hypothesis; nan if the scores do not vary at all, which is
        no evidence of how they would."""
        if not self.varies:
            return 1.0 if distance == 0 and self.still else math.nan
        if self.half_width(LEAST_P) <= abs(distance):
            return LEAST_P
        if distance == 0:
            return 1.0
        return math.exp(_root(lambda x: self.half_width(math.exp(x)) - abs(distance), math.log(LEAST_P), 0.0))

    def df(self, alpha: float) -> float:
        """Degrees of freedom of the t interval that is as wide as this one at alpha."""
        if not self.varies:
            return math.nan
        wanted, ends = self.half_width(alpha) / self.se, sorted((self.df_of_seeds, self.image_df))
        low, high = math.log(ends[0] / 2), math.log(ends[1] * 2)
        return math.exp(_root(lambda x: _quantile(alpha, math.exp(x)) - wanted, low, high))

    def power(self, effect: float, alpha: float) -> float:
        """Chance that a true effect of this size gets a p below alpha if the variances are exactly these."""
        seed, image = self._squares(alpha)
        critical = np.sqrt(seed * _draws_of_variance(self.df_of_seeds) + image) / self.se
        shift = abs(effect) / self.se
        return float((special.ndtr(shift - critical) + special.ndtr(-shift - critical)).mean())

    def detectable(self, alpha: float, power: float) -> float:
        """The smallest true effect detected with this power, a fraction; 0 if nothing varies."""
        if not self.varies:
            return 0.0 if self.still else math.nan
        greatest = 10 * self.half_width(alpha) + 10 * self.se
        return _root(lambda effect: self.power(effect, alpha) - power, 0.0, greatest)

    def _squares(self, alpha: float) -> tuple[float, float]:
        seed = _quantile(alpha, self.df_of_seeds) ** 2 * self.seed / self.seeds
        return seed, _quantile(alpha, self.image_df) ** 2 * self.image if self.image else 0.0


def half_width(values: np.ndarray, alpha: float = 0.05) -> float:
    """Half the width of the t interval (95 % by default) of the mean of ``values`` (n,); nan for fewer than two."""
    n = len(values)
    return _quantile(alpha, n - 1) * float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan


def _quantile(alpha: float, df: float) -> float:
    """The value that |t| exceeds with probability alpha."""
    return -float(special.stdtrit(df, alpha / 2)) if df > 0 else math.nan


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq  # takes half a second to import

    return brentq(function, low, high)


@functools.cache
def _draws_of_variance(df: float) -> np.ndarray:
    """(2000,) equally likely ratios of an estimated to a true variance."""
    return special.chdtri(df, (np.arange(2000) + 0.5) / 2000) / df


def binomial(hits: int, number: int, alpha: float) -> float:
    """The exact one-sided upper bound (Clopper and Pearson) of a rate seen ``hits`` times in ``number``."""
    return 1.0 if hits == number else float(special.betaincinv(hits + 1, number - hits, 1 - alpha))
