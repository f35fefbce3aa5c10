"""A claim at one look -> the answer to one question: how its parts were tested, and what that says of the whole.

A claim holds where all of its parts do. Three answers decide it: *supported*, *contradicted*, and *no difference*,
where one of its parts is shown to differ from nothing by less than the tier's margin (D149).
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
NAMED = 3  # failed trainings that a reason names
UNITS = {SCORES: "points", ERRORS: "% of errors", LOSSES: "nats"}


@dataclass(frozen=True)
class Judgement:
    """The answer to one of the two questions. ``part`` is the part of the claim that the numbers are of: the one that
    decides it, else the weakest.

    ``estimate``, its interval and ``mde``, the least effect that these seeds (and images) find with power 0.8, are in
    ``unit``: points, per cent of errors (-20: a fifth of the errors is gone), nats of loss, or what is counted;
    ``points`` stand beside a ratio of errors. The interval is valid at the look at which a claim was left. ``p`` is the
    whole claim's, ``adjusted`` the same for the family of claims and the looks; ``needed`` seeds would decide it.
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
    """What the plan's tier takes for no difference."""
    points, ratio = (rules["margin_points"], rules["margin_ratio"]) if (rules := plan["verdicts"]) else (0, 1)
    return Margins(Fraction(str(points)), float(ratio))


def tested(
    predicate: Predicate | None, plan: Asked, collected: Scores, question: str, share: float
) -> tuple[Judgement, list[Tested]]:
    """What keeps a claim from being tested, or its tested parts. ``share`` is that of the look in alpha."""
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
        return Judgement(reason=f"Did not train at this rate: {'; '.join(troubles[:NAMED])}{more}.{worst}"), []
    if not seeds:
        return Judgement(reason="No seed has all of its cells."), []
    try:
        parts = [collected.tried(part, seeds, margins_of(plan), question, rules) for part in predicate.parts]
    except InputError as error:  # one group of images, or cells that were not measured on the same ones
        return Judgement(reason=f"{_capital(str(error))}."), []
    return Judgement(), parts


def rules_at(plan: Asked, share: float) -> Rules:
    """The rules of a plan at a look with this share of alpha."""
    rules = rules_of(plan)
    return {**rules, "alpha": rules["alpha"] * share}


def p_of(parts: list[Tested], alpha: float) -> float:
    """A whole claim's p, nan where a part has none or nothing was tested: that all parts hold by chance is the largest
    of theirs (intersection-union), that one fails by chance the least, times their number.

    The smaller of the two counts, without a factor of two: a claim that is true can only be contradicted wrongly, and
    one that is false only be supported wrongly. But a trend may rise on the whole and fall between two cells: where a
    failure is clear by itself, at ``alpha``, it is what has to be shown.
    """
    if not parts or any(math.isnan(part.holds) or math.isnan(part.fails) for part in parts):
        return math.nan
    holds, fails = max(part.holds for part in parts), _p_fails(parts)
    return fails if fails <= alpha else min(holds, fails)


def p_same(parts: list[Tested], margins: Margins) -> float:
    """p that no part lies within the margin of no difference; 1 where no part can, or one says itself that there is
    none.

    Twice that of two one-sided tests, times the number of parts: a claim may also be decided by a difference, and the
    two ways to be wrong about it add up to one level (D149).
    """
    if any(part.part.low is not None and part.part.high is not None for part in parts):
        return 1.0
    ps = [effects.equivalent(part.effect, margin_of(part.part, margins), 0.05) for part in parts if _plain(part)]
    known = [p for p in ps if not math.isnan(p)]
    return min(1.0, 2 * len(parts) * min(known)) if known else 1.0


def _plain(found: Tested) -> bool:
    """Whether a part says on which side of nothing its effect lies, and that was measured."""
    return one_sided(found.part) and math.isfinite(found.effect.low)


def one_sided(part: Part) -> bool:
    """Whether a part says on which side of nothing its effect lies, and there is a margin of no difference for it."""
    bounds = [bound for bound in (part.low, part.high) if bound is not None]
    return part.measure != LOSSES and bounds == [0] and not part.slack and len(part.order) <= 2


def margin_of(part: Part, margins: Margins) -> float:
    """The margin of no difference in the unit of a part's effect."""
    return float(margins.of(part.measure)) / (100 if part.measure == SCORES else 1)


def _p_fails(parts: list[Tested]) -> float:
    return min(1.0, len(parts) * min(part.fails for part in parts))


def kind_of(parts: list[Tested], adjusted: float, same: float, alpha: float) -> str:
    """The verdict of tested parts. ``adjusted`` is the least alpha at which the claim is decided by a difference,
    ``same`` that at which it is by the lack of one."""
    if adjusted <= alpha:  # false for nan
        return CONTRADICTED if _p_fails(parts) <= alpha else SUPPORTED
    return SAME if same <= alpha else UNDECIDED


def judged(
    parts: list[Tested], kind: str, adjusted: float, first: float, plan: Asked, *, needed_at: float | None = None
) -> Judgement:
    """The answer where parts were tested. ``adjusted`` is the p of this kind of answer, adjusted; ``first`` is the
    level at which the claim could be decided before any other was, ``needed_at`` that of the look with which its seeds
    end."""
    margins = margins_of(plan)
    shown = {
        CONTRADICTED: lambda: min(parts, key=lambda part: part.fails),
        SAME: lambda: min(filter(_plain, parts), key=lambda one: p_same([one], margins)),
    }.get(kind, lambda: max(parts, key=lambda part: part.holds))()
    name, effect = shown.against if kind == CONTRADICTED else (shown.part.name, shown.effect)
    measure, reason, needed = shown.part.measure, "", None
    if kind == CONTRADICTED and name != shown.part.name:
        reason = f"Not so: {name}, by {abs(in_unit(measure, effect.estimate)):.1f} {UNITS[measure]}."
    elif kind == CONTRADICTED:
        reason = f"Not so: {name} ({in_unit(measure, effect.estimate):+.1f} {UNITS[measure]})."
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
    """An effect in the unit that is shown: a ratio of errors becomes the per cent by which they change."""
    return 100 * math.expm1(value) if measure == ERRORS else value if measure == LOSSES else 100 * value


def seeds_needed(parts: list[Tested], margins: Margins, level: float) -> tuple[int | None, str]:
    """How many seeds would decide a claim with power 0.8 at a level, were its effects as measured; and in words. All
    parts must hold to support it, and one that fails contradicts it."""
    if any(part.effect.seeds == 1 for part in parts):
        return None, "One seed decides nothing, and does not tell how many would."
    if any(math.isnan(part.p) for part in parts):
        return None, "Its scores do not vary or have no value: nothing can be said of chance."
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
        return None, "No number of seeds would decide it with effects as small as these."
    return min(known), f"Some {min(known)} seeds would decide it, were the effects as measured."


def chance(parts: list[Tested], margins: Margins, level: float, seeds: int, same: float | None = None) -> float:
    """The chance that a claim is decided at a level with so many seeds, were its effects as measured; 0 where nothing
    is known of how they vary. ``same`` is the level of no difference, where that is another."""
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
    """The parts whose effects lie within the margin of no difference, and how far within."""
    found = [(part, margin_of(part.part, margins) - abs(part.effect.estimate)) for part in parts if _plain(part)]
    return [(part, inside) for part, inside in found if inside > 0]


def _second(part: Part) -> list[str]:
    """The cells that a part's errors are compared with."""
    return [address for weight, address in part.terms if weight < 0]


def _worst(predicate: Predicate, seeds: list[int], plan: Asked, collected: Scores, question: str) -> str:
    """The effect of the weakest part with all trainings as they ended, as far as they have a score."""
    if question != HERE or not seeds:
        return ""
    parts = [collected.tried(part, seeds, margins_of(plan), HERE, rules_of(plan)) for part in predicate.parts]
    shown = max(parts, key=lambda part: -math.inf if math.isnan(part.holds) else part.holds)
    value = in_unit(shown.part.measure, shown.effect.estimate)
    return f" As they ended: {shown.part.name} by {value:+.1f} {UNITS[shown.part.measure]}, with {len(seeds)} seeds."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
