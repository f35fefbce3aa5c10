"""Counts of every image and seed -> effects with intervals, p values and detectable sizes: the statistics of verdicts.

*The unit of inference* is a training (one seed) crossed with an image: a statement is about new trainings scored on new
images of the same kind, not about these weights or these images. Cells are paired: all have the same seeds and images.

*The model* is that of readers and cases (Obuchowski and Rockette 1995), a seed being a reader and an image a case: the
mean over n seeds of an effect varies by S^2 / n + C. S^2 is the sample variance of the effects of single seeds. C is
the mean covariance, between two different seeds, of their effects when the images are resampled for both at once: what
the images alone do, which more seeds do not lessen. S^2 / n is the seed level of a hierarchical bootstrap in closed
form, times n / (n - 1): resampling three seeds shows only two thirds of their variance.

*Intervals* and p values are those of ``study.spread``: each part has its own degrees of freedom, and neither covers
too seldom. A bootstrap's percentiles, or degrees of freedom estimated from two or three seeds, do (D71).

*What few seeds decide* (D72): one seed nothing; two, with t = 12.7, only means nine times the standard deviation over
seeds; three 2.5 times; five 1.2 times, at alpha 0.05 with nothing from images. ``Effect.mde`` says it for the case.

*Several parts* (D74): a claim that says "all of these" holds where each part does at alpha, without a correction (it is
wrongly upheld only if a false part passes; intersection-union). One that says "any of these", and every list of claims
of which some will be pointed at, is corrected by ``holm``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from study import resampling
from study.resampling import Score
from study.seeds import generator
from study.spec import InputError
from study.spread import NONE, Spread

UNKNOWN = Spread(math.nan, math.nan, 1, math.nan)  # one seed does not tell how seeds vary

Counts = list[np.ndarray]  # a cell: per seed its counts (images, 2, K, 3) or ranks (images,), as in study.metrics
Address = tuple[int | str, ...]
MOST_SEEDS = 100_000
LEAST_DRAWS = 100


@dataclass(frozen=True)
class Effect:
    """An effect in fractions (0.055 is 5.5 points); all but ``estimate`` is nan with one seed, or where a
    score is nan: no verdict.

    ``low`` and ``high`` bound the two-sided 1 - alpha interval, ``p`` is two-sided for "the effect is 0", ``se`` the
    standard error, ``df`` that of the t interval of the same width. ``mde`` is the smallest true effect that such seeds
    and images find with power 0.8 at alpha, if the variances are as estimated: n seeds know them to about
    1 / sqrt(2 (n - 1)), so three to within a half.
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

    def seeds_for(self, effect: float, power: float = 0.8, alpha: float = 0.05) -> int | None:
        """Seeds that would decide an effect of this size (a fraction) on as many images; None where the images alone
        forbid it (or 100,000 seeds would not do), or one seed does not tell how seeds vary."""
        _check(alpha, power=power)
        if math.isnan(self.spread.se):
            return None

        def enough(seeds: int) -> bool:
            spread = Spread(self.spread.seed, self.spread.image, seeds, self.spread.image_df)
            return effect != 0 and (not spread.varies or spread.power(effect, alpha) >= power)

        low, high = 1, 2  # one is too few, always
        while not enough(high):
            low, high = high, 2 * high
            if high > MOST_SEEDS:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high


def contrast(terms: list[tuple[float, Counts]], score: Score, alpha: float, draws: int, address: Address) -> Effect:
    """The sum of weight * score over cells, such as ``[(1, a), (-1, b)]``: its mean over seeds, and how sure it is.

    Scores are taken of summed counts (dataset-level), ``draws`` times over resampled images. Raises InputError where
    cells differ in seeds or images, or alpha and draws make no sense.
    """
    _check(alpha, draws=draws)
    images = _paired([cell for _, cell in terms])
    effects = np.sum([weight * np.array([score(seed) for seed in cell]) for weight, cell in terms], axis=0)
    seeds, estimate, nan = len(effects), float(effects.mean()), math.nan
    if seeds == 1 or math.isnan(estimate):
        return Effect(estimate, nan, nan, nan, nan, nan, seeds, images, nan)
    resampled = np.zeros((seeds, draws))
    for rows, times in resampling.image_draws(images, draws, generator(*address)):
        for weight, cell in terms:
            for seed, measured in enumerate(cell):
                resampled[seed, rows] += weight * resampling.scores(score, measured, times)
    covariance = np.cov(resampled)
    between = (covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1))
    df = _image_df(terms, score)
    # A bootstrap of few images is as much too narrow as a variance that is divided by their number. C has two noises:
    # that of so many images, and that of so many draws.
    image = max(0.0, float(between)) * (df + 1) / df
    spread = Spread(float(effects.var(ddof=1)), image, seeds, 1 / (1 / df + 1 / draws))
    half = spread.half_width(alpha) if spread.varies or estimate == 0 else nan
    return Effect(
        estimate, estimate - half, estimate + half, spread.p(estimate), spread.se, spread.df(alpha),
        seeds, images, spread.detectable(alpha, 0.8), spread,
    )  # fmt: skip


def _image_df(terms: list[tuple[float, Counts]], score: Score) -> float:
    """Degrees of freedom of a variance over images: one less than their number where all matter alike, few where a
    class is in few of them. A sample variance of m values of kurtosis k has 2 m / (k - 1); the values are what leaving
    out an image does to the mean over seeds."""
    change = np.mean(
        [weight * resampling.scores_without(score, seed) for weight, cell in terms for seed in cell], axis=0
    )
    images, change = len(change), change - change.mean()
    second, fourth = (change**2).mean(), (change**4).mean()
    if second * images <= NONE:
        return images - 1.0
    return min(images - 1.0, 2 * images / max(float(fourth / second**2) - 1, 1e-9))


def trend(cells: list[Counts], score: Score, alpha: float, draws: int, address: Address) -> tuple[Effect, float]:
    """How a score changes along cells in the order of the claim, the highest said to be last.

    The Effect is the *slope per step* (least squares over equal steps), which all cells have a part in. The number is
    the one-sided p of Page's test for ordered alternatives. Its blocks must be independent, and two seeds scored on
    the same images are not: a block is therefore one seed on its own share of the images, dealt out at random by the
    address. Within a block the hypothesis, that all cells are alike, makes every order of them equally likely; a
    common start or common images of a block change nothing in that. The p is nan with one seed.

    Raises InputError with fewer than three cells, and as ``contrast`` does.
    """
    if len(cells) < 3:
        raise InputError(
            "a trend must have at least 3 cells (two in order are a difference), "
            f"got {len(cells)}; take a contrast of the two"
        )
    steps = np.arange(len(cells)) - (len(cells) - 1) / 2
    weights = steps / (steps**2).sum()
    terms = [(float(weight), cell) for weight, cell in zip(weights, cells, strict=True)]
    slope = contrast(terms, score, alpha, draws, (*address, "slope"))
    if slope.seeds == 1 or slope.images < slope.seeds:
        return slope, math.nan
    shares = np.array_split(generator(*address, "blocks").permutation(slope.images), slope.seeds)
    blocks = np.array([[score(cell[seed][share]) for cell in cells] for seed, share in enumerate(shares)])
    from scipy.stats import page_trend_test  # takes a second to import, and only trends need it

    # Rounding must not break ties; tied cells share their rank, which makes the test more careful.
    return slope, math.nan if np.isnan(blocks).any() else float(page_trend_test(blocks.round(12)).pvalue)


def holm(ps: list[float]) -> list[float]:
    """p values adjusted for being tested together (Holm 1979: right however they depend on each other).

    A nan, a claim that could not be judged, stays nan but counts as one of them: which claims were asked does not
    depend on which could be answered.
    """
    known = np.nan_to_num(np.array(ps, dtype=float), nan=1.0)
    order = np.argsort(known)
    adjusted = np.empty_like(known)
    # The library's own collects garbage at every call, which takes longer than all else of a verdict.
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(known[order] * np.arange(len(ps), 0, -1)))
    return [math.nan if math.isnan(p) else float(q) for p, q in zip(ps, adjusted, strict=True)]


def equivalent(effect: Effect, margin: float, alpha: float) -> float:
    """The p of "the effect is not within +-margin", by two one-sided tests (the larger of their p values).

    It is below alpha exactly where the two-sided 1 - 2 alpha interval lies within the margin. nan with one seed.
    Raises InputError unless the margin is positive and alpha a level.
    """
    _check(alpha)
    if not margin > 0:
        raise InputError(
            "a margin of equivalence must be positive (no data can show that two scores are the same to the last "
            f"digit), got {margin}; take the smallest difference that would matter, such as 0.005"
        )
    inside = margin - abs(effect.estimate)
    if effect.estimate == 0 and effect.spread.still:
        return 0.0  # a cell beside itself
    p = effect.spread.p(inside) / 2
    return p if inside >= 0 else 1 - p


def _paired(cells: list[Counts]) -> int:
    """The number of images, where every cell has the same seeds and images."""
    shapes = {tuple(seed.shape for seed in cell) for cell in cells}
    if len(shapes) != 1 or len(set(next(iter(shapes)))) != 1:
        raise InputError(
            "the cells of an effect must have the same seeds and images (differences are paired), got "
            f"{sorted(str(shape) for shape in shapes)} as shapes by seed; leave out what not all of them have"
        )
    images = cells[0][0].shape[0]
    if images < 2:
        raise InputError(
            "the images of an effect must be two or more (one tells nothing about others), "
            f"got {images}; take a larger val split"
        )
    return images


def _check(alpha: float, draws: int = LEAST_DRAWS, power: float = 0.8) -> None:
    if not 0 < alpha <= 0.5:
        raise InputError(
            f"alpha must be above 0 and at most 0.5 (it is the rate of false verdicts), got {alpha}; take 0.05"
        )
    if draws < LEAST_DRAWS:
        raise InputError(
            f"the draws of a bootstrap must be at least {LEAST_DRAWS} (a variance of fewer is mostly noise), "
            f"got {draws}; take 2000"
        )
    if not alpha < power < 1:
        raise InputError(
            "the power must be above alpha and below 1 (chance finds as much, certainty takes endless data), "
            f"got {power}; take 0.8"
        )
