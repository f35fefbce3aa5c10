"""Tests of one part of a claim: on which side of which bound its effect lies, and its p."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from study import metrics
from study.paper import predicates
from study.paper.claims import CLAIMS
from study.paper.predicates import ERRORS, SCORES, Margins, Part, above, equal_within, every, gain, increasing
from study.spec.errors import InputError
from study.statistics import answers, claim_tests, effects, questions, sequence, settling, verdicts
from study.statistics.intervals import Spread, half_width
from tests.report import test_document
from tests.statistics import test_verdicts

SPREAD = Spread(0.01**2, 0.0, 3, 100.0)
MARGINS = Margins(Fraction("0.5"), 1.03)
TERMS = ((Fraction(1), "a"), (Fraction(-1), "b"))


def put(low: float | None, high: float | None, estimate: float, drop: float | None = None) -> claim_tests.Tested:
    """A tested part whose bounds and effect are in points."""
    part = Part("it", TERMS, *(None if bound is None else Fraction(str(bound)) for bound in (low, high)))
    half = SPREAD.half_width(0.05)
    at = estimate / 100
    effect = effects.Effect(
        at, at - half, at + half, SPREAD.p(at), se=SPREAD.se, df=2, seeds=3, images=10, mde=0.1, spread=SPREAD
    )
    return claim_tests.tested(part, effect, MARGINS, 0.05, None if drop is None else (drop, "a fall", effect))


def test_p_is_measured_from_the_bound() -> None:
    found = put(2, None, 5)
    assert (found.holds, found.fails) == (pytest.approx(SPREAD.p(0.03)), 1.0)
    found = put(2, None, 1)
    assert (found.holds, found.fails) == (1.0, pytest.approx(SPREAD.p(-0.01)))
    found = put(None, -2, -5)
    assert (found.holds, found.fails) == (pytest.approx(SPREAD.p(0.03)), 1.0)
    assert put(0, None, -0.1).holds == 1.0 and put(0, None, 0.1).fails == 1.0
    assert put(2, None, 5).p == pytest.approx(SPREAD.p(0.03)), "the smaller of the two"


def test_a_range_fails_only_beyond_its_nearer_bound() -> None:
    inside, beyond = put(-1, 3, 1), put(-1, 3, 7)
    assert inside.fails == 1.0 and inside.holds < 1
    assert beyond.fails == pytest.approx(SPREAD.p(0.04)) and beyond.holds > 0.05


def test_a_second_way_to_fail_doubles_p() -> None:
    assert put(0, None, 5, drop=0.01).fails == pytest.approx(0.02)
    assert put(0, None, 5, drop=0.7).fails == 1.0
    assert put(0, None, 5, drop=0.01).against[0] == "a fall" and put(0, None, 5).against[0] == "it"


@pytest.mark.parametrize(
    ("low", "high", "estimate", "away", "right"),
    [(2, None, 5, 0.03, True), (2, None, 1, 0.01, False), (None, 2, 1, 0.01, True), (None, 2, 3, 0.01, False),
     (-1, 3, 2.5, 0.005, True), (-1, 3, -0.5, 0.005, True), (-1, 3, 4, 0.01, False), (-1, 3, -3, 0.02, False)],
)  # fmt: skip
def test_distance_and_side_refer_to_the_nearest_bound(low, high, estimate, away, right) -> None:
    found = put(low, high, estimate)
    assert claim_tests.distance(found, MARGINS) == pytest.approx(away) and claim_tests.right(found, MARGINS) == right


def test_bounds_are_fractions_for_scores_ratios_for_errors() -> None:
    scores, errors = (Part("it", TERMS, Fraction(2), measure=measure) for measure in (SCORES, ERRORS))
    assert (claim_tests.bounds_of(scores, MARGINS)[0], claim_tests.bounds_of(errors, MARGINS)[0]) == (0.02, 2.0)


# ---------------------------------------------------------------------------------- from tested parts to an answer
PLAN = {"verdicts": test_document.RULES, "scale": "paper"}
ALPHA = test_document.RULES["alpha"]


def part_of(name: str, holds: float, fails: float, estimate: float = 1.0, measure: str = SCORES) -> claim_tests.Tested:
    """A tested part with this name, these p values and this effect in points."""
    found = put(0, None, estimate)
    part = Part(name, TERMS, Fraction(), measure=measure)
    return found._replace(part=part, holds=holds, fails=fails, drop=None)


@pytest.mark.parametrize(
    ("holds", "fails", "adjusted", "kind"),
    [
        (0.01, 1.0, ALPHA, answers.SUPPORTED),
        (0.01, 1.0, ALPHA + 1e-9, answers.UNDECIDED),
        (1.0, 0.01, ALPHA, answers.CONTRADICTED),
        (0.001, 0.02, 0.01, answers.CONTRADICTED),
        (0.001, ALPHA + 1e-9, 0.01, answers.SUPPORTED),
    ],
)
def test_adjusted_p_at_most_alpha_decides_a_claim(holds, fails, adjusted, kind) -> None:
    assert answers.kind_of([part_of("it", holds, fails)], adjusted, math.inf, ALPHA) == kind


def test_a_clear_fall_contradicts_a_trend() -> None:
    assert answers.p_of([part_of("it", 0.001, 0.02)], ALPHA) == 0.02
    assert answers.p_of([part_of("it", 0.001, ALPHA + 1e-9)], ALPHA) == 0.001


@pytest.mark.parametrize(("same", "kind"), [(ALPHA, answers.SAME), (ALPHA + 1e-9, answers.UNDECIDED)])
def test_sameness_decides_only_without_a_difference(same: float, kind: str) -> None:
    parts = [part_of("it", 0.3, 1.0)]
    assert answers.kind_of(parts, 0.9, same, ALPHA) == kind
    assert answers.kind_of(parts, ALPHA, same, ALPHA) == answers.SUPPORTED, "a difference comes first"


def test_sameness_p_is_doubled_and_corrected_per_part() -> None:
    near, far = put(0, None, 0.1), put(0, None, 3)
    one = effects.equivalent(near.effect, 0.005, ALPHA)
    assert answers.p_same([near], MARGINS) == pytest.approx(min(1, 2 * one))
    tight = near._replace(effect=dataclasses.replace(near.effect, spread=Spread(1e-8, 0.0, 5, 100.0)))
    once = answers.p_same([tight], MARGINS)
    assert 0 < once < 0.01 and answers.p_same([tight, far], MARGINS) == pytest.approx(2 * once)
    for part in (put(1, None, 0.1), put(-1, 1, 0.1)):
        assert answers.p_same([part], MARGINS) == 1.0, "only what says on which side of nothing it lies"
    assert answers.p_same([tight, put(-1, 1, 0.1)], MARGINS) == 1.0, "what asks for no difference is decided by that"


def test_the_chance_depends_on_weakest_part_and_seeds() -> None:
    weak, strong = put(0, None, 1), put(0, None, 3)
    few, many = (answers.chance([weak, strong], MARGINS, 0.01, seeds) for seeds in (5, 20))
    assert few == pytest.approx(dataclasses.replace(SPREAD, seeds=5).power(0.01, 0.01))
    assert 0 < few < many <= 1
    assert answers.chance([part_of("it", math.nan, math.nan)], MARGINS, 0.01, 50) == 0.0
    against = answers.chance([strong, put(0, None, -1)], MARGINS, 0.01, 5)
    assert against == pytest.approx(dataclasses.replace(SPREAD, seeds=5).power(0.01, 0.005))


def test_judgements_show_the_weakest_or_clearest_part() -> None:
    parts = [part_of("first", 0.001, 1.0, 5), part_of("second", 0.01, 1.0, 3), part_of("third", 0.002, 1.0, 4)]
    shown = answers.judged(parts, answers.SUPPORTED, 0.02, ALPHA / 3, PLAN)
    assert (shown.part, shown.verdict, shown.estimate) == ("second", answers.SUPPORTED, pytest.approx(3))
    parts = [part_of("first", 1.0, 0.01, -2), part_of("second", 0.01, 1.0, 3), part_of("third", 1.0, 0.002, -4)]
    shown = answers.judged(parts, answers.CONTRADICTED, 0.006, ALPHA / 3, PLAN)
    assert (shown.part, shown.verdict) == ("third", answers.CONTRADICTED)
    assert shown.reason == "Does not hold: third (-4.0 points)."
    assert shown.p == pytest.approx(0.006), "three times the least"


def test_detectable_ratios_are_given_as_fewer_errors() -> None:
    least = SPREAD.detectable(ALPHA / 3, effects.POWER)
    for measure, expected in ((ERRORS, 100 * (1 - math.exp(-least))), (SCORES, 100 * least)):
        judged = answers.judged([part_of("it", 0.01, 1.0, measure=measure)], answers.SUPPORTED, 0.02, ALPHA / 3, PLAN)
        assert judged.mde == pytest.approx(expected)


def test_constant_parts_yield_no_seed_count() -> None:
    parts = [part_of("first", 0.2, 1.0), part_of("second", math.nan, math.nan)]
    assert math.isnan(answers.p_of(parts, ALPHA)) and math.isnan(answers.p_of([part_of("it", 0.1, math.nan)], ALPHA))
    assert answers.seeds_needed(parts, MARGINS, 0.01) == (
        None, "Its scores do not vary or have no value, so chance cannot be estimated."
    )  # fmt: skip


def test_needed_seeds_support_all_parts_or_contradict_one() -> None:
    def seeds(estimate: float, alpha: float) -> int:
        found = put(0, None, estimate).effect.seeds_for(abs(estimate) / 100, effects.POWER, alpha)
        assert found is not None
        return found

    weak, strong = part_of("weak", 0.5, 1.0, 0.5), part_of("strong", 0.2, 1.0, 1.5)
    assert answers.seeds_needed([weak, strong], MARGINS, 0.01)[0] == seeds(0.5, 0.01) > seeds(1.5, 0.01)
    wrong, worse = part_of("wrong", 1.0, 0.5, -0.5), part_of("worse", 1.0, 0.2, -1.0)
    assert (
        answers.seeds_needed([strong, wrong, worse], MARGINS, 0.01)[0] == seeds(-1.0, 0.01 / 3) > seeds(1.5, 0.01 / 3)
    )


def test_counted_claims_name_the_failing_part() -> None:
    numbers = {"a": Fraction(3), "b": Fraction(2), "c": Fraction(1)}.__getitem__
    both = every(above("b", "c"), above("b", "a"), above("a", "c"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdicts, "printed", lambda tables, address: numbers(address))
        row = verdicts._counted(verdicts.Verdict(), both, numbers, MARGINS)
        assert (row.verdict, row.part, row.reason) == (answers.CONTRADICTED, "b above a", "Does not hold: b above a.")
        assert row.estimate == -1
        row = verdicts._counted(verdicts.Verdict(), every(above("a", "c"), above("b", "c")), numbers, MARGINS)
        assert (row.verdict, row.part, row.estimate) == (answers.SUPPORTED, "a above c", 2), "the first where all hold"
    assert answers._capital("must be") == "Must be"


def shown_in_a_row(judged: answers.Judgement, parts: list[claim_tests.Tested]) -> verdicts.Verdict:
    """The row of a claim that left with this judgement after three seeds."""
    answer = sequence.Answer(
        0, (0, 1, 2), sequence.DECIDED_THERE, {"here": judged, "beyond": answers.Judgement()},
        {"here": parts, "beyond": []},
    )  # fmt: skip
    made = PLAN | {"cells": []}
    known = claim_tests.Scores(made, {name: dict.fromkeys(range(3), 0.5) for name in "ab"})
    return verdicts._with(verdicts.Verdict(), test_verdicts.claimed(above("a", "b")), answer, made, known)


def test_a_row_has_its_shown_parts_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "printed", lambda tables, address: Fraction({"a": 7, "b": 2}[address]))
    first, second = part_of("first", 0.001, 1.0, 5), part_of("second", 0.01, 1.0, 3)
    second = second._replace(part=dataclasses.replace(second.part, low=Fraction(2)))
    judged = answers.judged([first, second], answers.SUPPORTED, 0.02, ALPHA / 3, PLAN)
    row = shown_in_a_row(judged, [first, second])
    assert (row.part, row.bounds, row.paper, row.seeds) == ("second", (2.0, None), 5.0, 3)
    assert row.wording == verdicts.WORDS["paper"][answers.SUPPORTED].format(on="VOC 2012", shows="GCN wins")


def test_a_contradicting_fall_shows_its_trends_paper_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "printed", lambda tables, address: Fraction({"a": 7, "b": 2}[address]))
    step, trend = part_of("step", 0.001, 1.0, 5), part_of("trend", 0.001, 0.002, 5)
    step = step._replace(part=dataclasses.replace(step.part, terms=((Fraction(1), "b"),)))
    trend = trend._replace(drop=(0.001, "b below a", put(0, None, -3).effect))
    judged = answers.judged([step, trend], answers.CONTRADICTED, 0.01, ALPHA / 3, PLAN)
    assert (judged.verdict, judged.part, judged.estimate) == (answers.CONTRADICTED, "b below a", pytest.approx(-3))
    row = shown_in_a_row(judged, [step, trend])
    assert row.paper == 5.0, "a less b, not b alone"


# ----------------------------------------------------------------------------------------------------- from counts
def test_trends_of_two_cells_have_no_fall(tmp_path: Path) -> None:
    made = test_verdicts.planted(tmp_path, {"a": 50, "b": 49, "c": 52}, seeds=5)
    collected = claim_tests.Collected(made, [tmp_path], {})
    for names, falls in (("ab", False), ("abc", True)):
        (part,) = increasing(tuple(map(test_verdicts.c, names))).parts
        found = collected.tried(part, [0, 1, 2, 3, 4], MARGINS, claim_tests.HERE, test_document.RULES)
        assert (found.drop is not None) == falls


def test_the_worst_case_skips_parts_without_variance(tmp_path: Path) -> None:
    made = test_verdicts.planted(tmp_path, {"a": 50, "b": 52, "c": 50, "d": 50}, scale="paper")
    for cell, hits in zip(made["cells"][2:], (100, 300), strict=True):  # nothing varies, yet d is not c
        counts = np.full((test_verdicts.IMAGES, 2, 1, 3), 100)
        counts[..., metrics.TP] = hits
        for key in cell["runs"].values():
            np.savez(tmp_path / key / "counts.npz", counts=counts)
    collected = claim_tests.Collected(made, [tmp_path], {})
    a, b, c, d = map(test_verdicts.c, "abcd")
    worst = answers._worst(every(above(d, c), above(b, a)), [0, 1, 2], made, collected, claim_tests.HERE)
    assert worst.startswith(f" Including them: {b} above {a} by +")


@pytest.mark.parametrize("metric", ["boundary_accuracy", "internal_accuracy"])
def test_regional_effects_are_differences_of_regional_scores(tmp_path: Path, metric: str) -> None:
    made = test_verdicts.planted(tmp_path, {"a": 50, "b": 55}, spread=2, metric=metric)
    collected = claim_tests.Collected(made, [tmp_path], {})
    means = []
    for cell in made["cells"]:
        counts = [np.load(tmp_path / key / "counts.npz")["counts"] for key in cell["runs"].values()]
        means.append(np.mean([metrics.METRICS[metric](one) for one in counts]))
    (part,) = above(test_verdicts.c("b"), test_verdicts.c("a")).parts
    found = collected.tried(part, [0, 1, 2], MARGINS, claim_tests.HERE, test_document.RULES)
    assert found.effect.estimate == pytest.approx(means[1] - means[0], abs=1e-12)


def test_errors_below_the_floor_or_missing_are_named(tmp_path: Path) -> None:
    made = test_verdicts.planted(tmp_path, {"a": 50})
    key, address = made["cells"][0]["runs"]["0"], test_verdicts.c("a")
    counts = np.zeros((4, 2, 1, 3), np.int64)
    counts[..., 0], counts[..., 2] = 750, 250  # a quarter wrong
    np.savez(tmp_path / key / "tune.npz", counts=counts)

    def faults(floor: float) -> str:
        plan = made | {"verdicts": test_document.RULES | {"error_floor_points": floor}}
        return claim_tests.Collected(plan, [tmp_path], {}).faults([address])

    assert faults(25) == ""
    assert faults(26) == (
        f"On the tune split {address} has an error of 25.00 % (seed 0); below 26 %, a ratio of errors says little."
    )
    (tmp_path / key / "tune.npz").unlink()
    assert faults(25) == f"The tune split's counts of {address} were not kept."


# ------------------------------------------------------------------------------------------------ parts of predicates
def test_tolerances_are_positive_and_signs_are_separate_claims() -> None:
    with pytest.raises(InputError, match="tolerance must be positive"):
        gain("a", "b", Fraction(1), Fraction(0))
    (sign,) = gain("a", "b", Fraction("0.5"), Fraction("0.3")).sign().parts
    assert (sign.name, sign.low, sign.high) == ("a above b", 0, None)
    for equal in (equal_within("a", "b"), equal_within("a", "b", Fraction(1))):
        assert equal.sign() == equal, "it has no sign"
    assert equal_within("a", "b", Fraction(1), ERRORS).parts[0].measure == ERRORS


def test_errors_are_log_ratios_and_trends_omit_zeros() -> None:
    found = predicates.value_of(TERMS, {"a": Fraction(80), "b": Fraction(60)}.__getitem__, ERRORS)
    assert found == pytest.approx(math.log(20 / 40))
    (trend,) = increasing(("a", "b", "c")).parts
    assert {cell for _, cell in trend.terms} == {"a", "c"} and all(weight for weight, _ in trend.terms)


def test_part_names_do_not_change_the_question() -> None:
    assert (
        Part("it", TERMS, Fraction()) == Part("called otherwise", TERMS, Fraction()) != Part("it", TERMS, Fraction(1))
    )


def test_predicates_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        MARGINS.ratio = 2.0  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------ rules and spreads
def test_warm_up_alone_and_the_exact_peak_pass() -> None:
    rule = settling.Settling(peak=2, end=3, fall=0.2)
    assert settling.trouble({"loss": [[5, 9.0], [10, 0.5]], "score": []}, 10, 1.0, 4, rule) == ""
    highest = rule.peak * math.log(4)
    assert settling.trouble({"loss": [[5, highest], [10, 0.5]], "score": []}, 10, 0.0, 4, rule) == ""


def test_tiny_spreads_vary_and_two_values_give_intervals() -> None:
    tiny = Spread(1e-18, 0.0, 1, 100.0)
    assert tiny.varies and not tiny.still
    assert half_width(np.array([0.0, 2.0])) == pytest.approx(12.706, abs=1e-3)
    assert math.isnan(half_width(np.array([1.0])))


# ------------------------------------------------------------------------------------------------------ questions
def test_a_submitted_score_is_matched_by_its_table() -> None:
    claim = CLAIMS["best_voc"]
    cells = [
        {"address": a, "table": "T8", "metric": "test_miou", "not_applicable": None} for a in claim.predicate.addresses
    ]
    plan = {"cells": cells, "scale": "paper", "verdicts": test_document.RULES, "not_asked": {}, "tables": [
        {"id": "T10", "submitted": None}, {"id": "T8", "submitted": {"percent": 83.0, "link": "https://x"}},
    ]}  # fmt: skip
    assert questions.hindrance(claim, plan).startswith("The server gave 83.0")


def test_evaluations_answer_their_trainings_questions(tmp_path: Path) -> None:
    made = test_verdicts.whole(("T1",), tmp_path, "mechanism")
    known = list(CLAIMS.values())
    assert questions.digests(made, iter(known)) == questions.digests(made, known)
    cell = made["cells"][0]
    trained = cell["runs"]["0"]
    asked = made | {
        "cells": [cell | {"runs": cell["runs"] | {"0": "asked"}}, *made["cells"][1:]],
        "evaluations": {"asked": {"training": trained}},
    }
    found = questions.of_trainings(asked)
    assert "asked" not in found and found[trained] == questions.of_trainings(made)[trained]
