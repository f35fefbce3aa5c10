"""Whether the verdicts that a preview predicts arrive: claims decided by each look, predicted and found.

    python -m benchmarks.power                          # some ten minutes on two cores
    python -m benchmarks.power --studies 50 --truths paper

A pilot study of simulated trainings (benchmarks.worlds, normal seeds) predicts how many claims each look decides, as
`make preview` does from earlier scores. Other studies of the same world are then judged with looks. Printed are the
means over studies, with the 95 % interval of what was found. A prediction is one claim's chance at its own level, and
counts neither what decided claims pass on nor that a study leaves claims that are out of reach.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from benchmarks import calibration, worlds
from benchmarks.worlds import TRUTHS, WORLDS
from study.commands import expect
from study.statistics import sequence

FIRST, MOST = 5, 13
PLANTED = ("paper", "bent", "half")
STUDIES, PILOTS = 200, 0.25  # pilots: a share of the studies
FAR = 1.5  # claims


def predicted(truth: str, number: int) -> list[float]:
    """Claims that a pilot with the first seeds expects to be decided, by look."""
    of = calibration._layout(FIRST, MOST)
    seen = worlds.simulate(WORLDS["normal"], TRUTHS[truth], of, 10**6 + number)
    expected = expect.chances(of.plan, seen.of_seeds(of.seeds[:FIRST]))
    return [sum(column) for column in zip(*(found for found, _ in expected.values()), strict=True)]


def found(truth: str, number: int) -> list[int]:
    """Claims that a study decided, by look."""
    of = calibration._layout(FIRST, MOST)
    seen = worlds.simulate(WORLDS["normal"], TRUTHS[truth], of, number)
    with calibration.what_decides():
        course = sequence.follow(of.plan, seen, [of.claims])
    looks = len(sequence.of_plan(of.plan).at)
    decided = [answer.look for answer in course.answers.values() if answer.left == sequence.DECIDED_THERE]
    return [sum(look <= until for look in decided) for until in range(looks)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=STUDIES, help="per truth")
    parser.add_argument("--truths", nargs="+", choices=PLANTED, default=PLANTED)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (all cores)")
    arguments = parser.parse_args()
    if arguments.studies < 8 or arguments.workers < 1:
        parser.error("--studies must be at least 8, --workers at least 1")
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    looks = sequence.of_plan(calibration._layout(FIRST, MOST).plan).at
    pilots, worst = max(2, round(PILOTS * arguments.studies)), 0.0
    print(f"{'truth':10}{'seeds':>6}{'predicted':>11}{'found':>8}   claims decided")
    with ProcessPoolExecutor(arguments.workers, multiprocessing.get_context("spawn")) as pool:
        for truth in arguments.truths:
            told = list(pool.map(predicted, [truth] * pilots, range(pilots)))
            seen = list(pool.map(found, [truth] * arguments.studies, range(arguments.studies)))
            for seeds, before, after in zip(looks, zip(*told, strict=True), zip(*seen, strict=True), strict=True):
                half = 1.96 * float(np.std(after, ddof=1)) / len(after) ** 0.5
                mean, hoped = statistics.mean(after), statistics.mean(before)
                worst = max(worst, abs(mean - hoped))
                print(f"{truth:10}{seeds:6}{hoped:11.1f}{mean:8.1f}   ± {half:.1f}", flush=True)
    print(f"largest difference: {worst:.1f} claims ({'within' if worst <= FAR else 'above'} {FAR})")
    return int(worst > FAR)


if __name__ == "__main__":
    sys.exit(main())
