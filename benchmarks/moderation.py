"""Whether variances shrunk towards a common one can be used: how often they make a family of claims wrong.

    python -m benchmarks.moderation

Simulates studies of 20 variants without any difference. Each of 14 claims compares two variants, seed by seed, at 0.05
/ 14. A claim's own variance is compared with one that is moderated over all claims as in limma (Smyth 2004: a scaled
inverse chi-square prior, fitted to the logarithms of the variances). Prints the share of studies with a wrong claim, in
per cent; the worst world decides (D149).
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import optimize, special, stats

from study.seeds import generator

VARIANTS, CLAIMS, ALPHA = 20, 14, 0.05
SEEDS = (3, 5)


def spreads(world: str) -> np.ndarray:
    """(variants,) standard deviations over seeds."""
    place = np.arange(VARIANTS)
    if world == "ratio 25":  # of the variances, for every fourth variant
        return np.where(place % 4 == 3, 5.0, 1.0)
    if world == "tied to the mean":
        return 1 + 3 * place / (VARIANTS - 1)
    return np.ones(VARIANTS)


def pairs(world: str) -> list[tuple[int, int]]:
    """The claims: two variants each."""
    if world == "one baseline":
        return [(claim + 1, 0) for claim in range(CLAIMS)]
    return [(claim, claim + 5) for claim in range(CLAIMS)]


def prior(variances: np.ndarray, df: np.ndarray) -> tuple[float, float]:
    """Degrees of freedom and variance of the prior, from the moments of log variances; infinite if they are alike."""
    logs = np.log(variances) - special.digamma(df / 2) + np.log(df / 2)
    excess = logs.var(ddof=1) - special.polygamma(1, df / 2).mean()
    if excess <= 0:
        return np.inf, float(np.exp(logs.mean()))
    half = optimize.brentq(lambda x: special.polygamma(1, np.exp(x)) - excess, -10, 20)
    freedom = 2 * float(np.exp(half))
    return freedom, float(np.exp(logs.mean() + special.digamma(freedom / 2) - np.log(freedom / 2)))


def wrong(world: str, seeds: int, number: int) -> tuple[bool, bool]:
    """Whether a study has a wrong claim: with its own variances, and with moderated ones."""
    draw = generator("moderation", world, seeds, number)
    scores = spreads(world)[:, None] * draw.normal(size=(VARIANTS, seeds))
    effects = np.array([scores[a] - scores[b] for a, b in pairs(world)])
    n = np.full(CLAIMS, seeds)
    if world == "unequal seeds":  # every other claim has one less
        n[::2] = max(2, seeds - 1)
    means = np.array([effect[:k].mean() for effect, k in zip(effects, n, strict=True)])
    variances = np.array([effect[:k].var(ddof=1) for effect, k in zip(effects, n, strict=True)])
    df = n - 1.0
    own = 2 * stats.t.sf(np.abs(means) / np.sqrt(variances / n), df)
    before, common = prior(variances, df)
    if np.isinf(before):
        shrunk, freedom = np.full(CLAIMS, common), np.full(CLAIMS, 1e9)
    else:
        shrunk, freedom = (before * common + df * variances) / (before + df), before + df
    moderated = 2 * stats.t.sf(np.abs(means) / np.sqrt(shrunk / n), freedom)
    return bool((own < ALPHA / CLAIMS).any()), bool((moderated < ALPHA / CLAIMS).any())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=4000)
    studies = parser.parse_args().studies
    print(f"{'world':20} seeds   own  moderated")
    for world in ("alike", "ratio 25", "tied to the mean", "one baseline", "unequal seeds"):
        for seeds in SEEDS:
            found = np.mean([wrong(world, seeds, number) for number in range(studies)], axis=0)
            print(f"{world:20} {seeds:5} {100 * found[0]:5.1f} {100 * found[1]:10.1f}", flush=True)


if __name__ == "__main__":
    main()
