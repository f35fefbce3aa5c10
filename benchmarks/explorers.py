"""Whether Optuna's samplers beat chance: the best network after the same number of trials on a synthetic score.

    python -m benchmarks.explorers                          # 20 seeds, 60 trials: some minutes
    python -m benchmarks.explorers --seeds 5 --trials 20

The study is the project's own (study.ablation.explore_study) with the space of the tier `shapes`. Nothing is trained:
the score is a sum over the choices, with one interaction (large kernels pay at the finer level only with GCN) and an
optimal learning rate, drawn for each seed. Prints, by sampler, the regret (the best possible score minus the best
found) and its difference from random search with the 95 % t interval over paired seeds.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np

from study.ablation.explore_study import Exploration
from study.config import tiers
from study.config.schema import Chosen, Explore
from study.statistics.intervals import half_width

SAMPLERS = {
    "random": Chosen(name="RandomSampler"),
    "TPE": Chosen.model_validate({"name": "TPESampler", "multivariate": True}),
    "GP": Chosen(name="GPSampler"),
}
LEVELS = ("res3", "res4")


class Score:
    """A score from 0 to 1 of suggested values, with its own optimum."""

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.heads = dict(zip(("dense", "gcn", "stack"), draw.permutation([0.0, 0.1, 0.2]), strict=True))
        self.best = {level: int(draw.integers(0, 8)) for level in LEVELS}
        self.places = {name: float(draw.normal(0, 0.05)) for name in ("BR after heads", "BR after sums")}
        self.rate = float(draw.uniform(math.log(0.001), math.log(0.016)))

    def __call__(self, values: dict[str, Any]) -> float:
        family, found = values["head"], 0.0
        for level in LEVELS:
            k = values[f"k {level}"]
            weight = 0.3 if family == "gcn" or level == "res4" else 0.1
            found += weight * (1 - abs((k - 1) // 2 - self.best[level]) / 7)
        found += self.heads[family] + sum(gain for name, gain in self.places.items() if values.get(name))
        return found - 0.05 * (math.log(values["lr"]) - self.rate) ** 2

    @property
    def optimum(self) -> float:
        """The best possible score, found by trying all choices."""
        values: dict[str, Any] = {name: gain > 0 for name, gain in self.places.items()} | {"lr": math.exp(self.rate)}
        sizes = range(1, 16, 2)
        kernels = [{"k res3": one, "k res4": other} for one in sizes for other in sizes]
        return max(self(values | {"head": family} | k) for family in self.heads for k in kernels)


def regret(explore: Explore, sampler: Chosen, seed: int, trials: int) -> float:
    """The best possible score minus the best score of this many trials."""
    explore = explore.model_copy(update={"sampler": sampler, "seed": seed, "objective": "score"})
    study, score = Exploration(explore, LEVELS, f"{sampler.name} {seed}"), Score(seed)
    best = -math.inf
    for _ in range(trials):
        trial = study.ask()
        study.describe(trial, macs=1, parameters=1, memory=1)
        study.tell(trial, found := score(trial.params), 1)
        best = max(best, found)
    return score.optimum - best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=60)
    arguments = parser.parse_args()
    explore = tiers.load(tiers.read(), "shapes").explore
    assert explore is not None
    found = {
        name: np.array([regret(explore, sampler, seed, arguments.trials) for seed in range(arguments.seeds)])
        for name, sampler in SAMPLERS.items()
    }
    print(f"regret after {arguments.trials} trials, mean over {arguments.seeds} seeds")
    for name, values in found.items():
        gap = found["random"] - values
        beside = "" if name == "random" else f"; {gap.mean():.3f} ± {half_width(gap):.3f} less than random search"
        print(f"  {name:8}{values.mean():.3f}{beside}")


if __name__ == "__main__":
    main()
