"""Effects, trends, equivalence and corrections: by hand, against scipy and statsmodels, invariances, calibration."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from study import metrics
from study.seeds import generator
from study.spec.errors import InputError
from study.statistics import bootstrap
from study.statistics.effects import Counts, Effect, Sample, combined, contrast, drop, equivalent, of_seeds
from study.statistics.intervals import LEAST_P, Spread, binomial, half_width


def _cell(right: list[list[int]], of: int = 100) -> Counts:
    """A cell of one class with ``right`` of ``of`` pixels correct, by seed and image."""
    return [np.array([[[[0, 0, 0]], [[n, 0, of - n]]] for n in seed]) for seed in right]


def _random(name: str, seeds: int = 3, images: int = 40, classes: int = 3, shift: float = 0.0) -> Counts:
    """Counts with effects of seeds and of images."""
    draw = generator("counts", name)
    pixels = draw.poisson(30, (images, 2, classes)) * (draw.random((images, 1, classes)) < 0.5)
    chance = 0.6 + shift + 0.1 * draw.normal(size=(images, 1, 1)) + 0.03 * draw.normal(size=(seeds, 1, 1, 1))
    hits = draw.binomial(pixels, np.clip(chance, 0, 1))
    return list(np.stack([hits, np.roll(pixels - hits, 1, -1), pixels - hits], -1))


def _alike(right: list[int]) -> Counts:
    """Cells whose images are all alike, so that only seeds vary."""
    return _cell([[n] * 10 for n in right])


ACCURACY = metrics.pixel_accuracy
ADDRESS = ("test", 0)


def test_without_image_variance_contrasts_are_paired_t_tests():
    ours, base = _alike([70, 75, 71, 78]), _alike([66, 70, 69, 70])
    effect = contrast([(1, ours), (-1, base)], ACCURACY, 0.05, 200, ADDRESS)
    test = stats.ttest_rel([0.70, 0.75, 0.71, 0.78], [0.66, 0.70, 0.69, 0.70])
    interval = test.confidence_interval(0.95)
    assert (effect.low, effect.high) == pytest.approx((interval.low, interval.high))
    assert effect.p == pytest.approx(test.pvalue)
    assert (effect.df, effect.seeds, effect.images) == (pytest.approx(3), 4, 10)
    assert effect.estimate == pytest.approx(0.0475)
    assert effect.se == pytest.approx(0.025 / 2)  # differences 4, 5, 2 and 8 points: a deviation of 2.5


def test_three_pairs_by_hand():
    """Differences of 1, 2 and 3 points: mean 2, deviation 1, t quantile 4.3027 on two degrees of freedom."""
    effect = contrast([(1, _alike([51, 52, 53])), (-1, _alike([50, 50, 50]))], ACCURACY, 0.05, 200, ADDRESS)
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert (effect.low, effect.high) == pytest.approx((0.02 - half, 0.02 + half))
    assert effect.p == pytest.approx(0.0742, abs=1e-4)  # three seeds in perfect order give no verdict


def test_image_variance_does_not_shrink_with_seeds():
    """All seeds agree on every image: the variance is that of the images' differences over their number."""
    right = [60, 70, 80, 50, 90, 65, 75, 85]
    variance = np.var(np.array(right) / 100, ddof=1) / 8
    for seeds in (2, 10):
        terms = [(1.0, _cell([right] * seeds)), (-1.0, _cell([[50] * 8] * seeds))]
        effect = contrast(terms, ACCURACY, 0.05, 20_000, ADDRESS)
        assert effect.spread.seed == 0
        assert effect.spread.image == pytest.approx(variance, rel=0.05)
        assert effect.df == pytest.approx(7, rel=0.01)  # slightly less, because the number of draws is limited
        assert effect.seeds_for(0.0001) is None


@pytest.mark.slow
def test_seed_image_interaction_is_counted_once():
    """Independent noise for each seed and image: the variance of the mean is that of one value over seeds x images."""
    draw = generator("together")
    errors = []
    for number in range(100):
        cell = list(draw.integers(0, 100, (5, 200)))
        effect = contrast([(1, cell)], lambda ranks: float(ranks.mean()) / 100, 0.05, 100, ("together", number))
        errors.append(effect.se**2)
    assert np.mean(errors) == pytest.approx((1 / 12) / (5 * 200), rel=0.15)  # counted twice, it would be double


def test_scores_are_dataset_level_as_in_the_tables():
    """A large image counts more than a small one: 90 of 100 and 0 of 10 is 90 / 110, not 45 %."""
    cell = [np.array([[[[0, 0, 0]], [[90, 0, 10]]], [[[0, 0, 0]], [[0, 0, 10]]]])] * 2
    assert contrast([(1, cell)], ACCURACY, 0.05, 100, ADDRESS).estimate == 90 / 110
    cell = _random("tables")
    assert contrast([(1, cell)], metrics.miou, 0.05, 100, ADDRESS).estimate == pytest.approx(
        np.mean([metrics.miou(seed) for seed in cell]), abs=0
    )


FEW = functools.partial(metrics.miou, classes=[0, 2])


@pytest.mark.parametrize("score", [*metrics.METRICS.values(), FEW])
def test_scores_of_draws_match_metrics(score: Callable) -> None:
    seed = _random("draws", classes=4)[0]
    seed[:, :, 3] = 0  # an absent class
    (_, times), *_ = bootstrap.image_draws(len(seed), 30, generator("draws"))
    expected = [score(np.repeat(seed, row, axis=0)) for row in times]
    assert bootstrap.scores(score, seed, times) == pytest.approx(expected, abs=1e-12)
    assert bootstrap.scores(lambda counts: score(counts), seed, times) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("score", metrics.ERRORS.values())
def test_scores_of_drawn_ranks_match_metrics(score: Callable) -> None:
    ranks = generator("ranks").integers(0, 9, 50)
    (_, times), *_ = bootstrap.image_draws(50, 30, generator("draws"))
    expected = [score(np.repeat(ranks, row)) for row in times]
    assert bootstrap.scores(score, ranks, times) == pytest.approx(expected, abs=1e-12)
    assert bootstrap.scores(lambda drawn: score(drawn), ranks, times) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("score", [*metrics.METRICS.values(), FEW])
def test_scores_without_an_image_match_metrics(score: Callable) -> None:
    seed = _random("draws", classes=4)[0]
    expected = [score(np.delete(seed, image, axis=0)) for image in range(len(seed))]
    assert bootstrap.scores_without(score, seed) == pytest.approx(expected, abs=1e-12)
    assert bootstrap.scores_without(lambda counts: score(counts), seed) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("score", metrics.ERRORS.values())
def test_scores_without_a_rank_match_metrics(score: Callable) -> None:
    ranks = generator("ranks").integers(0, 9, 50)
    expected = [score(np.delete(ranks, image)) for image in range(50)]
    assert bootstrap.scores_without(score, ranks) == pytest.approx(expected, abs=1e-12)
    assert bootstrap.scores_without(lambda drawn: score(drawn), ranks) == pytest.approx(expected, abs=1e-12)


def test_a_difference_in_two_images_has_low_df():
    few, none = [90, 85] + [50] * 98, [50] * 100
    effect = contrast([(1, _cell([few] * 3)), (-1, _cell([none] * 3))], ACCURACY, 0.05, 1000, ADDRESS)
    assert 2 < effect.df < 5
    assert effect.low < 0 < effect.estimate


def test_every_score_has_a_batched_version():
    assert set(bootstrap.BATCHED) == set(metrics.METRICS.values())
    assert set(bootstrap.RANKED) == set(metrics.ERRORS.values())


def test_draws_made_in_pieces_keep_their_size(monkeypatch):
    monkeypatch.setattr(bootstrap, "AT_ONCE", 70)
    pieces = list(bootstrap.image_draws(30, 7, generator("pieces")))
    assert [rows for rows, _ in pieces] == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 7)]
    times = np.concatenate([times for _, times in pieces])
    assert times.shape == (7, 30)
    assert (times.sum(1) == 30).all()
    assert times.max() > 1


def test_swapping_the_cells_swaps_only_the_sign():
    a, b = _random("a", shift=0.05), _random("b")
    one = contrast([(1, a), (-1, b)], metrics.miou, 0.05, 300, ADDRESS)
    other = contrast([(1, b), (-1, a)], metrics.miou, 0.05, 300, ADDRESS)
    assert (other.estimate, other.low, other.high) == pytest.approx((-one.estimate, -one.high, -one.low))
    assert (other.p, other.se, other.df, other.mde) == pytest.approx((one.p, one.se, one.df, one.mde))
    assert equivalent(other, 0.1, 0.05) == pytest.approx(equivalent(one, 0.1, 0.05))


def test_effects_ignore_the_order_of_seeds_and_images():
    a, b = _random("a", shift=0.05), _random("b")
    plain = contrast([(1, a), (-1, b)], metrics.miou, 0.05, 4000, ADDRESS)
    turned = contrast([(1, a[::-1]), (-1, b[::-1])], metrics.miou, 0.05, 4000, ADDRESS)
    assert (turned.estimate, turned.se, turned.p) == pytest.approx((plain.estimate, plain.se, plain.p))
    order = generator("order").permutation(40)
    mixed = contrast(
        [(1, [s[order] for s in a]), (-1, [s[order] for s in b])], metrics.miou, 0.05, 4000, ADDRESS
    )  # fmt: skip
    assert mixed.estimate == pytest.approx(plain.estimate, abs=1e-15)
    assert mixed.se == pytest.approx(plain.se, rel=0.1)


def test_equal_addresses_give_bit_identical_effects():
    a, b = _random("a"), _random("b")
    before = [seed.copy() for seed in a]
    first, again, other = (
        contrast([(1, a), (-1, b)], metrics.miou, 0.05, 200, (*ADDRESS, what)) for what in "xxy"
    )  # fmt: skip
    assert first == again != other
    assert all((old == new).all() for old, new in zip(before, a, strict=True))


def test_one_seed_or_nan_scores_give_no_verdict():
    a, b = _random("a", seeds=1), _random("b", seeds=1)
    effect = contrast([(1, a), (-1, b)], metrics.miou, 0.05, 200, ADDRESS)
    assert effect.estimate == metrics.miou(a[0]) - metrics.miou(b[0])
    assert all(math.isnan(x) for x in (effect.low, effect.high, effect.p, effect.se, effect.df, effect.mde))
    assert effect.seeds_for(0.01) is None
    assert math.isnan(equivalent(effect, 0.1, 0.05))
    alone = of_seeds(np.array([0.1]), 0.05)
    assert alone.estimate == 0.1 and math.isnan(alone.p) and alone.seeds_for(0.01) is None
    empty = [np.zeros((5, 2, 1, 3), int)] * 3
    assert math.isnan(contrast([(1, empty)], metrics.miou, 0.05, 200, ADDRESS).p)


def test_identical_cells_are_equal_and_constant_ones_unknown():
    a = _random("a")
    same = contrast([(1, a), (-1, a)], metrics.miou, 0.05, 200, ADDRESS)
    assert (same.estimate, same.low, same.high, same.p, same.mde) == (0, 0, 0, 1, 0)
    assert equivalent(same, 0.001, 0.05) == 0
    apart = contrast([(1, _alike([60, 60])), (-1, _alike([50, 50]))], ACCURACY, 0.05, 200, ADDRESS)
    assert apart.estimate == pytest.approx(0.1)
    assert math.isnan(apart.p) and math.isnan(apart.low) and math.isnan(equivalent(apart, 0.2, 0.05))


def test_the_interval_touches_zero_where_alpha_is_p():
    terms = [(1.0, _random("a", shift=0.05)), (-1.0, _random("b"))]
    effect = contrast(terms, metrics.miou, 0.05, 300, ADDRESS)
    touching = contrast(terms, metrics.miou, min(0.5, effect.p), 300, ADDRESS)
    assert 0 < effect.p < 0.5
    assert min(abs(touching.low), abs(touching.high)) == pytest.approx(0, abs=1e-9)
    t = effect.spread.half_width(0.05) / effect.se
    assert stats.t.isf(0.025, effect.df) == pytest.approx(t)


def test_equivalence_is_the_interval_at_twice_alpha():
    terms = [(1.0, _random("a")), (-1.0, _random("b"))]
    effect = contrast(terms, metrics.miou, 0.1, 300, ADDRESS)
    reach = max(abs(effect.low), abs(effect.high))
    assert equivalent(effect, reach, 0.05) == pytest.approx(0.05)
    assert equivalent(effect, abs(effect.estimate), 0.05) == pytest.approx(0.5)
    assert equivalent(effect, abs(effect.estimate) / 2, 0.05) > 0.5
    for alpha in (0.01, 0.2):
        wide = effect.spread.half_width(2 * alpha) + abs(effect.estimate)
        assert equivalent(effect, 1.01 * wide, alpha) < alpha < equivalent(effect, 0.99 * wide, alpha)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_seeds_only_power_matches_the_t_test(seeds: int) -> None:
    spread = Spread(0.02**2, 0.0, seeds, 100.0)
    for effect in (0.01, 0.02, 0.03):  # far from zero statsmodels answers nan
        expected = TTestPower().power(effect / 0.02, seeds, 0.05)
        assert spread.power(effect, 0.05) == pytest.approx(expected, abs=0.002)
    assert spread.power(spread.detectable(0.05, 0.8), 0.05) == pytest.approx(0.8)


def test_needed_seeds_match_t_tests_unless_images_forbid():
    effect = contrast([(1, _alike([70, 75, 71, 78])), (-1, _alike([66, 70, 69, 70]))], ACCURACY, 0.05, 200, ADDRESS)
    needed = effect.seeds_for(0.02)
    assert needed == math.ceil(TTestPower().solve_power(0.02 / 0.025, power=0.8, alpha=0.05))
    assert effect.seeds_for(1.0) == 2
    assert effect.seeds_for(0) is None
    assert effect.seeds_for(effect.mde) == 4
    spread = Spread(0.02**2, 0.02**2, 3, 500.0)  # images alone: 2.8 standard errors of 0.02 are needed
    noisy = type(effect)(0.0, -1, 1, 1, spread.se, 3, 3, 501, 1, spread)
    assert noisy.seeds_for(0.055) is None
    assert noisy.seeds_for(0.06) is not None


def test_p_has_a_lower_limit():
    assert Spread(1e-8, 1e-8, 3, 100.0).p(1e9) == LEAST_P


def test_intervals_are_exact_at_ends_and_wider_between():
    assert Spread(4.0, 0.0, 4, 50.0).half_width(0.05) == pytest.approx(stats.t.isf(0.025, 3))
    assert Spread(0.0, 1.0, 4, 50.0).half_width(0.05) == pytest.approx(stats.t.isf(0.025, 50))
    both = Spread(4.0, 1.0, 4, 50.0)
    satterthwaite = 4 / (1 / 3 + 1 / 50)
    assert both.half_width(0.05) > stats.t.isf(0.025, satterthwaite) * both.se
    assert 3 < both.df(0.05) < satterthwaite


def test_on_these_images_only_seeds_vary() -> None:
    """The t test of the seeds' own effects, regardless of the images."""
    effects = np.array([0.02, 0.05, 0.03, 0.07])
    effect, test = of_seeds(effects, 0.05), stats.ttest_1samp(effects, 0)
    interval = test.confidence_interval(0.95)
    assert (effect.low, effect.high, effect.p) == pytest.approx((interval.low, interval.high, test.pvalue))
    assert effect.df == pytest.approx(3) and effect.spread.image == 0
    a, b = _random("a"), _random("b", shift=0.1)
    here = of_seeds(np.array([metrics.miou(y) - metrics.miou(x) for x, y in zip(a, b, strict=True)]), 0.05)
    beyond = contrast([(1, b), (-1, a)], metrics.miou, 0.05, 200, ADDRESS)
    assert here.estimate == pytest.approx(beyond.estimate) and here.se < beyond.se


def test_frames_of_one_group_count_as_one_image() -> None:
    """Twenty images, each repeated forty times: without groups they count as eight hundred."""
    a, b = (_random(name, images=20) for name in "ab")
    many = [[np.repeat(seed, 40, axis=0) for seed in cell] for cell in (a, b)]
    drives = np.repeat(np.arange(20), 40)

    def effect(pair: list[Counts], groups: np.ndarray | None = None) -> Effect:
        return contrast([(1, pair[0]), (-1, pair[1])], metrics.miou, 0.05, 2000, ADDRESS, groups)

    plain, grouped, blind = effect([a, b]), effect(many, drives), effect(many)
    assert grouped.estimate == pytest.approx(plain.estimate) and grouped.images == 800
    assert grouped.spread.image == pytest.approx(plain.spread.image, rel=1e-6)
    assert blind.spread.image < 0.1 * grouped.spread.image


@pytest.mark.parametrize("groups", [2, 3, 5])
def test_image_df_is_one_below_the_group_count(groups: int) -> None:
    a, b = _random("a"), _random("b")
    effect = contrast([(1, a), (-1, b)], metrics.miou, 0.05, 2000, ADDRESS, np.arange(40) % groups)
    assert effect.spread.image_df == pytest.approx(1 / (1 / (groups - 1) + 1 / 2000))
    with pytest.raises(InputError, match="two or more groups"):
        contrast([(1, a), (-1, b)], metrics.miou, 0.05, 200, ADDRESS, np.zeros(40, int))


def _fall(items: list[list[float]]) -> tuple[float, Effect | None, tuple[int, int]]:
    values = np.array(items) / 100
    return drop(values, lambda i, j: of_seeds(values[j] - values[i], 0.05))


def test_a_fall_is_found_though_the_line_rises() -> None:
    p, effect, pair = _fall([[50.0, 50.2, 50.1], [60.1, 60.0, 60.2], [59.0, 58.9, 59.0], [70.0, 70.1, 70.2]])
    assert pair == (1, 2) and effect is not None and effect.estimate == pytest.approx(-0.01133, abs=1e-4)
    own = stats.ttest_rel([59.0, 58.9, 59.0], [60.1, 60.0, 60.2]).pvalue
    assert p == pytest.approx(own)  # the shared noise is small: the pair's own variance decides


def test_a_fall_matches_the_pooled_formula_by_hand() -> None:
    """Two-way residuals of 3 cells and 3 seeds have 4 degrees of freedom; 3 pairs."""
    items = np.array([[10.0, 11, 12], [10.4, 11.4, 12.4], [9.4, 10.5, 11.3]])
    p, effect, pair = _fall(items.tolist())
    residuals = items - items.mean(0) - items.mean(1, keepdims=True) + items.mean()
    error = math.sqrt(2 * (residuals**2).sum() / 4 / 3)
    shared = 3 * 2 * stats.t.sf((items[1].mean() - items[2].mean()) / error, 4)
    own = stats.ttest_rel(items[2], items[1]).pvalue
    assert pair == (1, 2) and effect is not None and p == pytest.approx(max(shared, own))
    assert _fall([[1.0, 2.0], [2.0, 3.0], [3.0, 4.0]]) == (1.0, None, (0, 0))
    assert _fall([[3.0], [2.0], [1.0]]) == (1.0, None, (0, 0))  # one seed


def test_a_fall_must_exceed_the_shared_noise() -> None:
    """The pair differs by the same amount in every seed, so the shared noise decides, which includes a third cell's."""
    items = np.array([[10.0, 10.6, 9.8], [12.0, 12.1, 12.2], [11.0, 11.1, 11.21]])
    residuals = items - items.mean(0) - items.mean(1, keepdims=True) + items.mean()
    error = math.sqrt(2 * (residuals**2).sum() / 4 / 3)
    shared = 3 * 2 * stats.t.sf((items[1].mean() - items[2].mean()) / error, 4)
    assert stats.ttest_rel(items[2], items[1]).pvalue < 0.001 < shared < 1
    p, effect, pair = _fall(items.tolist())
    assert pair == (1, 2) and effect is not None and p == pytest.approx(shared)


def test_two_seeds_have_one_degree_of_freedom() -> None:
    effect, test = of_seeds(np.array([0.02, 0.05]), 0.05), stats.ttest_1samp([0.02, 0.05], 0)
    assert effect.df == pytest.approx(1) and effect.p == pytest.approx(test.pvalue)


@pytest.mark.parametrize(
    "world",
    [
        "equal",
        *(pytest.param(world, marks=pytest.mark.slow)
          for world in ("one varies more", "later vary more", "skewed", "one seed in five collapses")),
    ],
)  # fmt: skip
def test_false_falls_occur_at_most_at_rate_alpha(world: str) -> None:
    """Eight equal cells and three seeds; benchmarks/calibration.py simulates more."""
    draw, wrong, simulations = generator("falls", world), 0, 150 if world == "equal" else 400
    for _ in range(simulations):
        values = draw.normal(size=(8, 3)) + 3 * draw.normal(size=3)
        if world == "one varies more":
            values[0] *= 4
        elif world == "later vary more":
            values *= np.linspace(0.3, 3, 8)[:, None]
        elif world == "skewed":
            values = draw.exponential(size=(8, 3))
        elif world == "one seed in five collapses":
            values[-1] -= 8 * (draw.random(3) < 0.2) - 1.6
        p, *_ = drop(values, lambda i, j, values=values: of_seeds(values[j] - values[i], 0.05))
        wrong += p <= 0.05
    assert wrong <= stats.binom.ppf(0.999, simulations, 0.05), wrong


def test_the_exact_bound_of_a_rate() -> None:
    assert binomial(0, 3, 0.05) == pytest.approx(1 - 0.05 ** (1 / 3))  # 63 %
    assert binomial(3, 3, 0.05) == 1.0
    assert stats.binom.cdf(1, 5, binomial(1, 5, 0.05)) == pytest.approx(0.05)


def test_a_voc_contrast_takes_under_two_seconds():
    draw = generator("large")
    a, b = (list(draw.integers(0, 2000, (3, 1449, 2, 21, 3))) for _ in range(2))
    began = time.process_time()
    contrast([(1, a), (-1, b)], metrics.miou, 0.05, 2000, ADDRESS)
    assert time.process_time() - began < 2


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_null_effects_are_significant_at_most_at_alpha(seeds: int) -> None:
    """400 simulations at alpha 0.1; benchmarks/calibration.py simulates more."""
    wrong = np.zeros(2)
    for number in range(400):
        draw = generator("null", seeds, number)
        image = 0.6 + 0.15 * draw.normal(size=(3, 1, 40))
        chance = image + 0.03 * draw.normal(size=(3, seeds, 1)) + 0.1 * draw.normal(size=(3, seeds, 40))
        cells = [_cell(list(right), 50) for right in draw.binomial(50, np.clip(chance, 0, 1))]
        effect = contrast([(1, cells[2]), (-1, cells[0])], ACCURACY, 0.1, 100, ("null", number))
        own = of_seeds(np.array([ACCURACY(y) - ACCURACY(x) for x, y in zip(cells[0], cells[2], strict=True)]), 0.1)
        wrong += [effect.p <= 0.1, not effect.low <= 0 <= effect.high]
        assert own.estimate == pytest.approx(effect.estimate)
    assert (wrong <= stats.binom.ppf(0.999, 400, 0.1)).all(), wrong


def _sample(drawn: np.ndarray, without: np.ndarray) -> Sample:
    return Sample(np.linspace(0.5, 0.6, len(drawn)), drawn, without, without.shape[1])


@pytest.mark.parametrize("few", [1, 5, 50])
def test_few_influential_images_lower_the_degrees_of_freedom(few: int) -> None:
    """Those of the variance of 100 values with kurtosis k: 200 / (k - 1), but at most 99."""
    without = np.full((2, 100), 0.5)
    without[:, :few] += 0.1
    kurtosis = stats.kurtosis(without[0], fisher=False)
    effect = combined([(1, _sample(generator("few").normal(size=(2, 200)), without))], 0.05)
    assert effect.spread.image_df == pytest.approx(1 / (1 / min(99, 200 / max(kurtosis - 1, 1e-9)) + 1 / 200))
    assert effect.images == 100 and (few > 1 or effect.spread.image_df < 3)


def test_image_variance_is_shared_covariance_and_never_negative() -> None:
    """The mean covariance of two seeds, times 4 / 3 to be unbiased for 4 images, as for a sample variance."""
    draw = generator("shared")
    shared, own = draw.normal(size=(1, 500)), draw.normal(size=(3, 500))
    drawn, without = shared + own, np.array([[1.0, 2, 3, 4]] * 3)
    covariance = np.cov(drawn)
    between = np.mean([covariance[0, 1], covariance[0, 2], covariance[1, 2]])
    assert combined([(1, _sample(drawn, without))], 0.05).spread.image == pytest.approx(between * 4 / 3)
    apart = np.stack([own[0], -own[0]])
    assert combined([(1, _sample(apart, without[:2]))], 0.05).spread.image == 0


def test_a_draw_without_a_score_leaves_p_unknown() -> None:
    drawn = generator("gap").normal(size=(3, 200))
    drawn[1, 7] = math.nan
    effect = combined([(1, _sample(drawn, np.ones((3, 9))))], 0.05)
    assert effect.estimate == pytest.approx(0.55) and (effect.seeds, effect.images) == (3, 9)
    assert math.isnan(effect.p) and math.isnan(effect.low)


def test_the_detectable_effect_has_80_percent_power() -> None:
    effect = of_seeds(np.array([0.02, 0.05, 0.03, 0.07, 0.01]), 0.05)
    solved = TTestPower().solve_power(nobs=5, power=0.8, alpha=0.05)
    assert effect.mde / np.std([2, 5, 3, 7, 1], ddof=1) * 100 == pytest.approx(solved, rel=0.005)
    assert effect.spread.power(0.0, 0.05) == pytest.approx(0.05, rel=0.01), "what finds nothing finds it at alpha"
    assert effect.spread.power(-0.02, 0.05) == effect.spread.power(0.02, 0.05)


def test_mean_intervals_match_students_t() -> None:
    values = np.array([1.0, 2, 4, 8])
    for confidence in (0.95, 0.9):
        interval = stats.ttest_1samp(values, 0).confidence_interval(confidence)
        assert half_width(values, 1 - confidence) == pytest.approx((interval.high - interval.low) / 2)
    assert half_width(values) == half_width(values, 0.05) and math.isnan(half_width(values[:1]))


A, B = _random("a"), _random("b")
RANKS = [np.arange(9), np.arange(9)]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: contrast([(1, A), (-1, B[:2])], ACCURACY, 0.05, 200, ADDRESS), "same seeds and images"),
        (lambda: contrast([(1, A), (-1, [s[:9] for s in B])], ACCURACY, 0.05, 200, ADDRESS), "same seeds and images"),
        (lambda: contrast([(1, [A[0], A[1][:9]])], ACCURACY, 0.05, 200, ADDRESS), "same seeds and images"),
        (lambda: contrast([(1, [])], ACCURACY, 0.05, 200, ADDRESS), "same seeds and images"),
        (lambda: contrast([], ACCURACY, 0.05, 200, ADDRESS), "same seeds and images"),
        (lambda: contrast([(1, [s[:1] for s in A])], ACCURACY, 0.05, 200, ADDRESS), "two or more"),
        (lambda: contrast([(1, A)], ACCURACY, 5, 200, ADDRESS), "alpha must be"),
        (lambda: contrast([(1, A)], ACCURACY, 0.05, 99, ADDRESS), "draws of a bootstrap"),
        (lambda: contrast([(1, A)], ACCURACY, 0.05, 200, ADDRESS).seeds_for(0.1, power=80), "power must be"),
        (lambda: of_seeds(np.arange(3.0), 0.05).seeds_for(0.1, power=1.0), "power must be"),
        (lambda: of_seeds(np.arange(3.0), 0.05).seeds_for(0.1, power=0.05), "power must be"),
        (lambda: of_seeds(np.arange(3.0), 0.0), "alpha must be"),
        (lambda: of_seeds(np.arange(3.0), 0.51), "alpha must be"),
        (lambda: contrast([(1, RANKS)], ACCURACY, 0.05, 200, ADDRESS, np.arange(9)), "no groups"),
        (lambda: equivalent(contrast([(1, A)], ACCURACY, 0.05, 200, ADDRESS), 0, 0.05), "margin of equivalence"),
        (lambda: equivalent(contrast([(1, A)], ACCURACY, 0.05, 200, ADDRESS), 0.1, math.nan), "alpha must be"),
    ],
)
def test_invalid_arguments_are_rejected(call: Callable, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()
