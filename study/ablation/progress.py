"""Progress of an ablation: a live display on a terminal, plain lines in a log, and ``make status``."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from study.spec.documents.plan import PlanFile
from study.spec.documents.runs import Driver, Progress
from study.spec.words import counted, duration
from study.store.runs import Store, read_json_or_none, write_json

LOOK_S = 1.0  # between two reads of the heartbeats of running jobs
FIRM_S = 3.0  # of steps after the first ones, before a pace is trusted
PATIENCE_S = 8.0  # from the first heartbeat of any job until an estimate is made from what is known

Job = Mapping[str, object]  # a training or an evaluation, as in the plan


def named(job: Job) -> str:
    """The name of a training or evaluation, as in the report: ``GCN k=15 on texture, seed 0``."""
    asked = f" ({job['inference']})" if "inference" in job else ""
    where = "" if job["data"] == "main" else f" on {job['data']}"
    return f"{job['label']}{where}{asked}, seed {job['seed']}"


@dataclass(frozen=True)
class Kind:
    """Jobs that should take equally long: ``step_s`` for each of ``steps`` steps (or images), and ``beside_s`` for the
    rest. Seconds are predicted for one reference machine (see study.ablation.foretell). The defaults predict only that
    the jobs are alike."""

    name: tuple[str, ...]
    step_s: float = 1.0
    steps: int = 1
    beside_s: float = 0.0

    def left(self, done: float = 0.0) -> float:
        """Predicted seconds left after the share ``done`` of the steps."""
        return self.step_s * self.steps * (1 - done) + self.beside_s


def keep(store: Store, study: str, kinds: Mapping[str, Kind]) -> None:
    """Save the predictions of a study, by key, for ``make status``."""
    write_json(store.foretold(study), {key: asdict(kind) for key, kind in kinds.items()})


def kept(store: Store, study: str) -> dict[str, Kind]:
    """The saved predictions of a study; empty if it never ran, or if the file is damaged."""
    try:
        found = read_json_or_none(store.foretold(study)) or {}
        return {key: Kind(**kind | {"name": tuple(kind["name"])}) for key, kind in found.items()}
    except (TypeError, KeyError, AttributeError):
        return {}


def evaluations_of(tier: str) -> str:
    """The name under which the predictions of a tier's evaluations are saved."""
    return f"{tier} evaluations"


class Pace:
    """The ratio of observed to predicted seconds on this machine, by kind and overall."""

    def __init__(self) -> None:
        self.seen: dict[Kind, tuple[float, float]] = {}  # predicted seconds, and those observed

    def add(self, kind: Kind, foretold: float, took: float) -> None:
        before = self.seen.get(kind, (0.0, 0.0))
        self.seen[kind] = before[0] + foretold, before[1] + took

    def remaining(
        self,
        waiting: Mapping[Kind, int],
        running: Iterable[Beats],
        workers: int,
        then: Mapping[Kind, Collection[Kind]] = MappingProxyType({}),
    ) -> float | None:
        """Seconds left, None before anything was observed.

        ``waiting`` counts the jobs of each kind that wait, ``running`` are the jobs that run, and ``then`` says which
        kinds start after which. The predictions of an observed kind are scaled by its own ratio, those of other kinds
        by the overall ratio.
        """
        now = Pace()
        now.seen = dict(self.seen)
        running = list(running)
        for beats in running:
            now.add(beats.kind, *beats.seen())
        foretold, took = (sum(parts) for parts in zip(*now.seen.values(), strict=True)) if now.seen else (0.0, 0.0)
        if not foretold:
            return None

        def expected(kind: Kind, done: float = 0.0) -> float:
            own = now.seen.get(kind, (0.0, 0.0))
            return kind.left(done) * (own[1] / own[0] if own[0] else took / foretold)

        def way(kind: Kind, own: float) -> float:
            """Seconds of a job and of the longest chain of jobs that can only start after it."""
            return own + max(
                (way(after, expected(after)) for after in then.get(kind, ()) if waiting.get(after)), default=0
            )

        begun = [(beats.kind, expected(beats.kind, beats.done)) for beats in running]
        unbegun = [(kind, expected(kind)) for kind, number in waiting.items() if number > 0]
        all_ = sum(left for _, left in begun) + sum(left * waiting[kind] for kind, left in unbegun)
        return max(all_ / max(1, workers), max((way(*job) for job in begun + unbegun), default=0.0))


class Beats:
    """The heartbeats of a running job. ``earlier`` is the last one from before the job was submitted."""

    def __init__(self, kind: Kind, earlier: Progress | None = None) -> None:
        self.kind, self.earlier = kind, earlier
        self.first: Progress | None = None  # as it starts, or resumes
        self.warm: Progress | None = None  # after its first steps, which are slow: memory and kernels are new
        self.last: Progress | None = None

    def hear(self, said: Progress | None) -> None:
        if not said or said == self.earlier or "steps" not in said:
            return
        if self.first is None or (said["host"], said["pid"]) != (self.first["host"], self.first["pid"]):
            self.first, self.warm, self.last = said, None, said
        elif self.last is None or said["step"] > self.last["step"]:  # else it is scoring images, which is not a step
            self.last = said
            self.warm = self.warm or said

    @property
    def done(self) -> float:
        """The share of its steps that are done."""
        return self.last["step"] / self.last["steps"] if self.last else 0.0

    @property
    def firm(self) -> bool:
        """Whether it has reported enough steps after its first ones."""
        if not self.warm or not self.last:
            return False
        return self.last["seconds"] - self.warm["seconds"] >= FIRM_S

    def seen(self) -> tuple[float, float]:
        """Predicted and observed seconds of the reported steps, without the first ones unless there are no others."""
        if not self.first or not self.last:
            return 0.0, 0.0
        since = self.first
        if self.warm and self.last["step"] > self.warm["step"]:
            since = self.warm
        share = (self.last["step"] - since["step"]) / self.last["steps"]
        return self.kind.step_s * self.kind.steps * share, self.last["seconds"] - since["seconds"]


class Display:
    """Shows the progress of trainings, or of the jobs that ``noun`` names. On a terminal it redraws a table, elsewhere
    it prints a line for each. Both show a first estimate of the time left once the first jobs have made a few steps."""

    def __init__(
        self,
        store: Store,
        jobs: Mapping[str, Job],
        kinds: Mapping[str, Kind],
        done: Iterable[str],
        workers: int,
        noun: str = "training",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``jobs`` (as in the plan) and their ``kinds`` are by key; ``done`` are the keys that were done before."""
        self.store, self.jobs, self.kinds, self.workers, self.noun = store, jobs, kinds, workers, noun
        self.clock = clock
        self.done: set[str] = set(done)
        self.failed: set[str] = set()
        self.running: dict[str, float] = {}
        self.beats: dict[str, Beats] = {}
        self.pace = Pace()
        self.left = Counter(kinds[key] for key in jobs if key not in self.done)
        self.then: dict[Kind, set[Kind]] = {}
        for key, job in jobs.items():
            after = str(job.get("after"))
            if after in kinds:
                self.then.setdefault(kinds[after], set()).add(kinds[key])
        self.heard: float | None = None  # when the first heartbeat came
        self.looked = -math.inf
        self.told = False  # whether an estimate was printed
        self.console = Console(soft_wrap=True)
        self.live = Live(console=self.console, auto_refresh=False) if sys.stdout.isatty() else None

    def __enter__(self) -> Display:
        left = len(self.jobs) - len(self.done)
        kept = f", {len(self.done)} done before" if self.done else ""
        self.say(f"{counted(left, self.noun)} to run on {counted(self.workers, 'worker')}{kept}")
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.live:
            self.live.stop()

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False)

    def begin(self, key: str) -> None:
        self.running[key] = self.clock()
        self.beats[key] = Beats(self.kinds[key], self.store.run(key).progress())

    def end(self, key: str, score: tuple[str, float] | None, reason: str = "") -> None:
        """A job ended: with its leading metric and value, or it failed (or was never begun) because of ``reason``."""
        began = self.running.pop(key, None)
        self.beats.pop(key, None)
        took = 0.0 if began is None else self.clock() - began
        kind, name = self.kinds[key], named(self.jobs[key])
        self.left[kind] -= 1
        if score is None:
            self.failed.add(key)
            self.say(
                f"{self._counts()}  {name} {'NOT RUN' if began is None else f'FAILED after {duration(took)}'}: {reason}"
            )
        else:
            self.done.add(key)
            self.pace.add(kind, kind.left(), _seconds(self.store, key) or took)
            metric, value = score
            metric = {"miou": "mIoU"}.get(metric, metric.replace("_", " "))
            self.say(f"{self._counts()}  {name}: {metric} {100 * value:.1f} % in {duration(took)}; {self._left()}")

    def _counts(self) -> str:
        return f"[{len(self.done) + len(self.failed)}/{len(self.jobs)}]"

    def seconds(self) -> float | None:
        """Seconds left, None before anything is known."""
        begun = Counter(beats.kind for beats in self.beats.values())
        unbegun = {kind: number - begun[kind] for kind, number in self.left.items()}
        return self.pace.remaining(unbegun, self.beats.values(), self.workers, self.then)

    def _left(self) -> str:
        waiting = len(self.jobs) - len(self.done) - len(self.failed) - len(self.running)
        text, seconds = f"{len(self.running)} running, {waiting} left", self.seconds()
        if seconds is None:
            return text
        self.told = True
        return f"{text}, about {duration(seconds)}"

    def refresh(self) -> None:
        """Read the heartbeats of running jobs; print the first estimate, and redraw the table."""
        now = self.clock()
        if now - self.looked < LOOK_S:
            return
        self.looked = now
        for key, beats in self.beats.items():
            beats.hear(self.store.run(key).progress())
            if self.heard is None and beats.first:
                self.heard = now
        if not self.told and self._firm(now) and self.seconds() is not None:
            self.say(f"{self._counts()}  {self._left()}")
        if self.live:
            self.live.update(self._table(), refresh=True)

    def _firm(self, now: float) -> bool:
        """Whether every running job has a reliable pace, or the wait for the others has been long enough."""
        late = self.heard is not None and now - self.heard >= PATIENCE_S
        return late or (bool(self.beats) and all(beats.firm for beats in self.beats.values()))

    def _table(self) -> Table:
        table = Table(title=f"{self._counts()} {self.noun}s done; {self._left()}", title_justify="left")
        for column in (self.noun, "step", "loss", "tune score %"):
            table.add_column(column)
        for key, beats in self.beats.items():
            table.add_row(named(self.jobs[key]), *_row(beats.last))
        return table


def _seconds(store: Store, key: str) -> float:
    """Seconds that a finished run took, including those of earlier processes; 0 if it does not say."""
    return sum((store.run(key).read("result.json") or {"seconds": {}})["seconds"].values())


def _row(said: Progress | None) -> tuple[str, str, str]:
    if not said:
        return "starting", "", ""
    loss, score = said.get("loss"), said.get("score")
    return (
        f"{said['step']}/{said['steps']}",
        "" if loss is None else f"{loss:.3f}",
        "" if score is None else f"{100 * score:.1f}",
    )


def status(store: Store, plan: PlanFile, workers: int, drivers: Sequence[Driver] = ()) -> str:
    """The status of a plan from the store, on any machine: its drivers, what is done, running, failed and left, the
    pace and the time left. A job is running if its lock is held; no clock is used."""
    trainings = _Standing(store, plan["trainings"], kept(store, plan["tier"]), workers)
    evaluations = _Standing(store, plan["evaluations"], kept(store, evaluations_of(plan["tier"])), workers)
    idle = not (drivers or trainings.running or evaluations.running)

    def about(standing: _Standing) -> str:
        if standing.seconds is None:
            return ""
        return f", about {duration(standing.seconds)}{' once `make repro` runs' if idle else ''}"

    head = (
        f"{plan['tier']}: {trainings.finished} of {counted(len(plan['trainings']), 'training')} done, "
        f"{len(trainings.running)} running, {len(trainings.failed)} failed, {trainings.left} left{about(trainings)}"
    )
    if plan["evaluations"]:
        number = counted(len(plan["evaluations"]), "evaluation")
        head += f"; {evaluations.finished} of {number} done{about(evaluations)}"
    by = [f"  driver   {d['host']} (process {d['pid']}) for {duration(store.now() - d['since'])}" for d in drivers]
    others = _others(store, plan) if drivers else []
    at_work = [*trainings.lines, *evaluations.lines, *others]
    return "\n".join([head, *by, *at_work, *trainings.failed, *evaluations.failed])


class _Standing:
    """The status of a plan's trainings or evaluations: how many are ``finished`` and ``left``, the heartbeats of those
    ``running``, ``lines`` on these and on those that ``failed``, and the ``seconds`` until all are done (None if
    nothing is left, or nothing is known)."""

    def __init__(self, store: Store, asked: Mapping[str, Job], foretold: Mapping[str, Kind], workers: int) -> None:
        self.finished = 0
        self.running: list[Beats] = []
        self.lines: list[str] = []
        self.failed: list[str] = []
        # Without a prediction, a job is expected to take as long as those of the same name, else as the mean.
        kinds = foretold if foretold.keys() >= asked.keys() else {key: Kind(_name(job)) for key, job in asked.items()}
        pace, waiting = Pace(), Counter[Kind]()
        for key, job in asked.items():
            run, kind = store.run(key), kinds[key]
            if run.path("DONE").is_file():
                self.finished += 1
                pace.add(kind, kind.left(), _seconds(store, key))
            elif run.held():
                said = run.progress()
                self.running.append(_so_far(kind, said))
                self.lines.append(_at_work(named(job), said))
            elif failure := run.failure():
                self.failed.append(f"  failed   {named(job)}: {failure['reason']}")
            else:
                waiting[kind] += 1
        self.left = waiting.total()
        self.seconds = None
        if self.left or self.running:
            self.seconds = pace.remaining(waiting, self.running, workers)


def _name(job: Job) -> tuple[str, ...]:
    return tuple(str(job[part]) for part in ("data", "label", "inference") if part in job)


def _so_far(kind: Kind, said: Progress | None) -> Beats:
    """The beats of a running job with one known heartbeat: all its steps so far, including the slow first ones."""
    beats = Beats(kind)
    if said and said["step"]:
        beats.hear({**said, "step": 0, "seconds": 0.0})
        beats.hear(said)
    return beats


def _at_work(name: str, said: Progress | None) -> str:
    """A line on a running job, from its last heartbeat."""
    if not said:
        return f"  running  {name}: starting"
    step, loss, score = _row(said)
    pace = f", {said['step'] / said['seconds']:.2f} steps a second" if said["seconds"] else ""
    curve = f", loss {loss or '-'}, tune score {score or '-'} %" if "loss" in said else ""  # an evaluation has none
    where = f" on {said['host']} (process {said['pid']})"
    return f"  running  {name}{where}: step {step} after {duration(said['seconds'])}{pace}{curve}"


def _others(store: Store, plan: PlanFile) -> list[str]:
    """A line on each running training that is not in this plan."""
    lines = []
    for path in sorted(store.root.glob("*/training.json")):
        run = store.run(path.parent.name)
        if run.key not in plan["trainings"] and run.held():
            labels = (run.read("training.json") or {}).get("labels") or {}
            name = f"{named(labels)} at lr {labels['lr']:g}" if "lr" in labels else run.key[:12]
            lines.append(_at_work(f"{name} (from a search or another tier)", run.progress()))
    return lines
