"""Train a study batch by batch, looking at its results after each (D149)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from study.ablation import evaluate, supervise, train
from study.ablation.supervise import OpenEngine
from study.ablation.workload import Workload
from study.paper.claims import CLAIMS
from study.spec.documents.plan import restricted
from study.spec.words import counted
from study.statistics import mechanisms, sequence
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
    """Train and evaluate what the looks of the workload's plan call for, until all claims have left; returns the course
    and how many trainings ran. What the store has is not done again, so a study that was killed comes to the same end.
    """
    plan, store, attempted, trained = workload.manifest, workload.store, set[str](), 0
    families = [list(CLAIMS.values()), mechanisms.claims(plan)]
    collected = Collected(plan, [store.root], {})
    ended = _Ended(workload, attempted)
    told = 0
    while True:
        course = sequence.follow(plan, collected, families, ended)
        for look in course.looks[told:]:
            print(_words(look, course), flush=True)
        told = len(course.looks)
        now = replace(workload, manifest=restricted(plan, course.drawn))
        todo = [key for key in workload.planned.trainings if key in course.drawn and not ended(key)]
        if todo:
            with background.logging(now.manifest, target, len(todo), workload.execution.workers) as log:
                train.train_all(now, todo, name, open_engine=open_engine, ended=log)
            trained += len(todo)
        elif course.ended:
            return course, trained
        evaluate.ask(now, ask_one, confused=False, open_engine=open_engine)
        attempted |= course.drawn


class _Ended:
    """Whether a training or evaluation is done, or was attempted in this call."""

    def __init__(self, workload: Workload, attempted: set[str]) -> None:
        self.store, self.evaluations, self.attempted = workload.store, workload.planned.evaluations, attempted
        self.done = set[str]()  # telling it takes a digest of every file

    def __call__(self, key: str) -> bool:
        if key in self.attempted or key in self.done:
            return True
        run = self.store.run(key, EVALUATED) if key in self.evaluations else self.store.run(key)
        if run.done():
            self.done.add(key)
        return key in self.done


def _words(look: sequence.Look, course: Course) -> str:
    kinds: dict[str, int] = {}
    for why in look.left.values():
        kinds[why] = kinds.get(why, 0) + 1
    left = ", ".join(f"{number} {why}" for why, number in kinds.items()) or "none leave"
    going = len(look.open) - len(look.left)
    return f"look at {counted(look.seeds, 'seed')}: of {counted(len(look.open), 'open claim')} {left}; {going} go on"
