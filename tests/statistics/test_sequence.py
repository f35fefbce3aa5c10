"""Looks at a study: which claims get more seeds, which leave and why. Only the plan and the scores decide."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest

from benchmarks import worlds
from benchmarks.worlds import TRUTHS, WORLDS
from study.statistics import questions, sequence, verdicts
from study.statistics.answers import CONTRADICTED, DECIDED, SAME, SUPPORTED
from study.statistics.claim_tests import HERE, Scores
from study.statistics.sequence import DECIDED_THERE, LAST, NOT_TESTED, OUT_OF_BUDGET, OUT_OF_REACH, Course

FIRST, MOST = 5, 13


@functools.cache
def layout() -> worlds.Layout:
    return worlds.layout(FIRST, MOST)


def study(number: int = 1, truth: str = "paper") -> worlds.Simulated:
    return worlds.simulate(WORLDS["normal"], TRUTHS[truth], layout(), number)


def follow(known: Scores, plan: Any = None, **others: Any) -> Course:
    return sequence.follow(plan or layout().plan, known, [layout().claims], **others)


def priced(budget: float) -> Any:
    plan = copy.copy(layout().plan)
    plan["sequence"] = {**plan["sequence"], "budget": budget}
    return plan


def first_cost() -> float:
    return follow(study()).looks[0].spent


def test_looks_share_alpha_by_their_seeds() -> None:
    looks = sequence.of_plan(layout().plan)
    assert looks.at == (5, 9, 13) and looks.shares == pytest.approx((5 / 13, 4 / 13, 4 / 13))
    plain = worlds.layout(3).plan
    assert sequence.of_plan(plain).at == (3,) and sequence.of_plan(plain).shares == (1.0,)


def test_every_claim_leaves_once_for_a_reason() -> None:
    course = follow(study())
    assert course.ended and set(course.answers) == {claim.id for claim in layout().claims}
    left = [name for look in course.looks for name in look.left]
    assert len(left) == len(set(left)) == len(course.answers)
    for answer in course.answers.values():
        assert len(answer.seeds) == (5, 9, 13)[answer.look]
        assert (answer.judged[HERE].verdict in DECIDED) == (answer.left == DECIDED_THERE)
        assert answer.left in (DECIDED_THERE, OUT_OF_REACH) or (answer.left, answer.look) == (LAST, 2)


def test_only_open_claims_draw_more_seeds() -> None:
    course, plan = follow(study()), layout().plan
    more = sequence.keys_of(plan, (cell["address"] for cell in plan["cells"]), sequence.first_seeds(plan))
    for claim in layout().claims:
        assert claim.mechanism is not None
        more |= sequence.keys_of(plan, claim.mechanism.addresses, course.answers[claim.id].seeds)
    assert course.drawn == more and len(more) < len(plan["trainings"]) + len(plan["evaluations"])


def test_later_scores_do_not_change_earlier_answers() -> None:
    known = study()
    early = {name: answer for name, answer in follow(known).answers.items() if answer.look == 0}
    for scores in known.known.values():
        for seed in list(scores)[FIRST:]:
            scores[seed] = 0.01
    again = follow(known)
    assert early and all(again.answers[name].judged == answer.judged for name, answer in early.items())


def test_results_arriving_gradually_take_the_same_course() -> None:
    """As for a driver that is killed and restarted: only the requested results exist."""
    whole, there = follow(study()), set[str]()
    for _ in range(10):
        course = follow(study(), ready=there.__contains__)
        if course.ended:
            break
        assert course.drawn - there, "it waits for something"
        there |= course.drawn
    assert course.ended and course.drawn == whole.drawn == there
    assert {n: a.judged for n, a in course.answers.items()} == {n: a.judged for n, a in whole.answers.items()}


def test_the_budget_goes_to_the_most_promising_claims() -> None:
    first, free = first_cost(), follow(study())
    waiting = {name for name, answer in free.answers.items() if answer.look > 0}
    none = follow(study(), priced(first))
    assert [look.spent for look in none.looks] == [first]
    assert {name for name, answer in none.answers.items() if answer.left == OUT_OF_BUDGET} == waiting
    some = follow(study(), priced(first * 1.2))
    assert first < some.looks[-1].spent <= first * 1.2 < free.looks[-1].spent
    kept = {name for name, answer in some.answers.items() if answer.look > 0}
    assert kept and kept < waiting


def test_a_budget_changes_no_answer() -> None:
    free, none = follow(study()), follow(study(), priced(first_cost()))
    for name, answer in none.answers.items():
        assert answer.left == OUT_OF_BUDGET or free.answers[name].judged == answer.judged
    assert questions.digests(priced(1.0)) == questions.digests(layout().plan), "the question is the same"


def test_seeds_that_failed_count_as_drawn() -> None:
    known, later = study(), study()
    known.lost = {"T1/score/15": {worlds.FIRST_SEED}}
    course = follow(known)
    assert course.answers["gain_k"].left == NOT_TESTED and course.answers["gain_k"].look == 0
    later.lost = {"T1/score/15": {worlds.FIRST_SEED + MOST - 1}}
    assert follow(later).answers["gain_k"].left != NOT_TESTED, "a seed that was never drawn fails no claim"


@pytest.mark.slow
def test_a_claim_without_chance_is_out_of_reach() -> None:
    found = [answer for number in range(3) for answer in follow(study(number, "null")).answers.values()]
    out = [answer for answer in found if answer.left == OUT_OF_REACH]
    assert out and all(answer.chance < sequence.REACH for answer in out)
    assert any(answer.left == LAST for answer in found), "one with a chance goes on to the end"


def test_verdicts_say_how_a_claim_left_and_closes() -> None:
    known, plan = study(), priced(first_cost())
    rows = verdicts.judge_scores(plan, known, layout().claims)
    out = [row for row in rows if row.left == OUT_OF_BUDGET]
    assert out and all(row.look == 1 and row.verdict == "undecided" for row in out)
    for row in out:
        assert row.closing.startswith("Out of budget after 5 seeds.")
        assert row.needed is None or f"Closing it takes {row.needed - 5} more seed" in row.closing


def test_later_seeds_are_only_a_follow_up() -> None:
    rows = verdicts.judge_scores(layout().plan, study(), layout().claims)
    told = [row for row in rows if row.later]
    assert told and all(row.look < 3 and row.later.startswith("With all ") for row in told)


def test_a_cell_also_draws_its_parent_trainings() -> None:
    plan = layout().plan
    keys = sequence.keys_of(plan, ["T7/Stage-3-MS/GCN + BR"], [worlds.FIRST_SEED])
    stages = {plan["trainings"][key]["data"] for key in keys if key in plan["trainings"]}
    assert stages == {"T7 Stage-1", "T7 Stage-2", "T7 Stage-3"}
    assert sum(key in plan["evaluations"] for key in keys) == 1


def test_no_difference_passes_nothing_on() -> None:
    """Its level was already used for a difference; a claim decided by a difference passes its level on."""
    known = study(truth="half")
    followed = sequence._Study(layout().plan, known, [layout().claims])
    followed.follow(lambda key: True)
    levels, answered = followed.levels[0][HERE], followed.course.answers
    same = {name for name, answer in answered.items() if answer.judged[HERE].verdict == SAME}
    apart = {name for name, answer in answered.items() if answer.judged[HERE].verdict in (SUPPORTED, CONTRADICTED)}
    assert same and apart and same <= levels.shares.keys() and not apart & levels.shares.keys()
    for name in same:
        judged = answered[name].judged[HERE]
        assert judged.p is not None and judged.p <= judged.adjusted <= 0.05, "its own p, not that of a difference"


@pytest.mark.slow
def test_no_difference_takes_nothing_that_others_pass_on() -> None:
    """Effects just past the margin: the level that found differences pass on must not call the others alike."""
    wrong, of = 0, worlds.layout(13)
    for number in range(40):
        known = worlds.simulate(WORLDS["normal"], TRUTHS["past the margin"], of, number)
        rows = verdicts.judge_scores(of.plan, known, of.claims)
        truly = {"gain_k", "beats_stack_text", "beats_stack_caption", "beats_each_width", "br_overall"}
        wrong += any(row.verdict == SAME and row.claim in truly - {"br_overall"} for row in rows)
    assert wrong <= 7  # at a rate of 5 %, more occur once in a thousand times
