"""Stage data: check and read the tier's data sets, cache them (and a frozen backbone's features), write their facts."""

from __future__ import annotations

import sys

from study import stage, tier
from study.data import frequent_classes, prepare
from study.models import build
from study.source import cache_features
from study.spec import Variant, dense
from study.store import Store, write_json


def main() -> None:
    chosen = tier.load(tier.read())
    # A level that the backbone lacks or weights that misfit are told before anything is read.
    variants = [*chosen.extra, *(variant for _, control in chosen.controls for variant in control.variants)]
    named = {level for variant in variants for level, _ in variant.at}
    build(Variant(dense(1), at=tuple((level, dense(1)) for level in sorted(named))), chosen.network, 2, seed=0)
    cache, facts = Store().cache, {}
    for name, data in chosen.data_sets.items():
        found = prepare(data, chosen.root, cache, chosen.band_px, stage.ticker(f"reading {data.name} ({name})"))
        facts[name] = found | {"frequent": frequent_classes(found, chosen.frequent)}
        if chosen.network.frozen:
            tick = stage.ticker(f"features of {chosen.network.backbone} ({name})")
            cache_features(chosen.network, found, cache, chosen.recipe.flip, tick)
    write_json(stage.folder(chosen.name) / "data.json", facts)


if __name__ == "__main__":
    sys.exit(stage.run(main))
