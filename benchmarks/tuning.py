"""Try a setting of a tier on its tune split, which no reported number uses.

    python -m benchmarks.tuning --tier shapes --variants "1x1;GCN k=15" --set recipe.lr=0.004 --set recipe.steps=1600

The tier's data must be prepared (``python -m pipelines.data``). One line per training: label, seed, mIoU on the tune
split (all present and frequent classes), boundary and internal accuracy where known, last loss, seconds.
"""

from __future__ import annotations

import argparse
import copy
import time

import torch
import yaml

from study import metrics, plan, tier
from study.allocator import keep_freed_memory
from study.data import frequent_classes, prepare
from study.engine import fit, start
from study.evaluate import count
from study.models import build
from study.source import cache_features, open_source
from study.spec import Training, Variant
from study.store import Store
from study.tier import MAIN


def variants_of(chosen: tier.Tier) -> dict[str, Variant]:
    """Every variant of the tier by its label."""
    cells = [cell for name in chosen.tables for cell in plan.TABLES[name].cells]
    found = [cell.variant for cell in cells if cell.trained] + list(chosen.extra)
    return {variant.label: variant for variant in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--data", default=MAIN, help="main, or the name of a control")
    parser.add_argument("--variants", default="1x1;GCN k=3;GCN k=7;GCN k=15", help="labels, separated by ;")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the tier, dotted")
    arguments = parser.parse_args()
    params = copy.deepcopy(tier.read())
    for setting in arguments.set:
        path, value = setting.split("=", 1)
        *parents, last = path.split(".")
        block = params["tiers"][arguments.tier]
        for name in parents:
            block = block[name]
        block[last] = yaml.safe_load(value)
    chosen, cache = tier.load(params, arguments.tier), Store().cache
    facts = prepare(chosen.data_sets[arguments.data], chosen.root, cache, chosen.band_px)
    if chosen.network.frozen:
        cache_features(chosen.network, facts, cache, chosen.recipe.flip)
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    frequent, recipe = frequent_classes(facts, chosen.frequent), chosen.recipe
    for label in arguments.variants.split(";"):
        for seed in map(int, arguments.seeds.split(",")):
            variant = variants_of(chosen)[label]
            training = Training(variant, chosen.data, chosen.network, recipe, seed, chosen.band_px)
            source = open_source(training, facts, cache, torch.device("cpu"))
            model = build(variant, chosen.network, source.classes, seed).to(memory_format=torch.channels_last)
            began, losses = time.monotonic(), []
            for _, loss in fit(start(model, recipe), source.training_batch, recipe):
                losses.append(float(loss))
            trained = time.monotonic() - began
            counts = count(model, source, "tune")
            evaluated = time.monotonic() - began - trained
            few = "" if frequent is None else f" frequent {100 * metrics.miou(counts, frequent):.1f}"
            tail = losses[-max(1, len(losses) // 20) :]
            print(
                f"{' '.join(arguments.set)} {label} seed {seed}: mIoU {100 * metrics.miou(counts):.1f}{few} "
                f"loss {sum(tail) / len(tail):.4f} train {trained:.1f} s evaluate {evaluated:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
