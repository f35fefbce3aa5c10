"""The report's section on the exploration: what it found, how much was luck, and the paper's networks for
comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.report.figures import exploration
from study.report.figures.plate import saved
from study.spec.constants import COSTS, MAIN
from study.spec.documents.explored import COMPLETE, REFINE, ExploredFile
from study.spec.documents.networks import CostsFile
from study.spec.documents.plan import PlanFile
from study.spec.documents.reading import read
from study.spec.heads import AFTER
from study.spec.words import interval
from study.statistics import results
from study.statistics.explored import Tried, against, difference, paired
from study.statistics.intervals import half_width

BESIDE = 6  # networks of the paper that are shown next to the winners
FEWEST = 3  # trials with refinement, and without, for a comparison of the two
AGAINST = {"macs": "multiply-adds", "parameters": "weights", "memory": "memory of a training step"}
BOUNDS = {
    "macs": "at most {:g} G multiply-adds an image", "parameters": "at most {:,.0f} weights",
    "memory": "at most {:g} MiB in a training step", "least": "a score of at least {:.1%}",
}  # fmt: skip


def words(folder: Path, plan: PlanFile) -> dict[str, Any] | None:
    """The section as text; None if nothing was explored."""
    found = _explored(folder)
    if found is None:
        return None
    trials = {trial["number"]: trial for trial in found["trials"]}
    states = pd.Series([trial["state"] for trial in trials.values()]).value_counts().to_dict()
    metric = plan.get("judged_by", "miou")
    tried = _winners(folder, found, plan)
    rivals = _rivals(folder, plan, metric)
    compared = against([Tried(row["label"], row["macs"], tuple(row["val"])) for row in tried], rivals)
    best = sorted(rivals, key=lambda one: -one.mean)[:BESIDE]
    beside = [{"label": one.label, "macs": f"{one.cost / 1e9:.3g}", "val": _score(list(one.scores))} for one in best]
    rows = []
    for row, one in zip(tried, compared, strict=True):
        trial = trials[row["number"]]
        rows.append({
            "label": row["label"], "why": row["why"], "lr": f"{trial['lr']:.2g}",
            "macs": f"{trial['macs'] / 1e9:.3g}", "parameters": f"{trial['parameters'] / 1e3:,.0f}",
            "search": f"{100 * row['search']:.1f}", "tune": f"{100 * row['tune']:.1f}",
            "luck": f"{100 * (row['search'] - row['tune']):+z.1f}", "val": _score(row["val"]),
            "rival": one.rival if one else "", "better": bool(one and one.better),
            "difference": interval(100 * one.difference, 100 * one.low, 100 * one.high) if one else "",
        })  # fmt: skip
    controls = _controls(folder, found, plan)
    luck = [row["search"] - row["tune"] for row in tried]
    return {
        "trials": len(trials), "states": {name: int(number) for name, number in states.items()},
        "stacks": any(trial["head"] == "stack" for trial in trials.values()),
        "objective": found["objective"], "against": AGAINST[found["against"]],
        "bounds": ", ".join(BOUNDS[name].format(bound) for name, bound in found["bounds"].items()),
        "sampler": found["sampler"], "pruner": found["pruner"], "workers": found["workers"], "levels": found["levels"],
        "rows": rows, "beside": beside, "controls": controls, "kernels": _kernels(found), "refined": _refined(found),
        "seeds": len(found["winners"][0]["keys"]) if rows else 0,
        "better": sum(one is not None and one.better for one in compared), "compared": bool([*filter(None, compared)]),
        "luck": f"{100 * float(np.mean(luck)):+z.1f}" if luck else "",
    }  # fmt: skip


def draw(folder: Path, plan: PlanFile) -> list[dict[str, str]]:
    """Draw the section's figures. Returns their names and words."""
    found = _explored(folder)
    if found is None or not any(t["state"] == COMPLETE for t in found["trials"]):
        return []
    trials = _frame(found)
    winners = pd.DataFrame([
        {**{name: row[name] for name in COSTS}, "mean": np.mean(row["val"]),
         "low": np.mean(row["val"]) - half_width(np.array(row["val"])),
         "high": np.mean(row["val"]) + half_width(np.array(row["val"]))}
        for row in _winners(folder, found, plan)
    ], columns=[*COSTS, "mean", "low", "high"])  # fmt: skip
    levels = found["levels"]
    drawn = [
        (exploration.front(trials, found["front"], winners, found["against"], found["places"]), "front",
         exploration.FRONT, exploration.FRONT_CAPTION),
        (exploration.slices(trials, levels), "slices", exploration.SLICES, exploration.SLICES_CAPTION),
        (exploration.parallel(trials, levels, found["places"]), "parallel",
         exploration.PARALLEL, exploration.PARALLEL_CAPTION),
        (exploration.history(trials), "history", exploration.HISTORY, exploration.HISTORY_CAPTION),
    ]  # fmt: skip
    if found["importances"]:
        drawn.insert(
            1, (exploration.shares(found["importances"]), "shares", exploration.SHARES, exploration.SHARES_CAPTION)
        )
    return [saved(figure, folder, f"explored_{name}", title, caption) for figure, name, title, caption in drawn]


def _explored(folder: Path) -> ExploredFile | None:
    path = folder / "explored" / "explored.json"
    found = read(path, ExploredFile) if path.is_file() else None
    return found if found is not None and found["on"] else None


def _frame(found: ExploredFile) -> pd.DataFrame:
    rows = [{**trial, **{f"k {level}": k for level, k in trial["k"].items()}} for trial in found["trials"]]
    return pd.DataFrame(rows).drop(columns=["k", "values"])


def _winners(folder: Path, found: ExploredFile, plan: PlanFile) -> list[dict[str, Any]]:
    """For each network that was retrained: its score in the search, on tune with new seeds, and on val by seed."""
    trials, rows = {trial["number"]: trial for trial in found["trials"]}, list[dict[str, Any]]()
    place, classes = folder / "explored" / "results", results.judged_classes(plan)
    for winner in found["winners"]:
        val, trial = _val(folder, winner["keys"], plan), trials[winner["number"]]
        if val:
            tune = [results.tune_score(place / winner["keys"][seed], classes) for seed in val]
            rows.append({**winner, "search": trial["score"], "tune": float(np.mean(tune)), "val": list(val.values()),
                         **{name: trial[name] for name in COSTS}})  # type: ignore[literal-required]  # fmt: skip
    return rows


def _val(folder: Path, keys: dict[str, str], plan: PlanFile) -> dict[str, float]:
    """A network's scores on val by seed, of the trainings that are done."""
    place, frequent = folder / "explored" / "results", plan["data"][MAIN]["frequent"]
    done = {seed: place / key for seed, key in keys.items() if results.status(place / key) == results.DONE}
    return {seed: results.scores(path, frequent)[plan.get("judged_by", "miou")] for seed, path in done.items()}


def _controls(folder: Path, found: ExploredFile, plan: PlanFile) -> dict[str, Any] | None:
    """The best network beside those that differ from it in kernel sizes only; None if there are none."""
    controls = found.get("controls", [])
    if not controls:
        return None
    best = found["winners"][0]
    trial = next(trial for trial in found["trials"] if trial["number"] == best["number"])
    scores = [_val(folder, one["keys"], plan) for one in (best, *controls)]
    compared = paired(scores[0], scores[1:])
    return {
        "best": best["label"], "val": _score([*scores[0].values()]),
        "sizes": ", ".join(f"k = {k} at {level}" for level, k in trial["k"].items()),
        "rows": [
            {
                "what": one["why"], "label": one["label"], "val": _score([*values.values()]),
                "decided": bool(gap and gap.decided),
                "difference": interval(100 * gap.difference, 100 * gap.low, 100 * gap.high) if gap else "",
            }
            for one, values, gap in zip(controls, scores[1:], compared, strict=True) if values
        ],
    }  # fmt: skip


def _score(values: list[float]) -> str:
    half = half_width(np.array(values))
    mean = 100 * float(np.mean(values))
    return f"{mean:.1f}" if np.isnan(half) else f"{mean:.1f} ± {100 * half:.1f}"


def _rivals(folder: Path, plan: PlanFile, metric: str) -> list[Tried]:
    """The paper's own networks at the shared setting, with their costs and their scores by seed."""
    known = read(folder / "examined" / "costs.json", CostsFile).get(MAIN, {})
    found: dict[str, Tried] = {}
    for cell in plan["cells"]:
        if cell["data"] != MAIN or cell["inference"] or cell["metric"] != "miou" or cell["label"] not in known:
            continue
        keys = [key for key in cell["runs"].values() if results.status(folder / "results" / key) == results.DONE]
        scores = [results.scores(folder / "results" / key, plan["data"][MAIN]["frequent"])[metric] for key in keys]
        if scores and cell["label"] not in found:
            found[cell["label"]] = Tried(cell["label"], known[cell["label"]]["macs"], tuple(scores))
    return list(found.values())


def _kernels(found: ExploredFile) -> list[dict[str, str]]:
    """For each level, the kernel size whose trials have the best mean score, with its interval."""
    ended = [t for t in found["trials"] if t["state"] == COMPLETE and t["score"] is not None]
    rows = []
    for level in found["levels"]:
        by_size: dict[int, list[float]] = {}
        for trial in ended:
            by_size.setdefault(trial["k"][level], []).append(trial["score"] or 0.0)
        known = {k: scores for k, scores in by_size.items() if len(scores) > 1}
        if not known:
            continue
        k, scores = max(known.items(), key=lambda pair: float(np.mean(pair[1])))
        top = sorted(ended, key=lambda t: -(t["score"] or 0.0))[: max(1, len(ended) // 10)]
        rows.append({"level": level, "k": str(k), "mean": _score(scores), "trials": str(len(scores)),
                     "top": ", ".join(str(t["k"][level]) for t in top)})  # fmt: skip
    return rows


def _refined(found: ExploredFile) -> list[dict[str, str]]:
    """How much more trials with boundary refinement score than those without, by place and head family."""
    ended = [t for t in found["trials"] if t["state"] == COMPLETE and t["score"] is not None]
    alike = all(REFINE in trial["values"] for trial in ended)
    rows = []
    for place in found["places"][:1] if alike else found["places"]:
        for family, (name, _) in exploration.FAMILIES.items():
            groups: dict[bool, list[float]] = {False: [], True: []}
            for trial in ended:
                if trial["head"] == family:
                    groups[place in trial["refine"]].append(trial["score"] or 0.0)
            if all(len(scores) >= FEWEST for scores in groups.values()):
                gain, low, high, _ = difference(groups[True], groups[False])
                rows.append({
                    "place": "in all places" if alike else AFTER[place], "family": name,
                    "gain": interval(100 * gain, 100 * low, 100 * high),
                    "trials": f"{len(groups[True])} with, {len(groups[False])} without",
                })  # fmt: skip
    return rows
