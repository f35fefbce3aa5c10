"""Milliseconds per training step in two commits, for every variant of tiers, alternating in one run.

    python -m benchmarks.steps HEAD~3                          # against the working tree: shapes, camvid, voc_subset
    python -m benchmarks.steps HEAD~3 --tiers shapes --rounds 4 --steps 5

Each commit has its own process with one thread, like a worker. Both read real data, prepared once in a run store of the
benchmark. One process works while the other waits: a round is some steps of the one and then of the other, so other
work on the machine affects both. The ratio of a variant is the median of its rounds' ratios. The ratio of a tier weighs
each variant's milliseconds by the steps that the plan of the older commit gives it. Camvid and voc_subset need
STUDY_DATA_CAMVID and STUDY_DATA_VOC_SUBSET.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SERVER = """
import json, sys, time
from pathlib import Path
import torch
from study.config import tiers
from study.data.prepare import prepare
from study.models.build import build
from study.paper.labels import labels
from study.plan import planner
from study.training import class_weights
from study.training.batches import cache_features, open_source
from study.training.loop import fit, start
from study.training.worker import settle

settle("cpu")
cache, device = Path(sys.argv[1]) / "cache", torch.device("cpu")
out, sys.stdout = sys.stdout, sys.stderr
trainings, facts, loop = {}, {}, None

def load(name):
    global trainings, facts
    tier = tiers.load(tiers.read(), name)
    facts = {}
    for setting, given in tier.settings.items():
        facts[setting] = prepare(given.data, given.root, cache, tier.band_px)
        if given.network.frozen:
            cache_features(given.network, facts[setting], cache, given.recipe.flip)
    planned = planner.build(tier, facts, "cpu")
    trainings, steps = {}, {}
    for key, training in planned.trainings.items():
        label = f"{planned.data_of[key]}: {labels(training.variant)['label']}"
        trainings.setdefault(label, (training, planned.data_of[key], planned.origin(key)))
        steps[label] = steps.get(label, 0) + training.recipe.steps
    return steps

def begin(label):
    global loop
    training, setting, origin = trainings[label]
    source = open_source(training, facts[setting], cache, device, origin=facts[origin])
    model = build(training.variant, training.network, source.classes, training.seed)
    state = start(model.to(memory_format=torch.channels_last), training.recipe)
    weights = class_weights.weights_of(training.recipe, facts[setting])
    weights = None if weights is None else torch.tensor(weights)
    loop = fit(state, source.training_batch, training.recipe, weights=weights)

def run(number):
    began = time.perf_counter()
    for _ in range(number):
        if next(loop, None) is None:
            raise SystemExit("error: rounds x steps + 2 must be within a training's steps; take fewer")
    return (time.perf_counter() - began) / number

for line in sys.stdin:
    name, argument = json.loads(line)
    print(json.dumps({"load": load, "begin": begin, "run": run}[name](argument)), file=out, flush=True)
"""


class Server:
    """The code of a folder, running in its own process."""

    def __init__(self, folder: Path, store: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(folder), "STUDY_STORE": str(store)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(store)], cwd=folder, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def ask(self, name: str, argument: object) -> Any:
        assert self.process.stdin and self.process.stdout
        print(json.dumps([name, argument]), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def compare(servers: tuple[Server, Server], label: str, rounds: int, steps: int) -> tuple[float, float, float]:
    """Milliseconds per step before and after, and the median of the rounds' ratios."""
    for server in servers:
        server.ask("begin", label)
        server.ask("run", 2)  # the first steps plan convolutions and allocate memory
    pairs = [(servers[0].ask("run", steps), servers[1].ask("run", steps)) for _ in range(rounds)]
    before, after = (1e3 * statistics.median(side) for side in zip(*pairs, strict=True))
    return before, after, statistics.median(new / old for old, new in pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="a commit")
    parser.add_argument("--tiers", nargs="+", default=["shapes", "camvid", "voc_subset"])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5, help="of each commit per round")
    parser.add_argument("--only", default="", help="variants whose setting and label contain this")
    parser.add_argument("--store", type=Path, help="a run store to keep the prepared data in")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="steps-") as name:
        folder = Path(name) / "before"
        folder.mkdir()
        archive = subprocess.run(["git", "archive", arguments.before], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
        if (folder / "params.yaml").read_bytes() != (ROOT / "params.yaml").read_bytes():
            print("note: each commit uses its own params.yaml: if recipes or networks differ, so do the trainings")
        store = arguments.store or Path(name) / "store"
        servers = Server(folder, store), Server(ROOT, store)
        for tier in arguments.tiers:
            old, new = (server.ask("load", tier) for server in servers)
            for label in sorted(old.keys() ^ new.keys()):
                print(f"{tier}: not in both: {label}")
            total = [0.0, 0.0]
            for label in (label for label in old if label in new and arguments.only in label):
                before, after, ratio = compare(servers, label, arguments.rounds, arguments.steps)
                total[0] += old[label] * before
                total[1] += old[label] * before * ratio
                print(f"{tier:10} {before:8.1f} {after:8.1f} ms  {ratio:.2f}  {label}", flush=True)
            if total[0]:
                print(f"{tier}: ratio {total[1] / total[0]:.3f}, weighted by planned steps", flush=True)
        for server in servers:
            server.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
