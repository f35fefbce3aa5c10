"""Test mechanisms: does a contrast show where the paper says that it should, and only there (D146)?

A mechanism asks one more question of the same scores, in two parts. In the setting ``shows``, better is above worse. In
the setting ``absent``, at most the share ``remains`` of that gain is left, give or take the tier's margin. Both must
hold, so their p is the larger. The tier's mechanisms share an alpha of their own.
"""

from __future__ import annotations

from fractions import Fraction

from study.paper.claims import Claim
from study.paper.predicates import ERRORS, SCORES, Part, Predicate
from study.spec.documents.plan import Asked, PlannedMechanism, PlannedSide

PREFIX = "mechanism "  # marks a mechanism's name among the digests of claims and mechanisms


def claims(plan: Asked) -> list[Claim]:
    """The mechanisms of a plan as claims, in the order of their names: a file does not keep the order of its keys."""
    return [
        Claim(
            id=PREFIX + name,
            says=one["says"],
            on=plan["tier"],
            predicate=predicate_of(one),
            mechanism=predicate_of(one),
            shows=one["says"],
            place="",
        )
        for name, one in sorted(plan.get("mechanisms", {}).items())
    ]


def measure_of(one: PlannedMechanism) -> str:
    """Accuracies of a region are compared by their errors (D113), mean IoU by points."""
    return SCORES if one["metric"] == "miou" else ERRORS


def predicate_of(one: PlannedMechanism) -> Predicate:
    """What must hold in the two settings."""
    return Predicate((gain_in(one, one["shows"]), _hardly(one)))


def gain_in(one: PlannedMechanism, side: PlannedSide) -> Part:
    """The part that says: the better variant is better in this setting."""
    if measure_of(one) == SCORES:
        return Part(f"shows in {side['data']}", _less(side), low=Fraction())
    return Part(f"shows in {side['data']}", _less(side), high=Fraction(), measure=ERRORS)


def _hardly(one: PlannedMechanism) -> Part:
    share = Fraction(str(one["remains"]))
    terms = (*((share * weight, cell) for weight, cell in _less(one["shows"])), *_less(one["absent"], -1))
    name = f"hardly in {one['absent']['data']}"
    if measure_of(one) == SCORES:
        return Part(name, terms, low=Fraction(), slack=1)
    return Part(name, terms, high=Fraction(), slack=1, measure=ERRORS)


def _less(side: PlannedSide, sign: int = 1) -> tuple[tuple[Fraction, str], ...]:
    return (Fraction(sign), side["better"]), (Fraction(-sign), side["worse"])
