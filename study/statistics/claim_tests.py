"""The collected results of a plan's cells, and tests of a claim's parts on them.

A part is one contrast with bounds (study.paper.predicates). It is tested on the scores of all seeds, and on those of
resampled images (study.statistics.effects). Scores are fractions here, and bounds and margins of scores are points of
per cent. Errors are natural logarithms and losses are nats everywhere.
"""

from __future__ import annotations

import copy
import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from study import metrics
from study.paper.predicates import ERRORS, LOSSES, SCORES, Margins, Part, Terms
from study.spec.documents.data import Groups
from study.spec.documents.plan import Asked, PlanFile, PlannedCell, PlannedEvaluation, PlannedTraining, Rules, trained
from study.spec.errors import InputError
from study.statistics import effects, results, settling
from study.statistics.settling import Settling

# For a metric of one region, the other region. Setting its counts to zero makes the accuracy of all pixels that of the
# metric's region.
REGIONS = {
    "boundary_accuracy": metrics.INTERNAL, "internal_accuracy": metrics.BOUNDARY,
    "boundary_object_accuracy": metrics.INTERNAL, "internal_object_accuracy": metrics.BOUNDARY,
}  # fmt: skip
OF_OBJECTS = ("boundary_object_accuracy", "internal_object_accuracy")  # the first class does not count
HERE, BEYOND = "here", "beyond"  # the two questions: on these images, on new ones (D70)
Seeds = list[int]


class Tested(NamedTuple):
    """A part tested on measured scores: ``holds`` is the p of "it holds by chance", ``fails`` that of "it fails by
    chance"; nan if there is none.

    Both are two-sided (for an equivalence that holds: of two one-sided tests). At most one of them is small, except for
    a trend, which may rise overall and still fall between two cells: ``drop`` then has the p, name and effect of the
    clearest fall.
    """

    part: Part
    effect: effects.Effect
    holds: float
    fails: float
    drop: tuple[float, str, effects.Effect] | None = None

    @property
    def p(self) -> float:
        """The smaller of the two, nan if there is none."""
        return min(self.holds, self.fails)

    @property
    def against(self) -> tuple[str, effects.Effect]:
        """The name and effect that contradict the part: those of a trend's clearest fall, if that is the reason."""
        if self.drop is not None and 2 * self.drop[0] <= self.fails:
            return self.drop[1], self.drop[2]
        return self.part.name, self.effect


def logarithm_of_errors(scores: np.ndarray) -> np.ndarray:
    """Scores (fractions) -> natural logarithms of the errors; -inf where there are none."""
    with np.errstate(divide="ignore"):
        return np.log(1 - scores)


def bounds_of(part: Part, margins: Margins) -> tuple[float | None, float | None]:
    """The bounds of a part in the unit of its effect."""
    unit = 100 if part.measure == SCORES else 1
    low, high = (None if bound is None else float(bound) / unit for bound in part.bounds(margins))
    return low, high


def tested(
    part: Part, effect: effects.Effect, margins: Margins, alpha: float,
    drop: tuple[float, str, effects.Effect] | None,
) -> Tested:  # fmt: skip
    """Test a part by the effect of its terms; ``drop``: see Tested."""
    low, high = bounds_of(part, margins)
    if not math.isfinite(effect.low):  # one seed, an undefined score, or scores that do not vary
        return Tested(part, effect, math.nan, math.nan)
    if low is not None and high is not None:
        middle, half = (low + high) / 2, (high - low) / 2
        moved = replace(effect, estimate=effect.estimate - middle)
        beyond = abs(moved.estimate) - half
        return Tested(
            part, effect, effects.equivalent(moved, half, alpha), effect.spread.p(beyond) if beyond > 0 else 1.0
        )
    bound, sign = (low, 1) if low is not None else (high, -1)
    over = (effect.estimate - (bound or 0.0)) * sign
    p = effect.spread.p(over)
    holds, fails = (p if over > 0 else 1.0), (p if over < 0 else 1.0)
    if drop is not None:  # two ways to fail
        fails = min(1.0, 2 * min(fails, drop[0]))
    return Tested(part, effect, holds, fails, drop)


def distance(found: Tested, margins: Margins) -> float:
    """Distance of a part's effect from its nearest bound, in the unit of the effect."""
    return min(abs(found.effect.estimate - bound) for bound in bounds_of(found.part, margins) if bound is not None)


def right(found: Tested, margins: Margins) -> bool:
    """Whether a part's effect lies within its bounds."""
    low, high = bounds_of(found.part, margins)
    return (low is None or found.effect.estimate > low) and (high is None or found.effect.estimate < high)


def _fall(before: Terms, after: Terms) -> str:
    """Name the fall from the item ``before`` of a trend to the item ``after``. Items of a falling trend are cells with
    a weight below zero, those of a widening one are differences of two cells."""
    (weight, earlier), (_, later) = before[0], after[0]
    if len(before) > 1:
        return f"{later} less {after[1][1]} below {earlier} less {before[1][1]}"
    return f"{later} {'below' if weight > 0 else 'above'} {earlier}"


def judged_by(plan: Asked, cell: PlannedCell) -> str:
    """The metric by which a cell's claims are judged; the tier chooses which mean of IoU that is (D149)."""
    return plan.get("judged_by", "miou") if cell["metric"] == "miou" else cell["metric"]


def rules_of(plan: Asked) -> Rules:
    """The verdict rules of a plan that judges claims."""
    assert plan["verdicts"] is not None  # a plan without rules has no family of claims
    return plan["verdicts"]


class Scores:
    """Scores of a plan's cells by seed, enough to judge claims on these images. ``known`` are fractions by address and
    seed. There are no images and no curves."""

    def __init__(self, plan: Asked, known: Mapping[str, Mapping[int, float]]) -> None:
        self.plan, self.known = plan, known
        self.cells = {cell["address"]: cell for cell in plan["cells"]}
        self.only: frozenset[int] | None = None

    def of_seeds(self, seeds: Iterable[int]) -> Self:
        """The same results, restricted to these seeds: what was known at a look."""
        found = copy.copy(self)
        found.only = frozenset(seeds)
        return found

    def _kept(self, seed: int) -> bool:
        return self.only is None or seed in self.only

    def done(self, addresses: Iterable[str]) -> Seeds:
        """The seeds for which all of these cells have results."""
        found = set.intersection(*(set(self.known.get(address, {})) for address in addresses))
        return sorted(filter(self._kept, found))

    def troubles(self, addresses: Iterable[str]) -> list[str]:
        """The cells' trainings that failed or did not settle, by name, with the reason."""
        return []

    def hindrance(self, addresses: Iterable[str], question: str) -> str:
        """Why the cells' scores cannot answer a question; empty if they can."""
        return ""

    def faults(self, addresses: Iterable[str]) -> str:
        """Why the cells' scores say nothing about ``errors``; empty if they do."""
        return ""

    def number(self, address: str) -> Fraction | None:
        """Our number for a counted cell, None if there is none."""
        value = self.cells[address]["parameters"]
        return None if value is None else Fraction(value)

    def unknown(self, measure: str, question: str) -> str:
        """Why a question cannot be asked about a measure; empty if it can."""
        if measure == LOSSES:
            return "The trainings' losses were not kept."
        return "Its counts were not kept." if question == BEYOND else ""

    def values(self, address: str, measure: str, seeds: Seeds) -> np.ndarray:
        """A cell's values by seed (seeds,), in the unit of the measure."""
        found = np.array([self.known[address][seed] for seed in seeds])
        return logarithm_of_errors(found) if measure == ERRORS else found

    def effect(self, terms: Terms, measure: str, seeds: Seeds, question: str, rules: Rules) -> effects.Effect:
        """The effect of a contrast. Raises InputError if its cells were not measured on the same images."""
        return effects.of_seeds(self.by_seed(terms, measure, seeds), rules["alpha"])

    def by_seed(self, terms: Terms, measure: str, seeds: Seeds) -> np.ndarray:
        """A contrast by seed (seeds,)."""
        return np.sum([float(weight) * self.values(cell, measure, seeds) for weight, cell in terms], axis=0)

    def tried(self, part: Part, seeds: Seeds, margins: Margins, question: str, rules: Rules) -> Tested:
        """Test a part. Raises InputError as ``effect`` does."""

        def effect(terms: Terms) -> effects.Effect:
            return self.effect(terms, part.measure, seeds, question, rules)

        drop = None
        if len(part.order) > 2:

            def pair(i: int, j: int) -> effects.Effect:
                return effect((*part.order[j], *((-weight, cell) for weight, cell in part.order[i])))

            items = np.stack([self.by_seed(item, part.measure, seeds) for item in part.order])
            p, fallen, (i, j) = effects.drop(items, pair)
            if fallen is not None:
                drop = p, _fall(part.order[i], part.order[j]), fallen
        return tested(part, effect(part.terms), margins, rules["alpha"], drop)


class Collected(Scores):
    """The results of a plan's cells. ``folders`` hold the collected results by key, ``computed`` the counted cells by
    address. Each array is read once."""

    def __init__(self, plan: PlanFile, folders: Iterable[Path], computed: Mapping[str, float]) -> None:
        super().__init__(plan, {})
        self.plan: PlanFile = plan
        self.folders, self.computed = tuple(folders), computed
        self.arrays: dict[str, np.ndarray] = {}
        self.samples: dict[tuple[str, tuple[int, ...]], effects.Sample] = {}

    def done(self, addresses: Iterable[str]) -> Seeds:
        return sorted(set.intersection(*({*self._done(address)} for address in addresses)))

    def troubles(self, addresses: Iterable[str]) -> list[str]:
        found: dict[str, str] = {}
        planned: dict[str, PlannedTraining | PlannedEvaluation] = {**self.plan["trainings"], **self.plan["evaluations"]}
        for address in addresses:
            for seed, key in self.cells[address]["runs"].items():
                if not self._kept(int(seed)):
                    continue
                if int(seed) not in self._done(address):
                    found[key] = "it has no result"
                elif reason := self.unsettled(trained(self.plan, key)):
                    found[trained(self.plan, key)] = reason
        return [f"{planned[key]['label']}, seed {planned[key]['seed']} ({why})" for key, why in found.items()]

    def unsettled(self, key: str) -> str:
        """Why a training did not settle, empty if it did. The training that it starts from does not matter."""
        if results.status(results.place(key, self.folders)) != results.DONE:
            return "it has no result"
        rule = rules_of(self.plan)["settled"]
        training, curve = self.plan["trainings"][key], self._curve(key)
        if curve is None:
            return "it has no learning curve"
        recipe, classes = self.plan["settings"][training["data"]]["recipe"], self._classes(training)
        return settling.trouble(curve, training["steps"], recipe["warmup"], classes, Settling(**rule))

    def _classes(self, training: PlannedTraining) -> int:
        return len(self.plan["data"][training["data"]]["classes"])

    def faults(self, addresses: Iterable[str]) -> str:
        floor = rules_of(self.plan)["error_floor_points"]
        for address in addresses:
            cell = self.cells[address]
            for seed in self._done(address):
                path = results.place(cell["runs"][str(seed)], self.folders) / "tune.npz"
                if not path.is_file():
                    return f"The tune split's counts of {address} were not kept."
                with np.load(path) as archive:
                    error = 100 * (1 - (metrics.METRICS | metrics.ERRORS)[cell["metric"]](archive["counts"]))
                if not error >= floor:
                    return (
                        f"On the tune split {address} has an error of {error:.2f} % (seed {seed}); below {floor:g} %, "
                        "a ratio of errors says little."
                    )
        return ""

    def number(self, address: str) -> Fraction | None:
        value = self.computed.get(address, self.cells[address]["parameters"])
        return None if value is None else Fraction(value)

    def unknown(self, measure: str, question: str) -> str:
        return "A training's loss says nothing about new images." if (measure, question) == (LOSSES, BEYOND) else ""

    def hindrance(self, addresses: Iterable[str], question: str) -> str:
        for address in addresses if question == BEYOND else ():
            found = self._grouped(address)
            if found is not None and len(found["names"]) == 1:
                return f"All val images belong to one group, {found['names'][0]}: nothing is known about others."
        return ""

    def groups(self, address: str) -> np.ndarray | None:
        """The group of each val image of a cell's data; None if each image is its own."""
        found = self._grouped(address)
        return None if found is None else np.array(found["of"])

    def _grouped(self, address: str) -> Groups | None:
        return (self.plan["data"][self.cells[address]["data"]].get("groups") or {}).get("val")

    def recorded(self, claim: str, addresses: Iterable[str]) -> dict[str, int]:
        """The digests of a claim's question that its cells' trainings recorded before they began -> number of
        trainings. The empty digest stands for trainings that recorded none."""
        found: dict[str, int] = {}
        for key in self._trainings(addresses):
            asked = results.questions_of(results.place(key, self.folders))
            found[asked.get(claim, "")] = found.get(asked.get(claim, ""), 0) + 1
        return found

    def _trainings(self, addresses: Iterable[str]) -> list[str]:
        """Keys of the cells' finished trainings."""
        keys = [key for address in addresses for key in self._done(address).values()]
        return list(dict.fromkeys(trained(self.plan, key) for key in keys))

    def values(self, address: str, measure: str, seeds: Seeds) -> np.ndarray:
        keys = self._done(address)
        if measure == LOSSES:
            asked = [trained(self.plan, keys[seed]) for seed in seeds]
            steps = [self.plan["trainings"][key]["steps"] for key in asked]
            return np.array(
                [settling.last_loss(self._curve(k) or {"loss": []}, n) for k, n in zip(asked, steps, strict=True)]
            )
        found = np.array([self._score(address)(one) for one in self._counts(address, seeds)])
        return logarithm_of_errors(found) if measure == ERRORS else found

    def effect(self, terms: Terms, measure: str, seeds: Seeds, question: str, rules: Rules) -> effects.Effect:
        if question == HERE:
            if len(images := {len(one) for _, cell in terms for one in self._counts(cell, seeds)}) > 1:
                raise InputError(
                    "the cells of an effect must have the same seeds and images (differences are paired), got "
                    f"{sorted(images)} images; leave out what some of them lack"
                )
            return super().effect(terms, measure, seeds, question, rules)
        transform = logarithm_of_errors if measure == ERRORS else np.asarray
        samples = [(float(weight), self._sample(cell, seeds, rules["draws"])) for weight, cell in terms]
        return effects.combined(samples, rules["alpha"], transform)

    def _sample(self, address: str, seeds: Seeds, draws: int) -> effects.Sample:
        at = (address, tuple(seeds))
        if at not in self.samples:
            counts, score = self._counts(address, seeds), self._score(address)
            # All cells share one address, so they are paired by their draws of images.
            self.samples[at] = effects.sample(counts, score, draws, ("verdict", "images"), self.groups(address))
        return self.samples[at]

    def _done(self, address: str) -> dict[int, str]:
        runs = self.cells[address]["runs"].items()
        state = {key: results.status(results.place(key, self.folders)) for _, key in runs}
        return {int(seed): key for seed, key in runs if state[key] == results.DONE and self._kept(int(seed))}

    def _counts(self, address: str, seeds: Seeds) -> effects.Counts:
        """Counts of a cell by seed, limited to one region if its metric is about one (see ``_score``)."""
        keys, metric = self._done(address), self.cells[address]["metric"]
        found = [self._read(keys[seed]) for seed in seeds]
        if metric not in REGIONS:
            return found
        found = [counts.copy() for counts in found]
        for counts in found:
            counts[:, REGIONS[metric]] = 0
            if metric in OF_OBJECTS:
                counts[:, :, 0] = 0
        return found

    def _score(self, address: str) -> Callable[[np.ndarray], float]:
        """The score to take of ``_counts``. It is the same for both regions, so that a contrast can combine them."""
        cell = self.cells[address]
        metric = judged_by(self.plan, cell)
        if metric == "miou_frequent":
            return functools.partial(metrics.miou, classes=tuple(self.plan["data"][cell["data"]]["frequent"] or ()))
        return metrics.pixel_accuracy if metric in REGIONS else (metrics.METRICS | metrics.ERRORS)[metric]

    def _read(self, key: str) -> np.ndarray:
        if key not in self.arrays:
            with np.load(results.place(key, self.folders) / "counts.npz") as archive:
                (name,) = archive.files
                self.arrays[key] = archive[name]
        return self.arrays[key]

    def _curve(self, key: str) -> dict[str, Any] | None:
        path = results.place(key, self.folders) / "curve.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
