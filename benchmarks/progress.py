"""How far the predicted time is from the truth: the first estimate, and the worst one after a tenth of the time.

    python -m benchmarks.progress                           # `shapes`, with the times of the shipped report
    python -m benchmarks.progress --store RUNS              # with those of a run store, which is only read
    python -m benchmarks.progress --real --tier smoke       # really runs `study repro` in a copy of the project

A replay takes the recorded seconds of each training and evaluation, and lets the display of the ablation follow them on
a simulated clock: workers that start after some seconds, heartbeats each second, slow first steps. ``--quiet`` takes
the shortest time of each kind, since other work on the machine makes some of them several times as long. Prints ratios
of predicted to actual time left.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from study.ablation import foretell
from study.ablation.progress import Display, Kind
from study.ablation.workload import Workload
from study.config import tiers
from study.config.execution import execution_of
from study.plan import planner
from study.spec.documents.plan import PlanFile
from study.spec.documents.provenance import ProvenanceFile
from study.spec.documents.reading import read
from study.store.code_digest import ROOT
from study.store.runs import Store, read_json_or_none, write_json

PROVENANCE = ROOT / "docs" / "example" / "provenance.json"
IMPORTING_S, WARMING_S = 5.0, 0.5  # of a new worker until its first step; extra time of a job's first steps
TICK_S, BEAT_S = 0.5, 1.0
PROMISED, WITHIN_S = 1.5, 10.0  # factor of the first estimate, and the time until it is shown
ROUNDED_S = 2.0  # error from rounding to whole seconds and looking twice a second, for a stage of seconds
LAST = 0.9  # of the time: too little is left after it for a ratio


class Replay:
    """Jobs with recorded ``seconds`` by key on ``workers``, followed by a Display."""

    def __init__(
        self, store: Store, jobs: Mapping[str, Any], kinds: Mapping[str, Kind], seconds: Mapping[str, float], noun: str
    ) -> None:
        self.store, self.jobs, self.kinds, self.seconds, self.noun = store, jobs, kinds, seconds, noun
        self.now = 0.0
        self.estimates: list[tuple[float, float]] = []  # when, and the predicted time left

    def run(self, workers: int) -> float:
        """The seconds until all jobs have ended."""
        waiting, ended, first = list(self.jobs), set[str](), None
        free = [IMPORTING_S] * workers  # when a worker is ready for its next job
        running: dict[str, tuple[float, int]] = {}  # time of its first step, and its worker
        display = Display(self.store, self.jobs, self.kinds, (), workers, noun=self.noun, clock=lambda: self.now)
        with contextlib.redirect_stdout(io.StringIO()), display:
            while len(ended) < len(self.jobs):
                for key in [k for k in waiting if self.jobs[k].get("after") in (None, *ended)]:
                    if len(running) == workers:
                        break
                    worker = next(i for i in range(workers) if i not in [place for _, place in running.values()])
                    waiting.remove(key)
                    display.begin(key)
                    running[key] = max(self.now, free[worker]), worker
                self.now += TICK_S
                for key, (began, worker) in list(running.items()):
                    if self.now >= began + self.seconds[key]:
                        run = self.store.run(key)
                        write_json(run.path("result.json"), {"seconds": {"train": self.seconds[key]}})
                        display.end(key, ("miou", 0.0))
                        ended.add(key)
                        free[worker] = began + self.seconds[key]
                        del running[key]
                    else:
                        self._beat(key, began)
                display.refresh()
                if (left := display.seconds()) is not None and display.told:
                    first = first or self.now
                    self.estimates.append((self.now, left))
        return self.now

    def _beat(self, key: str, began: float) -> None:
        """Write what the job's process has reported by now: when it starts, then each second."""
        so_far = (self.now - began) // BEAT_S * BEAT_S
        if so_far < 0:
            return
        kind, took = self.kinds[key], self.seconds[key]
        at_the_end = took * kind.beside_s / kind.left()
        a_step = (took - at_the_end - WARMING_S) / kind.steps
        step = min(kind.steps, max(0, int((so_far - WARMING_S) / max(a_step, 1e-9))))
        said = {"step": step, "steps": kind.steps, "seconds": so_far, "pid": 1, "host": "here"}
        write_json(self.store.run(key).path("progress.json"), said)


def report(replay: Replay, workers: int) -> bool:
    """Print the ratios of a replay. Returns whether the first estimate is as promised."""
    wall = replay.run(workers)
    (when, first), *_ = replay.estimates
    ratio = first / (wall - when)
    later = [(left / (wall - at), at) for at, left in replay.estimates if 0.1 * wall <= at <= LAST * wall]
    worst, at = max(later, key=lambda pair: max(pair[0], 1 / pair[0])) if later else (ratio, when)
    kept = when <= WITHIN_S and 1 / PROMISED <= ratio <= PROMISED
    print(
        f"{replay.noun}s: {len(replay.jobs)} in {wall:,.0f} s; first estimate after {when:.0f} s: {ratio:.2f} of the "
        f"truth (promised: within {PROMISED}){'' if kept else ': NO'}; worst after a tenth of the time: {worst:.2f} "
        f"(at {at / wall:.0%})",
        flush=True,
    )
    return kept


def recorded(store: Path | None, keys: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of each job, from a run store, or else from the shipped report (which has those of trainings)."""
    runs = {} if store else read(PROVENANCE, ProvenanceFile)["runs"]
    found = {}
    for key in keys:
        told = runs.get(key) if store is None else read_json_or_none(store / key / "result.json")
        if told:
            found[key] = sum(told["seconds"].values())
    return found


def quiet(seconds: Mapping[str, float], kinds: Mapping[str, Kind]) -> dict[str, float]:
    """The shortest time of each kind."""
    least: dict[Kind, float] = {}
    for key, took in seconds.items():
        least[kinds[key]] = min(took, least.get(kinds[key], took))
    return {key: least[kinds[key]] for key in seconds}


def replayed(tier: str, source: Path | None, workers: int, shortest: bool) -> bool:
    """Plan the tier in a folder of its own and replay it. Returns whether all promises are kept."""
    params = tiers.read() | {"tier": tier}
    with tempfile.TemporaryDirectory(prefix="progress-") as name:
        folder = Path(name)
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        environment = os.environ | {"STUDY_STORE": str(folder / "runs"), "PYTHONPATH": str(ROOT)}
        for each in ("tier", "data", "plan"):
            command = [sys.executable, "-m", f"pipelines.{each}"]
            subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        manifest = read(folder / "reports" / tier / "plan.json", PlanFile)
        chosen, execution, store = tiers.load(params), execution_of(params), Store(folder / "runs")
        planned = planner.build(chosen, manifest["data"], execution.device)
        workload = Workload(planned, manifest, execution, store)
        began = time.monotonic()
        kinds = foretell.trainings(workload, tier) | foretell.evaluations(workload)
        print(f"predicting {len(set(kinds.values()))} kinds took {time.monotonic() - began:.1f} s", flush=True)
        kept = True
        for what in ("trainings", "evaluations"):
            seconds = recorded(source, manifest[what])
            if not seconds:
                print(f"{what}: no times are recorded")
                continue
            seconds = quiet(seconds, kinds) if shortest else seconds
            order = [key for key in planned.trainings if key in seconds]
            if what == "evaluations":
                order = sorted(seconds, key=lambda key: kinds[key].left(), reverse=True)
            jobs = {key: manifest[what][key] for key in order}
            kept &= report(Replay(store, jobs, kinds, seconds, what.removesuffix("s")), workers)
        return kept


def real(tier: str) -> bool:
    """Run a tier in a copy of the project with an empty store; compare its first estimate with the time it takes."""
    kept = True
    with tempfile.TemporaryDirectory(prefix="progress-") as name:
        clone = Path(name) / "project"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        (clone / ".venv").symlink_to(ROOT / ".venv")
        for each in ("study", "pipelines", "params.yaml", "dvc.yaml"):  # as they are now
            subprocess.run(["cp", "-r", str(ROOT / each), str(clone)], check=True)
        environment = os.environ | {"STUDY_STORE": str(Path(name) / "runs"), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "study", "repro", tier]
        process = subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [(time.time(), line) for line in process.stdout]
        if process.wait():
            print("".join(line for _, line in lines), file=sys.stderr)
            return False
        starts = _starts(Path(name) / "runs")
    for noun in ("training", "evaluation"):
        start = next(i for i, (_, line) in enumerate(lines) if re.match(rf"\d+ {noun}s? to run", line))
        own = [(at, line) for at, line in lines[start:] if re.match(r"\[\d+/\d+\]", line)]
        ended = next(at for at, line in own if re.match(r"\[(\d+)/\1\]", line))
        at, line = next((at, line) for at, line in own if "about" in line)
        told = re.search(r"about (\d+) (s|min)", line)
        assert told is not None
        left, when, wall = int(told[1]) * (60 if told[2] == "min" else 1), at - starts[noun], ended - starts[noun]
        ratio = (when + left) / wall
        close = 1 / PROMISED <= ratio <= PROMISED or abs(when + left - wall) <= ROUNDED_S
        own_kept = when <= WITHIN_S and close
        kept &= own_kept
        print(
            f"{noun}s: {wall:.1f} s from the first one's start; {when:.1f} s after it {left} s were predicted: in all "
            f"{ratio:.2f} of the truth (promised: within {PROMISED}){'' if own_kept else ': NO'}",
            flush=True,
        )
    return kept


def _starts(store: Path) -> dict[str, float]:
    """When the first training and the first evaluation of a store began, from the times of its files."""
    found: dict[str, float] = {}
    for done in store.glob("*/DONE"):
        took = sum((read_json_or_none(done.parent / "result.json") or {"seconds": {}})["seconds"].values())
        noun = "training" if (done.parent / "training.json").exists() else "evaluation"
        found[noun] = min(found.get(noun, math.inf), done.stat().st_mtime - took)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", default="shapes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--store", type=Path, help="a run store with the tier's results")
    parser.add_argument("--quiet", action="store_true", help="replay the shortest time of each kind")
    parser.add_argument("--real", action="store_true", help="really run the tier")
    arguments = parser.parse_args()
    if arguments.real:
        return int(not real(arguments.tier))
    return int(not replayed(arguments.tier, arguments.store, arguments.workers, arguments.quiet))


if __name__ == "__main__":
    sys.exit(main())
