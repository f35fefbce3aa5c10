"""How alpha is divided among claims, and how decided claims pass it on."""

from __future__ import annotations

import math

import pytest
from statsmodels.stats.multitest import multipletests

from study.paper.claims import METHOD, PRIMARY
from study.seeds import generator
from study.statistics.levels import PRIMARY_SHARE, Levels


def adjusted(ps: list[float]) -> list[float]:
    names = [str(place) for place in range(len(ps))]
    found = Levels(names).adjusted(dict(zip(names, ps, strict=True)))
    return [found[name] for name in names]


def test_one_group_is_holms_procedure() -> None:
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjusted([0.2]) == [0.2] and adjusted([]) == []
    many = [*generator("holm").random(20) ** 3, 0.01, 0.01]
    assert adjusted(many) == pytest.approx(multipletests(many, method="holm")[1])


def test_unjudged_claims_keep_their_share() -> None:
    first, lost, third = adjusted([0.01, math.nan, 0.03])
    assert first == pytest.approx(0.03) and third == pytest.approx(0.06) and math.isnan(lost)


def test_primary_claims_pass_alpha_to_each_other_first() -> None:
    levels = Levels(["a", "b", "c", "d"], primary=("a", "b"))
    half, rest = PRIMARY_SHARE / 2, (1 - PRIMARY_SHARE) / 2
    assert levels.shares == pytest.approx({"a": half, "b": half, "c": rest, "d": rest})
    levels.decide("a")
    assert levels.shares == pytest.approx({"b": PRIMARY_SHARE, "c": rest, "d": rest})
    levels.decide("b")
    assert levels.shares == pytest.approx({"c": 0.5, "d": 0.5})
    levels.decide("c")
    assert levels.shares == pytest.approx({"d": 1.0}), "nothing is lost on the way"


def test_secondary_claims_pass_alpha_to_secondary_ones_first() -> None:
    levels = Levels(["a", "b", "c"], primary=("a",))
    levels.decide("b")
    assert levels.shares == pytest.approx({"a": PRIMARY_SHARE, "c": 1 - PRIMARY_SHARE})
    levels.decide("c")
    assert levels.shares == pytest.approx({"a": 1.0})


def test_one_call_uses_alpha_passed_on_within_it() -> None:
    levels = Levels(["a", "b"])
    found = levels.decided({"a": 0.02, "b": 0.04}, 0.05)
    assert found == pytest.approx({"a": 0.04, "b": 0.04}) and levels.shares == {}, "b alone would need 0.025"
    again = Levels(["a", "b"])
    assert again.decided({"a": 0.03, "b": 0.04}, 0.05) == pytest.approx({"a": 0.06, "b": 0.06})
    assert again.shares == {"a": 0.5, "b": 0.5}


def test_earlier_decisions_bound_later_adjusted_p() -> None:
    levels = Levels(["a", "b"])
    levels.decided({"a": 0.02}, 0.05)
    assert levels.decided({"b": 0.001}, 0.05) == pytest.approx({"b": 0.04}), "at alpha 0.03 nothing was passed on"


def test_the_primary_claims_belong_to_the_method() -> None:
    """A change here must raise METHOD, which makes all questions new."""
    assert (METHOD, PRIMARY_SHARE, sorted(PRIMARY)) == (
        3, 0.8, ["beats_kxk", "beats_stack_text", "br_boundary", "gain_k", "gcn_inside", "rises"],
    )  # fmt: skip


def test_primary_claims_alone_get_all_of_alpha() -> None:
    assert Levels(["a", "b"], primary=("a", "b")).shares == {"a": 0.5, "b": 0.5}
