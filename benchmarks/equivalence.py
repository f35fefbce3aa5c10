"""Whether trainings in bf16 score like those in fp32: two one-sided t tests over paired seeds, on the tune split.

    python -m benchmarks.equivalence                       # shapes: three heads, five seeds, 30 trainings
    python -m benchmarks.equivalence --tier camvid --margin 0.5

Seeds start at 900, where no plan has any. A head is equivalent if the 90 % interval of the mean difference (bf16 minus
fp32, points of mIoU) lies within the margin, which amounts to two one-sided tests at 5 %.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from study import metrics
from study.config import tiers
from study.data.prepare import prepare
from study.models.build import build
from study.spec.constants import MAIN
from study.spec.documents.data import Facts
from study.spec.heads import Variant, dense, gcn, stack
from study.spec.training import Training
from study.training.batches import cache_features, open_source
from study.training.count import measure
from study.training.device import settle
from study.training.loop import fit, start

HEADS = {"1x1": Variant(dense(1)), "GCN k=15": Variant(gcn(15)), "stack k=11": Variant(stack(11))}
PRECISIONS = ("fp32", "bf16")
FIRST_SEED = 900


def score(training: Training, facts: Facts, cache: Path) -> float:
    """mIoU on the tune split, in points."""
    settle("cpu")
    source = open_source(training, facts, cache, torch.device("cpu"))
    model = build(training.variant, training.network, source.classes, training.seed)
    state = start(model.to(memory_format=torch.channels_last), training.recipe)
    for _ in fit(state, source.training_batch, training.recipe):
        pass
    return 100 * metrics.score_all(*measure(model, source, "tune"))["miou"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", default="shapes")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--margin", type=float, default=0.5, help="points")
    parser.add_argument("--store", type=Path, help="a run store to keep the prepared data in")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    tier = tiers.load(tiers.read(), arguments.tier)
    main_, equivalent = tier.settings[MAIN], True
    with tempfile.TemporaryDirectory(prefix="equivalence-") as name:
        cache = (arguments.store or Path(name)) / "cache"
        facts = prepare(main_.data, main_.root, cache, tier.band_px)
        if main_.network.frozen:
            cache_features(main_.network, facts, cache, main_.recipe.flip)
        trainings = {
            (head, precision, seed): Training(
                variant, main_.data, main_.network, dataclasses.replace(main_.recipe, precision=precision), seed,
                tier.band_px,
            )
            for head, variant in HEADS.items()
            for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds)
            for precision in PRECISIONS
        }  # fmt: skip
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(arguments.processes, spawn) as pool:
            futures = {key: pool.submit(score, training, facts, cache) for key, training in trainings.items()}
            found = {}
            for key, future in futures.items():
                found[key] = future.result()
                print(*key, f"{found[key]:.2f}", flush=True)
    for head in HEADS:
        scores = [np.array([v for (h, p, _), v in found.items() if (h, p) == (head, name)]) for name in PRECISIONS]
        difference = scores[1] - scores[0]
        half = stats.t.ppf(0.95, len(difference) - 1) * difference.std(ddof=1) / math.sqrt(len(difference))
        within = abs(difference.mean()) + half < arguments.margin
        equivalent &= bool(within)
        print(
            f"{head}: fp32 {scores[0].mean():.2f}, bf16 {scores[1].mean():.2f}, difference {difference.mean():+.2f} "
            f"(90 % interval +-{half:.2f}): {'equivalent' if within else 'not shown to be equivalent'} within "
            f"{arguments.margin}"
        )
    return int(not equivalent)


if __name__ == "__main__":
    sys.exit(main())
