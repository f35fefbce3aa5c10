"""Test the parts of a claim at one look and combine them into one answer.

A claim holds if all of its parts hold. Three answers decide it: *supported*, *contradicted* and *no difference*, the
last where the effect of one of its parts is shown to be smaller than the tier's margin (D149).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from study.paper.predicates import ERRORS, LOSSES, SCORES, Margins, Part, Predicate
from study.spec.documents.plan import Asked, Rules
from study.spec.errors import InputError
from study.statistics import effects
from study.statistics.claim_tests import HERE, Scores, Tested, distance, right, rules_of
from study.statistics.effects import POWER
from study.statistics.intervals import Spread

SUPPORTED, CONTRADICTED, SAME = "supported", "contradicted", "no difference"
UNDECIDED, UNTESTED = "undecided", "untested"
DECIDED = (SUPPORTED, CONTRADICTED, SAME)
NAMED = 3  # failed trainings that a reason lists
UNITS = {SCORES: "points", ERRORS: "% of errors", LOSSES: "nats"}


@dataclass(frozen=True)
class Judgement:
    """The answer to one of the two questions. ``part`` is the part of the claim that the numbers describe: the part
    that decides it, else the weakest.

    ``estimate``, its interval and ``mde``, the smallest effect that these seeds (and images) detect with power 0.8, are
    in ``unit``: points, per cent of errors (-20: a fifth of the errors is gone), nats of loss, or the unit of a count.
    ``points`` accompany a ratio of errors. The interval is valid at the look at which the claim left. ``p`` is that of
    the whole claim; ``adjusted`` corrects it for the family of claims and for the looks. ``needed`` seeds would decide
    it.
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


def margins_of(plan: Asked) -> Margins:
    """The plan's margins of no difference; 0 points and a ratio of 1 if it has no rules for verdicts."""
    points, ratio = (rules["margin_points"], rules["margin_ratio"]) if (rules := plan["verdicts"]) else (0, 1)
    return Margins(Fraction(str(points)), float(ratio))


def tested(
    predicate: Predicate | None, plan: Asked, collected: Scores, question: str, share: float
) -> tuple[Judgement, list[Tested]]:
    """Test the parts of a claim. Returns the tested parts, or none of them and a judgement that says why it cannot be
    tested. ``share`` is the look's share of alpha."""
    assert predicate is not None
    rules, addresses = rules_at(plan, share), predicate.addresses
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
        return Judgement(reason=f"Did not train at this learning rate: {'; '.join(troubles[:NAMED])}{more}.{worst}"), []
    if not seeds:
        return Judgement(reason="No seed has results for all of its cells."), []
    try:
        parts = [collected.tried(part, seeds, margins_of(plan), question, rules) for part in predicate.parts]
    except InputError as error:  # a single group of images, or cells measured on different images
        return Judgement(reason=f"{_capital(str(error))}."), []
    return Judgement(), parts


def rules_at(plan: Asked, share: float) -> Rules:
    """The plan's rules at a look with this share of alpha."""
    rules = rules_of(plan)
    return {**rules, "alpha": rules["alpha"] * share}


def p_of(parts: list[Tested], alpha: float) -> float:
    """The p value of a whole claim; nan if nothing was tested or a part has no p.

    The p of "all parts hold by chance" is the largest of the parts' (intersection-union); that of "one fails by chance"
    is the smallest, times the number of parts. The smaller of the two counts, without a factor of two: a true claim can
    only be wrongly contradicted, and a false one only wrongly supported. But a trend may rise overall and still fall
    between two cells: a failure that is clear on its own, at ``alpha``, takes precedence.
    """
    if not parts or any(math.isnan(part.holds) or math.isnan(part.fails) for part in parts):
        return math.nan
    holds, fails = max(part.holds for part in parts), _p_fails(parts)
    return fails if fails <= alpha else min(holds, fails)


def p_same(parts: list[Tested], margins: Margins) -> float:
    """The p value of "no part lies within the margin of no difference". It is 1 if no part can lie there, or if one
    itself claims that there is no difference.

    It is twice the p of two one-sided tests, times the number of parts: a difference may decide the claim as well, and
    the two ways of being wrong about it must add up to one level (D149).
    """
    if any(part.part.low is not None and part.part.high is not None for part in parts):
        return 1.0
    ps = [effects.equivalent(part.effect, margin_of(part.part, margins), 0.05) for part in parts if _plain(part)]
    known = [p for p in ps if not math.isnan(p)]
    return min(1.0, 2 * len(parts) * min(known)) if known else 1.0


def _plain(found: Tested) -> bool:
    """Whether a part claims only the sign of its effect, and the effect was measured."""
    return one_sided(found.part) and math.isfinite(found.effect.low)


def one_sided(part: Part) -> bool:
    """Whether a part claims only the sign of its effect, and has a margin of no difference."""
    bounds = [bound for bound in (part.low, part.high) if bound is not None]
    return part.measure != LOSSES and bounds == [0] and not part.slack and len(part.order) <= 2


def margin_of(part: Part, margins: Margins) -> float:
    """The margin of no difference in the unit of a part's effect."""
    return float(margins.of(part.measure)) / (100 if part.measure == SCORES else 1)


def _p_fails(parts: list[Tested]) -> float:
    return min(1.0, len(parts) * min(part.fails for part in parts))


def kind_of(parts: list[Tested], adjusted: float, same: float, alpha: float) -> str:
    """The verdict on tested parts. ``adjusted`` is the smallest alpha at which a difference decides the claim, ``same``
    the smallest at which the lack of one does."""
    if adjusted <= alpha:  # False for nan
        return CONTRADICTED if _p_fails(parts) <= alpha else SUPPORTED
    return SAME if same <= alpha else UNDECIDED


def judged(
    parts: list[Tested], kind: str, adjusted: float, first: float, plan: Asked, *, needed_at: float | None = None
) -> Judgement:
    """The answer for tested parts. ``adjusted`` is the adjusted p of this kind of answer. ``first`` is the level at
    which the claim could be decided before any other was, ``needed_at`` the same at the look at which its seeds end."""
    margins = margins_of(plan)
    shown = {
        CONTRADICTED: lambda: min(parts, key=lambda part: part.fails),
        SAME: lambda: min(filter(_plain, parts), key=lambda one: p_same([one], margins)),
    }.get(kind, lambda: max(parts, key=lambda part: part.holds))()
    name, effect = shown.against if kind == CONTRADICTED else (shown.part.name, shown.effect)
    measure, reason, needed = shown.part.measure, "", None
    if kind == CONTRADICTED and name != shown.part.name:
        reason = f"Measured instead: {name}, by {abs(in_unit(measure, effect.estimate)):.1f} {UNITS[measure]}."
    elif kind == CONTRADICTED:
        reason = f"Does not hold: {name} ({in_unit(measure, effect.estimate):+.1f} {UNITS[measure]})."
    elif kind == SAME:
        (_, a), (_, b) = shown.part.terms[:2]
        told = f"{in_unit(measure, effect.estimate):+z.1f} {UNITS[measure]}"
        reason = f"{a} and {b} differ by less than the margin ({told})."
    elif kind == UNDECIDED:
        needed, reason = seeds_needed(parts, margins, needed_at or first)
    mde = math.nan
    if math.isfinite(effect.low):
        mde = effect.spread.detectable(first, POWER)
        mde = abs(in_unit(measure, -mde)) if measure == ERRORS else in_unit(measure, mde)
    numbers: dict[str, Any] = {
        "estimate": in_unit(measure, effect.estimate), "low": in_unit(measure, effect.low),
        "high": in_unit(measure, effect.high), "mde": mde, "adjusted": adjusted,
        "p": p_same(parts, margins) if kind == SAME else p_of(parts, rules_of(plan)["alpha"]),
    }  # fmt: skip
    numbers = {name: None if math.isnan(number) else number for name, number in numbers.items()}
    return Judgement(kind, reason, name, UNITS[measure], needed=needed, **numbers)


def in_unit(measure: str, value: float) -> float:
    """An effect in its display unit: a ratio of errors becomes the per cent by which they change."""
    return 100 * math.expm1(value) if measure == ERRORS else value if measure == LOSSES else 100 * value


def seeds_needed(parts: list[Tested], margins: Margins, level: float) -> tuple[int | None, str]:
    """How many seeds would decide a claim with power 0.8 at a level if its effects are as measured, and a sentence
    about it. Supporting it takes all parts; contradicting it takes one that fails."""
    if any(part.effect.seeds == 1 for part in parts):
        return None, "One seed decides nothing, and cannot show how many would."
    if any(math.isnan(part.p) for part in parts):
        return None, "Its scores do not vary or have no value, so chance cannot be estimated."
    on_its_side = [right(part, margins) for part in parts]
    ways = [
        part.effect.seeds_for(distance(part, margins), POWER, level / len(parts))
        for part, holds in zip(parts, on_its_side, strict=True)
        if not holds
    ]
    if all(on_its_side):
        found = [part.effect.seeds_for(distance(part, margins), POWER, level) for part in parts]
        known = [seeds for seeds in found if seeds is not None]
        ways = [max(known)] if len(known) == len(found) else []
    ways += [part.effect.seeds_for(inside, POWER, level / len(parts)) for part, inside in _insides(parts, margins)]
    known = [seeds for seeds in ways if seeds is not None]
    if not known:
        return None, "No number of seeds would decide it with effects this small."
    return min(known), f"About {min(known)} seeds would decide it if the effects are as measured."


def chance(parts: list[Tested], margins: Margins, level: float, seeds: int, same: float | None = None) -> float:
    """The chance that a claim is decided at a level with this many seeds if its effects are as measured; 0 if it is
    unknown how they vary. ``same`` is the level of "no difference", if it is another."""
    if any(math.isnan(part.p) for part in parts):
        return 0.0

    def power(part: Tested, effect: float, at: float) -> float:
        spread = Spread(part.effect.spread.seed, part.effect.spread.image, seeds, part.effect.spread.image_df)
        return spread.power(effect, at) if spread.varies else float(effect != 0)

    holding = [right(part, margins) for part in parts]
    ways = [
        power(part, distance(part, margins), level / len(parts))
        for part, holds in zip(parts, holding, strict=True)
        if not holds
    ]
    if all(holding):
        ways = [min(power(part, distance(part, margins), level) for part in parts)]
    ways += [power(part, inside, (same or level) / len(parts)) for part, inside in _insides(parts, margins)]
    return max(ways, default=0.0)


def _insides(parts: list[Tested], margins: Margins) -> list[tuple[Tested, float]]:
    """The parts whose effects lie within the margin of no difference, and their distance from it."""
    found = [(part, margin_of(part.part, margins) - abs(part.effect.estimate)) for part in parts if _plain(part)]
    return [(part, inside) for part, inside in found if inside > 0]


def _second(part: Part) -> list[str]:
    """The cells that a part's errors are compared with."""
    return [address for weight, address in part.terms if weight < 0]


def _worst(predicate: Predicate, seeds: list[int], plan: Asked, collected: Scores, question: str) -> str:
    """A sentence on the effect of the weakest part over all seeds with results, settled or not; empty if there is
    none."""
    if question != HERE or not seeds:
        return ""
    parts = [collected.tried(part, seeds, margins_of(plan), HERE, rules_of(plan)) for part in predicate.parts]
    shown = max(parts, key=lambda part: -math.inf if math.isnan(part.holds) else part.holds)
    value = in_unit(shown.part.measure, shown.effect.estimate)
    return f" Including them: {shown.part.name} by {value:+.1f} {UNITS[shown.part.measure]}, with {len(seeds)} seeds."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
