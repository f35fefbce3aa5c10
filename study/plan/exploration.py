"""Turn suggested values into a network and a recipe, and choose which trials to retrain with new seeds (D150)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction

from study.config.schema import Explore
from study.config.tiers import Tier
from study.plan import planner
from study.plan.planner import Plan
from study.spec.constants import MAIN
from study.spec.documents.data import Facts
from study.spec.documents.explored import COMPLETE, REFINE, ExploredTrial, Retrained
from study.spec.heads import AFTER, HEADS, PLACES, Head, PerClass, Variant, dense, stack
from study.spec.training import Recipe

HEAD, LR, WIDTH = "head", "lr", "width"
Asked = tuple[str, int, Variant, Recipe]  # a network to train with new seeds: why, the trial that found it, the network
UNITS = {"macs": 1e9, "parameters": 1.0, "memory": 2.0**20}  # units of bounds: giga multiply-adds, weights, MiB


def kernel(level: str) -> str:
    """The name of a level's kernel-size parameter. All families share it, so that samplers can learn it jointly with
    the rest."""
    return f"k {level}"


def refined(place: str) -> str:
    """The name of the parameter that switches boundary refinement in a place."""
    return f"{REFINE} {AFTER[place]}"


def levels(tier: Tier) -> tuple[str, ...]:
    """The levels of a tier's heads that are not fixed, finest first."""
    fixed = {level for level, _ in tier.main.network.fixed}
    return tuple(level for level in tier.main.network.levels if level not in fixed)


def network(tier: Tier, values: Mapping[str, object], places: tuple[str, ...]) -> tuple[Variant, Recipe]:
    """The variant and recipe for suggested ``values`` (by parameter name).

    ``places`` are those where this network can have boundary refinement. The paper refines in all of them."""
    family, found = str(values[HEAD]), dict[str, Head]()
    for level in levels(tier):
        k = int(str(values[kernel(level)]))
        if family == "stack":
            found[level] = stack(k, width_of(str(values[WIDTH]))) if k > 1 else dense(1)  # a stack begins at k = 3
        else:
            found[level] = HEADS[family](k)
    *others, coarsest = found
    # The head of the coarsest level names the variant; list only the levels whose head differs from it.
    at = tuple((level, found[level]) for level in others if found[level] != found[coarsest])
    if found[coarsest].width is None:  # a label has the width of the coarsest head; without one, others state theirs
        at = tuple(
            (level, head if head.width in (None, 1) else replace(head, family=f"{head.family} m={head.width}"))
            for level, head in at
        )
    chosen = tuple(place for place in places if values.get(refined(place), values.get(REFINE, False)))
    variant = Variant(found[coarsest], chosen == places or chosen, at)
    return variant, replace(tier.main.recipe, lr=float(str(values[LR])))


def cheapest(tier: Tier) -> list[Variant]:
    """For each head family and width, the network of the space with the smallest kernels and the least refinement."""
    assert tier.explore is not None
    space, found = tier.explore.space, list[Variant]()
    for family in space.head:
        for width in space.width if family == "stack" else space.width[:1]:
            least = {kernel(level): min(space.sizes(level)) for level in levels(tier)}
            switches = {refined(place): min(values) for place, values in (space.places or {}).items()}
            values = {HEAD: family, WIDTH: width, LR: space.lr[0], **least, **switches}
            if space.places is None:
                values[REFINE] = min(space.refine)
            found.append(network(tier, values, PLACES)[0])
    return found


def width_of(text: str) -> Fraction | PerClass:
    """Parse a width as an Optuna study stores it: text such as 1/2 or 10K."""
    return PerClass(int(text[:-1])) if text.endswith("K") else Fraction(text)


def enter(tier: Tier, plan: Plan, variant: Variant, recipe: Recipe) -> str:
    """Add a trial's training to a plan without cells; return its key."""
    assert tier.explore is not None
    return planner.enter(plan, MAIN, variant, tier.explore.seed, {(MAIN, variant): recipe})


def empty(tier: Tier, facts: Mapping[str, Facts], device: str) -> Plan:
    """A plan without trainings; ``enter`` adds those of the trials."""
    bare = replace(tier, mechanisms={}, by_need=None)
    return Plan(bare, (), (), trainings={}, data_of={}, facts=facts, device=device)


def front(trials: Iterable[ExploredTrial], against: str) -> list[int]:
    """The numbers of the trials on the front of score and cost ``against``, cheapest first: no other trial is cheaper
    and at least as good, or better and no more expensive."""
    ended = [t for t in trials if t["state"] == COMPLETE and t["score"] is not None]
    found, best = [], -math.inf
    for trial in sorted(ended, key=lambda t: (_cost(t, against), -(t["score"] or 0.0), t["number"])):
        score = trial["score"] or 0.0
        if score > best:
            found.append(trial["number"])
            best = score
    return found


def winners(explore: Explore, trials: list[ExploredTrial]) -> list[tuple[str, ExploredTrial]]:
    """The networks to retrain with new seeds, each once, with the reason: first the best within the study's own bounds,
    then the best under each bound of ``explore.winners``, then the front, best first."""
    by_number = {trial["number"]: trial for trial in trials}
    ended = [t for t in trials if t["state"] == COMPLETE]
    allowed = [t for t in ended if not over(explore, costs_of(t), t["score"])]
    asked: list[tuple[str, ExploredTrial]] = []
    if explore.objective == "cost" and allowed:
        asked.append(
            ("cheapest above the least score", min(allowed, key=lambda t: (_cost(t, explore.against), t["number"])))
        )
    elif allowed:
        asked.append(("best", max(allowed, key=lambda t: (t["score"] or 0.0, -t["number"]))))
    for bound in explore.winners.macs:
        under = [t for t in allowed if t["macs"] <= bound * UNITS["macs"]]
        if under:
            asked.append(
                (f"best under {bound:g} G multiply-adds", max(under, key=lambda t: (t["score"] or 0.0, -t["number"])))
            )
    ends = sorted((by_number[n] for n in front(allowed, explore.against)), key=lambda t: -(t["score"] or 0.0))
    asked += [("on the front", trial) for trial in ends]
    found: dict[str, tuple[str, ExploredTrial]] = {}
    for why, trial in asked:
        if trial["label"] in found:
            known, first = found[trial["label"]]
            if why != "on the front" and why not in known:
                found[trial["label"]] = f"{known}, {why}", first
        elif len(found) < explore.winners.most:
            found[trial["label"]] = why, trial
    return list(found.values())


def controls(tier: Tier, best: Mapping[str, object], places: tuple[str, ...]) -> list[tuple[str, Variant, Recipe]]:
    """Networks that differ from the best one, given by its suggested values, in kernel sizes only, with what changes:
    the smallest and the largest size at all levels but the coarsest, and each of its own sizes at all levels. Empty if
    the heads are at one level."""
    assert tier.explore is not None
    there = levels(tier)
    finer, name = there[:-1], {level: kernel(level) for level in there}
    if not finer:
        return []
    sizes = {level: tier.explore.space.sizes(level) for level in finer}
    changes = {
        f"{which} kernel at {' and '.join(finer)}": {name[level]: end(sizes[level]) for level in finer}
        for which, end in (("smallest", min), ("largest", max))
    }
    for k in sorted({int(str(best[name[level]])) for level in there}):
        changes[f"k = {k} at all levels"] = {name[level]: k for level in there}
    found: dict[Variant, tuple[str, Recipe]] = {}
    for what, change in changes.items():
        variant, recipe = network(tier, {**best, **change}, places)
        found[variant] = f"{found[variant][0]}; {what}" if variant in found else what, recipe
    found.pop(network(tier, best, places)[0], None)
    return [(what, variant, recipe) for variant, (what, recipe) in found.items()]


def retrained(tier: Tier, trials: list[ExploredTrial], places: tuple[str, ...]) -> list[Asked]:
    """What is trained with new seeds: the winners, then the controls of the best."""
    assert tier.explore is not None
    found = winners(tier.explore, trials)
    asked = [(why, trial["number"], *network(tier, trial["values"], places)) for why, trial in found]
    if found and tier.explore.winners.controls:
        best = found[0][1]
        others = controls(tier, best["values"], places)
        asked += [(what, best["number"], variant, recipe) for what, variant, recipe in others]
    return asked


def over(explore: Explore, costs: Mapping[str, float], score: float | None) -> list[float]:
    """By how much a network exceeds each bound, in the bound's unit; empty if it is within all of them. An unknown
    score violates no bound."""
    beyond = [costs[name] / UNITS[name] - bound for name, bound in explore.under.items()]
    if explore.least is not None and score is not None:
        beyond.append(explore.least - score)
    return beyond if any(value > 0 for value in beyond) else []


def costs_of(trial: ExploredTrial) -> dict[str, float]:
    """The costs of a trial's network, by the names in COSTS."""
    return {"macs": trial["macs"], "parameters": trial["parameters"], "memory": trial["memory"]}


def _cost(trial: ExploredTrial, against: str) -> float:
    return costs_of(trial)[against]


def again(tier: Tier, facts: Mapping[str, Facts], device: str, asked: list[Asked]) -> tuple[Plan, list[Retrained]]:
    """The plan that trains networks with the winners' seeds, and the keys of each. The cells are a table of variants
    beyond the paper's, each once; a variant that comes again with another recipe has trainings and no cell."""
    assert tier.explore is not None
    recipes: dict[tuple[str, Variant | None], Recipe] = {(MAIN, variant): how for *_, variant, how in reversed(asked)}
    tried = replace(
        tier, tables=(), extra=tuple(dict.fromkeys(variant for *_, variant, _ in asked)), mechanisms={}, by_need=None,
        seeds=tier.explore.winners.seeds, scale="none", verdicts=None,
        settings={name: replace(setting, variants=()) for name, setting in tier.settings.items()},
    )  # fmt: skip
    plan = planner.build(tried, facts, device, recipes)
    return plan, [
        {
            "why": why, "number": number, "label": variant.label,
            "keys": {str(seed): planner.enter(plan, MAIN, variant, seed, {(MAIN, variant): how})
                     for seed in tried.seeds},
        }
        for why, number, variant, how in asked
    ]  # fmt: skip
