"""Every verdict as text, with its reasons and numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from study.report.sections import answer
from study.spec.documents.plan import PlanFile
from study.spec.documents.verdicts import (
    JudgementRow,
    LookRow,
    MechanismRow,
    SideRow,
    TrainsRow,
    VerdictRow,
    VerdictsFile,
)
from study.spec.words import counted, interval

# Names of verdicts on a mechanism, other than those on the paper's numbers.
SHOWN = {
    "supported": "shows here", "contradicted": "does not show here", "no difference": "no difference that matters",
}  # fmt: skip

PREDICTED = {
    "supported": "as predicted", "contradicted": "not as predicted", "no difference": "not as predicted",
    "undecided": "open", "untested": "untested",
}  # fmt: skip
NAMED = (  # taken from a row of verdicts.json as they are
    "claim", "says", "where", "printed", "wording", "exploratory", "closing", "later", "seeds",
)  # fmt: skip


def words(judged: VerdictsFile, plan: PlanFile) -> dict[str, Any]:
    """The verdicts as text; ``shown`` marks the claims that have a line on page one."""
    names = SHOWN if judged["scale"] == "mechanism" else {}
    here = {row["claim"] for row in answer.asked_here(judged)}
    rows = [_judged(row, names if row["on"] != "arithmetic" else {}) for row in judged["rows"]]
    for row, again in zip(rows, judged["tuned"] or [], strict=False):
        row["tuned"] = _judged(again, names if again["on"] != "arithmetic" else {})
    where = {row["claim"]: row["where"] for row in judged["rows"]}
    return {
        "rows": [row | {"shown": row["claim"] in here} for row in rows],
        "searched": judged["tuned"] is not None, "unsearched": _unsearched(rows), "unasked": _unasked(rows, here),
        "changed": sum(row["called"] != row["tuned"]["called"] for row in rows if _both(row)),
        "scale": judged["scale"], "rules": plan["verdicts"], "family": len(judged["family"]),
        "exploratory": sum(bool(row["exploratory"]) for row in rows),
        "replanned": sum(judged["questions"].get(name) != digest for name, digest in plan["questions"].items()),
        "mechanisms": [_mechanism(row, where[row["claim"]]) for row in judged.get("mechanisms", [])],
        "trains": [_trains(row) for row in judged["trains"] if row["reasons"]],
        "trained": sum(not row["reasons"] for row in judged["trains"]),
        "looks": _looks(judged["looks"]),
        "margins": _margins(plan), "nats": answer.NATS_A_MARGIN,
        "bound": max((row["most_failures"] for row in judged["trains"] if not row["reasons"]), default=0.0),
    }  # fmt: skip


def _margins(plan: PlanFile) -> str:
    """The tier's margins in words."""
    rules = plan["verdicts"]
    if rules is None:
        return "none here"
    return f"a margin is {rules['margin_points']:g} points, or {100 * (rules['margin_ratio'] - 1):.0f} % of the errors"


def _unasked(rows: list[dict[str, Any]], here: set[str]) -> list[dict[str, Any]]:
    """The claims without a line on page one, by the reason why they were not asked."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["claim"] not in here:
            found.setdefault(row["reason"], []).append(row["says"])
    return [{"reason": reason, "claims": claims} for reason, claims in found.items()]


def _unsearched(rows: list[dict[str, Any]]) -> list[str]:
    """Why claims have no answer with each variant at its best. A reason that several rows share is listed once and
    removed from them."""
    reasons = Counter(
        row["tuned"]["reason"] for row in rows if "tuned" in row and row["tuned"]["verdict"] == "untested"
    )
    shared = [reason for reason, number in reasons.items() if number > 1]
    for row in rows:
        if "tuned" in row and row["tuned"]["reason"] in shared and row["tuned"]["verdict"] == "untested":
            row["tuned"]["reason"] = ""
    return [
        f"{reason} ({counted(reasons[reason], 'claim')} without an answer at each variant's best.)" for reason in shared
    ]


def _mechanism(row: MechanismRow, where: str) -> dict[str, Any]:
    """A mechanism as text: the effect where it should show and where it should not, and the answer. ``where`` is the
    place of its claim in the paper."""
    p = "" if row["adjusted"] is None else "< 0.001" if row["adjusted"] < 0.001 else f"{row['adjusted']:.3f}"
    unit = "" if row["unit"] == "points" else row["unit"] + ","
    return {
        "name": row["name"], "says": row["says"], "where": where,
        "verdict": row["verdict"], "called": PREDICTED[row["verdict"]],
        "beyond": PREDICTED[row["beyond"]], "beyond_verdict": row["beyond"],
        "reason": " ".join(filter(None, (row["reason"], row["closing"]))), "unit": unit,
        "seeds": row["seeds"],
        "p": p, "exploratory": row["exploratory"], "shows": _side(row["shows"]), "absent": _side(row["absent"]),
    }  # fmt: skip


def _looks(looks: list[LookRow]) -> list[dict[str, Any]]:
    """The looks of a study that had several: seeds, open claims, how many left for which reason, and the cost so far as
    a share of the whole."""
    if len(looks) < 2:
        return []
    return [
        {
            "seeds": look["seeds"], "open": len(look["open"]),
            "left": ", ".join(f"{n} {why}" for why, n in sorted(Counter(look["left"].values()).items())) or "none",
            "spent": f"{100 * look['spent'] / looks[-1]['spent']:.0f} %" if looks[-1]["spent"] else "",
        }
        for look in looks
    ]  # fmt: skip


def _side(row: SideRow) -> dict[str, str]:
    estimate, low, high = row["estimate"], row["low"], row["high"]
    effect = "" if estimate is None else f"{estimate:+z.1f}"
    if estimate is not None and low is not None and high is not None:
        effect = interval(estimate, low, high)
    return {"data": row["data"], "effect": effect}


def _trains(row: TrainsRow) -> dict[str, Any]:
    """A variant with trainings that did not settle, as text."""
    where = "" if row["data"] == "main" else f" on {row['data']}"
    return {
        "what": row["label"] + where, "settled": f"{row['settled']} of {row['seeds']}",
        "most": f"{100 * row['most_failures']:.0f} %", "reason": "; ".join(dict.fromkeys(row["reasons"])),
    }  # fmt: skip


def _judged(row: VerdictRow, names: dict[str, str]) -> dict[str, Any]:
    """One verdict as text: the answer on this benchmark and the answer beyond it. ``names`` are the names of
    verdicts."""
    named: dict[str, Any] = {name: value for name, value in row.items() if name in NAMED}
    if names and row["says"] in row["wording"]:
        named["wording"] = ""  # it would repeat the claim; the page's head says what is judged
    return named | _answer(row, row["parts"], names) | {"beyond": _answer(row["beyond"], row["parts"], names)}


def effect_of(row: JudgementRow, digits: int = 1) -> str:
    """An effect with its interval, as text; empty if it has none."""
    if row["estimate"] is None or row["low"] is None or row["high"] is None:
        return ""
    return interval(row["estimate"], row["low"], row["high"], digits)


def _answer(row: JudgementRow, parts: int, names: dict[str, str]) -> dict[str, Any]:
    """An answer as text: effects with their interval and unit, counts as they are."""
    effect, digits = "", 2 if row["unit"] == "nats" else 1
    if row["low"] is not None:
        effect = effect_of(row, digits)
    elif row["estimate"] is not None:
        effect = f"{row['estimate']:+z.{digits}f}" if row["unit"] else f"{row['estimate']:+,.0f}"
    unit = "" if row["unit"] == "points" else row["unit"]
    if row["points"] is not None:
        unit += f", {row['points']:+z.1f} points"
    bounds = "" if row["low"] is None else effect.split(" ", 1)[1]
    p = "" if row["adjusted"] is None else "< 0.001" if row["adjusted"] < 0.001 else f"{row['adjusted']:.3f}"
    weakest = row["part"] if parts > 1 and row["verdict"] != "contradicted" and effect else ""
    least = "" if row["mde"] is None else f"{row['mde']:.{digits}f}"
    called = names.get(row["verdict"], row["verdict"])
    found = {"verdict": row["verdict"], "called": called, "reason": row["reason"], "weakest": weakest}
    return found | {"effect": effect, "interval": bounds, "unit": unit, "p": p, "least": least}


def _both(row: dict[str, Any]) -> bool:
    """Whether a claim was tested at the shared setting and with each variant at its best."""
    return "tuned" in row and "untested" not in (row["called"], row["tuned"]["called"])
