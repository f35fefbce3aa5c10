"""Forecasts how long a tier will take here: the estimates of study.ablation.foretell, scaled by measured steps of some
of its variants on this device. Parts that cannot be measured are unknown."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch

from study.ablation import foretell
from study.config.execution import Execution
from study.inference import predict
from study.inference import speed_probe as asking
from study.models.build import stride_of
from study.paper.labels import labels
from study.paper.tables import FIGURES
from study.plan import halving, planner
from study.spec.constants import MAIN
from study.spec.documents.data import Facts
from study.spec.training import Inference, Network, Training
from study.spec.words import counted
from study.store import machine
from study.store.keys import key_of_look
from study.store.runs import RECEPTIVE, Store
from study.training import speed_probe

LONG_S = 6.0  # after this many seconds of probing a group, its other variants are scaled instead of probed
# Seconds, on the machine of study.ablation.foretell, that its estimates leave out (benchmarks/preview.py).
STARTED_S = 3.2  # CPU time of a training's process until it has imported everything
STAGES_S = 70.0  # all stages of a small plan: starting workers, scoring, drawing and writing the report
TRAINING_S, EVALUATION_S = 0.35, 0.15  # collecting and logging one


@dataclass(frozen=True)
class Setting:
    """The facts of a setting's data that a forecast needs.

    ``classes`` is their number; ``train`` and ``size`` are the (height, width) of training and of scored images;
    ``images`` are counts by split. ``reading`` is the seconds for reading what was not read before (None: unknown).
    ``picture`` is one image, uint8 (H, W, 3), if there is one. ``cached``: whether the features of a frozen backbone
    are cached.
    """

    classes: int
    train: tuple[int, int]
    size: tuple[int, int]
    images: Mapping[str, int]
    reading: float | None
    picture: np.ndarray | None
    cached: bool

    @property
    def facts(self) -> Facts:
        """The facts that study.ablation.foretell needs."""
        told = {"classes": [""] * self.classes, "size": list(self.size), "splits": dict(self.images)}
        return cast(Facts, told)


@dataclass(frozen=True)
class Part:
    """A part of a run: wall-clock ``seconds`` with all workers of this machine (None: unknown), and its ``work``."""

    name: str
    seconds: float | None
    work: str


@dataclass(frozen=True)
class Forecast:
    """The parts of a run in order; seconds per ``step`` of each planned training (empty if unknown); the number of
    ``probed`` variants."""

    parts: tuple[Part, ...]
    step: dict[str, float]
    probed: int

    @property
    def known(self) -> float:
        """Seconds of all known parts."""
        return sum(part.seconds or 0.0 for part in self.parts)

    @property
    def unknown(self) -> list[str]:
        return [part.name for part in self.parts if part.seconds is None]


def here(device: str) -> bool:
    """Whether this machine has the device, so that it can be probed."""
    return device == "cpu" or torch.cuda.is_available()


# Arguments of the probes, each of which runs in one process.
_Trained = tuple[list[Training], int, tuple[int, int], tuple[int, int], str]
_Asked = tuple[list[Training], Inference, int, np.ndarray, str]


def _trained(asked: _Trained) -> list[tuple[float, float]]:
    """Seconds per step and per scored image, for the first trainings until probing has taken LONG_S."""
    given, classes, train, size, device = asked
    found, began = [], speed_probe.clock(device)
    for training in given:
        step = speed_probe.step_seconds(training, classes, train, device)
        found.append((step, speed_probe.scored_seconds(training, classes, size, device)))
        if speed_probe.clock(device) - began > LONG_S:
            break
    return found


def _asked(asked: _Asked) -> list[float]:
    """Seconds per evaluated image, likewise."""
    given, inference, classes, picture, device = asked
    found, began = [], speed_probe.clock(device)
    for training in given:
        found.append(asking.image_seconds(training, inference, classes, picture, device))
        if speed_probe.clock(device) - began > LONG_S:
            break
    return found


def _timed(task: tuple[Callable[[Any], Any], Any]) -> tuple[Any, float]:
    """The result of a probe, and the CPU seconds that this process had used before it."""
    work, argument = task
    before = time.process_time()
    return work(argument), before


class Unmeasurable(RuntimeError):
    """The machine has too little memory for the probes."""


def _in_workers(tasks: list[tuple[Callable[[Any], Any], Any]], execution: Execution) -> tuple[list[Any], float]:
    """The results of the probes, and the least seconds that one of their processes took to start.

    As many processes run as would train at a time, so they share the machine as trainings do. Raises Unmeasurable.
    """
    most = 1 if execution.device == "cuda" else min(execution.workers, machine.cores(), len(tasks))
    with ProcessPoolExecutor(max(1, most), mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            found = list(pool.map(_timed, tasks))
        except (BrokenProcessPool, MemoryError, torch.OutOfMemoryError) as error:  # broken: the kernel killed a process
            raise Unmeasurable from error
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):  # torch has no error class for a lack of CPU memory
                raise
            raise Unmeasurable from error
    return [result for result, _ in found], min((before for _, before in found), default=STARTED_S)


class Pace:
    """How much longer work takes here than foretold, interpolated between the probes."""

    def __init__(self, foretold: Iterable[float], took: Iterable[float]) -> None:
        pairs = sorted((f, t / f) for f, t in zip(foretold, took, strict=False))
        self.foretold, self.times = zip(*pairs, strict=True)

    def __call__(self, foretold: float) -> float:
        """Seconds here for ``foretold`` seconds. The ratio is interpolated between those of the probes, over the
        logarithm of the foretold seconds."""
        return foretold * float(np.interp(math.log(foretold), np.log(self.foretold), self.times))


def _spread(found: list[tuple[float, Training]]) -> list[tuple[float, Training]]:
    """The cheapest, the most expensive and a middle one, in this order: if all take long, only the first is probed."""
    by_variant = {training.variant: (seconds, training) for seconds, training in found}
    ordered = sorted(by_variant.values(), key=lambda pair: pair[0])
    return [ordered[place] for place in dict.fromkeys((0, len(ordered) - 1, len(ordered) // 2))]


@dataclass
class _Speeds:
    """The time that trainings and evaluations of a plan take here, once the probes are done."""

    settings: Mapping[str, Setting]
    execution: Execution
    steps: dict[Any, Pace] = field(default_factory=dict)  # by group of trainings that differ in their variant only
    images: dict[Any, Pace] = field(default_factory=dict)
    asked: dict[Any, Pace] = field(default_factory=dict)
    started: float = STARTED_S
    probed: int = 0
    _foretold: dict[Any, tuple[float, float]] = field(default_factory=dict)

    def like(self, training: Training, name: str) -> Any:
        """The group of a training: trainings of one group differ in cost only by their variants."""
        sees, recipe = self.settings[name], training.recipe
        seen = (sees.classes, sees.train, sees.size, training.variant is None)
        return training.network, recipe.batch, recipe.crop, recipe.precision, seen

    def foretold(self, training: Training, name: str) -> tuple[float, float]:
        """Seconds per step and per scored image on foretell's machine."""
        key = (self.like(training, name), training.variant)
        if key not in self._foretold:
            self._foretold[key] = foretell.of_step(training, self.settings[name].facts)
        return self._foretold[key]

    def image_foretold(self, training: Training, name: str, asked: Inference) -> float:
        return foretell.of_evaluation((), training, asked, self.settings[name].facts).step_s

    def probe(self, planned: planner.Plan, trainings: Iterable[str], evaluations: Iterable[str]) -> None:
        """Measure some of the trainings and evaluations of the plan."""
        groups: dict[Any, list[tuple[float, Training]]] = {}
        where: dict[Any, str] = {}
        for key in trainings:
            training, name = planned.trainings[key], planned.data_of[key]
            group = self.like(training, name)
            where[group] = name
            groups.setdefault(group, []).append((self.foretold(training, name)[0], training))
        tasks: list[tuple[Callable[[Any], Any], Any]] = []
        wanted: list[tuple[Any, list[Training]]] = []
        for group, found in groups.items():
            chosen = [training for _, training in _spread(found)]
            sees = self.settings[where[group]]
            tasks.append((_trained, (chosen, sees.classes, sees.train, sees.size, self.execution.device)))
            wanted.append((group, chosen))
        asked: dict[Any, list[tuple[float, Training]]] = {}
        for key in evaluations:
            evaluation = planned.evaluations[key]
            training, name = planned.trainings[evaluation.training], planned.data_of[evaluation.training]
            group = (self.like(training, name), evaluation.inference)
            where[group] = name
            asked.setdefault(group, []).append((self.image_foretold(training, name, evaluation.inference), training))
        for group, found in asked.items():
            chosen, sees = [training for _, training in _spread(found)[:2]], self.settings[where[group]]
            picture = np.zeros((*sees.size, 3), np.uint8) if sees.picture is None else sees.picture
            tasks.append((_asked, (chosen, group[1], sees.classes, picture, self.execution.device)))
        results, self.started = _in_workers(tasks, self.execution) if tasks else ([], STARTED_S)
        for (group, chosen), took in zip(wanted, results, strict=False):
            both = [self.foretold(training, where[group]) for training in chosen]
            self.steps[group] = Pace([step for step, _ in both], [step for step, _ in took])
            self.images[group] = Pace([image for _, image in both], [image for _, image in took])
        for (group, found), took in zip(asked.items(), results[len(wanted) :], strict=True):
            self.asked[group] = Pace([foretold for foretold, _ in _spread(found)[:2]], took)
        self.probed += sum(map(len, results))

    def training(self, training: Training, name: str) -> tuple[float, float]:
        """Seconds per step and per scored image here."""
        group, (step, image) = self.like(training, name), self.foretold(training, name)
        return self.steps[group](step), self.images[group](image)

    def whole(self, training: Training, name: str) -> float:
        """Seconds of a whole training here."""
        step, image = self.training(training, name)
        return foretell.kind_of((), training, self.settings[name].facts, step, image).left()

    def evaluation(self, training: Training, name: str, asked: Inference) -> float:
        pace = self.asked[self.like(training, name), asked]
        return pace(self.image_foretold(training, name, asked)) * self.settings[name].images.get("val", 0)


def forecast(
    planned: planner.Plan, settings: Mapping[str, Setting], execution: Execution, store: Store, tune: bool
) -> Forecast:
    """The forecast for the rest of a plan; includes the search only with ``tune``. Trains nothing of the plan.

    Raises InputError for an evaluation that does not fit the images.
    """
    trainings = [key for key in planned.trainings if not store.run(key).path("DONE").is_file()]
    evaluations = [key for key in planned.evaluations if not store.run(key).path("DONE").is_file()]
    workers = 1 if execution.engine == "inline" else execution.workers
    speeds, present = _Speeds(settings, execution), here(execution.device)
    looked = _looked(planned, store)
    asks = set()
    for evaluation in map(planned.evaluations.__getitem__, evaluations):
        name = planned.data_of[evaluation.training]
        asks.add((evaluation.inference, settings[name].size, planned.trainings[evaluation.training].network))
    for inference, size, network in asks:
        predict.check(inference, size, stride_of(network))
    if present:
        try:
            speeds.probe(planned, dict.fromkeys([*trainings, *looked]), evaluations)
        except Unmeasurable:
            present = False
    trained = asked = None
    beside = {planned.plain(key) for key in evaluations}  # these come with the evaluations that have a CRF
    if present:
        seconds = {k: speeds.whole(planned.trainings[k], planned.data_of[k]) for k in trainings}
        trained = max(sum(seconds.values()) / workers, _longest(planned, seconds))
        by_evaluation = [
            speeds.evaluation(planned.trainings[e.training], planned.data_of[e.training], e.inference)
            for e in (planned.evaluations[key] for key in evaluations if key not in beside)
        ]
        asked = max(sum(by_evaluation) / workers, max(by_evaluation, default=0.0)) + _look(planned, speeds, looked)
    steps = sum(planned.trainings[key].recipe.steps for key in trainings)
    rest = (STAGES_S + (len(trainings) * TRAINING_S + len(evaluations) * EVALUATION_S)) * speeds.started / STARTED_S
    parts = [
        _reading(planned, settings),
        *_features(planned, settings),
        Part("trainings", trained, f"{counted(len(trainings), 'training')}, {counted(steps, 'step')}"),
        Part("evaluations", asked, f"{counted(len(evaluations), 'evaluation')} by crops, scales or CRF"),
    ]
    if tune and planned.tier.tuning is not None:
        parts.append(search(planned, speeds, workers, present))
    parts.append(Part("rest", rest, "starting processes, scores, the report"))
    step = {k: speeds.training(planned.trainings[k], planned.data_of[k])[0] for k in trainings} if present else {}
    return Forecast(tuple(parts), step, speeds.probed)


def _longest(planned: planner.Plan, seconds: Mapping[str, float]) -> float:
    """Seconds of the longest chain of trainings that start from each other."""

    def until(key: str) -> float:
        before = planned.init.get(key)
        return seconds.get(key, 0.0) + (until(before) if before else 0.0)

    return max(map(until, seconds), default=0.0)


def _reading(planned: planner.Plan, settings: Mapping[str, Setting]) -> Part:
    by_data = {planned.tier.settings[name].data: sees for name, sees in settings.items()}.values()
    images = sum(sum(sees.images.values()) for sees in by_data)
    unknown = any(sees.reading is None for sees in by_data)
    seconds = None if unknown else sum(sees.reading or 0.0 for sees in by_data)
    return Part("reading", seconds, counted(images, "image"))


def _features(planned: planner.Plan, settings: Mapping[str, Setting]) -> list[Part]:
    """The part for passing the images of each data set, and mirrored training images, through each frozen backbone."""
    passes: dict[Any, tuple[Network, Setting, int]] = {}
    for name, setting in planned.tier.settings.items():
        sees = settings[name]
        if setting.network.frozen and not sees.cached:
            images = sum(sees.images.values()) + sees.images.get("train", 0) * setting.recipe.flip
            passes[setting.network, setting.data, setting.recipe.flip] = setting.network, sees, images
    seconds: float | None = 0.0
    pace: dict[tuple[Network, tuple[int, int]], float] = {}
    for network, sees, images in passes.values():
        if (network, sees.size) not in pace:
            pace[network, sees.size] = speed_probe.features_seconds(network, sees.size)
        unknown = seconds is None or sees.reading is None
        seconds = None if unknown else cast(float, seconds) + images * pace[network, sees.size]
    images = sum(number for *_, number in passes.values())
    return [Part("features", seconds, f"{counted(images, 'image')} through a frozen backbone")] if passes else []


def _looked(planned: planner.Plan, store: Store) -> list[str]:
    """The trainings that Figure 3 shows, unless it is done already."""
    wanted, seed = planned.tier.receptive, planned.tier.seeds[0]
    cells = {cell.address: (cell, runs) for cell, _, runs in planned.cells}
    drawn = [cells[address] for address in FIGURES["F3"].cells if address in cells]
    keys = {labels(cell.variant)["label"]: runs[seed] for cell, runs in drawn if seed in runs}
    if wanted is None or not keys:
        return []
    probe = {name: getattr(wanted, name) for name in ("occluder_px", "stride_px", "share", "mass")}
    key = key_of_look(keys, cast(Any, probe | {"times": wanted.enlarge}), wanted.images)
    return [] if store.run(key, RECEPTIVE).path("DONE").is_file() else list(keys.values())


def _look(planned: planner.Plan, speeds: _Speeds, keys: list[str]) -> float:
    """Seconds of Figure 3: an occluder at each place of a grid, on the image and on the enlarged one."""
    wanted = planned.tier.receptive
    if wanted is None:
        return 0.0
    places = math.prod(math.ceil(side / wanted.stride_px) for side in speeds.settings[MAIN].size)
    seconds = 0.0
    for key in keys:
        training, name = planned.trainings[key], planned.data_of[key]
        slower = speeds.training(training, name)[0] / speeds.foretold(training, name)[0]
        seconds += slower * speeds.image_foretold(training, name, Inference())
    return wanted.images * places * (1 + wanted.enlarge**2) * seconds


def search(planned: planner.Plan, speeds: _Speeds, workers: int, present: bool) -> Part:
    """The search for each variant's best values and the trainings at them, as if the store had none of these."""
    tuning = halving.tuning_of(planned.tier)
    trials, found = halving.candidates(planned.tier, planned.facts, planned.device)
    steps = halving.steps_of(found, tuning)
    first = {candidate.group: next(iter(candidate.keys.values())) for candidate in found}
    asked = {(planned.data_of[key], training.variant) for key, training in planned.trainings.items()}
    again = [group for group in first if group in asked]
    seeds, seconds = len(planned.tier.first_seeds), 0.0
    repeated = seeds * sum(trials.trainings[first[group]].recipe.steps for group in again)
    work = (
        f"{counted(len(found), 'candidate')} of {counted(len(first), 'variant')}, {sum(steps.values()):,} steps, then "
        f"at most {repeated:,} steps at each variant's best"
    )
    if not present:
        return Part("search", None, work)
    like = {key: speeds.like(trials.trainings[key], trials.data_of[key]) for key in first.values()}
    if missing := [key for key, group in like.items() if group not in speeds.steps]:
        speeds.probe(trials, missing, ())
    for group, key in first.items():
        training, name = trials.trainings[key], trials.data_of[key]
        whole = speeds.whole(training, name)
        seconds += whole * steps[group] / training.recipe.steps + whole * seeds * (group in again)
    return Part("search", seconds / workers + len(found) * TRAINING_S, work)
