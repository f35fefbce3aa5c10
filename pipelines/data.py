"""Stage data: check and read the tier's data sets, cache them (and a frozen backbone's features), write their facts."""

from __future__ import annotations

import sys

from study import inference, stage, tier
from study.data import frequent_classes, open_data, prepare
from study.models import build, inherit, stride_of
from study.paper import TABLES
from study.source import cache_features
from study.spec import InputError, Variant, dense
from study.store import Store, write_json


def main() -> None:
    chosen = tier.load(tier.read())
    _check(chosen)
    cache, facts = Store().cache, {}
    for name, setting in chosen.settings.items():
        tick = stage.ticker(f"reading {setting.data.name} ({name})")
        found = prepare(setting.data, setting.root, cache, chosen.band_px, tick)
        facts[name] = found | {"frequent": frequent_classes(found, chosen.frequent)}
    for name, setting in chosen.settings.items():
        if setting.after is not None:
            _check_inheritance(chosen, name, facts)
    for name, setting in chosen.settings.items():
        if setting.network.frozen:
            tick = stage.ticker(f"features of {setting.network.backbone} ({name})")
            cache_features(setting.network, facts[name], cache, setting.recipe.flip, tick)
    write_json(stage.folder(chosen.name) / "data.json", facts)


def _check(chosen: tier.Tier) -> None:
    """What would fail later is told before anything is read: a level that a backbone lacks, weights that misfit, crops
    that are larger than the images, a scale that leaves nothing, a library that is missing."""
    variants = [*chosen.extra, *(variant for setting in chosen.settings.values() for variant in setting.variants)]
    named = {level for variant in variants for level, _ in variant.at}
    build(Variant(dense(1), at=tuple((level, dense(1)) for level in sorted(named))), chosen.main.network, 2, seed=0)
    sizes = {}
    for name, setting in chosen.settings.items():
        source, crop = open_data(setting.data, setting.root), setting.recipe.crop
        sizes[name] = source.size
        if crop is not None and any(side > limit for side, limit in zip(crop, source.size, strict=True)):
            raise InputError(
                f"the crop of {name} must fit into its images of {source.size} (height, width), got {crop}; make "
                "recipe.crop smaller"
            )
    for cell in (cell for table in chosen.tables for cell in TABLES[table].cells):
        if cell.inference and chosen.reason(cell) is None:
            stride = stride_of(chosen.settings[cell.setting].network)
            inference.check(chosen.inference[cell.inference], sizes[cell.setting], stride)


def _check_inheritance(chosen: tier.Tier, name: str, facts: dict) -> None:
    """Raises InputError where the weights of a setting do not fit the next."""
    setting = chosen.settings[name]
    before = chosen.settings[setting.after or ""]
    first, second = (
        build(Variant(dense(1)) if s.task == tier.SEGMENT else None, s.network, len(facts[n]["classes"]), seed=0)
        for n, s in ((setting.after or "", before), (name, setting))
    )
    inherit(second, first.state_dict(), f"those of {setting.after!r}, from which {name!r} starts,")


if __name__ == "__main__":
    sys.exit(stage.run(main))
