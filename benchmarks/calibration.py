"""Whether the verdicts of study.statistics are wrong no more often than they say, and find what they say they find.

    python -m benchmarks.calibration                       # some 5 minutes on one core
    python -m benchmarks.calibration --simulations 4000

Simulates counts of four cells with effects of seeds, of images, and of both together, with nothing planted or with a
rise in equal steps, and judges mean IoU as a claim would. Four worlds: seeds vary most, both alike, images most,
and images most with each class in a tenth of them.
Printed are per cent of the simulations with their 95 % binomial intervals; ``!`` marks a rate of false verdicts whose
interval lies above what was promised.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass

import numpy as np
from scipy import stats

from study import metrics
from study.seeds import generator
from study.spread import Spread
from study.statistics import Counts, Effect, contrast, equivalent, holm, trend

ALPHA, DRAWS, IMAGES, CELLS, CLASSES = 0.05, 200, 80, 4, 3
SEEDS = (2, 3, 5, 10)
PILOTS = 2000


@dataclass(frozen=True)
class World:
    """Standard deviations of the chance that a pixel is right: by training, by (cell, image), by (training, image);
    ``rise`` is planted between the first and the last cell; a class is
    ``present`` in that share of the images."""

    name: str
    seed: float
    image: float
    both: float
    rise: float
    present: float = 0.6


WORLDS = (
    World("seeds", 0.025, 0.02, 0.05, 0.05),
    World("alike", 0.012, 0.08, 0.08, 0.05),
    World("images", 0.002, 0.12, 0.05, 0.05),
    World("rare", 0.002, 0.12, 0.05, 0.09, present=0.1),
)


def simulate(world: World, rise: float, seeds: int, draw: np.random.Generator) -> list[Counts]:
    """Counts (IMAGES, 2, CLASSES, 3) of CELLS cells. Images differ in size, in classes and in difficulty; a pixel that
    is wrong is taken for the next class."""
    sizes = draw.gamma(2.0, 20.0, (IMAGES, 1, 1)) * (draw.random((IMAGES, 1, CLASSES)) < world.present) * [[0.3], [0.7]]
    pixels = draw.poisson(sizes)
    shape = (CELLS, seeds, IMAGES)
    right = 0.7 + rise * np.linspace(0, 1, CELLS)[:, None, None]
    right = right + 0.1 * draw.normal(size=(1, 1, IMAGES)) + 0.02 * draw.normal(size=(1, seeds, 1))
    right = (
        right + world.seed * draw.normal(size=(CELLS, seeds, 1)) + world.image * draw.normal(size=(CELLS, 1, IMAGES))
    )
    right = np.clip(right + world.both * draw.normal(size=shape), 0.01, 0.99)
    hits = draw.binomial(pixels, right[..., None, None])
    missed = pixels - hits
    found = np.stack([hits, np.roll(missed, 1, axis=-1), missed], axis=-1)
    return [list(cell) for cell in found]


def truth(world: World) -> float:
    """The planted difference of last and first as mean IoU on IMAGES images, over simulations of its own."""
    differences = []
    for number in range(PILOTS):
        cells = simulate(world, world.rise, 4, generator("pilot", world.name, number))
        differences += [
            metrics.miou(last) - metrics.miou(first) for first, last in zip(cells[0], cells[-1], strict=True)
        ]
    return float(np.mean(differences))


@dataclass
class Judged:
    """One simulation: last against first, the slope, and Page's p."""

    difference: Effect
    slope: Effect
    page: float


def judge(world: World, rise: float, seeds: int, number: int) -> Judged:
    address = ("calibration", world.name, str(rise), seeds, number)
    cells = simulate(world, rise, seeds, generator(*address))
    difference = contrast([(1, cells[-1]), (-1, cells[0])], metrics.miou, ALPHA, DRAWS, (*address, "difference"))
    return Judged(difference, *trend(cells, metrics.miou, ALPHA, DRAWS, (*address, "trend")))


def rate(hits: list[bool], most: float | None = None) -> str:
    """Per cent with the exact binomial interval, marked where it lies above ``most``."""
    interval = stats.binomtest(sum(hits), len(hits)).proportion_ci(method="exact")
    mark = "!" if most is not None and interval.low > most else " "
    return f"{100 * np.mean(hits):5.1f} [{100 * interval.low:4.1f}, {100 * interval.high:4.1f}]{mark}"


def predicted(effects: list[Effect], true: float) -> str:
    """Power in per cent by the mean variances and the median degrees of freedom: what would be said of a study of which
    they are known."""
    seed, image = (float(np.mean([getattr(e.spread, part) for e in effects])) for part in ("seed", "image"))
    df = float(np.median([e.spread.image_df for e in effects]))
    return f"{100 * Spread(seed, image, effects[0].seeds, df).power(true, ALPHA):5.1f}"


def satterthwaite(effect: Effect) -> bool:
    """Whether a t test with estimated degrees of freedom would reject."""
    seed, image = effect.spread.seed / effect.seeds, effect.spread.image
    df = (seed + image) ** 2 / (seed**2 / (effect.seeds - 1) + image**2 / effect.spread.image_df)
    return bool(2 * stats.t.sf(abs(effect.estimate) / effect.se, df) <= ALPHA)


def bootstrap(effect: Effect) -> bool:
    """Whether a hierarchical bootstrap without a correction for few seeds would reject (its normal interval)."""
    variance = effect.spread.seed * (effect.seeds - 1) / effect.seeds**2 + effect.spread.image
    return abs(effect.estimate) > 1.96 * math.sqrt(variance)


def report(world: World, seeds: int, simulations: int, true: float) -> tuple[int, int]:
    """Print what came of it; the numbers of rates of false verdicts above what was promised, and of all of them."""
    null = [judge(world, 0.0, seeds, number) for number in range(simulations)]
    planted = [judge(world, world.rise, seeds, number) for number in range(simulations)]
    step = true / (CELLS - 1)
    print(f"{seeds} seeds")
    differences, slopes = [j.difference for j in planted], [j.slope for j in planted]
    rows = [
        ("false: difference", rate([j.difference.p <= ALPHA for j in null], ALPHA), ""),
        ("false: slope", rate([j.slope.p <= ALPHA for j in null], ALPHA), ""),
        ("false: Page's test", rate([j.page <= ALPHA for j in null], ALPHA), ""),
        ("false: any of two, Holm", rate([min(holm([j.difference.p, j.slope.p])) <= ALPHA for j in null], ALPHA), ""),
        (
            "false: equivalent at the margin",
            rate([equivalent(e, true, ALPHA) <= ALPHA for e in differences], ALPHA),
            "",
        ),
        ("false: interval misses difference", rate([not e.low <= true <= e.high for e in differences], ALPHA), ""),
        ("false: interval misses slope", rate([not e.low <= step <= e.high for e in slopes], ALPHA), ""),
        ("found: difference", rate([e.p <= ALPHA for e in differences]), predicted(differences, true)),
        ("found: slope", rate([e.p <= ALPHA for e in slopes]), predicted(slopes, step)),
        ("found: Page's test", rate([j.page <= ALPHA for j in planted]), ""),
        ("found: equivalent, truly 0", rate([equivalent(j.difference, true, ALPHA) <= ALPHA for j in null]), ""),
        ("not used: Satterthwaite, false", rate([satterthwaite(j.difference) for j in null], ALPHA), ""),
        ("not used: bootstrap alone, false", rate([bootstrap(j.difference) for j in null], ALPHA), ""),
    ]
    for name, observed, expected in rows:
        print(f"  {name:34} {observed} {'predicted ' + expected if expected else ''}".rstrip(), flush=True)
    false = [observed for name, observed, _ in rows if name.startswith("false")]
    return sum(observed.endswith("!") for observed in false), len(false)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000, help="of each world and number of seeds, twice")
    arguments = parser.parse_args()
    began = time.monotonic()
    size = f"{IMAGES} images, {CELLS} cells, {DRAWS} draws, alpha {ALPHA}"
    print(f"{arguments.simulations} simulations each, {size}; per cent")
    above = np.zeros(2, int)
    for world in WORLDS:
        true = truth(world)
        print(f"\nworld: {world.name} (planted: {100 * true:.2f} points of mean IoU from first to last)")
        for seeds in SEEDS:
            above += np.array(report(world, seeds, arguments.simulations, true))
    print(f"\n{above[0]} of {above[1]} rates of false verdicts lie above {ALPHA} by their intervals; were all of them")
    print(f"exactly {ALPHA}, chance alone would put {0.025 * above[1]:.1f} there.")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
