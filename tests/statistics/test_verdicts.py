"""Claims on the paper's own numbers; verdicts on planted counts: every predicate, direction, scale and hindrance."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from study.config import tiers
from study.paper import claims, predicates
from study.paper import tables as paper
from study.paper.audit import sources
from study.paper.claims import CLAIMS, Claim
from study.paper.predicates import (
    ERRORS,
    LOSSES,
    Margins,
    Predicate,
    above,
    decreasing,
    equal_within,
    every,
    fewer_errors,
    gain,
    increasing,
    widening,
)
from study.plan import planner
from study.report import document
from study.spec.cells import Cell, Table
from study.spec.errors import InputError
from study.spec.heads import Variant, gcn
from study.statistics import answers, claim_tests, effects, questions, settling, verdicts
from tests.report import test_document

MARGIN = Margins(Fraction("0.5"), 1.03)
RULES = test_document.RULES
CELLS = {cell.address: cell for table in paper.TABLES.values() for cell in table.cells}


def printed(address: str) -> Fraction:
    return sources.printed(paper.TABLES, address)


# ------------------------------------------------------------------------------------------ the paper's own numbers
# Where the paper's text and tables disagree; by its own numbers every other claim holds.
NOT_BY_ITS_OWN_NUMBERS = {"beats_stack_text": ("T3/GCN/5 above T3/stack/5",)}  # 71.1 against 71.8
NOT_PRINTED = {"kxk_hard"}  # the paper prints no training loss


@pytest.mark.parametrize("name", [name for name in CLAIMS if name not in NOT_PRINTED])
def test_each_claim_gets_its_expected_printed_result(name: str) -> None:
    assert CLAIMS[name].predicate.failing(printed, MARGIN) == NOT_BY_ITS_OWN_NUMBERS.get(name, ())


def test_fewer_weights_make_the_stack_worse_as_printed() -> None:
    """68.8, 70.4, 71.3 from the narrowest to the widest: the claim is that fewer weights make it worse."""
    assert "fewer weights" in CLAIMS["narrow_worse"].says
    scores = {f"T4/score/{m}": Fraction(value) for m, value in (("2048", "71.3"), ("1024", "70.4"), ("210", "68.8"))}
    assert not CLAIMS["narrow_worse"].predicate.failing(scores.__getitem__, MARGIN)
    turned = dict(zip(scores, reversed(scores.values()), strict=True))
    assert CLAIMS["narrow_worse"].predicate.failing(turned.__getitem__, MARGIN)


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_name_cells_with_printed_numbers_and_places(name: str) -> None:
    claim = CLAIMS[name]
    predicates = [claim.predicate] + ([claim.mechanism] if claim.mechanism else [])
    for address in (address for predicate in predicates for address in predicate.addresses):
        assert CELLS[address].paper is not None
    for table in claim.tables:
        assert claim.place and table.removeprefix("T") in re.findall(r"\d+", claim.place)
        assert claim.page == paper.TABLES[table].page
    for predicate in predicates:  # a contrast compares one kind of number
        for part in predicate.parts:
            kinds = {CELLS[a].metric for a in part.addresses}
            assert len(kinds) == 1 or kinds <= set(claim_tests.REGIONS)
            assert part.low is not None or part.high is not None


def test_digests_cover_decisions_but_not_wording(monkeypatch: pytest.MonkeyPatch) -> None:
    made = test_document.fake_plan([paper.TABLES["T1"]], 3)
    first, said, one = questions.digests(made), questions.wording(), CLAIMS["gain_k"]

    def asked(**changes: Any) -> dict[str, str]:
        return questions.digests(
            made, [dataclasses.replace(one, **changes) if c is one else c for c in CLAIMS.values()]
        )

    assert asked(page=77, place="elsewhere", says="in other words", shows="in others") == first
    other = asked(mechanism=above("T1/score/15", "T1/score/13"))
    assert {name for name in first if other[name] != first[name]} == {"gain_k"}
    assert questions.digests(made | {"verdicts": RULES | {"alpha": 0.01}}) != first
    assert questions.digests(made | {"not_asked": {"rises": "No."}})["gain_k"] != first["gain_k"], "another family"
    monkeypatch.setattr(questions, "METHOD", 99)
    assert not set(questions.digests(made).values()) & set(first.values())
    assert questions.wording([dataclasses.replace(c, says="x") for c in CLAIMS.values()]) != said


def test_predicates_of_different_kinds_have_different_identities() -> None:
    a, b = "T1/score/15", "T1/score/base"
    made = [above(a, b), above(b, a), equal_within(a, b), equal_within(a, b, MARGIN.points), above(a, b, LOSSES),
            equal_within(a, b, measure=ERRORS), gain(a, b, Fraction(5), Fraction(1)), increasing((b, a)),
            decreasing((b, a)), increasing((b, a, "c"), apart=1), fewer_errors((a, b))]  # fmt: skip
    assert len(set(made)) == len({json.dumps(planner.canonical(p)) for p in made}) == len(made)


NUMBERS = {"a": Fraction(10), "b": Fraction(12), "c": Fraction(13), "d": Fraction("13.4"), "e": Fraction(55)}


@pytest.mark.parametrize(
    ("predicate", "holds"),
    [
        (above("b", "a"), True), (above("a", "b"), False), (above("a", "a"), False),
        (gain("b", "a", Fraction("2.5"), Fraction(1)), True), (gain("b", "a", Fraction(4), Fraction(1)), False),
        (gain("b", "a", Fraction(4), Fraction(1)).sign(), True),
        (gain("a", "b", Fraction(4), Fraction(1)).sign(), False),
        (increasing(("a", "b", "c")), True), (increasing(("a", "c", "b", "d")), False), (increasing(("a", "a")), False),
        (decreasing(("c", "b", "a")), True), (decreasing(("d", "a", "b")), False),
        (widening((("b", "b"), ("c", "b"), ("b", "a"))), True), (widening((("b", "a"), ("c", "b"))), False),
        (equal_within("c", "d"), True), (equal_within("b", "c"), False), (equal_within("b", "c", Fraction(2)), True),
        (increasing(("a", "b", "c"), apart=1), True), (increasing(("c", "a", "b"), apart=1), False),
        (fewer_errors(("b", "a")), True), (fewer_errors(("a", "b")), False),
        (fewer_errors(("b", "a"), ("d", "c")), False), (fewer_errors(("e", "a"), ("d", "c")), True),
        (equal_within("c", "d", measure=ERRORS), True), (equal_within("e", "a", measure=ERRORS), False),
        (every(above("b", "a"), above("c", "b")), True), (every(above("b", "a"), above("b", "c")), False),
    ],
)  # fmt: skip
def test_predicates_on_exact_numbers(predicate: Predicate, holds: bool) -> None:
    assert (not predicate.failing(NUMBERS.__getitem__, MARGIN)) == holds


def test_a_predicate_lists_every_cell_that_it_needs() -> None:
    assert set(decreasing(("a", "b", "c")).addresses) == {"a", "b", "c"}  # the middle one has no weight in the slope
    assert set(widening((("a", "b"), ("c", "d"), ("e", "f"))).addresses) == set("abcdef")


def test_predicates_reject_invalid_arguments() -> None:
    with pytest.raises(InputError, match="tolerance must be positive and below the gain"):
        gain("a", "b", Fraction(1), Fraction(1))
    with pytest.raises(InputError, match="at least two cells"):
        increasing(("a",))


def test_bounds_are_strict_for_every_measure() -> None:
    """Bounds are strict: equivalence means within one margin on either side, fewer errors means by more than one."""
    score = {"a": Fraction(10), "b": Fraction("10.5"), "c": Fraction("10.4"), "d": Fraction("10.6"), "e": Fraction(0)}

    def holds(predicate: Predicate) -> bool:
        return not predicate.failing(score.__getitem__, MARGIN)

    assert [holds(equal_within(other, "a")) for other in "bcd"] == [False, True, False]
    assert [holds(equal_within("a", other)) for other in "bcd"] == [False, True, False]
    half = Fraction("0.1")
    assert [holds(gain("b", "a", Fraction(gained), half)) for gained in ("0.4", "0.45", "0.6")] == [False, True, False]
    assert not holds(equal_within("b", "a", Fraction("0.5"))) and holds(equal_within("b", "a", Fraction("0.51")))
    score |= {"g": Fraction(2), "h": Fraction(4), "i": Fraction(-4)}  # ratios of errors 0.98, 0.96 and 1.04
    assert [holds(equal_within(other, "e", measure=ERRORS)) for other in "ghi"] == [True, False, False]
    assert [holds(fewer_errors((other, "e"), ("e", "e"))) for other in "ghi"] == [False, True, False]


def test_trends_rise_along_a_least_squares_line() -> None:
    """The least-squares rise from the first to the last fitted cell; steps before them are not part of it."""
    score = dict(zip("abcdef", map(Fraction, (3, 9, 10, 12, 11, 15)), strict=True))
    for names, apart in (("ab", 0), ("abc", 0), ("abcd", 0), ("abcdef", 0), ("abcdef", 2)):
        *steps, trend = increasing(tuple(names), apart).parts
        values = [float(score[name]) for name in names[apart:]]
        slope = np.polyfit(range(len(values)), values, 1)[0]
        assert float(predicates.value_of(trend.terms, score.__getitem__)) == pytest.approx(slope * (len(values) - 1))
        assert [part.name for part in steps] == [f"{names[at]} above {names[at - 1]}" for at in range(1, apart + 1)]
    falls = decreasing(tuple("abc")).parts[0]
    assert predicates.value_of(falls.terms, score.__getitem__) == -7


SETTLED = settling.Settling(peak=2, end=1, fall=0.2)
GUESS = math.log(4)


@pytest.mark.parametrize(
    ("loss", "score", "said"),
    [
        ([[10, 9.0], [20, 2 * GUESS], [95, 0.5], [100, 0.5]], [[50, 0.5], [100, 0.4]], ""),
        ([[20, 9.0], [100, 0.5]], [], "" ),
        ([[21, 2 * GUESS + 0.01], [100, 0.5]], [], "its loss rose"),
        ([[90, 0.0], [95, GUESS], [100, GUESS]], [], "its loss ended"),
        ([[90, 9 * GUESS / 5], [95, 0.5 * GUESS], [100, 1.4 * GUESS]], [], ""),
        ([[50, 0.5], [100, 0.5]], [[50, 0.5], [100, 0.39]], "its tune score fell"),
        ([[50, 0.5], [100, 0.5]], [[50, 0.1], [100, 0.5]], ""),
        ([[50, math.inf], [100, 0.5]], [], "its loss is not finite"),
        ([], [], "its loss is not finite"),
    ],
    ids=["at every limit", "loud in the warm-up", "loud after it", "at a guess", "below one in the mean",
         "below its best", "above its best", "infinite", "nothing"],
)  # fmt: skip
def test_trainings_settle_within_the_rules_limits(loss: list, score: list, said: str) -> None:
    """100 steps, of which 20 warm up; four classes."""
    found = settling.trouble({"loss": loss, "score": score}, 100, 0.2, 4, SETTLED)
    assert found.startswith(said) and bool(found) == bool(said)


def test_the_last_loss_averages_the_last_tenth() -> None:
    assert settling.last_loss({"loss": [[80, 9.0], [90, 7.0], [91, 1.0], [100, 2.0]]}, 100) == 1.5
    assert math.isnan(settling.last_loss({"loss": [[90, 7.0]]}, 100))


def test_contradictions_are_corrected_for_the_number_of_parts() -> None:
    """A p just under alpha for one of two parts does not decide the claim."""
    part, unknown = above("T1/score/15", "T1/score/base").parts[0], effects.Effect(*[0.0] * 6, 3, 60, 0.0)
    against = claim_tests.Tested(part, unknown, holds=1.0, fails=0.04)
    between = claim_tests.Tested(part, unknown, holds=0.3, fails=1.0)
    assert answers.p_of([against], 0.05) == 0.04
    assert answers.p_of([against, between], 0.05) == pytest.approx(0.08)


# -------------------------------------------------------------------------------- verdicts on planted counts
IMAGES = 60
COLUMNS = tuple("abcdef")


def planted(
    folder: Path, points: dict[str, float], seeds: int = 3, scale: str = "mechanism", spread: float = 0.05,
    metric: str = "pixel_accuracy",
) -> dict[str, Any]:  # fmt: skip
    """A plan of one table T with cells by name, and counts whose scores are about ``points``; ``spread`` over seeds."""
    table = Table("T", "planted", None, ("r",), tuple(points), tuple(
        Cell("T", "r", name, Variant(gcn(2 * place + 1)), metric, None) for place, name in enumerate(points)
    ))  # fmt: skip
    made = test_document.fake_plan([table], seeds) | {"scale": scale, "verdicts": RULES}
    for place, cell in enumerate(made["cells"]):
        for seed, key in cell["runs"].items():
            draw = np.random.default_rng(place * 100 + int(seed))
            share = (points[cell["column"]] + draw.normal(0, spread)) / 100
            tp = np.full((IMAGES, 2, 1), 50_000) * share + draw.normal(0, 20, (IMAGES, 2, 1))
            counts = np.stack([tp, 50_000 - tp, 50_000 - tp], axis=-1).round().astype(np.int64)
            (folder / key).mkdir(parents=True, exist_ok=True)
            for file in ("counts.npz", "tune.npz"):
                np.savez(folder / key / file, counts=counts)
            settle(folder / key)
    return made


def settle(folder: Path, loss: float = 0.1, peak: float = 1.0, score: float = 0.6) -> None:
    """A learning curve that ends at ``loss`` and ``score``, after a loss of ``peak`` and a score of 0.6."""
    losses = [[step, peak if step < 100 else loss] for step in range(10, test_document.STEPS + 1, 10)]
    curve = {"loss": losses, "score": [[60, 0.6], [test_document.STEPS, score]]}
    (folder / "curve.json").write_text(json.dumps(curve))


def asked(made: dict[str, Any], folder: Path, *known: Claim) -> None:
    """Record the questions of these claims in every training, as asked before it began."""
    found = json.dumps({"labels": {"questions": questions.digests(made, known)}})
    for key in made["trainings"]:
        (folder / key / "training.json").write_text(found)


def claimed(predicate: Predicate, mechanism: Predicate | None = None, name: str = "it") -> Claim:
    return Claim(name, "GCN wins", "VOC 2012", predicate, mechanism or predicate.sign(), "GCN wins", "Table 1")


@pytest.fixture
def unprinted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted cells have no printed numbers."""
    monkeypatch.setattr(verdicts, "printed", lambda tables, address: Fraction())


def c(name: str) -> str:
    return f"T/r/{name}"


def five(low: float, high: float) -> dict[str, float]:
    return dict(zip(COLUMNS, np.linspace(low, high, len(COLUMNS)), strict=True))


PAIRS = ((c("b"), c("a")), (c("d"), c("c")), (c("f"), c("e")))
GROWS = {"a": 50, "b": 51, "c": 50, "d": 53, "e": 50, "f": 55}
SHRINKS = {"a": 50, "b": 55, "c": 50, "d": 53, "e": 50, "f": 51}
S, C, U = answers.SUPPORTED, answers.CONTRADICTED, answers.UNDECIDED
# The 1x1 head, then a falling curve: its line still rises.
STEP = {"a": 50, "b": 72, "c": 71, "d": 70, "e": 69, "f": 68}
BENT = {"a": 53.1, "b": 57.2, "c": 58.9, "d": 60.4, "e": 59.4, "f": 58.6}
RISES = {"a": 50, "b": 60, "c": 61, "d": 62, "e": 63, "f": 64}
# 20 of 40 errors are gone from a to b, and 3.5 of 5 from c to d: 20 points against 3.5, 50 % against 70 %.
SHARES = {"a": 60, "b": 80, "c": 95, "d": 98.5}
PLANTED: dict[str, tuple[Predicate, dict[str, float], str, str]] = {
    "above": (above(c("b"), c("a")), {"a": 50, "b": 55}, "paper", S),
    "below": (above(c("b"), c("a")), {"a": 55, "b": 50}, "paper", C),
    "no different": (above(c("b"), c("a")), {"a": 50, "b": 50}, "paper", answers.SAME),
    "gain": (gain(c("b"), c("a"), Fraction("5.5"), Fraction(1)), {"a": 50, "b": 55.4}, "paper", S),
    "too small a gain": (gain(c("b"), c("a"), Fraction("5.5"), Fraction(1)), {"a": 50, "b": 52}, "paper", C),
    "too large a gain": (gain(c("b"), c("a"), Fraction("5.5"), Fraction(1)), {"a": 50, "b": 60}, "paper", C),
    "a gain at the edge": (gain(c("b"), c("a"), Fraction("5.5"), Fraction(1)), {"a": 50, "b": 56.5}, "paper", U),
    "any gain": (gain(c("b"), c("a"), Fraction("5.5"), Fraction(1)), {"a": 50, "b": 90}, "mechanism", S),
    "a loss": (gain(c("b"), c("a"), Fraction("5.5"), Fraction(1)), {"a": 50, "b": 48}, "mechanism", C),
    "rises": (increasing(tuple(map(c, COLUMNS))), five(50, 55), "paper", S),
    "does not rise": (increasing(tuple(map(c, COLUMNS))), five(55, 50), "paper", C),
    "falls": (decreasing(tuple(map(c, COLUMNS))), five(55, 50), "paper", S),
    "does not fall": (decreasing(tuple(map(c, COLUMNS))), five(50, 55), "paper", C),
    "widens": (widening(PAIRS), GROWS, "paper", S),
    "narrows": (widening(PAIRS), SHRINKS, "paper", C),
    "widens and narrows back": (widening(PAIRS), GROWS | {"d": 56, "f": 54}, "paper", C),
    "equal": (equal_within(c("b"), c("a")), {"a": 50, "b": 50.02}, "paper", S),
    "unequal": (equal_within(c("b"), c("a")), {"a": 50, "b": 53}, "paper", C),
    "unequal below": (equal_within(c("b"), c("a")), {"a": 53, "b": 50}, "paper", C),
    "equal or not": (equal_within(c("b"), c("a")), {"a": 50, "b": 50.5}, "paper", U),
    "rises and falls back": (increasing(tuple(map(c, COLUMNS))), BENT, "paper", C),
    "a step, then falls": (increasing(tuple(map(c, COLUMNS)), apart=1), STEP, "paper", C),
    "a step, then rises": (increasing(tuple(map(c, COLUMNS)), apart=1), RISES, "paper", S),
    "a step down, then rises": (increasing(tuple(map(c, COLUMNS)), apart=1), RISES | {"a": 75}, "paper", C),
    "falls and rises back": (decreasing((c("a"), c("b"), c("c"))), {"a": 70.4, "b": 66, "c": 68.8}, "paper", C),
    "fewer errors": (fewer_errors((c("b"), c("a"))), {"a": 50, "b": 55}, "paper", S),
    "more errors": (fewer_errors((c("b"), c("a"))), {"a": 55, "b": 50}, "paper", C),
    "a larger share of few errors": (fewer_errors((c("d"), c("c")), (c("b"), c("a"))), SHARES, "paper", S),
    "more points of many errors": (fewer_errors((c("b"), c("a")), (c("d"), c("c"))), SHARES, "paper", C),
    "all": (every(above(c("b"), c("a")), above(c("c"), c("b"))), {"a": 50, "b": 52, "c": 54}, "paper", S),
    "one fails": (every(above(c("b"), c("a")), above(c("c"), c("b"))), {"a": 50, "b": 52, "c": 48}, "paper", C),
    "one is open": (
        every(above(c("b"), c("a")), above(c("c"), c("b"))),
        {"a": 50, "b": 52, "c": 52},
        "paper",
        answers.SAME,
    ),
}


@pytest.mark.usefixtures("unprinted")
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_effect_gets_its_verdict(name: str, tmp_path: Path) -> None:
    predicate, points, scale, wanted = PLANTED[name]
    made = planted(tmp_path, points, seeds=5, scale=scale)
    asked(made, tmp_path, claimed(predicate))
    (row,) = verdicts.judge(made, tmp_path, computed={}, claims=[claimed(predicate)])
    assert row.verdict == row.beyond.verdict == wanted and not row.exploratory, row
    assert row.beyond.high - row.beyond.low >= row.high - row.low > 0, "new images are one more thing that varies"
    assert row.seeds == 5 and row.low < row.estimate < row.high and 0 <= row.p <= row.adjusted <= 1
    assert (row.needed is None) if wanted != U else (row.reason != "")
    if name == "one fails":
        assert "T/r/c above T/r/b" in row.reason and row.part == "T/r/c above T/r/b"


@pytest.mark.usefixtures("unprinted")
def test_a_clear_line_does_not_hide_a_fall(tmp_path: Path) -> None:
    """The line falls (p = 0.0024), but the last cell is above the one before (p = 0.024): neither is the answer."""
    scores = {
        "a": (72.43, 71.72, 72.22, 72.63, 72.15),
        "b": (70.16, 70.15, 69.99, 69.55, 69.97),
        "c": (70.91, 70.51, 70.91, 70.36, 71.11),
    }
    made = planted(tmp_path, dict.fromkeys(scores, 50), seeds=5)
    others = [claimed(above(c("c"), c("b")), name=f"n{number}") for number in range(19)]
    family = [claimed(decreasing((c("a"), c("b"), c("c")))), *others]
    known = {c(name): {seed: value / 100 for seed, value in enumerate(found)} for name, found in scores.items()}
    row = verdicts.judge_scores(made, claim_tests.Scores(made, known), family)[0]
    assert row.verdict == U and row.p == pytest.approx(0.0244, abs=0.001), "that of the fall"


@pytest.mark.usefixtures("unprinted")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("below", r"Does not hold: T/r/b above T/r/a \(-5\.0 points\)\."),
        ("rises and falls back", r"Measured instead: T/r/f below T/r/d, by 1\.8 points\."),
        ("falls and rises back", r"Measured instead: T/r/c above T/r/b, by 2\.8 points\."),
        ("narrows", r"Does not hold: widens from T/r/b to T/r/f \(-4\.0 points\)\."),
        ("widens and narrows back",
         r"Measured instead: T/r/f less T/r/e below T/r/d less T/r/c, by (1\.9|2\.0|2\.1) points\."),
        ("more errors", r"Does not hold: errors of T/r/b below T/r/a \(\+11\.\d % of errors\)\."),
    ],
)  # fmt: skip
def test_a_contradiction_names_what_contradicts(name: str, reason: str, tmp_path: Path) -> None:
    predicate, points, scale, _ = PLANTED[name]
    (row,) = verdicts.judge(
        planted(tmp_path, points, seeds=5, scale=scale), tmp_path, computed={}, claims=[claimed(predicate)]
    )
    assert re.fullmatch(reason, row.reason), row.reason


@pytest.mark.usefixtures("unprinted")
def test_error_ratios_also_show_their_points(tmp_path: Path) -> None:
    """20 of 40 errors are gone: -50 %, and 20 points."""
    made = planted(tmp_path, {"a": 60, "b": 80}, seeds=5, scale="paper")
    (row,) = verdicts.judge(made, tmp_path, computed={}, claims=[claimed(fewer_errors((c("b"), c("a"))))])
    assert row.estimate == pytest.approx(-50, abs=0.5) and row.unit == "% of errors"
    assert row.points == pytest.approx(20, abs=0.2), "b less a"
    assert row.bounds == (None, 0) and -51 < row.low < row.estimate < row.high < -49 and 0 < row.mde < 1


@pytest.mark.usefixtures("unprinted")
def test_points_belong_to_the_shown_part(tmp_path: Path) -> None:
    """30 of 60 errors are gone in the first pair, 4 of 40 in the second: the second is the weaker."""
    made = planted(tmp_path, {"a": 40, "b": 70, "c": 60, "d": 64}, seeds=5, scale="paper")
    both = every(fewer_errors((c("b"), c("a"))), fewer_errors((c("d"), c("c"))))
    (row,) = verdicts.judge(made, tmp_path, computed={}, claims=[claimed(both)])
    assert row.part.endswith("T/r/d below T/r/c") and row.points == pytest.approx(4, abs=0.2)


@pytest.mark.usefixtures("unprinted")
def test_final_losses_are_compared_in_nats(tmp_path: Path) -> None:
    made = planted(tmp_path, {"a": 50, "b": 50}, seeds=3, scale="paper")
    for cell, ends in zip(made["cells"], ((0.10, 0.11, 0.12), (0.40, 0.42, 0.41)), strict=True):
        for (_, key), loss in zip(sorted(cell["runs"].items()), ends, strict=True):
            settle(tmp_path / key, loss)
    (row,) = verdicts.judge(made, tmp_path, computed={}, claims=[claimed(above(c("b"), c("a"), LOSSES))])
    assert (row.verdict, row.unit, row.printed, row.paper) == (S, "nats", "not printed", None)
    assert row.estimate == pytest.approx(0.3) and row.part == "training loss of T/r/b above T/r/a"
    assert row.p == pytest.approx(stats.ttest_rel((0.40, 0.42, 0.41), (0.10, 0.11, 0.12)).pvalue)
    assert row.beyond.reason == "A training's loss says nothing about new images."


@pytest.mark.usefixtures("unprinted")
def test_undecided_says_how_many_seeds_would_decide(tmp_path: Path) -> None:
    made = planted(tmp_path, {"a": 50, "b": 52}, spread=1.5)
    (row,) = verdicts.judge(made, tmp_path, computed={}, claims=[claimed(above(c("b"), c("a")))])
    assert row.verdict == U and row.needed > 3
    assert row.reason == f"About {row.needed} seeds would decide it if the effects are as measured."
    alone = tmp_path / "alone"
    (row,) = verdicts.judge(
        planted(alone, {"a": 50, "b": 60}, seeds=1), alone, computed={}, claims=[claimed(above(c("b"), c("a")))]
    )
    assert (row.verdict, row.low, row.p, row.needed) == (U, None, None, None) and "One seed" in row.reason
    assert row.estimate == pytest.approx(10, abs=0.5)


@pytest.mark.usefixtures("unprinted")
def test_alpha_is_shared_by_all_asked_claims(tmp_path: Path) -> None:
    made = planted(tmp_path, {"a": 50, "b": 50.6, "c": 51}, spread=0.25)
    one = claimed(above(c("b"), c("a")), name="one")
    absent = claimed(above("T9/x/y", c("a")), name="absent")
    alone, untested = verdicts.judge(made, tmp_path, computed={}, claims=[one, absent])
    assert alone.adjusted == alone.p and untested.verdict == answers.UNTESTED
    lost = claimed(above(c("c"), c("a")), name="lost")
    (tmp_path / next(iter(made["cells"][2]["runs"].values())) / "counts.npz").unlink()
    first, failed, _ = verdicts.judge(made, tmp_path, computed={}, claims=[one, lost, absent])
    assert failed.verdict == answers.UNTESTED and "it has no result" in failed.reason
    assert first.p == alone.p and first.adjusted == pytest.approx(2 * alone.p), "what failed counts with p = 1"
    made["not_asked"] = {"lost": "Not here."}
    first, left, _ = verdicts.judge(made, tmp_path, computed={}, claims=[one, lost, absent])
    assert first.adjusted == alone.p and left.reason == "Not here."


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted")
def test_printed_detectable_effects_are_found_at_80_percent(tmp_path: Path) -> None:
    """Four of five studies find an effect of the printed least size among nine null effects."""
    names = [f"n{i}" for i in range(9)]
    family = [claimed(above(c("b"), c("a")), name="it"), *(claimed(above(c(n), c("a")), name=n) for n in names)]
    plan_of = planted(tmp_path, {"a": 50, "b": 50, **dict.fromkeys(names, 50)}, seeds=5)
    draw, found = np.random.default_rng(0), 0
    least = effects.of_seeds(np.array([-1.0, -0.5, 0.0, 0.5, 1.0]) / 100, 0.05)
    size = replace_variance(least, 2 * 0.01**2).spread.detectable(0.05 / 10, 0.8)
    for _ in range(100):
        known = {c(n): dict(enumerate(0.5 + 0.01 * draw.normal(size=5))) for n in ("a", "b", *names)}
        known[c("b")] = {seed: value + size for seed, value in known[c("b")].items()}
        scores = claim_tests.Scores(plan_of, known)
        found += verdicts.judge_scores(plan_of, scores, family)[0].verdict == S
    assert stats.binom.ppf(0.001, 100, 0.8) <= found <= stats.binom.ppf(0.999, 100, 0.84), found


def replace_variance(effect: effects.Effect, variance: float) -> effects.Effect:
    return dataclasses.replace(effect, spread=dataclasses.replace(effect.spread, seed=variance))


@pytest.mark.usefixtures("unprinted")
def test_one_contradicting_part_needs_only_its_seeds(tmp_path: Path) -> None:
    """One part is far below, the other nearly equal: a few seeds decide, not the many that the other would need."""
    made = planted(tmp_path, {"a": 50, "b": 49, "c": 49.02}, spread=0.4, seeds=3)
    both = claimed(every(above(c("b"), c("a")), above(c("c"), c("b"))))
    (row,) = verdicts.judge(made, tmp_path, computed={}, claims=[both])
    assert row.verdict == U and row.needed is not None and row.needed < 12, row


@pytest.mark.usefixtures("unprinted")
def test_one_contrast_compares_both_regions(tmp_path: Path) -> None:
    """The inside gains four points, the boundary none; both accuracies come from the counts of one training."""
    made = planted(tmp_path, {"a": 50, "b": 50}, seeds=4)
    for cell in made["cells"]:
        for key in cell["runs"].values():
            with np.load(tmp_path / key / "counts.npz") as archive:
                counts = archive["counts"]
            if cell["column"] == "b":
                counts[:, 1, :, 0] += 2000
                counts[:, 1, :, 2] -= 2000
            np.savez(tmp_path / key / "counts.npz", counts=counts)
    both = [cell | {"address": f"T5/{cell['column']}/{region}", "metric": f"{region}_accuracy"}
            for cell in made["cells"] for region in ("boundary", "internal")]  # fmt: skip
    made["cells"] = both
    inside, edge = (("T5/b/internal", "T5/a/internal"), ("T5/b/boundary", "T5/a/boundary"))
    found = verdicts.judge(
        made, tmp_path, computed={},
        claims=[claimed(widening((edge, inside)), name="inside"), claimed(widening((inside, edge)), name="edge"),
                claimed(above(*inside), name="gain"), claimed(equal_within(*edge), name="hardly")],
    )  # fmt: skip
    assert [row.verdict for row in found] == [S, C, S, S]
    assert found[0].estimate == pytest.approx(4, abs=0.3) and found[2].estimate == pytest.approx(4, abs=0.3)


# ---------------------------------------------------------------------------------------------- scales and hindrances
def whole(tables: tuple[str, ...], folder: Path, scale: str, seeds: int = 3) -> dict[str, Any]:
    listed = [dataclasses.replace(paper.TABLES[name], cells=tuple(
        dataclasses.replace(cell, setting="main") for cell in paper.TABLES[name].cells if cell.variant
    )) for name in tables]  # fmt: skip
    made = test_document.fake_plan(listed, seeds) | {"scale": scale, "verdicts": RULES}
    for key, training in made["trainings"].items():
        if not (folder / key).exists():
            test_document.fake_run(folder / key, training, 4)
    return made


@pytest.mark.parametrize("scale", ["mechanism", "paper"])
def test_the_wording_keeps_to_the_scale(scale: str, tmp_path: Path) -> None:
    made = whole(("T1", "T2", "T3", "T4", "T5"), tmp_path, scale)
    found = {row.claim: row for row in verdicts.judge(made, tmp_path, computed={})}
    assert {S, C, answers.UNTESTED} <= {row.verdict for row in found.values()}
    for row in (row for row in found.values() if row.on != claims.ARITHMETIC):
        said = row.wording.lower()
        if scale == "mechanism":
            assert "supported" not in said and "contradicted" not in said
            assert row.verdict == answers.UNTESTED or (
                ("mechanism" in said or row.verdict == answers.SAME) and f"says nothing about {row.on.lower()}" in said
            )
        else:
            assert "mechanism" not in said
    assert found["gain_k"].bounds == ((0, None) if scale == "mechanism" else (4.5, 6.5))
    assert found["fewer_weights"].verdict == S and found["fewer_weights"].wording == "Arithmetic confirms it."
    assert found["best_voc"].reason == (
        "It is only about numbers, and this tier judges the mechanism." if scale == "mechanism" else
        "Table 8 is not among the tier's tables."
    )  # fmt: skip


def test_a_tier_without_rules_judges_nothing(tmp_path: Path) -> None:
    made = whole(("T1",), tmp_path, "none") | {"verdicts": None}
    found = verdicts.content(made, tmp_path, computed={})
    assert {row["verdict"] for row in found["rows"]} == {answers.UNTESTED} and found["trains"] == found["looks"] == []


def test_untested_claims_give_their_reason(tmp_path: Path) -> None:
    made = whole(("T1", "T3"), tmp_path / "all", "mechanism")
    reasons = {row.claim: row.reason for row in verdicts.judge(made, tmp_path / "all", computed={})}
    assert reasons["stages"] == "Table 7 is not among the tier's tables."
    assert reasons["equal_cost"] == "Table 11 is not among the tier's tables."
    refused = [cell | ({"not_applicable": "No such data.", "runs": {}} if cell["address"] == "T3/stack/9" else {})
               for cell in made["cells"]]  # fmt: skip
    reasons = {
        row.claim: row.reason for row in verdicts.judge(made | {"cells": refused}, tmp_path / "all", computed={})
    }
    assert reasons["beats_stack_caption"] == "No such data."
    for key, training in made["trainings"].items():
        if training["label"] == "stack k=11":
            (tmp_path / "all" / key / "counts.npz").unlink()
    found = {row.claim: row for row in verdicts.judge(made, tmp_path / "all", computed={})}
    assert found["beats_stack_caption"].verdict == answers.UNTESTED
    assert (
        "; ".join(f"stack k=11, seed {n} (it has no result)" for n in range(3)) in found["beats_stack_caption"].reason
    )
    assert found["rises"].verdict != answers.UNTESTED
    nothing = verdicts.judge(made | {"scale": "none"}, tmp_path / "all", computed={})
    assert {row.verdict for row in nothing} == {answers.UNTESTED} and not any(row.p for row in nothing)


def test_rows_show_claim_place_and_printed_result(tmp_path: Path) -> None:
    made = whole(("T1", "T3", "T5"), tmp_path, "mechanism")
    for row in verdicts.judge(made, tmp_path, computed={}):
        claim = CLAIMS[row.claim]
        asked = questions.predicate_of(claim, "mechanism")
        assert (row.says, row.on) == (claim.says, claim.on) and row.where.startswith(claim.place)
        assert (f"(p. {claim.page})" in row.where) == bool(claim.page)
        assert row.parts == (len(asked.parts) if asked else 0)
        printed = {"beats_stack_text": "does not hold: T3/GCN/5 above T3/stack/5", "kxk_hard": "not printed"}
        assert row.printed == printed.get(row.claim, "holds")
        if questions.hindrance(claim, made):
            assert row.reason and row.beyond.reason == row.reason and not row.seeds
    without = verdicts.judge(made | {"verdicts": None}, tmp_path, computed={})
    assert {row.claim for row in without if row.printed == "depends on a margin"} == {
        claim.id for claim in CLAIMS.values()
        if any(part.slack for part in claim.predicate.parts) and claim.id not in NOT_PRINTED
    }  # fmt: skip


def test_at_most_three_failed_trainings_are_named(tmp_path: Path) -> None:
    made = whole(("T1", "T3"), tmp_path, "mechanism")
    lost = [
        key for cell in made["cells"] if cell["address"] in ("T3/stack/11", "T3/stack/9")
        for key in cell["runs"].values()
    ]  # fmt: skip
    for number, key in enumerate(lost[:4], start=1):
        settle(tmp_path / key, peak=100)
        (reason,) = [
            row.reason for row in verdicts.judge(made, tmp_path, computed={}) if row.claim == "beats_stack_caption"
        ]
        assert reason.count("its loss rose to 100") == min(number, 3) and (" more." in reason) == (number == 4)


@pytest.mark.usefixtures("unprinted")
def test_the_worst_case_is_the_weakest_part(tmp_path: Path) -> None:
    made = planted(tmp_path, {"a": 50, "b": 60, "c": 50, "d": 52}, scale="paper")
    settle(tmp_path / next(iter(made["cells"][0]["runs"].values())), peak=100)
    both = every(above(c("b"), c("a")), above(c("d"), c("c")))
    (row,) = verdicts.judge(made, tmp_path, computed={}, claims=[claimed(both)])
    assert re.search(r"Including them: T/r/d above T/r/c by \+(1\.9|2\.[01]) points, with 3 seeds\.$", row.reason), (
        row.reason
    )


@pytest.mark.usefixtures("unprinted")
def test_seeds_must_be_shared_by_all_cells(tmp_path: Path) -> None:
    made = planted(tmp_path, {"a": 50, "b": 55})
    first, second = (cell["runs"] for cell in made["cells"])
    apart = [made["cells"][0] | {"runs": {"0": first["0"]}}, made["cells"][1] | {"runs": {"1": second["1"]}}]
    (row,) = verdicts.judge(made | {"cells": apart}, tmp_path, computed={}, claims=[claimed(above(c("b"), c("a")))])
    assert (row.verdict, row.reason) == (answers.UNTESTED, "No seed has results for all of its cells.")


@pytest.mark.usefixtures("unprinted")
def test_points_appear_only_with_ratios_on_these_images(tmp_path: Path) -> None:
    """The error floor applies to the reference cell, not to the cell that may have no errors left."""
    made = planted(tmp_path, {"a": 60, "b": 80}, seeds=5, scale="paper")
    for key in made["cells"][1]["runs"].values():
        counts = np.full((IMAGES, 2, 1, 3), 0)
        counts[..., 0] = 50_000
        np.savez(tmp_path / key / "tune.npz", counts=counts)  # no error on the tune split
    ratio, plain = claimed(fewer_errors((c("b"), c("a")))), claimed(above(c("b"), c("a")), name="other")
    first, second = verdicts.judge(made, tmp_path, computed={}, claims=[ratio, plain])
    assert (first.verdict, second.verdict) == (S, S)
    assert first.points == pytest.approx(second.estimate) and first.beyond.points is None and second.points is None


def test_without_claims_no_variants_training_is_judged(tmp_path: Path) -> None:
    made = whole(("T1",), tmp_path, "none")
    assert verdicts.content(made, tmp_path, computed={})["trains"] == []
    assert verdicts.content(made | {"scale": "mechanism"}, tmp_path, computed={})["trains"] != []


def test_variants_training_is_listed_in_table_order(tmp_path: Path) -> None:
    made = whole(("T1", "T3"), tmp_path, "mechanism")
    rows = verdicts.content(made, tmp_path, computed={})["trains"]
    labels = [*dict.fromkeys(cell["label"] for cell in made["cells"])]
    assert [row["label"] for row in rows] == labels and sorted(labels) != labels
    turned = made | {"trainings": dict(reversed(made["trainings"].items()))}
    assert verdicts.content(turned, tmp_path, computed={})["trains"] == rows


def test_tuned_verdicts_come_from_their_own_plan(tmp_path: Path) -> None:
    made = whole(("T1", "T3"), tmp_path / "shared", "mechanism")
    searched = whole(("T1",), tmp_path / "tuned", "mechanism", seeds=4)
    computed = dict.fromkeys(CLAIMS["equal_cost"].predicate.addresses, 1.0)
    found = verdicts.content(
        made, tmp_path / "shared", computed=computed, tuned=searched, tuned_folder=tmp_path / "tuned"
    )
    expected = verdicts.judge(searched, tmp_path / "tuned", computed=computed)
    assert found["tuned"] == [dataclasses.asdict(row) for row in expected] and found["tuned"] != found["rows"]


@pytest.mark.usefixtures("unprinted")
def test_cells_on_other_images_leave_claims_untested(tmp_path: Path) -> None:
    made = planted(tmp_path, {"a": 50, "b": 55})
    for key in next(cell for cell in made["cells"] if cell["column"] == "b")["runs"].values():
        with np.load(tmp_path / key / "counts.npz") as archive:
            fewer = archive["counts"][:-1]
        np.savez(tmp_path / key / "counts.npz", counts=fewer)
    (row,) = verdicts.judge(made, tmp_path, computed={}, claims=[claimed(above(c("b"), c("a")))])
    assert row.verdict == answers.UNTESTED and "must have the same seeds and images" in row.reason


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "counts.npz").unlink(), "it has no result"),
        (lambda folder: settle(folder, peak=100), "its loss rose to 100, against 1.39 for a guess"),
        (lambda folder: settle(folder, loss=1.5), "its loss ended at 1.5, against 1.39 for a guess"),
        (lambda folder: settle(folder, loss=math.nan), "its loss is not finite"),
        (lambda folder: settle(folder, score=0.3), "its tune score fell from 60.0 to 30.0 %"),
    ],
    ids=["failed", "rose", "learnt nothing", "nan", "fell"],
)
@pytest.mark.parametrize("loser", ["stack", "GCN"])
def test_one_unsettled_training_leaves_its_claims_untested(tmp_path: Path, loser: str, spoil: Any, reason: str) -> None:
    """On either side: GCN neither beats an unsettled opponent nor loses because it did not settle itself."""
    made = whole(("T1", "T3"), tmp_path, "mechanism")
    lost = next(cell for cell in made["cells"] if cell["address"] == f"T3/{loser}/11")["runs"]["1"]
    spoil(tmp_path / lost)
    found = {row.claim: row for row in verdicts.judge(made, tmp_path, computed={})}
    row = found["beats_stack_caption"]
    assert row.verdict == answers.UNTESTED and row.reason.startswith("Did not train at this learning rate: ")
    assert reason in row.reason and "seed 1" in row.reason and "Including them: " in row.reason
    assert (found["rises"].verdict == answers.UNTESTED) == (loser == "GCN")
    label = made["trainings"][lost]["label"]
    (trained,) = (r for r in verdicts.trains(made, claim_tests.Collected(made, [tmp_path], {})) if r["label"] == label)
    assert (trained["settled"], trained["seeds"]) == (2, 3) and len(trained["reasons"]) == 1
    assert reason in trained["reasons"][0]
    assert trained["most_failures"] == pytest.approx(0.865, abs=0.001)  # of 1 in 3
    assert "counts.npz" not in str(settling.trouble.__code__.co_names), "never from what is reported"


def test_error_ratios_need_errors_above_the_floor(tmp_path: Path) -> None:
    made = whole(("T5",), tmp_path, "mechanism")
    found = {row.claim: row for row in verdicts.judge(made, tmp_path, computed={})}
    assert found["gcn_inside"].unit == "% of errors" and found["gcn_inside"].points is not None
    for cell in made["cells"]:
        if cell["address"] == "T5/baseline/internal":
            path = tmp_path / cell["runs"]["0"] / "tune.npz"
            counts = np.zeros((4, 2, 4, 3), np.int64)
            counts[..., 0], counts[:, 0, :, 2] = 1000, 400
            np.savez(path, counts=counts)  # 28 % wrong near boundaries, nothing inside
    found = {row.claim: row for row in verdicts.judge(made, tmp_path, computed={})}
    assert found["gcn_inside"].verdict == answers.UNTESTED
    assert "On the tune split T5/baseline/internal has an error of 0.00 % (seed 0)" in found["gcn_inside"].reason
    assert found["br_boundary"].verdict != answers.UNTESTED, "its baseline is another"


def test_frames_of_one_drive_say_nothing_beyond_them(tmp_path: Path) -> None:
    made = whole(("T1",), tmp_path, "mechanism")
    plain = {row.claim: row for row in verdicts.judge(made, tmp_path, computed={})}["rises"]

    def grouped(of: list[int]) -> verdicts.Verdict:
        facts = {"val": {"names": ["a", "b", "c"][: max(of) + 1], "of": of}}
        data = {name: found | {"groups": facts} for name, found in made["data"].items()}
        return {row.claim: row for row in verdicts.judge(made | {"data": data}, tmp_path, computed={})}["rises"]

    one = grouped([0] * 8)
    assert (one.verdict, one.p) == (plain.verdict, plain.p), "on these frames nothing changes"
    assert one.beyond.verdict == answers.UNTESTED
    assert one.beyond.reason == "All val images belong to one group, a: nothing is known about others."
    three = grouped([0, 0, 0, 1, 1, 1, 2, 2])
    assert three.beyond.verdict != answers.UNTESTED and three.beyond.p != plain.beyond.p


@pytest.mark.slow
def test_claims_changed_after_training_are_exploratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = whole(("T1", "T2", "T3", "T4", "T5"), tmp_path, "mechanism")
    asked(made, tmp_path, *CLAIMS.values())
    before = {row.claim: row for row in verdicts.judge(made, tmp_path, computed={})}
    assert not any(row.exploratory for row in before.values())
    changed = dataclasses.replace(CLAIMS["kxk_rises"], mechanism=above("T2/conv/9", "T2/conv/3"))
    monkeypatch.setitem(CLAIMS, "kxk_rises", changed)
    after = {row.claim: row for row in verdicts.judge(made, tmp_path, computed={})}
    late = {name for name, row in after.items() if row.exploratory}
    assert late == {"kxk_rises"} and "6 of its 6 trainings began before the question" in after["kxk_rises"].exploratory
    asked(made, tmp_path, *CLAIMS.values())
    assert not any(row.exploratory for row in verdicts.judge(made, tmp_path, computed={}))
    monkeypatch.setitem(claims.SEEN, made["tier"], (2, 7))
    seen = {row.claim: row for row in verdicts.judge(made, tmp_path, computed={})}
    assert "results of seeds 2 were known" in seen["rises"].exploratory


def test_scores_alone_are_judged_on_their_images(tmp_path: Path) -> None:
    made = whole(("T1", "T3"), tmp_path, "mechanism")
    whole_rows = {row.claim: row for row in verdicts.judge(made, tmp_path, computed={})}
    collected = claim_tests.Collected(made, [tmp_path], {})
    addresses = [cell["address"] for cell in made["cells"]]
    known = {a: dict(zip(range(3), collected.values(a, "scores", [0, 1, 2]), strict=True)) for a in addresses}
    alone = {
        row.claim: row for row in verdicts.judge_scores(made, claim_tests.Scores(made, known), list(CLAIMS.values()))
    }
    assert (alone["rises"].verdict, alone["rises"].p) == (whole_rows["rises"].verdict, whole_rows["rises"].p)
    assert alone["rises"].beyond.reason == "Its counts were not kept."
    counted = [{"address": "T/a", "parameters": 3}, {"address": "T/b", "parameters": None}]
    kept = claim_tests.Scores({"cells": counted}, {})
    assert (kept.number("T/a"), kept.number("T/b")) == (Fraction(3), None), "what is counted needs no training"


def test_counted_claims_are_exact_and_submitted_ones_untested(tmp_path: Path) -> None:
    addresses = CLAIMS["equal_cost"].predicate.addresses
    cells = [
        {"address": a, "metric": "mflops", "not_applicable": None, "parameters": None, "runs": {}} for a in addresses
    ]
    fixed = {"metric": "test_miou", "not_applicable": None, "parameters": None, "runs": {}, "table": "T8"}
    served = [{"address": address} | fixed for address in CLAIMS["best_voc"].predicate.addresses]
    made = {"cells": cells + served, "trainings": {}, "evaluations": {}, "scale": "paper", "verdicts": RULES,
            "tables": [{"id": "T8", "submitted": None}], "not_asked": {}, "tier": "it"}  # fmt: skip
    asked = [CLAIMS["equal_cost"], CLAIMS["best_voc"]]

    def judged(values: list[float], **changes: Any) -> list[verdicts.Verdict]:
        computed = dict(zip(addresses, values, strict=False))
        return verdicts.judge(made | changes, tmp_path, computed=computed, claims=asked)

    assert [row.verdict for row in judged([3730, 3700])] == [S, answers.UNTESTED]
    assert judged([3730, 4087])[0].verdict == C and judged([3730, 4087])[0].estimate == -357
    row = judged([3730, 4087])[0]
    assert row.part == CLAIMS["equal_cost"].predicate.parts[0].name and row.part in row.reason
    assert row.paper == float(printed(addresses[0]) - printed(addresses[1])) and row.bounds != (None, None)
    assert judged([3730])[0].reason == f"Not counted: {addresses[1]}."
    assert judged([1, 1])[1].reason == "Nothing was submitted to the benchmark's server."
    submitted = {"percent": 83.0, "link": "https://x"}
    assert "83.0: one score without seeds" in judged([1, 1], tables=[{"id": "T8", "submitted": submitted}])[1].reason


def test_more_seeds_change_nothing_else(tmp_path: Path) -> None:
    two, three = (whole(("T1", "T2"), tmp_path, "mechanism", seeds) for seeds in (2, 3))
    assert two["trainings"].items() <= three["trainings"].items()
    first, second = (verdicts.judge(made, tmp_path, computed={}) for made in (two, three))
    fixed = ("claim", "says", "on", "where", "printed", "parts")
    assert [[getattr(row, name) for name in fixed] for row in first] == [
        [getattr(r, name) for name in fixed] for r in second
    ]
    assert [row for row in first if row.verdict == answers.UNTESTED] == [
        row for row in second if row.verdict == answers.UNTESTED
    ]
    assert first == verdicts.judge(two, tmp_path, computed={})


# ------------------------------------------------------------------------------------------------ tiers, plans, report
def test_questions_are_in_plans_and_trainings_not_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = tiers.load(tiers.read(), "shapes")
    fact = {"fingerprint": "f" * 64, "classes": ["a", "b"], "size": [64, 64], "splits": {}}
    facts = dict.fromkeys(chosen.settings, fact)
    made = planner.build(chosen, facts, "cpu").manifest()
    assert made["questions"] == questions.all_digests(made) and made["wording"] == questions.wording()
    assert made["questions"] == questions.all_digests(json.loads(json.dumps(made, sort_keys=True))), "as a file has it"
    named = {t["label"]: t["questions"] for t in made["trainings"].values() if t["data"] == "main"}
    assert set(named["GCN k=11"]) == {"rises", "beats_stack_text", "beats_stack_caption", "mechanism stack"}
    assert named["GCN k=11"]["rises"] == made["questions"]["rises"]
    assert "resnet_gcn" not in questions.family(made), "Table 6 is not among its tables"
    monkeypatch.setattr(questions, "METHOD", 99)
    other = planner.build(chosen, facts, "cpu").manifest()
    assert other["questions"] != made["questions"] and list(other["trainings"]) == list(made["trainings"])


def test_a_tier_says_what_it_may_judge() -> None:
    params = tiers.read()
    assert {name: tiers.load(params, name).scale for name in params["tiers"]} == {
        "shapes": "mechanism", "smoke": "none", "camvid": "mechanism", "voc_subset": "mechanism", "voc": "paper",
        "voc_weekend": "data", "cityscapes": "paper",
    }  # fmt: skip
    shapes = params["tiers"]["shapes"] | {"seeds": [0, 1]}

    def refused(match: str, **changes: Any) -> None:
        block = {key: value for key, value in (shapes | changes).items() if value is not None}
        with pytest.raises(InputError, match=match):
            tiers.load(params | {"tiers": {"shapes": block | {"frequent": None}}}, "shapes")

    refused("scale must be one of paper, data, mechanism, none", scale="huge")
    refused("scale must be none if the numbers are meaningless", meaningless=True)
    refused("verdicts must be given for a tier that may judge", verdicts=None)
    refused("verdicts.alpha must be a number from 0 to 0.5", verdicts=RULES | {"alpha": 2})
    refused("verdicts.draws must be a whole number from 100", verdicts=RULES | {"draws": 5})
    refused("verdicts.margin_points must be a positive number", verdicts=RULES | {"margin_points": 0})
    plain = {key: value for key, value in shapes.items() if key not in ("scale", "verdicts")}
    assert tiers.load(params | {"tiers": {"shapes": plain}}, "shapes").scale == "none"


@pytest.mark.slow
def test_the_report_shows_both_answers_and_exploratory_claims(tmp_path: Path) -> None:
    made = test_document.fake_plan([paper.TABLES[name] for name in ("T1", "T2", "T3")], 3)
    folder = test_document.fake_folder(tmp_path / "fake", made)
    asked(made, folder / "results", *CLAIMS.values())
    changed = next(key for key, training in made["trainings"].items() if training["label"] == "GCN k=11")
    (folder / "results" / changed / "training.json").write_text(json.dumps({"labels": {}}))
    (folder / "verdicts.json").write_text(json.dumps(verdicts.content(made, folder / "results", computed={})))
    document.build(folder, test_document.TIER, test_document.DEVIATIONS)
    told = json.loads((folder / "report.json").read_text())["verdicts"]
    assert len(told["rows"]) == len(CLAIMS)
    rows = {row["claim"]: row for row in told["rows"]}
    assert rows["gain_k"]["called"] == "shows here" and rows["fewer_weights"]["called"] == "supported"
    assert re.fullmatch(r"[+-]\d+\.\d \[[+-]\d+\.\d, [+-]\d+\.\d\]", rows["rises"]["effect"])
    assert rows["rises"]["beyond"]["effect"] != rows["rises"]["effect"]
    assert rows["beats_stack_text"]["printed"] == "does not hold: T3/GCN/5 above T3/stack/5"
    late = {name for name, row in rows.items() if row["exploratory"]}
    assert late == {"rises", "beats_stack_text", "beats_stack_caption"} and told["exploratory"] == len(late)
    assert rows["rises"]["exploratory"] == "1 of its 24 trainings began before the question took this form"
    page = (folder / "report.html").read_text()
    assert ">exploratory</span>" in page and "Does it train?" in page
    assert "Verdicts on the claims" not in page, "what was judged is not among what was not run"
