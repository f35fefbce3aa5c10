"""The search of the stage tune, and each variant's trainings at its best values."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from study.ablation import train
from study.ablation.optuna_study import Ablation, Order, begin_anew
from study.ablation.supervise import Work
from study.ablation.workload import Workload
from study.config import tiers
from study.config.execution import Execution, execution_of
from study.config.mlflow_address import place
from study.config.search_space import Tuning
from study.plan import halving
from study.plan.halving import Candidate
from study.spec.documents.data import Facts
from study.spec.documents.plan import PlanFile
from study.spec.documents.reading import read
from study.spec.documents.search import SearchFile
from study.spec.documents.tier import Params
from study.statistics import results
from study.store import stage
from study.store.runs import Store, first, write_json
from study.tracking import background, mlflow_access


def search_and_train(params: Params, target: Path) -> None:
    """Search, train with the values found, and write plan, results and search.json to ``target``."""
    chosen, execution, store = tiers.load(params), execution_of(params), Store()
    facts, began = read(target.parent / "plan.json", PlanFile)["data"], time.monotonic()
    at, name = place(params, store), f"{chosen.name} tuned"
    mlflow_access.checked(at, name, True)
    trials = _search(chosen, facts, execution, store)
    found = halving.best(trials)
    planned = halving.tuned(chosen, facts, execution.device, found)
    manifest = planned.manifest()
    todo = [key for key in planned.trainings if not store.run(key).done()]
    moved = sum(found[group] != chosen.settings[group[0]].recipe for group in found)
    print(f"{moved} of {len(found)} variants score higher at other values than the shared ones", flush=True)
    results_in = (target / "results").absolute()
    collected = background.Target(store.root, results_in, f"make retry TIER={chosen.name}", at, name)
    if todo:
        with background.logging(manifest, collected, len(todo), execution.workers) as ended:
            train.train_all(Workload(planned, manifest, execution, store), todo, name, ended=ended)
    train.collect(manifest, collected)
    frame = results.frame(manifest, target / "results")
    with mlflow_access.kept(at, name), mlflow_access.writing(at, name, store.root) as tracker:
        tracker.cells(manifest, frame, results.summary(frame))
    write_json(target / "plan.json", manifest)
    train.record(target / "results", store.ablated(name), execution, time.monotonic() - began, len(todo))
    searched: SearchFile = {"version": 1, "on": True, "trials": halving.rows(trials, halving.tuning_of(chosen))}
    write_json(target / "search.json", searched)


def _search(chosen: tiers.Tier, facts: Mapping[str, Facts], execution: Execution, store: Store) -> list[Candidate]:
    """Train all candidates rung by rung; return them with their scores. Trainings that the store has are reused."""
    from study.ablation import device_check  # imports torch
    from study.training.worker import train as train_one

    planned, found = halving.candidates(chosen, facts, execution.device)
    manifest, tuning = planned.manifest(), halving.tuning_of(chosen)
    workload = Workload(planned, manifest, execution, store)
    train.check_shared(planned, execution, planned.trainings)
    device_check.check(workload, list(planned.trainings))
    workload.read_again()
    study, log = f"{chosen.name} tuning", store.study_log(chosen.name)
    values = {key: halving.values(c.recipe, tuning) for c in found for key in c.keys.values()}
    print(
        f"search for each variant's best {', '.join(name for name, _ in tuning.search)}: {len(found)} candidates of "
        f"{len({c.group for c in found})} variants, with {len(tuning.seeds)} seed{'s' * (len(tuning.seeds) > 1)} each",
        flush=True,
    )
    with first(log.with_suffix(".lock")) as alone, Work(train_one, execution, store, chosen.name) as work:
        ablation: Ablation | Order = Order()
        if alone:
            begin_anew(log, study)
            ablation = Ablation(log, study, {key: manifest["trainings"][key] for key in values}, values)
        ablation.start({}, values)
        while ablation.ask():  # all are open at once: candidates are dropped when all have reached a rung
            pass
        for rung in range(len(tuning.rungs) + 1):
            _climb(rung, found, workload, work, ablation)
            if rung < len(tuning.rungs):
                halving.halve(found, rung, tuning)
            _tell(rung, found, tuning, ablation, store)
    return found


def _climb(rung: int, found: list[Candidate], workload: Workload, work: Work, ablation: Ablation | Order) -> None:
    """Train every remaining candidate to the rung's step and score it on the tune split."""
    tuning = halving.tuning_of(workload.planned.tier)
    at = {c.group: tuning.stops(c.recipe)[rung] for c in found}
    owner = {key: c for c in found if c.runs for key in c.keys.values()}
    steps = " or ".join(f"{step:,}" for step in sorted(set(at.values())))
    tick = stage.ticker(f"search, rung {rung + 1} of {len(tuning.rungs) + 1} (to step {steps})")
    scores: dict[str, float] = {}
    for key, candidate in owner.items():
        work.submit(key, workload.training(key, work.stop, until=at[candidate.group]))
    for ended, event in enumerate(filter(None, work.ends()), 1):
        if event.failed:
            owner[event.key].failed = event.reason
            told = workload.manifest["trainings"][event.key]
            print(f"search: {told['label']} at lr {told['lr']:g}, seed {told['seed']}, FAILED: {event.reason}")
        else:
            scores[event.key] = event.result["tune"]
            ablation.report(event.key, at[owner[event.key].group], scores[event.key])
        tick(ended, len(owner))
    for candidate in found:
        if candidate.runs:
            own = [scores[key] for key in candidate.keys.values()]
            candidate.scores[at[candidate.group]] = sum(own) / len(own)


def _tell(rung: int, found: list[Candidate], tuning: Tuning, ablation: Ablation | Order, store: Store) -> None:
    """Close the trials of candidates that failed, were dropped or have finished."""
    last = rung == len(tuning.rungs)
    for candidate in found:
        for key in candidate.keys.values():
            if key not in ablation.open:
                continue
            if candidate.failed:
                ablation.fail(key, candidate.failed)
            elif last:
                ablation.tell(key, candidate.scores[candidate.recipe.steps], [])
            elif not candidate.runs:
                ablation.prune(key)
                store.run(key).path("checkpoint.pt").unlink(missing_ok=True)  # it will not resume
