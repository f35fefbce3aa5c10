"""Train a study batch by batch, looking at its results after each (D149)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from study.ablation import evaluate, supervise, train
from study.ablation.supervise import OpenEngine
from study.ablation.workload import Workload
from study.spec.documents.plan import restricted
from study.spec.words import counted
from study.statistics import sequence
from study.statistics.claim_tests import Collected
from study.statistics.sequence import Course
from study.store.runs import EVALUATED
from study.tracking import background
from study.tracking.background import Target


def run(
    workload: Workload,
    target: Target,
    name: str,
    ask_one: Callable[[], evaluate.Asks],
    open_engine: OpenEngine = supervise.open_engine,
) -> tuple[Course, int]:
    """Train and evaluate what the looks of the workload's plan call for, until all claims have left; return the course
    and how many trainings ran.

    Results that the store has are reused, and failures count as drawn until `make retry` clears them. So a study that
    was killed reaches the same result.
    """
    plan, store, ended = workload.manifest, workload.store, _Ended(workload)
    families, trained, told = sequence.families(plan), 0, 0
    collected = Collected(plan, [target.folder, store.root], {})
    while True:
        for key in plan["trainings"].keys() & ended.keys:
            if not (target.folder / key).is_dir():
                background.collect(key, target)
        course = sequence.follow(plan, collected, families, ended, beyond=False)
        store.keep_drawn(plan["tier"], course.drawn)
        for look in course.looks[told:]:
            print(_words(look), flush=True)
        told = len(course.looks)
        waiting = {key for key in course.drawn if not ended(key)}
        if not waiting:
            return course, trained
        failed = {key for key in course.drawn - waiting if not store.run(key).path("DONE").is_file()}
        now = replace(workload, manifest=restricted(plan, course.drawn - failed))
        todo = [key for key in workload.planned.trainings if key in waiting]
        if todo:
            with background.logging(now.manifest, target, len(todo), workload.execution.workers) as log:
                train.train_all(now, todo, name, open_engine=open_engine, ended=log)
            trained += len(todo)
        evaluate.ask(now, ask_one, confused=False, open_engine=open_engine)
        ended.keys |= course.drawn


class _Ended:
    """Whether a training or evaluation is done, or has failed; ``keys`` are those known to have ended."""

    def __init__(self, workload: Workload) -> None:
        self.store, self.evaluations = workload.store, workload.planned.evaluations
        self.keys = set[str]()  # a check takes a digest of every file

    def __call__(self, key: str) -> bool:
        if key not in self.keys:
            run = self.store.run(key, EVALUATED) if key in self.evaluations else self.store.run(key)
            if run.done() or (run.failure() is not None and not run.path("DONE").is_file()):
                self.keys.add(key)
        return key in self.keys


def _words(look: sequence.Look) -> str:
    kinds = Counter(look.left.values())
    left = ", ".join(f"{number} {why}" for why, number in kinds.items()) or "none leave"
    going = len(look.open) - len(look.left)
    return f"look at {counted(look.seeds, 'seed')}: of {counted(len(look.open), 'open claim')} {left}; {going} go on"
