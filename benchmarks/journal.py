"""What the project's own journal saves over Optuna's: the driver's milliseconds per trial.

    python -m benchmarks.journal                   # a study of 10,000 trials; half a minute
    python -m benchmarks.journal --trials 1000

A study gets its planned trials as in the ablation, with Optuna's JournalFileBackend and with the project's journal.
Then --asked of them are asked and told, with a learning curve of ten values each. Prints wall-clock milliseconds for
entering a trial, and for asking and telling one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.ablation.optuna_study import _Journal

SPACE = {"head": CategoricalDistribution(("GCN", "kxk")), "seed": IntDistribution(0, 10**6)}
CURVE = 10  # values


def _library(log: Path) -> tuple[JournalStorage, Any]:
    return JournalStorage(JournalFileBackend(str(log))), nullcontext


def _journal(log: Path) -> tuple[JournalStorage, Any]:
    journal = _Journal(log)
    return JournalStorage(journal), journal.together


WAYS: dict[str, Callable[[Path], tuple[JournalStorage, Any]]] = {
    "Optuna's journal": _library,
    "own journal": _journal,
}


@contextmanager
def _timed(times: list[float]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    times.append(time.perf_counter() - began)


def measure(way: Callable[[Path], tuple[JournalStorage, Any]], trials: int, asked: int) -> tuple[float, float]:
    """Milliseconds for entering a trial, and for asking and telling one."""
    entered, told = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        storage, together = way(Path(folder) / "journal.log")
        study = optuna.create_study(
            storage=storage, sampler=optuna.samplers.RandomSampler(seed=0), direction="maximize"
        )
        with _timed(entered), together():
            for seed in range(trials):
                study.enqueue_trial({"head": "GCN", "seed": seed})
        with _timed(told):
            for _ in range(asked):
                with together():
                    trial = study.ask(SPACE)
                with together():
                    for step in range(CURVE):
                        trial.report(0.5, step)
                    study.tell(trial, 0.5)
    return 1000 * entered[0] / trials, 1000 * told[0] / asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--asked", type=int, default=100)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"a study of {arguments.trials:,} trials, {arguments.asked} of them asked and told; milliseconds per trial")
    for name, way in WAYS.items():
        entered, told = measure(way, arguments.trials, arguments.asked)
        print(f"  {name:32} entering {entered:8.2f}   asking and telling {told:8.2f}", flush=True)


if __name__ == "__main__":
    main()
