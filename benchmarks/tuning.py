"""Try a setting of a tier on its tune split, which no reported number uses.

    python -m benchmarks.tuning --tier shapes --variants "1x1;GCN k=15" --set recipe.lr=0.004 --set recipe.steps=1600

Prints one line per training: setting, label, seed, leading metric on the tune split (and mIoU over the frequent
classes), last loss, seconds. If a setting starts from another one, that one is trained first.
"""

from __future__ import annotations

import argparse
import copy
import time
from typing import Any

import torch
import yaml

from study import metrics
from study.config import tiers
from study.data.prepare import frequent_classes, prepare
from study.models.build import build, inherit
from study.paper import tables
from study.spec.constants import MAIN
from study.spec.documents.data import Facts
from study.spec.heads import Variant
from study.spec.training import Training
from study.store.runs import Store
from study.training.batches import cache_features, open_source
from study.training.count import measure
from study.training.loop import fit, start
from study.training.memory import keep_freed_memory


def variants_of(chosen: tiers.Tier) -> dict[str, Variant]:
    """Every variant of the tier by its label."""
    cells = [cell for name in chosen.tables for cell in tables.TABLES[name].cells]
    found = [cell.variant for cell in cells if cell.variant is not None] + list(chosen.extra)
    return {variant.label: variant for variant in found}


def stages(chosen: tiers.Tier, name: str | None) -> list[str]:
    """A setting, preceded by those that it starts from."""
    return [] if name is None else [*stages(chosen, chosen.settings[name].after), name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--setting", default=MAIN, help="main, or the name of a control or of another setting")
    parser.add_argument("--variants", default="1x1;GCN k=3;GCN k=7;GCN k=15", help="labels, separated by ;")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the tier, dotted")
    arguments = parser.parse_args()
    params = copy.deepcopy(tiers.read())
    for setting in arguments.set:
        path, value = setting.split("=", 1)
        *parents, last = path.split(".")
        block: Any = params["tiers"][arguments.tier]
        for name in parents:
            block = block[name]
        block[last] = yaml.safe_load(value)
    chosen, cache = tiers.load(params, arguments.tier), Store().cache
    names, facts = stages(chosen, arguments.setting), {}
    for name in names:
        setting = chosen.settings[name]
        facts[name] = prepare(setting.data, setting.root, cache, chosen.band_px)
        if setting.network.frozen:
            cache_features(setting.network, facts[name], cache, setting.recipe.flip)
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for label in arguments.variants.split(";"):
        for seed in map(int, arguments.seeds.split(",")):
            state = None
            for name in names:
                print(f"{' '.join(arguments.set)} {name}: {label} seed {seed}:", end=" ", flush=True)
                state = train(
                    chosen,
                    name,
                    variants_of(chosen)[label],
                    seed=seed,
                    facts=facts,
                    origin=facts[names[0]],
                    state=state,
                )


def train(
    chosen: tiers.Tier,
    name: str,
    variant: Variant,
    seed: int,
    facts: dict[str, Facts],
    origin: Facts,
    state: dict | None,
) -> dict:
    """Train in the setting ``name`` from ``state`` and print the result. Returns the weights."""
    setting = chosen.settings[name]
    asked = variant if setting.task == tiers.SEGMENT else None
    training = Training(asked, setting.data, setting.network, recipe=setting.recipe, seed=seed, band_px=chosen.band_px)
    source = open_source(training, facts[name], Store().cache, torch.device("cpu"), origin=origin)
    model = build(asked, setting.network, source.classes, seed)
    if state is not None:
        inherit(model, state, "those of the stage before")
    model = model.to(memory_format=torch.channels_last)
    began, losses = time.monotonic(), []
    for _, loss in fit(start(model, setting.recipe), source.training_batch, setting.recipe):
        if loss is not None:
            losses.append(float(loss))
    trained = time.monotonic() - began
    kind, measured = measure(model, source, "tune")
    metric, value = next(iter(metrics.score_all(kind, measured).items()))
    frequent = frequent_classes(facts[name], chosen.frequent)
    few = "" if frequent is None else f" frequent {100 * metrics.miou(measured, frequent):.1f}"
    tail = losses[-max(1, len(losses) // 20) :]
    print(f"{metric} {100 * value:.1f}{few} loss {sum(tail) / len(tail):.4f} train {trained:.1f} s", flush=True)
    return model.state_dict()


if __name__ == "__main__":
    main()
