"""The exploration of the stage explore: Optuna suggests networks, workers train them, and the best are retrained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.ablation import explore_study, optuna_study, planned_cost, train
from study.ablation.explore_study import Exploration
from study.ablation.queue import Event
from study.ablation.supervise import Work
from study.ablation.workload import Workload
from study.config import tiers
from study.config.execution import Execution, execution_of
from study.config.mlflow_address import place
from study.config.schema import Explore
from study.paper.labels import labels
from study.plan import exploration
from study.spec.constants import MAIN
from study.spec.documents.data import Facts, size_of
from study.spec.documents.explored import ExploredFile, ExploredTrial, Retrained
from study.spec.documents.plan import PlanFile, PlannedTraining
from study.spec.documents.reading import read
from study.spec.documents.tier import Params
from study.spec.errors import InputError
from study.spec.heads import Variant
from study.spec.jobs import TrainingJob
from study.spec.training import Recipe
from study.spec.words import counted
from study.statistics.results import judged_classes
from study.store.runs import Store, first, write_json
from study.tracking import background, mlflow_access


def run(params: Params, target: Path, number: int) -> None:
    """Explore with up to ``number`` trials, retrain the winners, and write explored.json, plan and results to
    ``target``. Raises InputError if the tier has no space to explore, or another driver explores it."""
    chosen, execution, store = tiers.load(params), execution_of(params), Store()
    if chosen.explore is None:
        raise InputError(
            f"tiers.{chosen.name}.explore must define the exploration (`explore:` is above 0), got none; "
            "write it as in docs/exploring.md, or set explore to 0"
        )
    levels = exploration.levels(chosen)
    explore_study.check(chosen.explore, levels)
    whole = read(target.parent / "plan.json", PlanFile)
    facts, at, name = whole["data"], place(params, store), f"{chosen.name} explored"
    _check(chosen, facts[MAIN])
    mlflow_access.checked(at, name, True)
    log = store.study_log(chosen.name)
    with _alone(log, chosen.name):
        study = Exploration(chosen.explore, levels, study_of(chosen.name), log, classes=judged_classes(whole))
        workload = Workload(exploration.empty(chosen, facts, execution.device), whole, execution, store)
        workload.read_again()
        driver = _Driver(workload, study)
        driver.explore(number)
    rows = study.rows()
    found = exploration.winners(chosen.explore, rows)
    asked = exploration.retrained(chosen, rows, driver.places)
    trained = _trained_anew(chosen, facts, target, asked) if asked else []
    written = _written(chosen, execution, driver.places, rows, (trained[: len(found)], trained[len(found) :]))
    with mlflow_access.kept(at, name), mlflow_access.writing(at, name, store.root) as tracker:
        tracker.trials(rows, written["objective"])
    write_json(target / "explored.json", written)


def discard(tier: str) -> None:
    """Delete a tier's exploration; its trainings stay in the run store. Raises InputError if a driver uses it."""
    log = Store().study_log(tier)
    with _alone(log, tier):
        optuna_study.begin_anew(log, study_of(tier))


@contextmanager
def _alone(log: Path, tier: str) -> Iterator[None]:
    """Keep other drivers off a tier's journal."""
    with first(log.with_suffix(".lock")) as alone:
        if not alone:
            raise InputError(
                f"another driver of {tier} is running, but an exploration must be the only one; wait for its end"
            )
        yield


def study_of(tier: str) -> str:
    """The name of a tier's exploration in its journal."""
    return f"{tier} exploration"


def _check(chosen: tiers.Tier, facts: Facts) -> None:
    """Raises InputError for a place of refinement that the network lacks, and for bounds that no network meets."""
    from study.models.build import refinable  # imports torch

    explore = chosen.explore
    assert explore is not None
    there = refinable(chosen.main.network)
    if absent := [place for place in explore.space.places or {} if place not in there]:
        raise InputError(
            f"explore.space.refine must name places that the network has ({', '.join(there)}), got {absent[0]}; take "
            "it out"
        )
    least = [(variant, costs(chosen, variant, facts)) for variant in exploration.cheapest(chosen)]
    for name, bound in explore.under.items():
        variant, cost = min(least, key=lambda pair: pair[1][name])
        if exploration.over(explore.model_copy(update={"under": {name: bound}, "least": None}), cost, None):
            raise InputError(
                f"explore.under.{name} must allow a network of the space, got {bound:g}, but the cheapest is "
                f"{variant.label} with {cost[name] / exploration.UNITS[name]:.3g}; raise it, or widen the space"
            )


def costs(chosen: tiers.Tier, variant: Variant, facts: Facts) -> dict[str, int]:
    """The costs of a network, by the names in COSTS."""
    from study.models.costs import costs as counted_costs  # imports torch
    from study.models.work import step_bytes

    network, recipe = chosen.main.network, chosen.main.recipe
    classes, size = len(facts["classes"]), size_of(facts)
    found = counted_costs(variant, network, classes, size)
    memory = step_bytes(variant, network, classes, recipe.crop or size, recipe.batch)
    return {"macs": found["macs"], "parameters": found["parameters"], "memory": memory}


def _trained_anew(
    chosen: tiers.Tier, facts: Mapping[str, Facts], target: Path, asked: list[exploration.Asked]
) -> list[Retrained]:
    """Train networks with new seeds; collect and log the results."""
    params = tiers.read()
    execution, store = execution_of(params), Store()
    at, name = place(params, store), f"{chosen.name} explored"
    planned, retrained = exploration.again(chosen, facts, execution.device, asked)
    print(f"{counted(len(planned.trainings), 'training')} with new seeds", flush=True)
    manifest = planned.manifest()
    todo = [key for key in planned.trainings if not store.run(key).done()]
    collected = background.Target(
        store.root, (target / "results").absolute(), f"make retry TIER={chosen.name}", at, name
    )
    if todo:
        with background.logging(manifest, collected, len(todo), execution.workers) as ended:
            train.train_all(Workload(planned, manifest, execution, store), todo, name, ended=ended)
    train.collect(manifest, collected)
    write_json(target / "plan.json", manifest)
    return retrained


def _written(
    chosen: tiers.Tier,
    execution: Execution,
    places: tuple[str, ...],
    rows: list[ExploredTrial],
    trained: tuple[list[Retrained], list[Retrained]],
) -> ExploredFile:
    explore = chosen.explore
    assert explore is not None
    bounds = {**explore.under} | ({"least": explore.least} if explore.least is not None else {})
    return {
        "version": 1, "on": True, "objective": explore.objective, "against": explore.against, "bounds": bounds,
        "sampler": explore.sampler.name, "pruner": explore.pruner.name if explore.pruner else "",
        "levels": list(exploration.levels(chosen)), "places": list(places), "steps": chosen.main.recipe.steps,
        "workers": 1 if execution.engine == "inline" else execution.workers, "trials": rows,
        "front": exploration.front(rows, explore.against), "winners": trained[0],
        "controls": trained[1],
        "importances": explore_study.importances(rows, explore.seed),
    }  # fmt: skip


@dataclass
class _Open:
    """A training that runs: the trials that share it, and how many of its stops it has passed."""

    trials: list[Any]
    rung: int = 0


@dataclass
class _Driver:
    """Passes the study's suggestions to the workers. Equal suggestions share a training."""

    workload: Workload  # its plan has no cells; the trials' trainings are added to it
    study: Exploration
    open: dict[str, _Open] = field(default_factory=dict)
    networks: dict[int, tuple[Variant, Recipe]] = field(default_factory=dict)
    known: dict[str, tuple[float, int]] = field(default_factory=dict)  # ended in this call: score and step

    def __post_init__(self) -> None:
        from study.models.build import refinable  # imports torch

        self.plan, self.store = self.workload.planned, self.workload.store
        self.tier = self.plan.tier
        assert self.tier.explore is not None
        self.explore_: Explore = self.tier.explore
        self.places = refinable(self.tier.main.network)
        steps = self.tier.main.recipe.steps
        self.stops = [math.ceil(share * steps) for share in (*self.explore_.rungs, 1)]

    def explore(self, number: int) -> None:
        """Run trials until the study has ``number`` of them, or its cost is spent."""
        from study.ablation import device_check  # imports torch
        from study.training.worker import train as train_one

        waiting = self.study.running()
        keys, plan = dict[int, str](), exploration.empty(self.tier, self.plan.facts, self.plan.device)
        for trial in self.study.trials:
            variant, recipe = self.networks[trial.number] = exploration.network(self.tier, trial.params, self.places)
            keys[trial.number] = exploration.enter(self.tier, plan, variant, recipe)
        self.study.check_keys(keys)
        device_check.check(self.workload, ())  # which networks the trials have is not known yet
        print(f"exploring: up to {counted(number, 'trial')}, {len(self.study.trials)} done before", flush=True)
        with Work(train_one, self.workload.execution, self.store, self.tier.name) as work:

            def fill() -> None:
                while work.free > 0:
                    if waiting:
                        self._begin(waiting.pop(0), work)
                    elif len(self.study.trials) < number and not self._spent():
                        self._begin(self.study.ask(), work)
                    else:
                        return

            fill()
            for event in work.ends():
                if event:
                    self._ended(event, work)
                fill()

    def _spent(self) -> bool:
        """Whether the trials so far have used up the allowed cost, so that no new one begins."""
        limit = self.explore_.cost
        return limit is not None and self.study.spent() >= limit

    def _begin(self, trial: Any, work: Work) -> None:
        variant, recipe = self.networks[trial.number] = exploration.network(self.tier, trial.params, self.places)
        key = exploration.enter(self.tier, self.plan, variant, recipe)
        main = self.plan.facts[MAIN]
        cost, told = costs(self.tier, variant, main), labels(variant)
        self.study.describe(
            trial, label=told["label"], width=told["width"], key=key, steps=recipe.steps,
            refine=[place for place in self.places if variant.refines(place)],
            work=planned_cost.of_training(self.plan.trainings[key], main), **cost,
        )  # fmt: skip
        over = exploration.over(self.explore_, cost, None)
        if over:
            self.study.refuse(trial, over)
            print(f"trial {trial.number}: {told['label']} is beyond a bound; not trained", flush=True)
        elif key in self.known:
            self.study.tell(trial, *self.known[key])
        elif key in self.open:
            self.open[key].trials.append(trial)
        else:
            self.open[key] = _Open([trial])
            work.submit(key, self._job(key, work, 0))

    def _job(self, key: str, work: Work, rung: int) -> TrainingJob:
        variant, recipe = self.networks[self.open[key].trials[0].number]
        planned: PlannedTraining = {
            **labels(variant), "seed": self.explore_.seed, "data": MAIN, "steps": recipe.steps, "lr": recipe.lr,
            "optimizer": recipe.optimizer, "batch": recipe.batch, "backbone": self.tier.main.network.backbone,
            "cost": 0, "after": None, "questions": {},
        }  # fmt: skip
        subject, context = self.workload.subject(key), self.workload.context(work.stop)
        return TrainingJob(subject, context, planned, until=self.stops[rung], classes=self.workload.judged(key))

    def _ended(self, event: Event, work: Work) -> None:
        """A training reached a stop, or failed."""
        here = self.open[event.key]
        label = here.trials[0].user_attrs[explore_study.FACTS]["label"]
        if event.failed:
            print(f"trial {here.trials[0].number}: {label} FAILED: {event.reason}", flush=True)
            for trial in here.trials:
                self.study.fail(trial, event.reason)
            del self.open[event.key]
            return
        score, step = float(event.result["tune"]), self.stops[here.rung]
        if step < self.stops[-1]:
            kept = [trial for trial in here.trials if not self._given_up(trial, score, step)]
            if kept:
                here.trials, here.rung = kept, here.rung + 1
                work.submit(event.key, self._job(event.key, work, here.rung))
                return
            print(f"trial: {label} stopped early at {100 * score:.1f} % after {step} steps", flush=True)
            self.store.run(event.key).path("checkpoint.pt").unlink(missing_ok=True)  # it will not resume
        else:
            self.known[event.key] = score, step
            for trial in here.trials:
                self.study.tell(trial, score, step)
            print(f"trial {here.trials[0].number}: {label} {100 * score:.1f} % on tune", flush=True)
        del self.open[event.key]

    def _given_up(self, trial: Any, score: float, step: int) -> bool:
        if self.explore_.pruner is None or not self.study.report(trial, score, step):
            return False
        self.study.prune(trial, score, step)
        return True
