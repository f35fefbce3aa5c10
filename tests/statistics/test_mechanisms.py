"""Mechanisms: as predicted if and only if a gain shows in one setting and not in the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from study.config.tiers import Mechanism, mechanism_table
from study.paper.predicates import ERRORS
from study.plan import planner
from study.spec.heads import Variant, dense, gcn
from study.statistics import claim_tests, mechanisms, questions, verdicts
from tests.report import test_document

SEEDS = 5
ONE = Mechanism(
    "k = 15 gains here, not there", "gain_k", Variant(gcn(15)), Variant(dense(1)), "main", "texture", "miou", ""
)
SHOWS, NOT, OPEN, NONE = "supported", "contradicted", "undecided", "no difference"


def plan(metric: str = "miou", number: int = 1) -> dict[str, Any]:
    """A plan with ``number`` equal mechanisms."""
    one = Mechanism(
        *(getattr(ONE, name) for name in ("says", "claim", "better", "worse", "shows", "absent")), metric, ""
    )
    names = [f"M{place}" for place in range(1, number + 1)]
    found = test_document.fake_plan([mechanism_table(name, one) for name in names], SEEDS)
    return found | {"mechanisms": {f"pair {name}": planner.planned_mechanism(name, one) for name in names}}


def scores(shows: float, absent: float, spread: float = 0.1, level: float = 60.0) -> dict[str, dict[int, float]]:
    """Scores (fractions) by address and seed, with these gains in points in the two settings."""
    draw = np.random.default_rng(0)
    gains = {"M1/main/better": shows, "M1/main/worse": 0.0, "M1/texture/better": absent, "M1/texture/worse": 0.0}
    return {
        address: {seed: (level + gain + draw.normal(0, spread)) / 100 for seed in range(SEEDS)}
        for address, gain in gains.items()
    }


@pytest.mark.parametrize(
    ("shows", "absent", "spread", "verdict", "part"),
    [
        (5.0, 0.0, 0.1, SHOWS, ""),
        (5.0, -5.0, 0.1, SHOWS, ""),  # worse in the other setting: it does not show there either
        (5.0, 5.0, 0.1, NOT, "hardly in texture"),
        (0.0, 0.0, 0.1, NONE, "shows in main"),
        (0.0, 0.0, 1.0, OPEN, "shows in main"),
        (-5.0, 0.0, 0.1, NOT, "shows in main"),
        (5.0, 0.0, 5.0, OPEN, ""),
    ],
)
def test_a_mechanism_needs_both_of_its_settings(
    shows: float, absent: float, spread: float, verdict: str, part: str
) -> None:
    made = plan()
    (row,) = verdicts.judge_scores(
        made, claim_tests.Scores(made, scores(shows, absent, spread)), mechanisms.claims(made)
    )
    assert row.verdict == verdict and part in row.part
    assert row.claim == "mechanism pair M1" and row.printed == "not printed" and row.paper is None


@pytest.mark.parametrize("shows", [5.0, 20.0])
def test_a_quarter_of_the_gain_may_remain(shows: float) -> None:
    made = plan()
    for gain, verdict in ((shows / 4 + 0.4, SHOWS), (shows / 4 + 0.6, NOT)):
        rows = verdicts.judge_scores(made, claim_tests.Scores(made, scores(shows, gain, 0.02)), mechanisms.claims(made))
        assert rows[0].verdict == verdict


def test_regions_are_compared_by_errors() -> None:
    made = plan("internal_object_accuracy")
    (claim,) = mechanisms.claims(made)
    assert claim.mechanism is not None and {part.measure for part in claim.mechanism.parts} == {ERRORS}
    for shows, absent, verdict in ((4.0, 0.0, SHOWS), (4.0, 4.0, NOT), (-4.0, 0.0, NOT)):
        found = scores(shows, absent, 0.02, level=90.0)
        assert verdicts.judge_scores(made, claim_tests.Scores(made, found), [claim])[0].verdict == verdict


def test_mechanisms_and_claims_are_corrected_separately() -> None:
    one, four = plan(), plan(number=4)
    known = scores(5.0, 0.0, 0.15)
    known |= {a.replace("M1", f"M{n}"): dict(by_seed) for n in (2, 3, 4) for a, by_seed in scores(0, 0).items()}
    alone, *_ = verdicts.judge_scores(one, claim_tests.Scores(one, known), mechanisms.claims(one))
    first, *_ = verdicts.judge_scores(four, claim_tests.Scores(four, known), mechanisms.claims(four))
    assert alone.p == first.p and alone.adjusted is not None and first.adjusted == pytest.approx(4 * alone.adjusted)
    without = {name: value for name, value in four.items() if name != "mechanisms"}
    assert questions.digests(four) == questions.digests(without)
    assert set(questions.all_digests(four)) - set(questions.digests(four)) == {
        f"mechanism pair M{n}" for n in (1, 2, 3, 4)
    }


def test_trainings_record_the_mechanisms_they_answer() -> None:
    made = plan()
    digests = questions.all_digests(made)
    asked = questions.of_trainings(made)
    assert len(made["trainings"]) == 4 * SEEDS
    for key in made["trainings"]:
        assert asked[key]["mechanism pair M1"] == digests["mechanism pair M1"]
    turned = plan()
    pair = turned["mechanisms"]["pair M1"]
    pair["shows"], pair["absent"] = pair["absent"], pair["shows"]
    assert questions.all_digests(turned)["mechanism pair M1"] != digests["mechanism pair M1"]


def test_region_objects_are_all_classes_but_the_first() -> None:
    """Counts, resampled sums and the verdicts' own reading give the same accuracy."""
    from study import metrics
    from study.statistics import bootstrap

    counts = np.random.default_rng(1).integers(1, 50, (6, 2, 4, 3))
    for name, region in (("boundary_object_accuracy", 0), ("internal_object_accuracy", 1)):
        part = counts[:, region, 1:].sum((0, 1))
        expected = part[0] / (part[0] + part[2])
        score = metrics.METRICS[name]
        assert score(counts) == pytest.approx(expected)
        assert bootstrap.scores(score, counts, np.ones((1, 6), int)) == pytest.approx([expected])
        only = counts.copy()
        only[:, claim_tests.REGIONS[name]] = only[:, :, 0] = 0
        assert metrics.pixel_accuracy(only) == pytest.approx(expected)
