"""Page one: a headline made from the verdicts, and one row per claim with its effect drawn in margins.

A margin is the smallest difference that the tier counts, so effects in points and in shares of errors share an axis.
The axis points the paper's way: the claim lies to the right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from study.paper.claims import CLAIMS
from study.spec.constants import DATA, MECHANISM, NOTHING
from study.spec.documents.plan import PlanFile, Rules
from study.spec.documents.verdicts import JudgementRow, VerdictRow, VerdictsFile
from study.spec.words import counted, interval

# A verdict in a word or two, by scale; arithmetic holds or does not at any scale.
AT_SCALE = {
    "supported": "holds", "contradicted": "does not hold", "no difference": "no difference", "undecided": "open",
    "untested": "not tested",
}  # fmt: skip
AS_MECHANISM = AT_SCALE | {"supported": "shows", "contradicted": "does not"}
VERBS = {
    "contradicted": ("does not", "do not"), "no difference": ("makes no difference", "make no difference"),
    "undecided": ("is open", "are open"),
}  # fmt: skip
POINTS, NATS = "points", "nats"
SHORT = {POINTS: "pts", "% of errors": "% err", NATS: NATS, "": ""}
NATS_A_MARGIN = 0.05  # losses have no margin of their own (D113); this one is only for drawing
AXES = (4, 6, 8, 10, 15, 20, 30)  # how many margins an axis may reach to either side


def words(judged: VerdictsFile, plan: PlanFile) -> dict[str, Any]:
    """Page one as text and as numbers from 0 to 1 (places on a row's axis). Claims that the tier does not ask share one
    line, ``absent``."""
    rules, scale = plan["verdicts"], judged["scale"]
    here = asked_here(judged)
    asked = {row["claim"] for row in here}
    best = {row["claim"]: row for row in judged["tuned"] or []}
    reach = reach_of(here, rules)
    return {
        "headline": headline(judged),
        "rows": [
            line(row, scale, rules, reach) | {"best": _at_best(best.get(row["claim"]), scale)} for row in here
        ],
        "absent": _elsewhere([row for row in judged["rows"] if row["claim"] not in asked]),
        "reach": reach, "searched": judged["tuned"] is not None,
        "beyond": any(row["beyond"]["estimate"] is not None for row in here),
    }  # fmt: skip


def asked_here(judged: VerdictsFile) -> list[VerdictRow]:
    """The claims with a row on page one: those that the tier asks, those about counts, and, in a run that is under way,
    those that wait for their look."""
    return [row for row in judged["rows"] if row["verdict"] != "untested" or row["left"] or _waits(row)]


def _waits(row: VerdictRow) -> bool:
    """Whether a claim has no answer yet, and no reason against one."""
    return row["verdict"] == "untested" and not row["reason"]


def headline(judged: VerdictsFile) -> str:
    """The answer in a sentence: whether large kernels help by the verdicts on it, and how many claims hold."""
    if judged["scale"] == NOTHING:
        return "This tier judges no claim."
    asked = [row for row in judged["rows"] if row["on"] != "arithmetic"]
    confirmed = _kinds(asked, exploratory=False)
    kinds = confirmed or _kinds(asked, exploratory=True)
    if not kinds:
        return "No claim has been judged yet." if any(map(_waits, asked)) else "No claim was tested here."
    shows = ("shows", "show") if judged["scale"] == MECHANISM else ("holds", "hold")
    verbs = {"supported": shows} | VERBS  # one claim, several
    told = [f"{kinds[kind]} {verbs[kind][kinds[kind] > 1]}" for kind in verbs if kind in kinds]
    number = sum(kinds.values())
    found = f"of {counted(number, 'claim')} {_listed(told)}"
    if kinds.get("undecided") == number > 1:
        found = f"all {number} claims are open"
    text = f"{_large_kernels(judged['rows'])}: {found}."
    return text if confirmed else text + " All are exploratory: these results had been seen before."


def _large_kernels(rows: Sequence[VerdictRow]) -> str:
    """Whether large kernels help, by the paper's two claims on it."""
    verdicts = {row["claim"]: row["verdict"] for row in rows}
    gain, rise = verdicts.get("gain_k"), verdicts.get("rises")
    if gain == "supported":
        return "Large kernels help here" if rise == "supported" else "A large kernel beats the 1x1 head here"
    if gain == "contradicted":
        return "A large kernel does not beat the 1x1 head here"
    return "Whether large kernels help is open here"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _kinds(rows: Sequence[VerdictRow], *, exploratory: bool) -> dict[str, int]:
    """How many claims have each verdict, among the exploratory ones or among the others."""
    found: dict[str, int] = {}
    for row in rows:
        if bool(row["exploratory"]) == exploratory and row["verdict"] != "untested":
            found[row["verdict"]] = found.get(row["verdict"], 0) + 1
    return found


def _tables(claim: str) -> tuple[str, ...]:
    return CLAIMS[claim].tables if claim in CLAIMS else ()


def _elsewhere(rows: Sequence[VerdictRow]) -> str:
    """The number of claims by table, in one line."""
    found: dict[str, int] = {}
    for row in rows:
        name = ", ".join(table.replace("T", "Table ", 1) for table in _tables(row["claim"])) or row["where"]
        found[name] = found.get(name, 0) + 1
    return ", ".join(f"{name} ({number})" for name, number in found.items())


def line(row: VerdictRow, scale: str, rules: Rules | None, reach: int) -> dict[str, Any]:
    """One claim of a tier of this ``scale``: its verdicts in words, and its effect on an axis of ``reach`` margins."""
    arithmetic, known, names = row["on"] == "arithmetic", CLAIMS.get(row["claim"]), _names(row, scale)
    says = known.shows if known and scale in (DATA, MECHANISM) and not arithmetic and known.shows else row["says"]
    return {
        "claim": row["claim"], "says": says, "where": row["where"], "arithmetic": arithmetic,
        "paper": value(row["paper"], row["unit"]),
        "effect": value(row["estimate"], row["unit"]), "exact": _exact(row),
        "strip": None if rules is None or arithmetic else strip(row, rules, reach),
        "verdict": row["verdict"], "called": "not yet" if _waits(row) else names[row["verdict"]],
        "beyond": _beyond(row, names), "exploratory": bool(row["exploratory"]),
    }  # fmt: skip


def _names(row: VerdictRow, scale: str) -> dict[str, str]:
    """The names of verdicts on a claim."""
    return AS_MECHANISM if scale == MECHANISM and row["on"] != "arithmetic" else AT_SCALE


def _at_best(row: VerdictRow | None, scale: str) -> dict[str, str] | None:
    """The answer with each variant at its best; None if it was not asked."""
    return None if row is None or row["on"] == "arithmetic" else _named(row, _names(row, scale))


def _named(row: JudgementRow, names: Mapping[str, str]) -> dict[str, str]:
    return {"verdict": row["verdict"], "called": names[row["verdict"]]}


def _beyond(row: VerdictRow, names: Mapping[str, str]) -> dict[str, str] | None:
    """The answer beyond these images; None if it was not asked. A verdict that other images could undo holds for these
    images only."""
    beyond = row["beyond"]
    if row["on"] == "arithmetic" or beyond["estimate"] is None:
        return None
    if row["verdict"] in ("supported", "contradicted") and beyond["verdict"] == "undecided":
        return {"verdict": "undecided", "called": "these images only"}
    return _named(beyond, names)


def value(number: float | None, unit: str) -> str:
    """An effect in its own unit, such as ``+5.5 pts``; empty for None."""
    if number is None:
        return ""
    if not unit:
        return f"{number:+,.0f}".replace("-", "\u2212")
    digits = 2 if unit == NATS else 1
    return f"{number:+z.{digits}f} {SHORT[unit]}".replace("-", "\u2212")


def _exact(row: VerdictRow) -> str:
    """The text shown when a pointer is over the effect: the interval, p and the seeds."""
    if row["low"] is None or row["high"] is None or row["estimate"] is None:
        return ""
    text = f"{interval(row['estimate'], row['low'], row['high'], 2)} {row['unit']}"
    if row["adjusted"] is not None:
        text += f", adjusted p {row['adjusted']:.3g}"
    return text + f", {counted(row['seeds'], 'seed')}"


def margins_in(number: float, unit: str, rules: Rules) -> float:
    """An effect as a multiple of the tier's margin of its unit."""
    if unit == POINTS:
        return number / rules["margin_points"]
    if unit == NATS:
        return number / NATS_A_MARGIN
    return math.log(max(1 + number / 100, 1e-9)) / math.log(rules["margin_ratio"])


def reach_of(rows: Sequence[VerdictRow], rules: Rules | None) -> int:
    """How far a row's axis reaches, in margins: at least 1.5 times the median effect."""
    if rules is None:
        return AXES[0]
    sizes = [
        abs(margins_in(row["estimate"], row["unit"], rules))
        for row in rows if row["estimate"] is not None and row["low"] is not None
    ]  # fmt: skip
    middle = 1.5 * median(sizes) if sizes else 0
    return next((reach for reach in AXES if reach >= middle), AXES[-1])


def strip(row: VerdictRow, rules: Rules, reach: int) -> dict[str, Any] | None:
    """Where an effect, its interval, the paper's number and the claim lie on a row's axis, from 0 to 1. Values outside
    are clipped and marked. None without an interval."""
    unit, low, high, estimate = row["unit"], row["low"], row["high"], row["estimate"]
    if low is None or high is None or estimate is None:
        return None
    least, most = row["bounds"]
    way = -1 if least is None and most is not None else 1  # the claim lies to the right

    def place(number: float) -> float:
        return 0.5 + way * margins_in(number, unit, rules) / (2 * reach)

    ends = sorted((place(low), place(high)))
    zone = sorted(
        (_clip(0.5 - way if least is None else place(least)), _clip(0.5 + way if most is None else place(most)))
    )
    paper = None if row["paper"] is None else place(row["paper"])
    return {
        "at": _clip(place(estimate)), "low": _clip(ends[0]), "high": _clip(ends[1]), "zone": zone,
        "below": min(place(estimate), ends[0]) < 0, "above": max(place(estimate), ends[1]) > 1,
        "out": not 0 <= place(estimate) <= 1,
        "paper": None if paper is None else _clip(paper),
    }  # fmt: skip


def _clip(place: float) -> float:
    return round(min(1.0, max(0.0, place)), 5)
