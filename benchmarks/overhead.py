"""The pipeline's cost on top of the trainings, as ratios.

    python -m benchmarks.overhead              # all measurements; needs a tier that has been run
    python -m benchmarks.overhead --tier shapes

1. Ablate: wall time of the stage's last run over the larger of (sum of its jobs' own training and evaluation times
   / workers) and (the longest job). At most 1.1 is promised. Only a run that trained the whole plan counts.
2. Explore, if the tier has an exploration: wall time from its first trial to its last, over its trainings' own times /
   workers. At most 1.05 is promised with two workers. A pause between two runs of the exploration counts as wall time.
3. Repro: a second ``dvc repro`` with nothing changed against an empty DVC pipeline of as many stages, in turn, in one
   run. At most 2 s more is promised.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.ablation.explore import study_of
from study.config import tiers
from study.spec.documents.explored import ExploredFile
from study.spec.documents.provenance import ProvenanceFile
from study.spec.documents.reading import read
from study.store import stage
from study.store.runs import Run, Store

ROUNDS = 5


def ablate(name: str) -> None:
    """Print measurement 1 from the tier's provenance."""
    provenance = read(Path("reports") / name / "provenance.json", ProvenanceFile)
    jobs = [sum(run["seconds"].values()) for run in provenance["runs"].values() if "seconds" in run]
    executed, planned = provenance["trainings"]["executed"], provenance["trainings"]["planned"]
    bound = max(sum(jobs) / provenance["workers"], max(jobs))
    wall = provenance["seconds"]["wall"]
    print(f"ablate, tier {name}: {executed} of {planned} trainings executed by {provenance['workers']} workers")
    print(f"  wall {wall:.1f} s, jobs {sum(jobs):.1f} s, longest {max(jobs):.1f} s, bound {bound:.1f} s")
    if executed == planned:
        print(f"  wall / bound = {wall / bound:.3f} (promised: at most 1.1)")
    else:
        print("  no ratio: the last run did not execute the whole plan")


def explore(name: str) -> None:
    """Print measurement 2 from the tier's exploration and its study."""
    explored, store = read(Path("reports") / name / "explored" / "explored.json", ExploredFile), Store()
    if not explored["on"] or not store.study_log(name).is_file():
        return
    storage = JournalStorage(JournalFileBackend(str(store.study_log(name))))
    if study_of(name) not in optuna.get_all_study_names(storage):
        print(f"explore, tier {name}: its study is not in {store.root}")
        return
    trials = [t for t in optuna.load_study(study_name=study_of(name), storage=storage).trials if t.datetime_complete]
    began = min(trial.datetime_start for trial in trials if trial.datetime_start)
    wall = (max(trial.datetime_complete for trial in trials if trial.datetime_complete) - began).total_seconds()
    jobs = [_seconds(store.run(key)) for key in {trial["key"] for trial in explored["trials"]}]
    workers = explored["workers"]
    print(f"explore, tier {name}: {len(trials)} trials by {workers} workers")
    print(f"  wall {wall:.1f} s, trainings {sum(jobs):.1f} s, longest {max(jobs):.1f} s")
    if wall * workers >= sum(jobs):
        print(f"  wall / (trainings / workers) = {wall * workers / sum(jobs):.3f} (promised: at most 1.05)")
    else:
        print("  no ratio: some trainings were done before")


def _seconds(run: Run) -> float:
    """Seconds of a training and its evaluation, or up to where it was stopped early."""
    result = run.read("result.json")
    return sum(result["seconds"].values()) if result else (run.read("progress.json") or {}).get("seconds", 0.0)


def repro() -> None:
    """Print measurement 3: medians over ROUNDS pairs, this pipeline and an empty one in turn."""
    stages = 6
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder)
        empty.joinpath("dvc.yaml").write_text(
            json.dumps({"stages": {f"s{i}": {"cmd": f"echo {i} > {i}", "outs": [str(i)]} for i in range(stages)}})
        )
        shutil.copytree(".dvc", empty / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
        subprocess.run(["git", "init", "-q"], cwd=empty, check=True)
        _repro(empty)
        _repro(Path.cwd())
        pairs = [(_repro(Path.cwd()), _repro(empty)) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    more = statistics.median(a - b for a, b in pairs)
    print(f"second repro, {ROUNDS} pairs: this pipeline {ours:.2f} s, an empty one of {stages} stages {theirs:.2f} s")
    print(f"  ratio {ours / theirs:.2f}, difference {more:.2f} s (promised: at most 2 s)")


def _repro(folder: Path) -> float:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: `dvc repro` must succeed before it can be timed:\n{done.stderr}")
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", default=None, help="a tier that has been run (default: that of params.yaml)")
    arguments = parser.parse_args()
    name = tiers.load(tiers.read(), arguments.tier).name
    ablate(name)
    explore(name)
    repro()


if __name__ == "__main__":
    sys.exit(stage.run(main))
