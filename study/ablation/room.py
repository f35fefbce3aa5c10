"""The disk space that the trainings of a plan need, checked before the first one starts."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from study.ablation.workload import Workload
from study.config import places
from study.config.execution import Execution
from study.plan.planner import Plan
from study.spec.documents.data import Facts
from study.spec.errors import InputError
from study.store import machine
from study.training import speed_probe

BYTES = 4  # of a weight
COPIES = {"sgd": 2, "adamw": 3}  # of the weights, in a checkpoint: it has the optimizer's moments too
SAMPLE = 5  # bytes per pixel: the image, its labels and the prediction
COLLECTED = 2  # copies: the run store's and the report's


def of_trainings(
    planned: Plan, facts: Mapping[str, Facts], execution: Execution, todo: Collection[str]
) -> dict[str, int]:
    """Bytes that ``todo`` needs, by purpose; uses only classes and size of ``facts``. A network whose weights exceed
    this machine's memory counts as 0 bytes: it fails before it writes any, and stops no other."""
    sizes: dict[object, int] = {}
    weights, largest, results, copies = 0, 0, 0, 0
    for key in todo:
        training, found = planned.trainings[key], facts[planned.data_of[key]]
        network = (training.variant, training.network, len(found["classes"]))
        if network not in sizes:
            needed = BYTES * speed_probe.weights(training, len(found["classes"]))
            sizes[network] = needed if needed <= machine.memory() else 0
        weights += sizes[network]
        largest = max(largest, sizes[network])
        copies = max(copies, COPIES[training.recipe.optimizer])
        results += COLLECTED * SAMPLE * planned.tier.samples * math.prod(found["size"])
    checkpoints = execution.workers * copies * largest
    return {"weights": weights, "checkpoints of running trainings": checkpoints, "results": results}


def check(workload: Workload, todo: Collection[str]) -> None:
    """Raises InputError if the disk has no room for the trainings ``todo``."""
    facts: Mapping[str, Facts] = workload.manifest["data"]
    parts = of_trainings(workload.planned, facts, workload.execution, todo)
    if refusal := places.too_small(workload.store, sum(parts.values())):
        raise InputError(refusal)
