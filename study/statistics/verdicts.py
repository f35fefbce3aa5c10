"""Claims x plan x collected counts -> verdicts: supported, contradicted, undecided, untested, each with its reason.

Each claim is asked twice: on this benchmark, where only trainings vary, and beyond it, where images vary too (D70). No
verdict is given by hand, and a tier judges only what its scale allows: at another scale than the paper's it speaks of
the mechanism, never of the paper's numbers (D80). D81 says how parts, claims and seeds are put together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from study.paper.audit.sources import printed
from study.paper.claims import ARITHMETIC, CLAIMS, FORMER, SEEN, Claim
from study.paper.predicates import ERRORS, LOSSES, SCORES, Margins, Part, Predicate, value_of
from study.paper.tables import TABLES
from study.spec.constants import MECHANISM, NOTHING, PAPER
from study.spec.documents.plan import Asked, PlanFile, PlannedSide
from study.spec.documents.verdicts import MechanismRow, SideRow, TrainsRow, VerdictRow, VerdictsFile
from study.spec.errors import InputError
from study.statistics import effects, mechanisms, questions, settling
from study.statistics.claim_tests import BEYOND, HERE, Collected, Scores, Tested, bounds_of, distance, right, rules_of
from study.statistics.effects import POWER

SUPPORTED, CONTRADICTED, UNDECIDED, UNTESTED = "supported", "contradicted", "undecided", "untested"
NAMED = 3  # failed trainings that a reason names
UNITS = {SCORES: "points", ERRORS: "% of errors", LOSSES: "nats"}
# What a verdict says of a claim at each scale; {on} is the paper's data, {shows} what was looked for.
WORDS = {
    PAPER: {
        SUPPORTED: "Supported on {on}, at the paper's scale.",
        CONTRADICTED: "Contradicted on {on}, at the paper's scale.",
        UNDECIDED: "On {on}, at the paper's scale, it could be either.",
    },
    MECHANISM: {
        SUPPORTED: "The mechanism shows here: {shows}. Of {on} it says nothing.",
        CONTRADICTED: "The mechanism does not show here ({shows}). Of {on} it says nothing.",
        UNDECIDED: "The mechanism may show here or not ({shows}). Of {on} it says nothing.",
    },
    ARITHMETIC: {SUPPORTED: "Arithmetic bears it out.", CONTRADICTED: "Arithmetic speaks against it."},
}


@dataclass(frozen=True)
class Judgement:
    """The answer to one of the two questions. ``part`` is the part of the claim that the numbers are of: the one that
    contradicts it, else the weakest.

    ``estimate``, its interval and ``mde``, the least effect that these seeds (and images) find with power 0.8, are in
    ``unit``: points, per cent of errors (-20: a fifth of the errors is gone), nats of loss, or what is counted;
    ``points`` stand beside a ratio of errors. ``p`` is the whole claim's, ``adjusted`` the same after Holm's adjustment
    over the family of claims; ``needed`` seeds would decide it.
    """

    verdict: str = UNTESTED
    reason: str = ""
    part: str = ""
    unit: str = ""
    estimate: float | None = None
    points: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    adjusted: float | None = None
    mde: float | None = None
    needed: int | None = None


@dataclass(frozen=True)
class Verdict(Judgement):
    """One row of verdicts.json: the answer on this benchmark, and ``beyond`` it. ``printed`` says whether the paper's
    own numbers fit its claim; ``bounds`` are those that the claim sets its part (None: open) and ``paper`` what the
    paper prints of it, in points or in the unit of what is counted. ``exploratory`` says why nothing here confirms it,
    and ``former`` is the verdict on the question as it was asked before."""

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
    former: Judgement | None = None


def judge(
    plan: PlanFile, *folders: Path, computed: Mapping[str, float], claims: Iterable[Claim] = CLAIMS.values()
) -> list[Verdict]:
    """A verdict on each claim, in their order. ``plan`` is the content of plan.json, ``folders`` hold what was
    collected by key, ``computed`` counted cells by address."""
    return judge_scores(plan, Collected(plan, folders, computed), list(claims))


def judge_again(
    plan: Asked, rows: Iterable[Mapping[str, str]], not_kept: Mapping[str, Mapping[str, str]]
) -> list[VerdictRow]:
    """The verdicts as far as the ``rows`` of a scores.csv tell, whose counts were not kept: on these images.
    ``not_kept`` has what is known of trainings: ``unsettled`` and ``replaced`` of claim_tests.Scores."""
    metrics = {cell["address"]: cell["metric"] for cell in plan["cells"]}
    known: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["value"] and row["seed"] and metrics.get(row["address"]) == row["metric"]:
            known.setdefault(row["address"], {})[int(row["seed"])] = float(row["value"])
    return _rows(judge_scores(plan, Scores(plan, known, **not_kept), list(CLAIMS.values())))


def judge_scores(plan: Asked, collected: Scores, claims: list[Claim]) -> list[Verdict]:
    """A verdict on each claim from scores, and from counts as far as ``collected`` has them."""
    members = questions.family(plan, claims)
    rows = {claim.id: _asked(claim, plan, collected) for claim in claims}
    for question in (HERE, BEYOND) if members else ():
        found = {
            claim.id: _answered(claim, questions.predicate_of(claim, plan["scale"]), plan, collected, question)
            for claim in claims
            if claim.id in members
        }
        steps = _steps({name: _p(parts) for name, (_, parts) in found.items()}, plan)
        for claim in (claim for claim in claims if claim.id in members):
            untested, parts = found[claim.id]
            judged = _judged(parts, steps[claim.id], len(members), plan) if parts else untested
            if question == HERE and judged.unit == UNITS[ERRORS]:
                judged = replace(judged, points=_points(judged, parts, claim, plan, collected))
            rows[claim.id] = _with(rows[claim.id], judged, question, claim=claim, plan=plan, parts=parts)
    late = _late(plan, collected, claims)
    return [
        replace(rows[claim.id], exploratory=late[claim.id], former=_former(claim, plan, collected, members))
        if claim.id in late and claim.id in members
        else rows[claim.id]
        for claim in claims
    ]


def content(
    plan: PlanFile,
    *folders: Path,
    computed: Mapping[str, float],
    tuned: PlanFile | None = None,
    tuned_folder: Path = Path(),
) -> VerdictsFile:
    """The content of verdicts.json: the digests of the questions now and as trainings recorded them, the scale, the
    verdicts at the shared setting and, with the plan ``tuned`` and its results, those with each variant at its best
    (D95); and which variants train at all."""
    collected = Collected(plan, folders, computed)
    at_best = None if tuned is None else judge(tuned, tuned_folder, computed=computed)
    return {
        "version": 1,
        "questions": questions.all_digests(plan),
        "wording": questions.wording(),
        "scale": plan["scale"],
        "family": questions.family(plan),
        "rows": _rows(judge_scores(plan, collected, list(CLAIMS.values()))),
        "tuned": None if at_best is None else _rows(at_best),
        "mechanisms": tested_mechanisms(plan, collected),
        "trains": trains(plan, collected),
    }


def tested_mechanisms(plan: PlanFile, collected: Collected) -> list[MechanismRow]:
    """The answers on the plan's mechanisms, with the effect in either setting."""
    asked = mechanisms.claims(plan)
    found: list[MechanismRow] = []
    for (name, one), verdict in zip(
        sorted(plan.get("mechanisms", {}).items()), judge_scores(plan, collected, asked), strict=True
    ):
        measure = mechanisms.measure_of(one)
        shows, absent = mechanisms.predicate_of(one).parts
        found.append({
            "name": name, "says": one["says"], "claim": one["claim"], "unit": UNITS[measure],
            "verdict": verdict.verdict, "reason": verdict.reason, "adjusted": verdict.adjusted,
            "needed": verdict.needed, "seeds": verdict.seeds, "beyond": verdict.beyond.verdict,
            "exploratory": verdict.exploratory, "shows": _side(one["shows"], shows, plan, collected),
            "absent": _side(one["absent"], absent, plan, collected),
        })  # fmt: skip
    return found


def _side(side: PlannedSide, part: Part, plan: PlanFile, collected: Collected) -> SideRow:
    """A mechanism's effect in one setting, with all trainings as they ended."""
    row: SideRow = {**side, "estimate": None, "low": None, "high": None}
    seeds = collected.done((side["better"], side["worse"]))
    if plan["verdicts"] is None or not seeds:
        return row
    effect = collected.tried(part, seeds, _margins(plan), HERE, rules_of(plan)).effect
    for key, value in (("estimate", effect.estimate), ("low", effect.low), ("high", effect.high)):
        if math.isfinite(value):
            row[key] = _shown(part.measure, value)  # type: ignore[literal-required]
    return row


def _rows(found: list[Verdict]) -> list[VerdictRow]:
    return cast(list[VerdictRow], [asdict(verdict) for verdict in found])


def trains(plan: PlanFile, collected: Collected) -> list[TrainsRow]:
    """Whether each variant trains, a claim of its own: by setting and variant, how many of its seeds settled, failures
    counted among the others, with the exact bound (D114)."""
    if plan["scale"] == NOTHING or plan["verdicts"] is None:
        return []
    found: dict[tuple[str, str], list[str]] = {}
    for key, training in plan["trainings"].items():
        reason = collected.unsettled(key)
        found.setdefault((training["data"], training["label"]), []).append(reason)
    alpha = rules_of(plan)["alpha"]
    rows: list[TrainsRow] = []
    for (data, label), every in found.items():
        reasons, seeds = [reason for reason in every if reason], len(every)
        settled = seeds - len(reasons)
        most = settling.most_failures(settled, seeds, alpha)
        rows.append({"data": data, "label": label, "reasons": reasons, "settled": settled, "seeds": seeds,
                     "most_failures": most})  # fmt: skip
    return rows


def _margins(plan: Asked) -> Margins:
    points, ratio = (rules["margin_points"], rules["margin_ratio"]) if (rules := plan["verdicts"]) else (0, 1)
    return Margins(Fraction(str(points)), float(ratio))


def _asked(claim: Claim, plan: Asked, collected: Scores) -> Verdict:
    """A verdict as far as it is known before any score: what hinders the question, or what is arithmetic."""
    margins, predicate = _margins(plan), questions.predicate_of(claim, plan["scale"])
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


def _answered(
    claim: Claim, predicate: Predicate | None, plan: Asked, collected: Scores, question: str
) -> tuple[Judgement, list[Tested]]:
    """What keeps a claim from being tested, or its tested parts."""
    assert predicate is not None
    rules, addresses = rules_of(plan), predicate.addresses
    if reason := collected.hindrance(addresses, question):
        return Judgement(reason=reason), []
    for measure in dict.fromkeys(part.measure for part in predicate.parts):
        if reason := collected.unknown(measure, question):
            return Judgement(reason=reason), []
        if measure == ERRORS:
            before = dict.fromkeys(a for part in predicate.parts if part.measure == ERRORS for a in _second(part))
            if reason := collected.faults(before):
                return Judgement(reason=reason), []
    seeds = collected.done(addresses)
    if troubles := collected.troubles(addresses):
        more = f" and {len(troubles) - NAMED} more" if len(troubles) > NAMED else ""
        worst = _worst(predicate, seeds, plan, collected, question)
        return Judgement(reason=f"Did not train at this rate: {'; '.join(troubles[:NAMED])}{more}.{worst}"), []
    if not seeds:
        return Judgement(reason="No seed has all of its cells."), []
    try:
        parts = [collected.tried(part, seeds, _margins(plan), question, rules) for part in predicate.parts]
    except InputError as error:  # one group of images, or cells that were not measured on the same ones
        return Judgement(reason=f"{_capital(str(error))}."), []
    return Judgement(), parts


def _second(part: Part) -> list[str]:
    """The cells that a part's errors are compared with."""
    return [address for weight, address in part.terms if weight < 0]


def _worst(predicate: Predicate, seeds: list[int], plan: Asked, collected: Scores, question: str) -> str:
    """The effect of the weakest part with all trainings as they ended, as far as they have a score."""
    if question != HERE or not seeds:
        return ""
    parts = [collected.tried(part, seeds, _margins(plan), HERE, rules_of(plan)) for part in predicate.parts]
    shown = max(parts, key=lambda part: -math.inf if math.isnan(part.holds) else part.holds)
    value = _shown(shown.part.measure, shown.effect.estimate)
    return f" As they ended: {shown.part.name} by {value:+.1f} {UNITS[shown.part.measure]}, with {len(seeds)} seeds."


def _printed(predicate: Predicate, margins: Margins | None) -> str:
    """What the paper's own printed numbers say of a claim."""
    if any(part.measure == LOSSES for part in predicate.parts):
        return "not printed"
    if margins is None and any(part.slack for part in predicate.parts):
        return "depends on a margin"
    failing = predicate.failing(lambda address: printed(TABLES, address), margins or Margins(Fraction(), 1.0))
    return "does not hold: " + "; ".join(failing) if failing else "holds"


def _counted(
    verdict: Verdict, predicate: Predicate, numbers: Callable[[str], Fraction | None], margins: Margins
) -> Verdict:
    """The verdict on a claim about what is counted: exact, without seeds."""

    def number(address: str) -> Fraction:
        return numbers(address) or Fraction()  # none is missing here

    failing = predicate.failing(number, margins)
    part = next((part for part in predicate.parts if part.name in failing), predicate.parts[0])
    kind = CONTRADICTED if failing else SUPPORTED
    return replace(
        verdict, verdict=kind, wording=WORDS[ARITHMETIC][kind], part=part.name,
        estimate=float(value_of(part.terms, number)), bounds=_bounds(part, margins), paper=_of_paper(part),
        reason="Not so: " + "; ".join(failing) + "." if failing else "",
        beyond=Judgement(kind, "It is arithmetic."),
    )  # fmt: skip


def _bounds(part: Part, margins: Margins) -> tuple[float | None, float | None]:
    low, high = (None if b is None else _shown(part.measure, b) for b in bounds_of(part, margins))
    return low, high


def _of_paper(part: Part) -> float | None:
    if part.measure == LOSSES:
        return None
    value = float(value_of(part.terms, lambda address: printed(TABLES, address), part.measure))
    return _shown(part.measure, value) if part.measure == ERRORS else value


def _shown(measure: str, value: float) -> float:
    """An effect in the unit that is shown: a ratio of errors becomes the per cent by which they change."""
    return 100 * math.expm1(value) if measure == ERRORS else value if measure == LOSSES else 100 * value


def _p_holds(parts: list[Tested]) -> float:
    """p that all parts hold by chance: the largest (intersection-union)."""
    return max(part.holds for part in parts)


def _p_fails(parts: list[Tested]) -> float:
    """p that one of the parts fails by chance: the least, times their number."""
    return min(1.0, len(parts) * min(part.fails for part in parts))


def _p(parts: list[Tested]) -> float:
    """A whole claim's p, nan where a part has none or nothing was tested. It takes no factor of two: a claim that is
    true can only be contradicted wrongly, and one that is false only be supported wrongly."""
    if not parts or any(math.isnan(part.holds) or math.isnan(part.fails) for part in parts):
        return math.nan
    return min(_p_holds(parts), _p_fails(parts))


@dataclass(frozen=True)
class _Step:
    """A claim's step of Holm's procedure: its adjusted p, and the level that a p must reach there."""

    adjusted: float
    level: float


def _steps(ps: Mapping[str, float], plan: Asked) -> dict[str, _Step]:
    adjusted = effects.holm(list(ps.values()))
    order = sorted(range(len(ps)), key=lambda place: (math.isnan(list(ps.values())[place]), list(ps.values())[place]))
    alpha, found = rules_of(plan)["alpha"], {}
    for rank, place in enumerate(order):
        found[list(ps)[place]] = _Step(adjusted[place], alpha / (len(ps) - rank))
    return found


def _judged(parts: list[Tested], step: _Step, asked: int, plan: Asked) -> Judgement:
    """The answer where parts were tested; ``asked`` is the size of the family."""
    rules, margins = rules_of(plan), _margins(plan)
    decided = step.adjusted <= rules["alpha"]  # false for nan
    # A trend may rise on the whole and fall between two cells: what contradicts comes first. A fall that is clear by
    # itself, though not at the level of this step, leaves it open: a clear line must not make it easier to overlook.
    kind = UNDECIDED if not decided else CONTRADICTED if _p_fails(parts) <= step.level else SUPPORTED
    if kind == SUPPORTED and _p_fails(parts) <= rules["alpha"]:
        kind = UNDECIDED
    against = min(parts, key=lambda part: part.fails)
    shown = against if kind == CONTRADICTED else max(parts, key=lambda part: part.holds)
    name, effect = shown.against if kind == CONTRADICTED else (shown.part.name, shown.effect)
    measure, reason, needed = shown.part.measure, "", None
    if kind == CONTRADICTED and name != shown.part.name:
        reason = f"Not so: {name}, by {abs(_shown(measure, effect.estimate)):.1f} {UNITS[measure]}."
    elif kind == CONTRADICTED:
        reason = f"Not so: {name} ({_shown(measure, effect.estimate):+.1f} {UNITS[measure]})."
    elif kind == UNDECIDED:
        needed, reason = _needed(parts, margins, rules["alpha"] / asked)
    mde = math.nan
    if math.isfinite(effect.low):
        mde = effect.spread.detectable(rules["alpha"] / asked, POWER)
        mde = abs(_shown(measure, -mde)) if measure == ERRORS else _shown(measure, mde)
    numbers: dict[str, Any] = {
        "estimate": _shown(measure, effect.estimate), "low": _shown(measure, effect.low),
        "high": _shown(measure, effect.high), "mde": mde, "p": _p(parts), "adjusted": step.adjusted,
    }  # fmt: skip
    numbers = {name: None if math.isnan(number) else number for name, number in numbers.items()}
    return Judgement(kind, reason, name, UNITS[measure], needed=needed, **numbers)


def _with(row: Verdict, judged: Judgement, question: str, claim: Claim, plan: Asked, parts: list[Tested]) -> Verdict:
    if question == BEYOND:
        return replace(row, beyond=judged)
    row = replace(row, **asdict(judged))
    if not parts:
        return row
    part = _shown_part(parts, judged)
    return replace(
        row, wording=WORDS[plan["scale"]][judged.verdict].format(on=claim.on, shows=claim.shows),
        bounds=_bounds(part, _margins(plan)), paper=_of_paper(part) if claim.place else None,
        seeds=parts[0].effect.seeds,
    )  # fmt: skip


def _points(judged: Judgement, parts: list[Tested], claim: Claim, plan: Asked, collected: Scores) -> float:
    """In points of the scores, what a part says of errors."""
    predicate = questions.predicate_of(claim, plan["scale"])
    assert predicate is not None
    seeds = collected.done(predicate.addresses)
    return 100 * float(collected.by_seed(_shown_part(parts, judged).terms, SCORES, seeds).mean())


def _shown_part(parts: list[Tested], judged: Judgement) -> Part:
    """The part that an answer shows, by its own name or by that of the fall that contradicts it."""
    return next(one.part for one in parts if judged.part in (one.part.name, one.against[0]))


def _needed(parts: list[Tested], margins: Margins, alpha: float) -> tuple[int | None, str]:
    """How many seeds would decide a claim with power 0.8 at the first step of Holm's procedure, were its effects as
    measured; and in words. All parts must hold to support it, and one that fails contradicts it."""
    if any(part.effect.seeds == 1 for part in parts):
        return None, "One seed decides nothing, and does not tell how many would."
    if any(math.isnan(part.p) for part in parts):
        return None, "Its scores do not vary or have no value: nothing can be said of chance."
    on_its_side = [right(part, margins) for part in parts]
    ways = [
        part.effect.seeds_for(distance(part, margins), POWER, alpha / len(parts))
        for part, holds in zip(parts, on_its_side, strict=True)
        if not holds
    ]
    if all(on_its_side):
        found = [part.effect.seeds_for(distance(part, margins), POWER, alpha) for part in parts]
        known = [seeds for seeds in found if seeds is not None]
        ways = [max(known)] if len(known) == len(found) else []
    known = [seeds for seeds in ways if seeds is not None]
    if not known:
        return None, "No number of seeds would decide it with effects as small as these."
    return min(known), f"Some {min(known)} seeds would decide it, were the effects as measured."


def _late(plan: Asked, collected: Scores, claims: list[Claim]) -> dict[str, str]:
    """By claim, why its verdict is exploratory: its question is newer than what is judged."""
    asked, seen = questions.digests(plan, claims), sorted(set(SEEN.get(plan["tier"], ())) & set(_seeds(plan)))
    found = {}
    for claim in claims:
        predicate = questions.predicate_of(claim, plan["scale"])
        if seen:
            found[claim.id] = f"the results of seeds {', '.join(map(str, seen))} had been seen when it was asked so"
        elif predicate is not None and isinstance(collected, Collected):
            recorded = collected.recorded(claim.id, [a for a in predicate.addresses if a in collected.cells])
            if late := sum(number for digest, number in recorded.items() if digest != asked[claim.id]):
                found[claim.id] = f"{late} of its {sum(recorded.values())} trainings began before it was asked so"
    return found


def _seeds(plan: Asked) -> list[int]:
    return sorted({int(seed) for cell in plan["cells"] for seed in cell["runs"]})


def _former(claim: Claim, plan: Asked, collected: Scores, members: list[str]) -> Judgement | None:
    """The verdict on the question as it was asked before, in the same family; None where it was the same."""
    predicate = FORMER.get(claim.id)
    if predicate is None or plan["scale"] != MECHANISM:
        return None
    untested, parts = _answered(claim, predicate, plan, collected, HERE)
    if not parts:
        return untested
    p = _p(parts)
    adjusted = math.nan if math.isnan(p) else min(1.0, p * len(members))
    return _judged(parts, _Step(adjusted, rules_of(plan)["alpha"] / len(members)), len(members), plan)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
