"""Predict the seconds that each training and evaluation of a plan takes, before anything has run.

The seconds are those of one machine. On another one, study.ablation.progress learns from the first steps how much
slower it is. So only the ratios between kinds matter, and these constants get them right.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from study.ablation import progress
from study.ablation.progress import Kind
from study.ablation.workload import Workload
from study.models.work import Work, work
from study.spec.documents.data import Facts, size_of
from study.spec.training import Inference, Training
from study.training.observers import SCORED_IMAGES

# Seconds on one core of a Xeon or EPYC of 2023, by least squares through the trainings of `shapes` on both. The ratios
# hold on both machines (benchmarks/progress.py shows how well).
MAC_S = 1.5e-11  # per multiply-add, forward
NUMBER_S = 1.5e-9  # per number that a module outputs: on small maps, memory counts as much as arithmetic
MODULE_S = 1e-4  # per run of a module, whatever its size
CRF_S = 8e-8  # per pixel and class in one iteration of a dense CRF
BACKWARD = 3  # a training step costs about as much as three passes forward
STARTING_S = 0.1  # from one training's end to the first step of the next


def trainings(workload: Workload, study: str) -> dict[str, Kind]:
    """Predict each training of the plan, by key; saved in the store for ``make status`` of ``study``."""
    planned, manifest = workload.planned, workload.manifest
    known: dict[tuple[str, ...], Kind] = {}
    found = {}
    for key, labels in manifest["trainings"].items():
        training = planned.trainings[key]
        name = (labels["data"], labels["label"])
        if name not in known:  # seeds share a network
            known[name] = of_training(name, training, manifest["data"][labels["data"]])
        found[key] = known[name]
    progress.keep(workload.store, study, found)
    return found


def evaluations(workload: Workload, beside: Collection[str | None] = ()) -> dict[str, Kind]:
    """Predict each evaluation of the plan, by key; saved like those of trainings. Those ``beside`` another evaluation
    take no time of their own."""
    planned, manifest = workload.planned, workload.manifest
    known: dict[tuple[str, ...], Kind] = {}
    found = {}
    for key, labels in manifest["evaluations"].items():
        asked = planned.evaluations[key]
        name = (labels["data"], labels["label"], asked.name)
        if name not in known:
            training = planned.trainings[asked.training]
            known[name] = of_evaluation(name, training, asked.inference, manifest["data"][labels["data"]])
        found[key] = Kind((*name, "beside"), 0.0) if key in beside else known[name]
    progress.keep(workload.store, progress.evaluations_of(planned.tier.name), found)
    return found


def of_training(name: tuple[str, ...], training: Training, facts: Facts) -> Kind:
    """The prediction for a training on the data of ``facts``, which come from the data stage."""
    step, image = of_step(training, facts)
    return kind_of(name, training, facts, step, image)


def of_step(training: Training, facts: Facts) -> tuple[float, float]:
    """Seconds of a training step, and of scoring an image."""
    size, classes, recipe = size_of(facts), len(facts["classes"]), training.recipe
    frozen = training.network.frozen
    seen = work(training.variant, training.network, classes, recipe.crop or size, cached=frozen)
    whole = work(training.variant, training.network, classes, size, cached=frozen)
    return BACKWARD * (recipe.batch * _image_s(seen) + seen.modules * MODULE_S), _image_s(whole)


def kind_of(name: tuple[str, ...], training: Training, facts: Facts, step: float, image: float) -> Kind:
    """The kind of a training that takes ``step`` seconds per step and ``image`` seconds per scored image."""
    recipe = training.recipe
    tune, val = facts["splits"].get("tune", 0), facts["splits"].get("val", 0)
    scored = recipe.validations * min(SCORED_IMAGES, tune)
    step += scored * image / recipe.steps  # the learning curve is scored between steps
    return Kind(name, step, recipe.steps, STARTING_S + (tune + val) * image)


def of_evaluation(name: tuple[str, ...], training: Training, asked: Inference, facts: Facts) -> Kind:
    """The prediction for scoring a trained network on the val images, as ``asked``."""
    size, classes = size_of(facts), len(facts["classes"])
    crop = asked.crop or size
    seen = work(training.variant, training.network, classes, crop)
    views = math.prod(asked.crops) * (2 if asked.flip else 1)
    image = views * sum(scale**2 * _image_s(seen) + seen.modules * MODULE_S for scale in asked.scales)
    if asked.crf is not None:
        image += math.prod(size) * classes * asked.crf.iterations * CRF_S
    return Kind(name, image, facts["splits"].get("val", 0), STARTING_S)


def _image_s(one: Work) -> float:
    """Seconds of a forward pass, per image of a batch."""
    return one.macs * MAC_S + one.numbers * NUMBER_S
