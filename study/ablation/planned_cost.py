"""The cost of trainings and evaluations in tera multiply-adds: planned work, the same on every machine (D149)."""

from __future__ import annotations

import functools
import math

from study.plan.planner import Plan
from study.spec.documents.data import Facts, size_of
from study.spec.heads import Variant
from study.spec.training import Inference, Network, Training

TERA = 1e12
BACKWARD = 3  # a training step costs about as much as three passes forward


def of_plan(plan: Plan) -> dict[str, float]:
    """The cost of each training and evaluation of a plan with looks, by key; empty if all seeds are drawn."""
    found: dict[str, float] = {}
    if plan.tier.by_need is None:
        return found
    for key, training in plan.trainings.items():
        found[key] = of_training(training, plan.facts[plan.data_of[key]])
    for key, asked in plan.evaluations.items():
        setting = plan.data_of[asked.training]
        if plan.plain(key) is not None:
            found[key] = 0.0  # it shares the passes of the one without a CRF
            continue
        found[key] = of_evaluation(plan.trainings[asked.training], asked.inference, plan.facts[setting])
    return found


def of_training(training: Training, facts: Facts) -> float:
    """The cost of a training's steps, and of scoring its val and tune images."""
    recipe, classes, size = training.recipe, len(facts["classes"]), size_of(facts)
    step = recipe.batch * _forward(training, classes, recipe.crop or size)
    scored = facts["splits"].get("tune", 0) + facts["splits"].get("val", 0)
    return (BACKWARD * recipe.steps * step + scored * _forward(training, classes, size)) / TERA


def of_evaluation(training: Training, asked: Inference, facts: Facts) -> float:
    """The cost of an evaluation's passes over the val images. A CRF does not count: it is not work of the network."""
    views = math.prod(asked.crops) * (2 if asked.flip else 1) * math.fsum(scale**2 for scale in asked.scales)
    one = _macs(training.variant, training.network, len(facts["classes"]), asked.crop or size_of(facts), False)
    return facts["splits"].get("val", 0) * views * one / TERA


def _forward(training: Training, classes: int, size: tuple[int, int]) -> int:
    return _macs(training.variant, training.network, classes, size, training.network.frozen)


@functools.lru_cache(maxsize=1024)
def _macs(variant: Variant | None, network: Network, classes: int, size: tuple[int, int], cached: bool) -> int:
    from study.models.work import work  # imports torch: only if work is counted

    return work(variant, network, classes, tuple(size), cached=cached).macs  # type: ignore[arg-type]
