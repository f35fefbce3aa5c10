"""What an ablation has done, is doing and has left: a live display, plain lines in a log, and ``make status``."""

from __future__ import annotations

import operator
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from study.spec.words import counted, duration
from study.store.runs import Store


def named(training: Mapping[str, Any]) -> str:
    """A training or an evaluation of the plan in words, as the report has it: ``GCN k=15 on texture, seed 0``."""
    asked = f" ({training['inference']})" if "inference" in training else ""
    where = "" if training["data"] == "main" else f" on {training['data']}"
    return f"{training['label']}{where}{asked}, seed {training['seed']}"


Kind = tuple[str, bool, int]  # of a training: label, whether with BR, cost as the plan ranks it; of an evaluation: how


def _kind(training: Mapping[str, Any]) -> Kind:
    return training["label"], training["refine"], training["cost"]


class Pace:
    """How long trainings take, learned from those that ended."""

    def __init__(self) -> None:
        self.took: dict[Kind, tuple[int, float]] = {}  # how many ended, and their seconds
        self.sums = dict.fromkeys((False, True), (0, 0, 0.0, 0, 0.0))  # of 1, x, y, x x, x y: cost, seconds

    def add(self, kind: Kind, seconds: float) -> None:
        number, before = self.took.get(kind, (0, 0.0))
        self.took[kind] = number + 1, before + seconds
        _, refine, cost = kind
        terms = (1, cost, seconds, cost * cost, cost * seconds)
        self.sums[refine] = tuple(map(operator.add, self.sums[refine], terms))  # type: ignore[assignment]

    def _line(self, refine: bool) -> tuple[float, float]:
        """Seconds at no cost, and seconds per cost, neither below zero: least squares."""
        number, x, y, xx, xy = self.sums[refine]
        if not number:
            other = self.sums[not refine]
            return other[2] / other[0], 0.0
        if not (spread := number * xx - x * x):
            return y / number, 0.0
        slope = (number * xy - x * y) / spread
        start = (y - slope * x) / number
        if slope <= 0:
            return y / number, 0.0
        return (start, slope) if start >= 0 else (0.0, xy / xx)

    def remaining(
        self, waiting: Mapping[Kind, int], begun: Mapping[Kind, Sequence[float]], workers: int
    ) -> float | None:
        """Seconds left, None before anything ended: how many of a kind wait, and the seconds so far of those that run.

        A training is expected to take as long as those of its kind did; else, the costliest being the first, by a line
        through seconds and costs of the others. Those with BR have a line of their own: their cost is a rank only.
        """
        if not self.took:
            return None
        lines = {refine: self._line(refine) for refine in (False, True)}
        all_, longest = 0.0, 0.0
        for kind in waiting.keys() | begun.keys():
            if kind in self.took:
                number, seconds = self.took[kind]
                expected = seconds / number
            else:
                start, slope = lines[kind[1]]
                expected = start + slope * kind[2]
            left = [max(0.0, expected - so_far) for so_far in begun.get(kind, ())]
            all_ += expected * waiting.get(kind, 0) + sum(left)
            longest = max(longest, *left, expected if waiting.get(kind) else 0.0)
        return max(all_ / max(1, workers), longest)


def remaining(
    asked: Mapping[str, Kind],
    finished: Mapping[str, float],
    running: Mapping[str, Mapping[str, Any]],
    workers: int,
    over: Collection[str] = (),
) -> float | None:
    """Seconds left of the jobs ``asked`` for, None before one ended or made a step. ``finished``: key -> seconds;
    ``running``: key -> what it told last; ``over``: keys of which nothing is left and nothing is learned, failed or
    done before."""
    pace, waiting, begun = Pace(), Counter[Kind](), dict[Kind, list[float]]()
    for key, kind in asked.items():
        if key in finished:
            pace.add(kind, finished[key])
        elif key in running:
            said = running[key]
            begun.setdefault(kind, []).append(said.get("seconds", 0.0))
            if said.get("step") and said["seconds"]:
                pace.add(kind, said["seconds"] / said["step"] * said["steps"])
        elif key not in over:
            waiting[kind] += 1
    return pace.remaining(waiting, begun, workers)


class Display:
    """Follows one ablation. On a terminal it redraws a table, elsewhere it prints a line per training."""

    def __init__(self, store: Store, plan: dict[str, Any], done: set[str], workers: int) -> None:
        self.store, self.plan, self.workers = store, plan, workers
        self.done: set[str] = set(done)
        self.failed: set[str] = set()
        self.running: dict[str, float] = {}
        self.pace = Pace()
        self.left = Counter(_kind(training) for key, training in plan["trainings"].items() if key not in self.done)
        self.console = Console(soft_wrap=True)
        self.live = Live(console=self.console, auto_refresh=False) if sys.stdout.isatty() else None

    def __enter__(self) -> Display:
        left = len(self.plan["trainings"]) - len(self.done)
        kept = f", {len(self.done)} done before" if self.done else ""
        self.say(f"{counted(left, 'training')} to run on {counted(self.workers, 'worker')}{kept}")
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.live:
            self.live.stop()

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False)

    def begin(self, key: str) -> None:
        self.running[key] = time.monotonic()

    def end(self, key: str, score: tuple[str, float] | None, reason: str = "") -> None:
        """A training ended: with its leading metric and value, or failed (or was never begun) for ``reason``."""
        began = self.running.pop(key, None)
        took = time.monotonic() - began if began else 0.0
        kind, name = _kind(self.plan["trainings"][key]), named(self.plan["trainings"][key])
        self.left[kind] -= 1
        if score is None:
            self.failed.add(key)
            self.say(f"{self._counts()}  {name} {f'FAILED after {duration(took)}' if began else 'NOT RUN'}: {reason}")
        else:
            self.done.add(key)
            self.pace.add(kind, took)
            metric, value = score
            metric = {"miou": "mIoU"}.get(metric, metric.replace("_", " "))
            self.say(f"{self._counts()}  {name}: {metric} {100 * value:.1f} % in {duration(took)}{self._left()}")

    def _counts(self) -> str:
        all_ = len(self.plan["trainings"])
        return f"[{len(self.done) + len(self.failed)}/{all_}]"

    def _left(self) -> str:
        now, begun = time.monotonic(), dict[Kind, list[float]]()
        for key, began in self.running.items():
            begun.setdefault(_kind(self.plan["trainings"][key]), []).append(now - began)
        waiting = len(self.plan["trainings"]) - len(self.done) - len(self.failed) - len(self.running)
        unbegun = {kind: number - len(begun.get(kind, ())) for kind, number in self.left.items()}
        seconds = self.pace.remaining(unbegun, begun, self.workers)
        text = f"; {len(self.running)} running, {waiting} left"
        return text if seconds is None else f"{text}, about {duration(seconds)}"

    def refresh(self) -> None:
        """Redraw the table of what is running."""
        if not self.live:
            return
        table = Table(title=f"{self._counts()} trainings done{self._left()}", title_justify="left")
        for column in ("training", "step", "loss", "tune score %"):
            table.add_column(column)
        for key in self.running:
            training, said = self.plan["trainings"][key], self.store.run(key).progress() or {}
            table.add_row(named(training), *_row(said))
        self.live.update(table, refresh=True)


def _row(said: dict[str, Any]) -> tuple[str, str, str]:
    loss, score = said.get("loss"), said.get("score")
    return (
        f"{said['step']}/{said['steps']}" if said else "starting",
        "" if loss is None else f"{loss:.3f}",
        "" if score is None else f"{100 * score:.1f}",
    )


def status(store: Store, plan: dict[str, Any], workers: int, drivers: Sequence[dict[str, Any]] = ()) -> str:
    """What the store says of a plan, from any machine: who drives it, what is done, running, failed and left, how fast
    and for how long. A job runs if its lock is held: no clock is asked."""
    trainings = _Standing(store, plan["trainings"], _kind, workers)
    evaluations = _Standing(store, plan["evaluations"], lambda asked: (asked["inference"], False, 0), workers)
    idle = not (drivers or trainings.running or evaluations.running)

    def about(standing: _Standing) -> str:
        if standing.seconds is None:
            return ""
        return f", about {duration(standing.seconds)}{' once `make repro` runs' if idle else ''}"

    head = (
        f"{plan['tier']}: {len(trainings.finished)} of {counted(len(plan['trainings']), 'training')} done, "
        f"{len(trainings.running)} running, {len(trainings.failed)} failed, {trainings.left} left{about(trainings)}"
    )
    if plan["evaluations"]:
        number = counted(len(plan["evaluations"]), "evaluation")
        head += f"; {len(evaluations.finished)} of {number} done{about(evaluations)}"
    by = [f"  driver   {d['host']} (process {d['pid']}) for {duration(store.now() - d['since'])}" for d in drivers]
    others = _others(store, plan) if drivers else []
    at_work = [*trainings.lines, *evaluations.lines, *others]
    return "\n".join([head, *by, *at_work, *trainings.failed, *evaluations.failed])


class _Standing:
    """How trainings or evaluations of a plan stand: key -> seconds of those that are ``finished``, what those that are
    ``running`` told, lines on these and on those that ``failed``, the number ``left``, and the ``seconds`` that these
    and the running ones take, None where there are none or nothing is known."""

    def __init__(
        self, store: Store, asked: Mapping[str, Any], kind: Callable[[Mapping[str, Any]], Kind], workers: int
    ) -> None:
        self.finished: dict[str, float] = {}
        self.running: dict[str, dict[str, Any]] = {}
        self.lines: list[str] = []
        self.failed: list[str] = []
        over = set()
        for key, job in asked.items():
            run = store.run(key)
            if run.path("DONE").is_file():
                self.finished[key] = sum((run.read("result.json") or {"seconds": {}})["seconds"].values())
            elif run.held():
                self.running[key] = run.progress() or {}
                self.lines.append(_at_work(named(job), self.running[key]))
            elif failure := run.failure():
                over.add(key)
                self.failed.append(f"  failed   {named(job)}: {failure['reason']}")
        self.left = len(asked) - len(self.finished) - len(self.running) - len(over)
        kinds = {key: kind(job) for key, job in asked.items()}
        self.seconds = None
        if self.left or self.running:
            self.seconds = remaining(kinds, self.finished, self.running, workers, over)


def _at_work(name: str, said: dict[str, Any]) -> str:
    """A line on what runs, from what its process told last."""
    if not said:
        return f"  running  {name}: starting"
    step, loss, score = _row(said)
    pace = f", {said['step'] / said['seconds']:.2f} steps a second" if said["seconds"] else ""
    curve = f", loss {loss or '-'}, tune score {score or '-'} %" if "loss" in said else ""  # an evaluation has none
    where = f" on {said['host']} (process {said['pid']})"
    return f"  running  {name}{where}: step {step} after {duration(said['seconds'])}{pace}{curve}"


def _others(store: Store, plan: dict[str, Any]) -> list[str]:
    """A line on each training that runs and is not of this plan."""
    lines = []
    for path in sorted(store.root.glob("*/training.json")):
        run = store.run(path.parent.name)
        if run.key not in plan["trainings"] and run.held():
            labels = (run.read("training.json") or {}).get("labels") or {}
            name = f"{named(labels)} at lr {labels['lr']:g}" if "lr" in labels else run.key[:12]
            lines.append(_at_work(f"{name} (of a search, or of another tier)", run.progress() or {}))
    return lines
