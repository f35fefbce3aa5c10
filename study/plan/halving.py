"""Successive halving over each variant's candidates, as pure functions: which ones pass a rung, and which is the best.

All trainings of a rung end before any candidate is dropped. So the outcome depends only on scores, not on which worker
was faster, and a search that was killed reaches the same result when it is started again (D94).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from study.config.search_space import Tuning
from study.config.tiers import Tier
from study.paper.labels import labels
from study.plan import planner
from study.plan.planner import Plan
from study.spec.constants import MAIN
from study.spec.documents.data import Facts
from study.spec.documents.search import Trial
from study.spec.errors import InputError
from study.spec.heads import Variant, dense, gcn
from study.spec.training import Recipe

Group = tuple[str, Variant | None]  # (setting, variant)


@dataclass
class Candidate:
    """One combination of searched values for one variant in one setting.

    ``keys`` are the keys of its trainings, by seed. ``scores`` are fractions (means over seeds), by number of steps.
    ``dropped`` is the step at which it was dropped. ``whole`` says that it is trained to its end even if dropped."""

    setting: str
    variant: Variant | None
    recipe: Recipe
    keys: dict[int, str]
    whole: bool
    scores: dict[int, float] = field(default_factory=dict)
    dropped: int | None = None
    failed: str = ""

    @property
    def group(self) -> Group:
        return self.setting, self.variant

    @property
    def runs(self) -> bool:
        """Whether it is trained further."""
        return not self.failed and (self.dropped is None or self.whole)

    @property
    def eligible(self) -> bool:
        """Whether it may still become its variant's best."""
        return not self.failed and self.dropped is None


def candidates(tier: Tier, facts: Mapping[str, Facts], device: str) -> tuple[Plan, list[Candidate]]:
    """A plan (without cells) of every trial's training, and the candidates.

    Candidates are the variants of the tier's cells in each searched setting and, in the main one, those of the
    factorial. Raises InputError if the tier has no search."""
    tuning, tier = tuning_of(tier), _searched(tier)
    planned, found = Plan(tier, (), (), trainings={}, data_of={}, facts=facts, device=device), []
    asked: dict[Group, bool] = {}
    for cell, setting, runs in planner.build(tier, facts, device).cells:
        if runs and cell.variant is not None and setting in tuning.settings:
            asked.setdefault((setting, cell.variant), False)
    if MAIN in tuning.settings:
        asked |= {(MAIN, variant): True for variant in factorial(tuning)}
    for (setting, variant), whole in asked.items():
        for recipe in tuning.recipes(tier.settings[setting].recipe):
            chosen = {(setting, variant): recipe}
            keys = {seed: planner.enter(planned, setting, variant, seed, chosen) for seed in tuning.seeds}
            found.append(Candidate(setting, variant, recipe, keys, whole))
    return planned, found


def factorial(tuning: Tuning) -> list[Variant]:
    """The variants of the factorial: the head of each kernel size (1x1 for k = 1, else GCN), without and with BR."""
    return [Variant(dense(1) if k == 1 else gcn(k), refine) for k in tuning.factorial for refine in (False, True)]


def halve(found: list[Candidate], rung: int, tuning: Tuning) -> None:
    """Drop each variant's weaker candidates after stop number ``rung``. The best share ``keep`` goes on, at least one.

    Of equal candidates the earlier one goes on, so the shared setting wins over others."""
    for members in _groups(found).values():
        left = [c for c in members if c.eligible]
        step = tuning.stops(members[0].recipe)[rung]
        kept = max(1, math.ceil(tuning.keep * len(left)))
        for candidate in sorted(left, key=lambda c: -c.scores[step])[kept:]:
            candidate.dropped = step


def steps_of(found: list[Candidate], tuning: Tuning) -> dict[Group, int]:
    """Training steps of each variant's trials in total, if none fails."""
    steps = {}
    for group, members in _groups(found).items():
        left, before, total = len(members), 0, 0
        for stop in tuning.stops(members[0].recipe):
            total += (len(members) if members[0].whole else left) * len(tuning.seeds) * (stop - before)
            left, before = max(1, math.ceil(tuning.keep * left)), stop
        steps[group] = total
    return steps


def best(found: list[Candidate]) -> dict[Group, Recipe]:
    """The recipe of each variant's eligible candidate with the best last score; variants without one are left out."""
    chosen = {}
    for group, members in _groups(found).items():
        ended = [c for c in members if c.eligible and c.recipe.steps in c.scores]
        if ended:
            chosen[group] = max(ended, key=lambda c: c.scores[c.recipe.steps]).recipe  # the first if equal
    return chosen


def rows(found: list[Candidate], tuning: Tuning) -> list[Trial]:
    """The trials as JSON, in order: labels, values, scores, where it was dropped, why it failed, whether it is best."""
    chosen = best(found)
    return [
        {
            **labels(c.variant),
            "setting": c.setting,
            "values": values(c.recipe, tuning),
            "keys": {str(s): key for s, key in c.keys.items()},
            "scores": {str(step): score for step, score in c.scores.items()},
            "dropped": c.dropped,
            "failed": c.failed,
            "whole": c.whole,
            "best": chosen.get(c.group) == c.recipe,
        }
        for c in found
    ]  # fmt: skip


def told(tier: Tier, facts: Mapping[str, Facts], device: str, trials: list[Trial]) -> list[Candidate]:
    """The candidates with the scores of ``trials`` (the content of search.json), halved again from these scores. Raises
    InputError if ``trials`` are not those of the tier."""
    tuning, (_, found) = tuning_of(tier), candidates(tier, facts, device)
    by_keys = {tuple(trial["keys"].values()): trial for trial in trials}
    if [tuple(c.keys.values()) for c in found] != [tuple(trial["keys"].values()) for trial in trials]:
        raise InputError("the trials in search.json do not match params.yaml and the code; run the search again")
    for candidate in found:
        trial = by_keys[tuple(candidate.keys.values())]
        candidate.scores = {int(step): score for step, score in trial["scores"].items()}
        candidate.failed = trial["failed"]
    for rung in range(len(tuning.rungs)):
        halve(found, rung, tuning)
    return found


def values(recipe: Recipe, tuning: Tuning) -> dict[str, float]:
    """The searched values of a recipe."""
    return {name: getattr(recipe, name) for name, _ in tuning.search}


def tuned(tier: Tier, facts: Mapping[str, Facts], device: str, chosen: Mapping[Group, Recipe]) -> Plan:
    """The tier's plan with each variant at its best values. It has the cells whose training, or an earlier stage of it,
    was searched. Every other cell states why it was not."""
    tuning, reasons = tuning_of(tier), {}
    for cell, _, runs in planner.build(tier, facts, device).cells:
        names, at = [], cell.setting if runs else None
        while at is not None:
            names.append(at)
            at = tier.settings[at].after
        if runs and cell.inference:
            reasons[cell.address] = "Not searched: it only evaluates trained networks in another way."
        elif runs and not any((name, cell.variant) in chosen for name in names):
            covered = ", ".join(tuning.settings)
            reasons[cell.address] = f"Not searched: the search covers {covered}, and these cells belong to {names[0]}."
    asked = dataclasses.replace(_searched(tier), not_applicable=tier.not_applicable | reasons)
    return planner.build(asked, facts, device, chosen)


def _searched(tier: Tier) -> Tier:
    """The tier as a search uses it: without mechanisms, and with the seeds that every training has."""
    return dataclasses.replace(tier, mechanisms={}, seeds=tier.first_seeds, by_need=None)


def tuning_of(tier: Tier) -> Tuning:
    if tier.tuning is None:
        raise InputError(
            f"tiers.{tier.name}.tuning must say what is searched when `tune: true`, but it is missing; write it as in "
            "the tier shapes, or set tune to false"
        )
    return tier.tuning


def _groups(found: list[Candidate]) -> dict[Group, list[Candidate]]:
    groups: dict[Group, list[Candidate]] = {}
    for candidate in found:
        groups.setdefault(candidate.group, []).append(candidate)
    return groups
