"""Effects with intervals, p values and detectable sizes from the scores of every seed and image: the statistics of
verdicts.

*Two questions* (D70). On this benchmark: new trainings are scored on the same images, so only seeds vary
(``of_seeds``). Beyond it: new trainings are scored on new images of the same kind, so trainings (seeds) are crossed
with images (``combined``). Cells are paired: all have the same seeds and images.

*The model* of the second question is that of readers and cases (Obuchowski and Rockette 1995): a seed is a reader, an
image is a case. The mean of an effect over n seeds has the variance S^2 / n + C. S^2 is the sample variance of the
effects of single seeds. C is the mean covariance between the effects of two different seeds when the images are
resampled for both at once: the images' own contribution, which more seeds do not reduce. S^2 / n is the seed level of a
hierarchical bootstrap in closed form, times n / (n - 1): resampling three seeds shows only two thirds of their
variance.

*Intervals* and p values are those of ``study.statistics.intervals``: each of the two variances has its own degrees of
freedom, and the intervals never cover too seldom. The percentiles of a bootstrap do, and so do degrees of freedom
estimated from two or three seeds (D71).

*What few seeds decide* (D72), at alpha 0.05 and without variance from images: one seed decides nothing; two, with t =
12.7, only means of nine times the standard deviation over seeds; three, 2.5 times; five, 1.2 times. ``Effect.mde``
gives the number for the case at hand.

*Several parts* (D74): a claim that says "all of these" holds if each part does at alpha, without a correction (it is
wrongly upheld only if a false part passes; intersection-union). A claim that says "any of these", and every list of
claims from which some will be singled out, shares one alpha (study.statistics.levels).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from study.seeds import generator
from study.spec.constants import LEAST_DRAWS
from study.spec.errors import InputError
from study.statistics import bootstrap
from study.statistics.bootstrap import Score
from study.statistics.intervals import NONE, Spread

UNKNOWN = Spread(math.nan, math.nan, 1, math.nan)  # one seed cannot show how seeds vary

Counts = list[np.ndarray]  # a cell: per seed its counts (images, 2, K, 3) or ranks (images,), as in study.metrics
Address = tuple[int | str, ...]
Transform = Callable[[np.ndarray], np.ndarray]
MOST_SEEDS = 100_000
POWER = 0.8  # with which effects are detected, and claims decided
FEW = 5  # so few groups have no meaningful kurtosis


@dataclass(frozen=True)
class Effect:
    """An effect in fractions (0.055 is 5.5 points). With one seed, or if a score is nan, all but ``estimate`` is nan
    and there is no verdict.

    ``low`` and ``high`` bound the two-sided 1 - alpha interval, ``p`` is two-sided for "the effect is 0", ``se`` is the
    standard error, and ``df`` are the degrees of freedom of the t interval of the same width. ``mde`` is the smallest
    true effect that this many seeds and images detect with power 0.8 at alpha, if the variances are as estimated.
    Estimates from n seeds are known to about 1 / sqrt(2 (n - 1)), so those from three to within a half.
    """

    estimate: float
    low: float
    high: float
    p: float
    se: float
    df: float
    seeds: int
    images: int
    mde: float
    spread: Spread = UNKNOWN

    def seeds_for(self, effect: float, power: float = POWER, alpha: float = 0.05) -> int | None:
        """The number of seeds that would decide an effect of this size (a fraction) on as many images. None if the
        images alone rule it out, if 100,000 seeds would not do, or if one seed cannot show how seeds vary."""
        _check(alpha, power=power)
        if math.isnan(self.spread.se):
            return None

        def enough(seeds: int) -> bool:
            spread = Spread(self.spread.seed, self.spread.image, seeds, self.spread.image_df)
            return effect != 0 and (not spread.varies or spread.power(effect, alpha) >= power)

        low, high = 1, 2  # one is always too few
        while not enough(high):
            low, high = high, 2 * high
            if high > MOST_SEEDS:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high


@dataclass(frozen=True)
class Sample:
    """A cell's scores by seed (seeds,), on resampled images (seeds, draws), and with each image or group of images left
    out in turn (seeds, groups). ``images`` is the number of images scored."""

    scores: np.ndarray
    drawn: np.ndarray
    without: np.ndarray
    images: int


def sample(cell: Counts, score: Score, draws: int, address: Address, groups: np.ndarray | None = None) -> Sample:
    """A cell's scores of summed counts (dataset-level), and of ``draws`` resamplings of its images.

    The ``address`` of the draws pairs cells. ``groups`` (images,) are whole numbers from 0 up: images of one group,
    such as the frames of a drive, are drawn together (D115). Raises InputError for fewer than two images or groups, and
    for seeds with different images.
    """
    _check(0.05, draws=draws)
    if len({seed.shape for seed in cell}) != 1:
        raise InputError(
            "the cells of an effect must have the same seeds and images (differences are paired), got "
            f"{sorted(str(seed.shape) for seed in cell)} as shapes by seed; leave out what some of them lack"
        )
    images, measured = len(cell[0]), list(cell)
    if groups is not None:
        measured = [_grouped(seed, groups) for seed in cell]
    units = len(measured[0])
    if units < 2:
        raise InputError(
            "an effect needs two or more images, and two or more groups if images have groups (one says nothing "
            f"about others), got {units}; take a larger val split"
        )
    drawn = np.zeros((len(cell), draws))
    for rows, times in bootstrap.image_draws(units, draws, generator(*address)):
        for seed, one in enumerate(measured):
            drawn[seed, rows] = bootstrap.scores(score, one, times)
    without = np.stack([bootstrap.scores_without(score, seed) for seed in measured])
    return Sample(np.array([score(seed) for seed in cell]), drawn, without, images)


def _grouped(measured: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Counts (groups, 2, K, 3), summed over the images of each group."""
    if measured.ndim == 1:
        raise InputError(
            "classification images must have no groups (their ranks cannot be added), got groups; drop `groups`"
        )
    found = np.zeros((int(groups.max()) + 1, *measured.shape[1:]), measured.dtype)
    np.add.at(found, groups, measured)
    return found


def of_seeds(effects: np.ndarray, alpha: float) -> Effect:
    """The mean of the effects of single seeds (seeds,) on the given images: only trainings vary."""
    _check(alpha)
    estimate, seeds = float(effects.mean()), len(effects)
    if seeds == 1 or not math.isfinite(estimate):
        return _unknown(estimate, seeds, 0)
    return _effect(estimate, Spread(float(effects.var(ddof=1)), 0.0, seeds, seeds - 1.0), 0, alpha)


def combined(terms: list[tuple[float, Sample]], alpha: float, transform: Transform = lambda scores: scores) -> Effect:
    """The sum of weight * transform(score) over cells: its mean over seeds, and its uncertainty for new images too.

    Raises InputError if the cells differ in seeds or images.
    """
    _check(alpha)
    shapes = {(one.drawn.shape, one.without.shape, one.images) for _, one in terms}
    if len(shapes) != 1:
        raise InputError(
            "the cells of an effect must have the same seeds and images (differences are paired), got "
            f"{sorted(str((len(one.scores), one.images)) for _, one in terms)} as (seeds, images); leave out what "
            "some of them lack"
        )
    effects = sum(weight * transform(one.scores) for weight, one in terms)
    assert isinstance(effects, np.ndarray)
    estimate, (seeds, images) = float(effects.mean()), (len(effects), terms[0][1].images)
    resampled = sum(weight * transform(one.drawn) for weight, one in terms)
    assert isinstance(resampled, np.ndarray)
    if seeds == 1 or not math.isfinite(estimate) or not np.isfinite(resampled).all():
        return _unknown(estimate, seeds, images)
    covariance = np.cov(resampled)
    between = (covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1))
    df = _image_df(sum(weight * transform(one.without) for weight, one in terms))
    # A bootstrap of few images is too narrow, by as much as a variance divided by their number. C has two sources of
    # noise: the number of images and the number of draws.
    image = max(0.0, float(between)) * (df + 1) / df
    draws = resampled.shape[1]
    return _effect(estimate, Spread(float(effects.var(ddof=1)), image, seeds, 1 / (1 / df + 1 / draws)), images, alpha)


def _unknown(estimate: float, seeds: int, images: int) -> Effect:
    nan = math.nan
    return Effect(estimate, low=nan, high=nan, p=nan, se=nan, df=nan, seeds=seeds, images=images, mde=nan)


def _effect(estimate: float, spread: Spread, images: int, alpha: float) -> Effect:
    half = spread.half_width(alpha) if spread.varies or estimate == 0 else math.nan
    return Effect(
        estimate,
        low=estimate - half,
        high=estimate + half,
        p=spread.p(estimate),
        se=spread.se,
        df=spread.df(alpha),
        seeds=spread.seeds,
        images=images,
        mde=spread.detectable(alpha, POWER),
        spread=spread,
    )


def contrast(
    terms: list[tuple[float, Counts]], score: Score, alpha: float, draws: int, address: Address,
    groups: np.ndarray | None = None,
) -> Effect:  # fmt: skip
    """``combined`` for cells given as counts, such as ``[(1, a), (-1, b)]``."""
    _check(alpha, draws=draws)
    return combined([(weight, sample(cell, score, draws, address, groups)) for weight, cell in terms], alpha)


def _image_df(without: Any) -> float:
    """Degrees of freedom of a variance over images: their number less one if all matter alike or there are at most FEW,
    and fewer if a class occurs in few of them. A sample variance of m values of kurtosis k has 2 m / (k - 1). The
    values are the changes in the mean over seeds when one image (or group) is left out; ``without`` is (seeds,
    images)."""
    change = np.asarray(without).mean(0)
    images, change = len(change), change - change.mean()
    second, fourth = (change**2).mean(), (change**4).mean()
    if images <= FEW or not math.isfinite(second) or second * images <= NONE:
        return images - 1.0
    return min(images - 1.0, 2 * images / max(float(fourth / second**2) - 1, 1e-9))


def drop(items: np.ndarray, pair: Callable[[int, int], Effect]) -> tuple[float, Effect | None, tuple[int, int]]:
    """Find the clearest pair of items whose later one is below the earlier one. Returns its p, simultaneous over
    all pairs, its effect (later less earlier) and its places; 1.0 and None if no later item is lower. ``items`` is
    (items, seeds); ``pair(i, j)`` is the Effect of item j less item i.

    Each pair must be significant twice (D112): with the variance that all items share (two-way residuals, Bonferroni
    over the pairs), for which few seeds suffice, and with its own variance, which keeps the promised rate if variances
    differ.
    """
    count, seeds = items.shape
    found: tuple[float, Effect | None, tuple[int, int]] = (1.0, None, (0, 0))
    if seeds < 2:
        return found
    residuals = items - items.mean(0) - items.mean(1, keepdims=True) + items.mean()
    df = (count - 1) * (seeds - 1)
    shared, pairs = 2 * float((residuals**2).sum()) / df, count * (count - 1) // 2
    for i, j in itertools.combinations(range(count), 2):
        if items[j].mean() < items[i].mean():
            effect = pair(i, j)
            pooled = replace(effect.spread, seed=shared, seed_df=df).p(effect.estimate)
            p = max(min(1.0, pairs * pooled), effect.p)
            if p < found[0]:
                found = p, effect, (i, j)
    return found


def equivalent(effect: Effect, margin: float, alpha: float) -> float:
    """The p value of "the effect is not within +-margin", by two one-sided tests (the larger of their p values).

    It is below alpha exactly if the two-sided 1 - 2 alpha interval lies within the margin; nan with one seed. Raises
    InputError unless the margin is positive and alpha is a level.
    """
    _check(alpha)
    if not margin > 0:
        raise InputError(
            "a margin of equivalence must be positive (no data can show that two scores are exactly equal), "
            f"got {margin}; take the smallest difference that would matter, such as 0.005"
        )
    inside = margin - abs(effect.estimate)
    if effect.estimate == 0 and effect.spread.still:
        return 0.0  # a cell compared with itself
    p = effect.spread.p(inside) / 2
    return p if inside >= 0 else 1 - p


def _check(alpha: float, draws: int = LEAST_DRAWS, power: float = POWER) -> None:
    if not 0 < alpha <= 0.5:
        raise InputError(
            f"alpha must be above 0 and at most 0.5 (it is the rate of false verdicts), got {alpha}; take 0.05"
        )
    if draws < LEAST_DRAWS:
        raise InputError(
            f"the draws of a bootstrap must be at least {LEAST_DRAWS} (the variance of fewer is mostly noise), "
            f"got {draws}; take 2000"
        )
    if not alpha < power < 1:
        raise InputError(
            "the power must be above alpha (chance reaches that) and below 1 (certainty takes infinite data), "
            f"got {power}; take 0.8"
        )
