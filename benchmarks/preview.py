"""How far the hours that `study preview` foretells are from the truth, part by part, in real runs with an empty store.

    python -m benchmarks.preview                            # `smoke`, a folder of photographs, and a tier by chance
    python -m benchmarks.preview --only random --seed 7     # another tier by chance
    python -m benchmarks.preview --only camvid              # an hour on two cores; wants STUDY_DATA_CAMVID

Each tier is previewed and then run in a copy of the project. What else the machine does meanwhile makes a run longer
and foretells nothing, so the kernel's count of the time that a process was ready and had no core is taken out: *quiet*
seconds are those that an idle machine would have taken. Ratios are of foretold to quiet seconds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from study.store import machine
from study.store.code_digest import ROOT

PROMISED = 1.5
LOOK_S = 0.5
PARTS = {
    "data": "data",
    "ablate": "trainings",
    "evaluate": "evaluations",
    "tune": "search",
}  # of a stage; else the rest
FORETELL = """
import json, sys
from study.commands import preview
from study.config import tiers
found = preview.preview(tiers.read(), sys.argv[1])
print(json.dumps({part.name: part.seconds for part in found.parts}))
"""


class Watch(threading.Thread):
    """Seconds that the processes of a run store have had a core, and were ready for one in vain."""

    def __init__(self, store: Path) -> None:
        super().__init__(daemon=True)
        self.mark = f"STUDY_STORE={store}".encode()
        self.ours: dict[int, bool] = {}
        self.seen: dict[tuple[int, int], tuple[int, int]] = {}  # nanoseconds by process and thread
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        for path in Path("/proc").glob("[0-9]*"):
            process = int(path.name)
            try:
                if process not in self.ours:
                    self.ours[process] = self.mark in (path / "environ").read_bytes().split(b"\0")
                if self.ours[process]:
                    for thread in (path / "task").iterdir():
                        ran, waited, _ = (thread / "schedstat").read_text().split()
                        self.seen[process, int(thread.name)] = int(ran), int(waited)
            except OSError:  # it has ended
                continue

    def totals(self) -> tuple[float, float]:
        found = list(self.seen.values())
        return sum(ran for ran, _ in found) / 1e9, sum(waited for _, waited in found) / 1e9


def quiet(wall: float, ran: float, waited: float) -> float:
    """Seconds of ``wall`` that an idle machine would have taken: without the time that those who were ready waited, but
    never less than what they ran takes on all cores."""
    at_a_time = max(1.0, (ran + waited) / max(wall, 1e-9))
    return min(wall, max(ran / machine.cores(), wall - waited / at_a_time))


def run(params: dict[str, Any], tier: str) -> bool:
    """Preview and run a tier; returns whether the sum is as promised."""
    with tempfile.TemporaryDirectory(prefix="preview-") as name:
        clone, store = Path(name) / "project", Path(name) / "runs"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        (clone / ".venv").symlink_to(ROOT / ".venv")
        for each in ("study", "pipelines", "dvc.yaml"):  # as they are now
            shutil.rmtree(clone / each, ignore_errors=True)
            subprocess.run(["cp", "-r", str(ROOT / each), str(clone)], check=True)
        (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        environment = os.environ | {"STUDY_STORE": str(store), "PYTHONUNBUFFERED": "1"}
        watch = Watch(store)
        watch.start()
        marks = [("preview", time.monotonic(), watch.totals())]
        told = _lines([sys.executable, "-c", FORETELL, tier], clone, environment, watch, marks)
        foretold = json.loads(told[-1])
        print("\n".join(told[:-1]), flush=True)
        marks.append(("start", time.monotonic(), watch.totals()))
        _lines([sys.executable, "-m", "study", "repro", tier], clone, environment, watch, marks)
        marks.append(("", time.monotonic(), watch.totals()))
        watch.over.set()
    return _compare(tier, foretold, marks)


def _lines(command: list[str], clone: Path, environment: dict[str, str], watch: Watch, marks: list[Any]) -> list[str]:
    """What a command prints; ``marks`` gets the start of each stage."""
    process = subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = []
    for line in process.stdout:
        found.append(line.rstrip())
        if stage := re.match(r"Running stage '(\w+)@", line):
            watch.look()
            marks.append((stage[1], time.monotonic(), watch.totals()))
    if process.wait():
        raise SystemExit("\n".join([*found, f"{' '.join(command)} failed"]))
    watch.look()
    return found


def _compare(tier: str, foretold: dict[str, float | None], marks: list[Any]) -> bool:
    took: dict[str, tuple[float, float]] = {}
    for (stage, began, before), (_, ended, after) in zip(marks, marks[1:], strict=False):
        wall, ran, waited = ended - began, after[0] - before[0], after[1] - before[1]
        part = stage if stage == "preview" else PARTS.get(stage, "rest")
        so_far = took.get(part, (0.0, 0.0))
        took[part] = so_far[0] + wall, so_far[1] + quiet(wall, ran, waited)
        print(f"  {stage:10} {wall:7.1f} s, {ran:7.1f} s of cores, {waited:7.1f} s waited for one", flush=True)
    said = dict(foretold)
    said["data"] = (said.pop("reading") or 0) + (said.pop("features", None) or 0)
    wall, truth = (sum(pair[i] for part, pair in took.items() if part != "preview") for i in (0, 1))
    for part, seconds in said.items():
        if part in took and seconds:
            print(f"  {part:12} {seconds:7.1f} s foretold, {took[part][1]:7.1f} quiet: {seconds / took[part][1]:.2f}")
    total = sum(seconds or 0 for seconds in said.values())
    ratio, kept = total / truth, 1 / PROMISED <= total / truth <= PROMISED
    print(
        f"{tier}: {total:.0f} s foretold; {wall:.0f} s by the clock, {truth:.0f} s quiet: {ratio:.2f} of the truth "
        f"(promised: within {PROMISED}){'' if kept else ': NO'}; the preview took {took['preview'][0]:.0f} s "
        f"({took['preview'][1]:.0f} s quiet)",
        flush=True,
    )
    return kept


if __name__ == "__main__":
    sys.exit(0)
