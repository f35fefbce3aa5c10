"""How long each training and evaluation of a plan should take, as a prediction of seconds before anything has run.

The seconds are those of one machine. Which other one it runs on hardly matters: study.ablation.progress learns from the
first steps how much slower that is. What matters is how kinds compare, and these constants are right about it.
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

# Seconds on one core of a Xeon or EPYC of 2023, by least squares through the trainings of `shapes` on both: how the two
# compare is what they have in common (benchmarks/progress.py shows how well).
MAC_S = 1.5e-11  # of a multiply-add, forward
NUMBER_S = 1.5e-9  # of a number that a module gives out: on small maps, memory counts as much as arithmetic
MODULE_S = 1e-4  # of running a module, whatever its size
CRF_S = 8e-8  # of a pixel and class in one iteration of a dense CRF
BACKWARD = 3  # a training step costs about as much as three passes forward
STARTING_S = 0.1  # from one training's end to the first step of the next


def trainings(workload: Workload, study: str) -> dict[str, Kind]:
    """Of each training of the plan by its key; kept in the store for whoever asks for the status of ``study``."""
    planned, manifest = workload.planned, workload.manifest
    known: dict[tuple[str, ...], Kind] = {}
    found = {}
    for key, labels in manifest["trainings"].items():
        training = planned.trainings[key]
        name = (labels["data"], labels["label"])
        if name not in known:  # seeds, whose networks are alike
            known[name] = of_training(name, training, manifest["data"][labels["data"]])
        found[key] = known[name]
    progress.keep(workload.store, study, found)
    return found


def evaluations(workload: Workload, beside: Collection[str | None] = ()) -> dict[str, Kind]:
    """Of each evaluation of the plan by its key; kept as those of trainings are. Those ``beside`` another take none of
    their own."""
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
    """Of a training on the data of ``facts``, as the data stage has them."""
    step, image = of_step(training, facts)
    return kind_of(name, training, facts, step, image)


def of_step(training: Training, facts: Facts) -> tuple[float, float]:
    """Seconds of a step of a training, and of an image that it is scored on."""
    size, classes, recipe = size_of(facts), len(facts["classes"]), training.recipe
    frozen = training.network.frozen
    seen = work(training.variant, training.network, classes, recipe.crop or size, cached=frozen)
    whole = work(training.variant, training.network, classes, size, cached=frozen)
    return BACKWARD * (recipe.batch * _image_s(seen) + seen.modules * MODULE_S), _image_s(whole)


def kind_of(name: tuple[str, ...], training: Training, facts: Facts, step: float, image: float) -> Kind:
    """A training whose steps, and images that it is scored on, take so many seconds."""
    recipe = training.recipe
    tune, val = facts["splits"].get("tune", 0), facts["splits"].get("val", 0)
    scored = recipe.validations * min(SCORED_IMAGES, tune)
    step += scored * image / recipe.steps  # points of the learning curve lie among the steps
    return Kind(name, step, recipe.steps, STARTING_S + (tune + val) * image)


def of_evaluation(name: tuple[str, ...], training: Training, asked: Inference, facts: Facts) -> Kind:
    """Of a training asked for the classes of val images."""
    size, classes = size_of(facts), len(facts["classes"])
    crop = asked.crop or size
    seen = work(training.variant, training.network, classes, crop)
    views = math.prod(asked.crops) * (2 if asked.flip else 1)
    image = views * sum(scale**2 * _image_s(seen) + seen.modules * MODULE_S for scale in asked.scales)
    if asked.crf is not None:
        image += math.prod(size) * classes * asked.crf.iterations * CRF_S
    return Kind(name, image, facts["splits"].get("val", 0), STARTING_S)


def _image_s(one: Work) -> float:
    """Seconds of one image of a batch forward."""
    return one.macs * MAC_S + one.numbers * NUMBER_S
