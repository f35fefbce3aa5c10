"""Page one: the headline, the claims that have a row, and where effects lie on their axes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from study.paper.claims import CLAIMS
from study.report.sections import answer

RULES: Any = {"alpha": 0.05, "margin_points": 0.5, "margin_ratio": 1.03}
NONE = {"estimate": None, "low": None, "high": None, "unit": "", "verdict": "untested", "reason": "It was not asked."}
ROW: dict[str, Any] = {
    "claim": "rises", "says": "Mean IoU rises", "where": "Table 1", "on": "VOC 2012", "verdict": "supported",
    "reason": "", "unit": "points", "estimate": 2.0, "low": 1.0, "high": 3.0, "bounds": [0.0, None], "paper": 1.1,
    "adjusted": 0.01, "seeds": 5, "left": "decided", "exploratory": "", "beyond": NONE,
}  # fmt: skip


def judged(*rows: dict[str, Any], scale: str = "mechanism") -> Any:
    return {"scale": scale, "rows": list(rows), "tuned": None}


def rows(*verdicts: tuple[str, str], **changes: Any) -> list[dict[str, Any]]:
    return [ROW | {"claim": claim, "verdict": verdict} | changes for claim, verdict in verdicts]


def test_the_headline_counts_verdicts() -> None:
    found = rows(("gain_k", "supported"), ("rises", "supported"), ("crf", "contradicted"), ("scales", "undecided"))
    assert answer.headline(judged(*found)) == "Large kernels help here: of 4 claims 2 show, 1 does not and 1 is open."
    assert "2 hold" in answer.headline(judged(*found, scale="paper"))
    open_ = rows(("gain_k", "undecided"), ("rises", "undecided"))
    assert answer.headline(judged(*open_)) == "Whether large kernels help is open here: all 2 claims are open."
    assert answer.headline(judged(*found, scale="none")) == "This tier judges no claim."


@pytest.mark.parametrize(
    ("gain", "rise", "says"),
    [
        ("supported", "undecided", "A large kernel beats the 1x1 head here"),
        ("contradicted", "supported", "A large kernel does not beat the 1x1 head here"),
        ("undecided", "supported", "Whether large kernels help is open here"),
    ],
)
def test_the_headline_needs_both_large_kernel_claims(gain: str, rise: str, says: str) -> None:
    assert answer.headline(judged(*rows(("gain_k", gain), ("rises", rise)))).startswith(says)


def test_the_headline_never_mixes_exploratory_and_confirmed_verdicts() -> None:
    seen = rows(("gain_k", "supported"), ("crf", "supported"), exploratory="seen before")
    assert answer.headline(judged(*seen)).endswith("2 show. All are exploratory: these results had been seen before.")
    both = [*seen, *rows(("rises", "contradicted"))]
    assert "of 1 claim 1 does not." in answer.headline(judged(*both))


def test_unasked_claims_have_no_row() -> None:
    asked, waits = ROW, ROW | {"claim": "crf", "verdict": "untested", "left": ""}
    never = waits | {"claim": "stages", "reason": "Table 7 is not among the tier's tables."}
    failed = waits | {"claim": "scales", "left": "not tested", "reason": "It did not train."}
    assert [row["claim"] for row in answer.asked_here(judged(asked, never, waits, failed))] == [
        "rises",
        "crf",
        "scales",
    ]
    assert answer.line(waits, "mechanism", RULES, 8)["called"] == "not yet"
    assert answer.line(failed, "mechanism", RULES, 8)["called"] == "not tested"
    assert answer.headline(judged(waits)) == "No claim has been judged yet."


def test_an_effect_lies_where_its_margins_say() -> None:
    found = answer.strip(ROW, RULES, 8)
    # 2 points are 4 margins, halfway to the end of the axis.
    assert found is not None and (found["at"], found["low"], found["high"]) == (0.75, 0.625, 0.875)
    assert found["zone"] == [0.5, 1.0] and found["paper"] == pytest.approx(0.5 + 2.2 / 16)
    assert not (found["below"] or found["above"] or found["out"])


def test_effects_as_claimed_lie_to_the_right() -> None:
    fewer = ROW | {"unit": "% of errors", "estimate": -10.0, "low": -12.0, "high": -8.0, "bounds": [None, 0.0]}
    found = answer.strip(fewer, RULES, 8)
    margins = -math.log(0.9) / math.log(1.03)
    assert found is not None and found["at"] == pytest.approx(0.5 + margins / 16, abs=1e-4)
    assert found["zone"] == [0.5, 1.0] and found["low"] < found["at"] < found["high"]


def test_effects_beyond_the_axis_are_clipped_and_marked() -> None:
    far = answer.strip(ROW | {"estimate": 60.0, "low": 3.0, "high": 70.0}, RULES, 8)
    assert far is not None and far["out"] and far["above"] and not far["below"] and far["high"] == 1.0
    near = answer.strip(ROW | {"estimate": -1.0, "low": -50.0, "high": 2.0}, RULES, 8)
    assert near is not None and near["below"] and not near["out"] and near["low"] == 0.0


def test_a_value_keeps_its_own_unit() -> None:
    assert answer.value(5.5, "points") == "+5.5 pts" and answer.value(-0.1, "nats") == "\u22120.10 nats"
    assert answer.value(-18.03, "% of errors") == "\u221218.0 % err"
    assert (answer.value(127000.0, ""), answer.value(-280.0, "")) == ("+127,000", "\u2212280")


def test_verdicts_that_do_not_generalise_say_so() -> None:
    beyond = NONE | {"estimate": 2.0, "low": -1.0, "high": 5.0, "unit": "points", "verdict": "undecided"}
    assert answer.line(ROW | {"beyond": beyond}, "mechanism", RULES, 8)["beyond"]["called"] == "these images only"
    held = answer.line(ROW | {"beyond": beyond | {"verdict": "supported"}}, "mechanism", RULES, 8)
    assert held["beyond"] == {"verdict": "supported", "called": "shows"}
    assert answer.line(ROW, "mechanism", RULES, 8)["beyond"] is None


def test_the_axis_reaches_past_the_median_within_limits() -> None:
    assert answer.reach_of([ROW], RULES) == 6 and answer.reach_of([], RULES) == 4
    assert answer.reach_of([ROW | {"estimate": 500.0}], RULES) == 30


def test_each_claim_has_at_most_a_dozen_words() -> None:
    texts = [text for claim in CLAIMS.values() for text in (claim.says, claim.shows)]
    assert [text for text in texts if len(text.replace(" = ", "=").replace(" + ", "+").split()) > 12] == []
