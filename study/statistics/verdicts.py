"""Verdicts on claims from a plan and collected counts: supported, contradicted, undecided, untested, each with its
reason.

Each claim is asked twice: on this benchmark, where only trainings vary, and beyond it, where images vary too (D70). No
verdict is set by hand. A tier judges only what its scale allows: at another scale than the paper's it judges the
mechanism, never the paper's numbers (D80). D81 defines how parts, claims and seeds combine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import cast

from study.paper.audit.sources import printed
from study.paper.claims import ARITHMETIC, CLAIMS, SEEN, Claim
from study.paper.predicates import ERRORS, LOSSES, SCORES, Margins, Part, Predicate, value_of
from study.paper.tables import TABLES
from study.spec.constants import DATA, MECHANISM, NOTHING, PAPER
from study.spec.documents.plan import Asked, PlanFile, PlannedMechanism, PlannedSide, restricted
from study.spec.documents.verdicts import LookRow, MechanismRow, SideRow, TrainsRow, VerdictRow, VerdictsFile
from study.spec.words import counted
from study.statistics import answers, mechanisms, questions, sequence, settling
from study.statistics.answers import (
    CONTRADICTED,
    SAME,
    SUPPORTED,
    UNDECIDED,
    UNITS,
    Judgement,
    in_unit,
    margins_of,
)
from study.statistics.claim_tests import BEYOND, HERE, Collected, Scores, Tested, bounds_of, rules_of
from study.statistics.sequence import LAST, OUT_OF_BUDGET, OUT_OF_REACH, Answer, Course

# The wording of each verdict by scale; {on} is the paper's data, {shows} what was looked for.
WORDS = {
    PAPER: {
        SUPPORTED: "Supported on {on}, at the paper's scale.",
        CONTRADICTED: "Contradicted on {on}, at the paper's scale.",
        SAME: "On {on}, at the paper's scale, part of it makes no difference that matters.",
        UNDECIDED: "Undecided on {on}, at the paper's scale.",
    },
    DATA: {
        SUPPORTED: "It holds on {on} with this recipe: {shows}.",
        CONTRADICTED: "It does not hold on {on} with this recipe ({shows}).",
        SAME: "On {on} with this recipe, part of it makes no difference that matters ({shows}).",
        UNDECIDED: "Whether it holds on {on} with this recipe is undecided ({shows}).",
    },
    MECHANISM: {
        SUPPORTED: "The mechanism shows here: {shows}. This says nothing about {on}.",
        CONTRADICTED: "The mechanism does not show here ({shows}). This says nothing about {on}.",
        SAME: "Part of it makes no difference that matters here ({shows}). This says nothing about {on}.",
        UNDECIDED: "Whether the mechanism shows here is undecided ({shows}). This says nothing about {on}.",
    },
    ARITHMETIC: {SUPPORTED: "Arithmetic confirms it.", CONTRADICTED: "Arithmetic contradicts it."},
}


@dataclass(frozen=True)
class Verdict(Judgement):
    """One row of verdicts.json: the answer on this benchmark, and ``beyond`` it. ``printed`` says whether the paper's
    own numbers fit its claim. ``bounds`` are those that the claim sets for its part (None: open), and ``paper`` is the
    paper's value for it, in points or in the unit of a count. ``exploratory`` says why nothing here confirms the claim.

    The claim ``left`` the study for a reason of statistics.sequence, after ``look`` (from 1; 0: it was never asked),
    with its first ``seeds``. ``chance`` is that of a verdict at the last look, if more seeds were not drawn.
    ``closing`` says what closing an open claim would take. ``later`` is the effect with all seeds that its cells have
    by now, if these are more.
    """

    claim: str = ""
    says: str = ""
    on: str = ""
    where: str = ""
    printed: str = ""
    wording: str = "Untested."
    parts: int = 0
    bounds: tuple[float | None, float | None] = (None, None)
    paper: float | None = None
    seeds: int = 0
    beyond: Judgement = field(default_factory=Judgement)
    exploratory: str = ""
    look: int = 0
    left: str = ""
    chance: float | None = None
    closing: str = ""
    later: str = ""


def judge(
    plan: PlanFile,
    *folders: Path,
    computed: Mapping[str, float],
    claims: Iterable[Claim] = CLAIMS.values(),
    also: Mapping[str, str] = MappingProxyType({}),
) -> list[Verdict]:
    """A verdict on each claim, in their order. ``plan`` is the content of plan.json, ``folders`` hold the collected
    results by key, ``computed`` the counted cells by address. ``also`` are digests of questions that count as the
    plan's own."""
    return judge_scores(plan, Collected(plan, folders, computed), list(claims), also=also)


def judge_scores(
    plan: PlanFile,
    collected: Scores,
    claims: list[Claim],
    course: Course | None = None,
    also: Mapping[str, str] = MappingProxyType({}),
) -> list[Verdict]:
    """A verdict on each claim from scores, and from counts where ``collected`` has them. ``course`` is that of the
    whole study; without it, the claims are followed on their own. ``also`` as in ``judge``."""
    course = course or sequence.follow(plan, collected, [claims])
    rows = {claim.id: _asked(claim, plan, collected) for claim in claims}
    for claim in claims:
        if (answer := course.answers.get(claim.id)) is not None:
            rows[claim.id] = _with(rows[claim.id], claim, answer, plan, collected)
    late = _late(plan, collected, course, claims=claims, also=also)
    return [replace(row, exploratory=late.get(name, "")) for name, row in rows.items()]


def content(
    plan: PlanFile,
    *folders: Path,
    computed: Mapping[str, float],
    tuned: PlanFile | None = None,
    tuned_folder: Path = Path(),
    ready: Callable[[str], bool] = lambda key: True,
) -> VerdictsFile:
    """The content of verdicts.json: the digests of the questions, the scale, the verdicts at the shared setting and,
    with the plan ``tuned`` and its results, those with each variant at its best (D95); and which variants train at all.
    ``ready`` says which trainings and evaluations have ended. No look judges a claim before all that it needs have
    ended."""
    collected, claims = Collected(plan, folders, computed), list(CLAIMS.values())
    course = sequence.follow(plan, collected, sequence.families(plan), ready)
    at_best = None
    if tuned is not None:  # a training in both plans recorded the questions of the first
        at_best = judge(tuned, tuned_folder, computed=computed, also=questions.digests(plan))
    return {
        "version": 2,
        "questions": questions.all_digests(plan),
        "wording": questions.wording(),
        "scale": plan["scale"],
        "family": questions.family(plan),
        "rows": _rows(judge_scores(plan, collected, claims, course)),
        "tuned": None if at_best is None else _rows(at_best),
        "mechanisms": tested_mechanisms(plan, collected, course),
        "looks": cast(list[LookRow], [asdict(look) for look in course.looks]),
        "trains": trains(restricted(plan, set(filter(ready, course.drawn))), collected),
    }


def tested_mechanisms(plan: PlanFile, collected: Collected, course: Course) -> list[MechanismRow]:
    """The answers on the plan's mechanisms, with the effect in each setting."""
    asked = mechanisms.claims(plan)
    found: list[MechanismRow] = []
    for (name, one), verdict in zip(
        sorted(plan.get("mechanisms", {}).items()), judge_scores(plan, collected, asked, course), strict=True
    ):
        answer = course.answers.get(verdict.claim)
        known = collected if answer is None else collected.of_seeds(answer.seeds)
        share = 1.0 if answer is None else sequence.of_plan(plan).shares[answer.look]
        found.append({
            "name": name, "says": one["says"], "claim": one["claim"],
            "unit": UNITS[mechanisms.measure_of(one)],
            "verdict": verdict.verdict, "reason": verdict.reason, "adjusted": verdict.adjusted,
            "needed": verdict.needed, "seeds": verdict.seeds, "beyond": verdict.beyond.verdict,
            "exploratory": verdict.exploratory, "look": verdict.look, "left": verdict.left,
            "closing": verdict.closing, "shows": _side(one, one["shows"], known, share),
            "absent": _side(one, one["absent"], known, share),
        })  # fmt: skip
    return found


def _side(one: PlannedMechanism, side: PlannedSide, collected: Scores, share: float) -> SideRow:
    """A mechanism's effect in one setting, with all trainings as they ended. ``share`` is its look's share of alpha."""
    plan = collected.plan
    part = mechanisms.gain_in(one, side)
    row: SideRow = {**side, "estimate": None, "low": None, "high": None}
    seeds = collected.done((side["better"], side["worse"]))
    if plan["verdicts"] is None or not seeds:
        return row
    effect = collected.tried(part, seeds, margins_of(plan), HERE, answers.rules_at(plan, share)).effect
    for key, value in (("estimate", effect.estimate), ("low", effect.low), ("high", effect.high)):
        if math.isfinite(value):
            row[key] = in_unit(part.measure, value)  # type: ignore[literal-required]
    return row


def _rows(found: list[Verdict]) -> list[VerdictRow]:
    return cast(list[VerdictRow], [asdict(verdict) for verdict in found])


def trains(plan: PlanFile, collected: Collected) -> list[TrainsRow]:
    """Whether each variant trains, a claim of its own (D114): by setting and variant, how many of its seeds settled,
    with the exact bound. Failures count as not settled."""
    if plan["scale"] == NOTHING or plan["verdicts"] is None:
        return []
    # In the order of the tables, because that of the plan's keys changes with every edit of the code.
    found: dict[tuple[str, str], list[str]] = {(cell["data"], cell["label"]): [] for cell in plan["cells"]}
    for key, training in sorted(plan["trainings"].items(), key=lambda pair: (pair[1]["label"], pair[1]["seed"])):
        found.setdefault((training["data"], training["label"]), []).append(collected.unsettled(key))
    alpha = rules_of(plan)["alpha"]
    rows: list[TrainsRow] = []
    for (data, label), every in ((pair, every) for pair, every in found.items() if every):
        reasons, seeds = [reason for reason in every if reason], len(every)
        settled = seeds - len(reasons)
        most = settling.most_failures(settled, seeds, alpha)
        rows.append({"data": data, "label": label, "reasons": reasons, "settled": settled, "seeds": seeds,
                     "most_failures": most})  # fmt: skip
    return rows


def _asked(claim: Claim, plan: Asked, collected: Scores) -> Verdict:
    """A verdict as far as it is known before any score: the reason why it cannot be asked, or the arithmetic."""
    margins, predicate = margins_of(plan), questions.predicate_of(claim, plan["scale"])
    where = claim.place + (f" (p. {claim.page})" if claim.page else "")
    row = Verdict(
        claim=claim.id, says=claim.says, on=claim.on, where=where,
        printed=_printed(claim.predicate, margins if plan["verdicts"] else None) if claim.place else "not printed",
        parts=len(predicate.parts) if predicate else 0,
    )  # fmt: skip
    if reason := questions.hindrance(claim, plan):
        return replace(row, reason=reason, beyond=Judgement(reason=reason))
    if predicate is not None and questions.counted(claim, plan):
        lost = [address for address in predicate.addresses if collected.number(address) is None]
        if lost:
            return replace(row, reason=f"Not counted: {', '.join(lost)}.")
        return _counted(row, predicate, collected.number, margins)
    return row


def _printed(predicate: Predicate, margins: Margins | None) -> str:
    """Whether the paper's own printed numbers fit a claim."""
    if any(part.measure == LOSSES for part in predicate.parts):
        return "not printed"
    if margins is None and any(part.slack for part in predicate.parts):
        return "depends on a margin"
    failing = predicate.failing(lambda address: printed(TABLES, address), margins or Margins(Fraction(), 1.0))
    return "does not hold: " + "; ".join(failing) if failing else "holds"


def _counted(
    verdict: Verdict, predicate: Predicate, numbers: Callable[[str], Fraction | None], margins: Margins
) -> Verdict:
    """The verdict on a claim about counts: exact, without seeds."""

    def number(address: str) -> Fraction:
        return numbers(address) or Fraction()  # none is missing here

    failing = predicate.failing(number, margins)
    part = next((part for part in predicate.parts if part.name in failing), predicate.parts[0])
    kind = CONTRADICTED if failing else SUPPORTED
    return replace(
        verdict, verdict=kind, wording=WORDS[ARITHMETIC][kind], part=part.name,
        estimate=float(value_of(part.terms, number)), bounds=_bounds(part, margins), paper=_of_paper(part),
        reason="Does not hold: " + "; ".join(failing) + "." if failing else "",
        beyond=Judgement(kind, "It is arithmetic."),
    )  # fmt: skip


def _bounds(part: Part, margins: Margins) -> tuple[float | None, float | None]:
    low, high = (None if b is None else in_unit(part.measure, b) for b in bounds_of(part, margins))
    return low, high


def _of_paper(part: Part) -> float | None:
    if part.measure == LOSSES:
        return None
    value = float(value_of(part.terms, lambda address: printed(TABLES, address), part.measure))
    return in_unit(part.measure, value) if part.measure == ERRORS else value


def _with(row: Verdict, claim: Claim, answer: Answer, plan: PlanFile, collected: Scores) -> Verdict:
    """A row with the answers with which the claim left the study."""
    judged, parts, known = answer.judged[HERE], answer.parts[HERE], collected.of_seeds(answer.seeds)
    chance = None if math.isnan(answer.chance) else answer.chance
    row = replace(
        row, **asdict(judged), beyond=answer.judged[BEYOND], look=answer.look + 1, left=answer.left, chance=chance
    )
    if not parts:
        return row
    part = _shown_part(parts, judged)
    return replace(
        row, wording=WORDS[plan["scale"]][judged.verdict].format(on=claim.on, shows=claim.shows),
        bounds=_bounds(part, margins_of(plan)), paper=_of_paper(part) if claim.place else None,
        seeds=parts[0].effect.seeds, closing=_closing(claim, answer, plan), later=_later(part, answer, plan, collected),
        points=_points(part, parts, known) if judged.unit == UNITS[ERRORS] else None,
    )  # fmt: skip


def _points(part: Part, parts: list[Tested], known: Scores) -> float:
    """A part's effect on errors, as points of the scores."""
    seeds = known.done([address for one in parts for address in one.part.addresses])
    return 100 * float(known.by_seed(part.terms, SCORES, seeds).mean())


def _closing(claim: Claim, answer: Answer, plan: PlanFile) -> str:
    """Why an open claim got no more seeds, and what closing it would take."""
    judged = answer.judged[HERE]
    if judged.verdict != UNDECIDED:
        return ""
    number, found = len(answer.seeds), []
    if answer.left == OUT_OF_REACH:
        most = sequence.of_plan(plan).at[-1]
        found.append(f"Out of reach: with {most} seeds its chance of a verdict was {100 * answer.chance:.0f} %.")
    elif answer.left == OUT_OF_BUDGET:
        found.append(f"Out of budget after {number} seeds.")
    elif answer.left == LAST and answer.look:
        found.append(f"Open after all {number} seeds.")
    predicate = questions.predicate_of(claim, plan["scale"])
    if judged.needed is not None and judged.needed > number and predicate is not None:
        trainings = len(sequence.keys_of(plan, predicate.addresses, answer.seeds[:1]) & plan["trainings"].keys())
        more = judged.needed - number
        found.append(f"Closing it takes {counted(more, 'more seed')} of {counted(trainings, 'training')}.")
    return " ".join(found)


def _later(part: Part, answer: Answer, plan: Asked, collected: Scores) -> str:
    """The effect with the seeds that other claims drew after this one had left: a follow-up, not a verdict."""
    seeds = collected.done(part.addresses)
    if len(seeds) <= len(answer.seeds):
        return ""
    effect = collected.tried(part, seeds, margins_of(plan), HERE, rules_of(plan)).effect
    return f"With all {len(seeds)} seeds so far: {in_unit(part.measure, effect.estimate):+.1f} {UNITS[part.measure]}."


def _shown_part(parts: list[Tested], judged: Judgement) -> Part:
    """The part that an answer shows, found by its own name or by that of the fall that contradicts it."""
    return next(one.part for one in parts if judged.part in (one.part.name, one.against[0]))


def _late(
    plan: Asked, collected: Scores, course: Course, *, claims: list[Claim], also: Mapping[str, str]
) -> dict[str, str]:
    """Why verdicts are exploratory, by claim that was asked: the question is newer than the results that judge it."""
    asked, seen = questions.digests(plan, claims), sorted(set(SEEN.get(plan["tier"], ())) & set(_seeds(plan)))
    found = {}
    for claim in claims:
        answer, predicate = course.answers.get(claim.id), questions.predicate_of(claim, plan["scale"])
        if answer is None or predicate is None:
            continue
        if seen:
            found[claim.id] = (
                f"the results of seeds {', '.join(map(str, seen))} were known before the question took this form"
            )
        elif isinstance(collected, Collected):
            known = collected.of_seeds(answer.seeds)
            recorded = known.recorded(claim.id, [a for a in predicate.addresses if a in known.cells])
            if late := sum(
                number for digest, number in recorded.items() if digest not in (asked[claim.id], also.get(claim.id))
            ):
                found[claim.id] = (
                    f"{late} of its {sum(recorded.values())} trainings began before the question took this form"
                )
    return found


def _seeds(plan: Asked) -> list[int]:
    return sorted({int(seed) for cell in plan["cells"] for seed in cell["runs"]})
