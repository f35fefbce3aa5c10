"""Claims x plan x collected counts -> verdicts: supported, contradicted, undecided, untested, each with its reason.

No verdict is given by hand, and a tier judges only what its scale allows: at another scale than the paper's it speaks
of the mechanism, never of the paper's numbers (D80). D81 says how parts, claims and seeds are put together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from study import statistics
from study.claims import ARITHMETIC, CLAIMS, Claim, claims_digest
from study.evidence import printed
from study.paper import TABLES
from study.predicates import Part, Predicate, value_of
from study.schema import MECHANISM, NOTHING, PAPER
from study.spec import COUNTED, SERVED, InputError
from study.trials import Collected, Tested, distance, tested

SUPPORTED, CONTRADICTED, UNDECIDED, UNTESTED = "supported", "contradicted", "undecided", "untested"
POWER = 0.8  # with which the seeds that would decide a claim are counted
NAMED = 3  # failed trainings that a reason names
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
class Verdict:
    """One row of verdicts.json. ``printed`` says whether the paper's own numbers fit its claim, ``part`` which of
    its ``parts`` the numbers here are of: the one that contradicts it, else the weakest.

    ``estimate``, its interval, the ``bounds`` that the claim sets it (None: open), what ``paper`` prints of it and
    ``mde``, the least effect that these seeds and images find, are in points, or in the unit of what is counted. ``p``
    is the whole claim's, ``adjusted`` the same after Holm's adjustment over the tier's claims; ``needed`` seeds would
    decide it.
    """

    claim: str
    says: str
    on: str
    where: str
    printed: str
    verdict: str = UNTESTED
    wording: str = "Untested."
    reason: str = ""
    part: str = ""
    parts: int = 0
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    bounds: tuple[float | None, float | None] = (None, None)
    paper: float | None = None
    p: float | None = None
    adjusted: float | None = None
    mde: float | None = None
    seeds: int = 0
    needed: int | None = None


def judge(
    plan: Mapping[str, Any], *folders: Path, computed: Mapping[str, float], claims: Iterable[Claim] = CLAIMS.values()
) -> list[Verdict]:
    """A verdict on each claim, in their order. ``plan`` is the content of plan.json, ``folders`` hold what was
    collected by key, ``computed`` counted cells by address."""
    collected = Collected(plan, folders, computed)
    found = [(claim, *_tried(claim, plan, collected)) for claim in claims]
    asked = [parts for _, _, parts in found if parts]
    adjusted = iter(statistics.holm([_p(parts) for parts in asked]))
    return [
        _settled(claim, verdict, parts, next(adjusted), len(asked), plan) if parts else verdict
        for claim, verdict, parts in found
    ]


def content(
    plan: Mapping[str, Any],
    *folders: Path,
    computed: Mapping[str, float],
    tuned: Mapping[str, Any] | None = None,
    tuned_folder: Path = Path(),
) -> dict[str, Any]:
    """The content of verdicts.json: the claims' digest now and as trainings recorded it, the scale, the verdicts at the
    shared setting and, with the plan ``tuned`` and its results, those with each variant at its best (D95)."""
    rows = [asdict(verdict) for verdict in judge(plan, *folders, computed=computed)]
    recorded = Collected(plan, folders, computed).recorded()
    found = {"claims": claims_digest(), "recorded": recorded, "scale": plan["scale"], "rows": rows, "tuned": None}
    if tuned is not None:
        found["tuned"] = [asdict(verdict) for verdict in judge(tuned, tuned_folder, computed=computed)]
    return found


def _tried(claim: Claim, plan: Mapping[str, Any], collected: Collected) -> tuple[Verdict, list[Tested]]:
    """A verdict as far as it is known without the other claims, and the parts that were tested."""
    rules = plan["verdicts"]
    margin = None if rules is None else Fraction(str(rules["margin_points"]))
    where = claim.place + (f" (p. {claim.page})" if claim.page else "")
    predicate = claim.predicate if plan["scale"] == PAPER else claim.mechanism
    verdict = Verdict(
        claim.id, claim.says, claim.on, where, _printed(claim.predicate, margin),
        parts=len(predicate.parts) if predicate else 0,
    )  # fmt: skip
    if plan["scale"] == NOTHING or margin is None:
        return replace(verdict, reason="This tier judges no claim: its numbers mean nothing."), []
    if predicate is None:
        return replace(verdict, reason="It is about numbers alone, and this tier judges the mechanism."), []
    if reason := _hindrance(predicate, plan, collected):
        return replace(verdict, reason=reason), []
    if all(collected.cells[address]["metric"] in COUNTED for address in predicate.addresses):
        return _counted(verdict, predicate, collected.number, margin), []
    seeds = collected.seeds(predicate.addresses)
    parts = []
    for number, part in enumerate(predicate.parts):
        address = ("verdict", claim.id, number)
        try:
            effect = collected.effect(part, seeds, rules["alpha"], rules["draws"], address)
        except InputError as error:  # cells that were not measured on the same images, or on one alone
            return replace(verdict, reason=f"{part.name}: {error}."), []
        parts.append(tested(part, effect, margin, rules["alpha"]))
    return verdict, parts


def _printed(predicate: Predicate, margin: Fraction | None) -> str:
    """What the paper's own printed numbers say of a claim."""
    if margin is None and any(part.slack for part in predicate.parts):
        return "depends on a margin"
    failing = predicate.failing(lambda address: printed(TABLES, address), margin or Fraction())
    return "does not hold: " + "; ".join(failing) if failing else "holds"


def _hindrance(predicate: Predicate, plan: Mapping[str, Any], collected: Collected) -> str:
    """Why a claim cannot be tested here; nothing where it can."""
    if missing := [address for address in predicate.addresses if address not in collected.cells]:
        tables = dict.fromkeys(address.split("/", 1)[0].removeprefix("T") for address in missing)
        return f"Table {', '.join(tables)} is not among the tier's tables."
    cells = [collected.cells[address] for address in predicate.addresses]
    if absent := dict.fromkeys(cell["not_applicable"] for cell in cells if cell["not_applicable"]):
        return " ".join(absent)
    if any(cell["metric"] in SERVED for cell in cells):
        submitted = next(t["submitted"] for t in plan["tables"] if t["id"] == cells[0]["table"])
        if submitted is None:
            return "Nothing was submitted to the benchmark's server."
        return f"The server gave {submitted['percent']}: one score, without seeds, decides nothing."
    if all(cell["metric"] in COUNTED for cell in cells):
        lost = [address for address in predicate.addresses if collected.number(address) is None]
        return f"Not counted: {', '.join(lost)}." if lost else ""
    if not collected.seeds(predicate.addresses):
        names = collected.failed(predicate.addresses)
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return f"No seed has all of its cells. Without a result: {'; '.join(names[:NAMED])}{more}."
    return ""


def _counted(
    verdict: Verdict, predicate: Predicate, numbers: Callable[[str], Fraction | None], margin: Fraction
) -> Verdict:
    """The verdict on a claim about what is counted: exact, without seeds."""

    def number(address: str) -> Fraction:
        return numbers(address) or Fraction()  # none is missing here

    failing = predicate.failing(number, margin)
    part = next((part for part in predicate.parts if part.name in failing), predicate.parts[0])
    kind = CONTRADICTED if failing else SUPPORTED
    return replace(
        verdict, verdict=kind, wording=WORDS[ARITHMETIC][kind], part=part.name,
        estimate=float(value_of(part.terms, number)), bounds=_bounds(part, margin), paper=_of_paper(part),
        reason="Not so: " + "; ".join(failing) + "." if failing else "",
    )  # fmt: skip


def _bounds(part: Part, margin: Fraction) -> tuple[float | None, float | None]:
    low, high = part.bounds(margin)
    return None if low is None else float(low), None if high is None else float(high)


def _of_paper(part: Part) -> float:
    return float(value_of(part.terms, lambda address: printed(TABLES, address)))


def _p(parts: list[Tested]) -> float:
    """A whole claim's p: that all parts hold (the largest, intersection-union), or that one fails (the least, times
    their number); nan where a part has none."""
    if any(math.isnan(part.p) for part in parts):
        return math.nan
    return min(max(part.holds for part in parts), min(1.0, len(parts) * min(part.fails for part in parts)))


def _settled(
    claim: Claim, verdict: Verdict, parts: list[Tested], adjusted: float, asked: int, plan: Mapping[str, Any]
) -> Verdict:
    """The verdict on a claim whose parts were tested, once ``adjusted`` is known; ``asked`` claims were tested."""
    rules = plan["verdicts"]
    margin = Fraction(str(rules["margin_points"]))
    decided = adjusted <= rules["alpha"]  # false for nan
    against, weakest = min(parts, key=lambda part: part.fails), max(parts, key=lambda part: part.holds)
    holds = decided and max(part.holds for part in parts) <= _p(parts)
    kind = UNDECIDED if not decided else SUPPORTED if holds else CONTRADICTED
    shown = against if kind == CONTRADICTED else weakest
    effect = shown.effect
    reason, needed = "", None
    if kind == CONTRADICTED:
        reason = f"Not so: {shown.part.name} ({effect.estimate * 100:+.1f} points)."
    elif kind == UNDECIDED:
        needed, reason = _needed(parts, margin, rules["alpha"] / asked)
    numbers: dict[str, Any] = {
        "estimate": effect.estimate * 100, "low": effect.low * 100, "high": effect.high * 100,
        "mde": effect.mde * 100, "p": _p(parts), "adjusted": adjusted,
    }  # fmt: skip
    numbers = {name: None if math.isnan(number) else number for name, number in numbers.items()}
    return replace(
        verdict, verdict=kind, wording=WORDS[plan["scale"]][kind].format(on=claim.on, shows=claim.shows),
        reason=reason, part=shown.part.name, bounds=_bounds(shown.part, margin), paper=_of_paper(shown.part),
        seeds=effect.seeds, needed=needed, **numbers,
    )  # fmt: skip


def _needed(parts: list[Tested], margin: Fraction, alpha: float) -> tuple[int | None, str]:
    """How many seeds would decide a claim, were its effects as measured and at least a margin large; and in words."""
    if any(part.effect.seeds == 1 for part in parts):
        return None, "One seed decides nothing, and does not tell how many would."
    if any(math.isnan(part.p) for part in parts):
        return None, "Its scores do not vary or have no value: nothing can be said of chance."
    least = float(margin / 100)
    found = []
    for part in (part for part in parts if part.holds > alpha):
        seeds = part.effect.seeds_for(max(distance(part, margin), least), POWER, alpha)
        if seeds is not None and seeds <= part.effect.seeds:  # a margin would have shown: what there is is smaller
            seeds = part.effect.seeds_for(distance(part, margin), POWER, alpha)
        found.append(seeds)
    known = [seeds for seeds in found if seeds is not None]
    if len(known) < len(found):
        return None, "No number of seeds would decide it on so few images."
    return max(known), f"Some {max(known)} seeds would decide it."
