"""The ablation, and the search for each variant's best values, as Optuna studies.

Planned trainings are enqueued as trials and asked for one by one. The study is a view: the run store decides what is
done. When a driver starts, it brings a study that was lost, or left behind by a killed driver, in line with the store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileSymlinkLock
from optuna.trial import Trial, TrialState, create_trial

from study.spec.documents.plan import PlannedTraining

KEY = "run"  # the user attribute that holds a trial's key in the run store
CHOICES = "choices"  # the study's attribute that holds its categorical choices
Curve = list[tuple[int, float]]


NAMED = ("data", "head", "kernel_size", "backbone", "seed")  # labels that are parameters of a trial


class _Journal(BaseJournalBackend):
    """Optuna's journal in a file, like JournalFileBackend, but lines written ``together`` take one lock and no fsync: a
    trial has twenty lines. If a power cut loses some, they are restored from the run store, which is the truth.

    At 10,000 trials the driver needs 1.4 ms for a trial instead of 7.8 ms, on a local SSD (benchmarks/journal.py); a
    network's disk is slower."""

    def __init__(self, log: Path) -> None:
        self.log, self.lock = log, JournalFileSymlinkLock(str(log))
        log.touch()
        self.offset = 0  # bytes of the file already read
        self.lines: list[bytes] = []  # to be written
        self.read = 0  # how many of these lines are read
        self.held = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold the lock, and write all lines at the end."""
        self.lock.acquire()
        self.held = True
        try:
            yield
        finally:
            with self.log.open("ab") as file:
                file.write(b"".join(self.lines))
            self.offset += sum(map(len, self.lines[: self.read]))
            self.lines, self.read, self.held = [], 0, False
            self.lock.release()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = [json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs]
        if self.held:
            self.lines += lines
        else:
            with self.together():
                self.lines += lines

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield what was written since the last call: a JournalStorage reads each line once."""
        if not self.read:  # else the whole file is read, and the lock keeps others from writing more
            with self.log.open("rb") as file:
                file.seek(self.offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self.offset += len(line)
                    yield json.loads(line)
        while self.read < len(self.lines):
            self.read += 1
            yield json.loads(self.lines[self.read - 1])


class Ablation:
    """Ask which training is next, tell how it went. ``planned``: key -> labels, in the order in which to start;
    ``values``: key -> searched values, if there is a search. Only one process asks and tells."""

    def __init__(
        self,
        log: Path,
        name: str,
        planned: Mapping[str, PlannedTraining],
        values: dict[str, dict[str, float]] | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.parameters = {key: _parameters(labels) for key, labels in planned.items()}
        self.space: dict[str, BaseDistribution] = {
            "data": CategoricalDistribution(_values(planned, "data")),
            "head": CategoricalDistribution(_values(planned, "head")),
            "kernel_size": IntDistribution(1, max(_values(planned, "kernel_size")), step=2),
            "width": FloatDistribution(0, max(p["width"] for p in self.parameters.values()) or 1),
            "BR": CategoricalDistribution((False, True)),
            "backbone": CategoricalDistribution(_values(planned, "backbone")),
            "seed": IntDistribution(0, max(_values(planned, "seed"))),
        }
        for key, searched in (values or {}).items():
            self.parameters[key] |= searched
        for part in dict.fromkeys(part for found in (values or {}).values() for part in found):
            self.space[part] = CategoricalDistribution(sorted({p[part] for p in self.parameters.values()}))
        mend(log)
        self.journal = _Journal(log)
        self.study = self._study(JournalStorage(self.journal), name)
        self.open: dict[str, Trial] = {}
        self.queue: set[str] = set()

    def _study(self, storage: JournalStorage, name: str) -> optuna.Study:
        """The study of that name. One with other choices is deleted first: Optuna keeps a study's choices fixed."""
        choices = {n: list(d.choices) for n, d in self.space.items() if isinstance(d, CategoricalDistribution)}
        for known in optuna.get_all_study_summaries(storage):
            if known.study_name == name and known.user_attrs.get(CHOICES) != choices:
                optuna.delete_study(study_name=name, storage=storage)
        # The values of every planned trial are fixed, so the sampler is never used.
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(
            study_name=name, storage=storage, sampler=sampler, direction="maximize", load_if_exists=True
        )
        if study.user_attrs.get(CHOICES) != choices:
            study.set_user_attr(CHOICES, choices)
        return study

    def start(self, done: dict[str, tuple[float, Curve]], todo: Iterable[str]) -> None:
        """Bring the study in line with the store (``done``: key -> mIoU and curve); enqueue ``todo`` in its order."""
        with self.journal.together():
            self._start(done, todo)

    def _start(self, done: dict[str, tuple[float, Curve]], todo: Iterable[str]) -> None:
        known, waiting = set(), 0
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == TrialState.RUNNING:  # its driver was killed
                self.study.tell(trial.number, state=TrialState.FAIL)
            elif trial.state == TrialState.COMPLETE:
                known.add(trial.user_attrs.get(KEY))
            waiting += trial.state == TrialState.WAITING
        for _ in range(waiting):
            self.study.tell(self.study.ask(), state=TrialState.FAIL)  # enqueued by a driver that was killed
        for key, (value, curve) in done.items():
            if key not in known:
                trial = create_trial(
                    value=value,
                    params=self.parameters[key],
                    distributions=self.space,
                    intermediate_values=dict(curve),
                    user_attrs={KEY: key},
                )
                self.study.add_trial(trial)
        for key in todo:
            self.study.enqueue_trial(self.parameters[key], user_attrs={KEY: key})
            self.queue.add(key)

    def ask(self) -> str | None:
        """The key of the next training by Optuna's queue; None when no planned one is left."""
        if not self.queue:
            return None
        with self.journal.together():
            trial = self.study.ask(self.space)
        key = trial.user_attrs[KEY]
        self.queue.discard(key)
        self.open[key] = trial
        return key

    def report(self, key: str, step: int, score: float) -> None:
        """Report the score of an open training after ``step``; it then goes on, or is dropped."""
        self.open[key].report(score, step)

    def prune(self, key: str) -> None:
        """Close an open training that was dropped because of its scores."""
        self.study.tell(self.open.pop(key), state=TrialState.PRUNED)

    def tell(self, key: str, value: float, curve: Curve) -> None:
        """Close a training with its leading metric (mIoU, or the accuracy of a classifier) and its learning curve."""
        trial = self.open.pop(key)
        with self.journal.together():
            for step, score in curve:
                trial.report(score, step)
            self.study.tell(trial, value)

    def fail(self, key: str, reason: str) -> None:
        trial = self.open.pop(key)
        with self.journal.together():
            trial.set_user_attr("reason", reason)
            self.study.tell(trial, state=TrialState.FAIL)


class Order:
    """The planned order without a study: for a driver while another one writes the study of this tier.

    The next ablation adds its trainings to the study, when it brings that in line with the store.
    """

    def __init__(self) -> None:
        self.queue: list[str] = []
        self.open: set[str] = set()

    def start(self, done: dict[str, tuple[float, Curve]], todo: Iterable[str]) -> None:
        self.queue += todo

    def ask(self) -> str | None:
        """The key of the next training; None when no planned one is left."""
        if not self.queue:
            return None
        self.open.add(key := self.queue.pop(0))
        return key

    def report(self, key: str, step: int, score: float) -> None:
        """Does nothing."""

    def prune(self, key: str) -> None:
        self.open.discard(key)

    def tell(self, key: str, value: float, curve: Curve) -> None:
        self.open.discard(key)

    def fail(self, key: str, reason: str) -> None:
        self.open.discard(key)


def begin_anew(log: Path, name: str) -> None:
    """Delete a study, if there is one. Its trainings stay in the run store."""
    if log.is_file():
        mend(log)
        storage = JournalStorage(_Journal(log))
        if name in (summary.study_name for summary in optuna.get_all_study_summaries(storage)):
            optuna.delete_study(study_name=name, storage=storage)


def importances(trials: list[tuple[dict[str, Any], float]]) -> dict[str, float]:
    """The share of each parameter in the variance of the scores, by fANOVA's main effects; the shares add up to 1.
    ``trials`` are (parameters, score). Empty if the scores do not vary, or there are fewer than two."""
    if len(trials) < 2 or len({score for _, score in trials}) < 2:
        return {}
    space: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(sorted({parameters[name] for parameters, _ in trials}))
        for name in trials[0][0]
    }  # fmt: skip
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    study.add_trials([create_trial(params=p, distributions=space, value=score) for p, score in trials])
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return {
        name: float(share)
        for name, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    }


def mend(log: Path) -> None:
    """Cut off a last line that a killed driver or a full disk left half written: Optuna needs whole lines."""
    if log.is_file() and not (content := log.read_bytes()).endswith(b"\n"):
        log.write_bytes(content[: content.rfind(b"\n") + 1])


def _parameters(labels: PlannedTraining) -> dict[str, Any]:
    named: dict[str, Any] = {name: value for name, value in labels.items() if name in NAMED}
    return named | {"width": labels["width"] or 0.0, "BR": labels["refine"]}


def _values(planned: Mapping[str, PlannedTraining], name: str) -> tuple[Any, ...]:
    return tuple(sorted({_parameters(labels)[name] for labels in planned.values()}))
