"""Why today's plan differs from plan.json: which trainings have another key, and which part of the key changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from study.commands import value_diff
from study.spec.documents.plan import PlanFile, PlannedEvaluation, PlannedTraining

SHOWN = 3
# Names of the parts of a key for the reader; ``training`` is reported setting by setting.
PARTS = {"data": "data, whose fingerprint", "code": "code, whose digest", "weights": "pretrained weights, whose digest",
         "torch": "torch, which", "device": "the device, which", "library": "the CRF's library, which"}  # fmt: skip
OWN = ("trainings", "evaluations", "identities")  # parts of plan.json that hold keys; reported by their reasons
Named = tuple[Any, ...]


def changes(stands: PlanFile, today: PlanFile) -> list[str]:
    """A line for each reason why ``stands`` (the content of plan.json) differs from ``today``; empty if it does not."""
    lines = _moved(
        "trainings",
        {key: _name_of_training(training) for key, training in stands["trainings"].items()},
        {key: _name_of_training(training) for key, training in today["trainings"].items()},
        lambda old, new: _of_training(stands, today, old, new),
    )
    lines += _moved(
        "evaluations",
        {key: _name_of_evaluation(asked) for key, asked in stands["evaluations"].items()},
        {key: _name_of_evaluation(asked) for key, asked in today["evaluations"].items()},
        lambda old, new: _of_evaluation(stands, today, old, new),
    )
    told = ("settings", "inference", "block") if lines else ()
    rest: list[dict[str, object]] = [
        {k: v for k, v in plan.items() if k not in (*OWN, *told)} for plan in (stands, today)
    ]
    for plan, part in zip((stands, today), rest, strict=True):
        part["cells"] = {c["address"]: {k: v for k, v in c.items() if k != "runs"} for c in plan["cells"]}
    found = value_diff.values(rest[0], rest[1])
    lines += [
        f"plan.json, {where}: must be {now}, as the code and params.yaml have it, got {was}"
        for where, was, now in found[: value_diff.SHOWN]
    ]
    if len(found) > value_diff.SHOWN:
        lines.append(f"plan.json: {len(found) - value_diff.SHOWN} more values must be as in the code and params.yaml")
    if not lines and stands != today:
        lines.append("plan.json must be the plan of this code and params.yaml, got other keys or another order")
    return lines


def _name_of_training(training: PlannedTraining) -> Named:
    return training["data"], training["label"], training["seed"]


def _name_of_evaluation(asked: PlannedEvaluation) -> Named:
    return asked["data"], f"{asked['label']} ({asked['inference']})", asked["seed"]


def _moved(
    kind: str, stands: dict[str, Named], today: dict[str, Named], why: Callable[[str, str], list[str]]
) -> list[str]:
    """Lines on trainings or evaluations (key -> name) whose key changed: one per setting and set of reasons."""
    old, new = ({name: key for key, name in named.items()} for named in (stands, today))
    grouped: dict[tuple[str, str], list[Named]] = {}
    for named, key in new.items():
        if named in old and old[named] != key:
            reasons = "; ".join(why(old[named], key))
            grouped.setdefault((named[0], reasons), []).append(named)
    lines = [
        f"plan.json must have the keys of today for {_listed(kind, setting, who)}, got others because of {reasons}"
        for (setting, reasons), who in grouped.items()
        if reasons
    ]
    for here, there, told in ((new, old, "be in plan.json"), (old, new, "be needed by params.yaml and the paper")):
        for setting in dict.fromkeys(named[0] for named in here.keys() - there.keys()):
            who = [named for named in here if named not in there and named[0] == setting]
            lines.append(f"{_listed(kind, setting, who)} must {told}, but are not")
    return lines


def _listed(kind: str, setting: str, who: list[Named]) -> str:
    some = ", ".join(f"{label} seed {seed}" for _, label, seed in who[:SHOWN])
    return f"{len(who)} {kind} of {setting} ({some}{', ...' if len(who) > SHOWN else ''})"


def _of_training(stands: PlanFile, today: PlanFile, old: str, new: str) -> list[str]:
    was, now = stands["identities"].get(old, {}), today["identities"][new]
    found = _parts(was, now)
    if was.get("training") != now["training"]:
        setting = today["trainings"][new]["data"]
        pairs = value_diff.values(stands["settings"].get(setting, {}), today["settings"].get(setting, {}))
        found += [f"params, {setting} {where}, which was {a} and is {b}" for where, a, b in pairs]
        if not pairs:
            after = stands["trainings"][old]["after"] != today["trainings"][new]["after"]
            found.append("the training that it starts from" if after else "its variant")
    return found


def _of_evaluation(stands: PlanFile, today: PlanFile, old: str, new: str) -> list[str]:
    """The reasons why an evaluation's key changed; empty if its training's key changed, which is reported there."""
    was, now = stands["identities"].get(old, {}), today["identities"][new]
    if was.get("of") != now["of"]:
        return []
    name = today["evaluations"][new]["inference"]
    pairs = value_diff.values(stands["inference"].get(name, {}), today["inference"].get(name, {}))
    return _parts(was, now) + [f"params, inference {name} {where}, which was {a} and is {b}" for where, a, b in pairs]


def _parts(was: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    short = [(told, str(was.get(part))[:12], str(now[part])[:12], part) for part, told in PARTS.items() if part in now]
    return [f"{told} was {a} and is {b}" for told, a, b, part in short if was.get(part) != now[part]]
