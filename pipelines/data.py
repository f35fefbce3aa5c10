"""Stage data: fetch, check, read and cache the tier's data sets (and a frozen backbone's features), and write their
facts. Where a recipe has `precision: auto`, a speed probe of this device chooses the precision."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from study.config import kept_outputs, places, tiers
from study.config.execution import execution_of
from study.data import download
from study.data.prepare import DataSet, frequent_classes, open_data, prepare, training_size
from study.inference import predict
from study.models.build import build, check, inherit, stride_of
from study.paper.audit import maps
from study.paper.audit.sources import DIFFERS, Evidence
from study.paper.quotes import QUOTES
from study.spec.constants import MAIN, NOTHING
from study.spec.data_set_plugins import module_of
from study.spec.documents.data import Facts, Precision
from study.spec.errors import InputError
from study.spec.heads import Variant, dense
from study.store import stage
from study.store.runs import Store, write_json
from study.training import class_weights, speed_probe
from study.training.batches import cache_features


def main() -> None:
    params = tiers.read()
    chosen, device = tiers.load(params), execution_of(params).device
    kept_outputs.note(chosen.name)
    store = Store()
    places.check(params, store, chosen.name)
    cache, facts = store.cache, dict[str, Facts]()
    sources = _open_all(chosen, cache)
    _check(chosen, sources)
    for name, setting in chosen.settings.items():
        tick = stage.ticker(f"reading {setting.data.name} ({name})")
        facts[name] = prepare(setting.data, setting.root, cache, chosen.band_px, tick=tick, stream=setting.stream)
    settle_frequent(facts, chosen.frequent)
    if chosen.scale != NOTHING and chosen.judged_by == "miou_frequent" and not facts[MAIN]["frequent"]:
        images, pixels = chosen.frequent or (0, 0)
        raise InputError(
            f"tiers.{chosen.name}.frequent leaves no class to judge claims by: none is in at least {images} training "
            f"images with at least {100 * pixels:g} % of the labelled pixels; lower min_images or min_pixels, or "
            "write judged_by: miou"
        )
    _note(facts)
    _audit({key: number for found in facts.values() for key, number in found["listed"].items()})
    for name, setting in chosen.settings.items():
        if setting.after is not None:
            _check_inheritance(chosen, name, facts)
    for name, setting in chosen.settings.items():
        if setting.network.frozen:
            tick = stage.ticker(f"features of {setting.network.backbone} ({name})")
            cache_features(setting.network, facts[name], cache, setting.recipe.flip, tick)
    told = set()
    for name, setting in chosen.settings.items():
        if setting.recipe.precision == "auto":
            found = facts[name]["precision"] = _precision(setting, sources[name], device, cache)
            told.add(
                f"precision auto: {found['precision']} on {found['device']} (a step takes {found['fp32_s']:.2f} s in "
                f"fp32, {found['bf16_s']:.2f} s in bf16)"
            )
    for line in sorted(told):
        print(line, flush=True)
    write_json(stage.folder(chosen.name) / "data.json", facts)


def settle_frequent(facts: dict[str, Facts], rule: tuple[int, float] | None) -> None:
    """Add each setting's frequent classes to its facts. A setting with main's classes gets main's frequent classes: a
    stage that sees fewer images is compared with the others, so it is scored on the same classes (D04)."""
    main = facts[MAIN]
    for found in facts.values():
        own = main if found["classes"] == main["classes"] else found
        found["frequent"] = frequent_classes(own, rule)


def _open_all(chosen: tiers.Tier, cache: Path) -> dict[str, DataSet]:
    """Open the data set of each setting. Fetch those that do not open, if that is allowed, after all others have
    opened: so an error about a set that a user must provide comes before the first download."""
    found, wanted = {}, dict[Path, dict[str, download.Archive]]()
    for name, setting in chosen.settings.items():
        module, options = module_of(setting.data)
        offered = module.archives(options) if setting.fetch and hasattr(module, "archives") else ()
        if setting.root is None or not offered:
            found[name] = _open(name, setting, cache)
            continue
        begun = any(archive.marker(setting.root).exists() for archive in offered)  # left half unpacked
        try:
            if not begun:
                found[name] = _open(name, setting, cache)
        except InputError:
            if not download.missing(offered, setting.root):  # fetching would not help
                raise
        if name not in found:
            wanted.setdefault(setting.root, {}).update({archive.name: archive for archive in offered})
    for root, archives in wanted.items():
        mirrors = download.mirrors_from(os.environ.get("STUDY_MIRROR"))
        download.fetch(archives.values(), root, mirrors, lambda what: stage.ticker(what, 2**20, " MiB"))
    return {n: found[n] if n in found else _open(n, setting, cache) for n, setting in chosen.settings.items()}


def _open(name: str, setting: tiers.Setting, cache: Path) -> DataSet:
    return open_data(setting.data, setting.root, cache, stage.ticker(f"annotations of {setting.data.name} ({name})"))


def _note(facts: dict[str, Facts]) -> None:
    """Print what is odd about the images, and the classes that no training image shows: these hint at a wrong class
    list, or at masks with other labels."""
    for found in {found["fingerprint"]: found for found in facts.values()}.values():
        for note in found["notes"]:
            print(f"note: {found['name']}: {note}")
        if unseen := [label for label, n in zip(found["classes"], found["pixels"], strict=True) if not n]:
            print(f"note: no training image of {found['name']} shows {', '.join(unseen)}")


def _audit(listed: dict[str, int]) -> None:
    """Print where the official lists differ from the paper's counts."""
    for line in maps.listed(Evidence({}, {"listed": listed}, QUOTES)):
        if line.verdict == DIFFERS:
            print(f"note: {line.what}: the paper has {line.printed}, these lists {line.recomputed}")


def _precision(setting: tiers.Setting, source: DataSet, device: str, cache: Path) -> Precision:
    classify, size = setting.task == tiers.CLASSIFY, training_size(source)
    return speed_probe.precision(
        setting.network, setting.recipe, classify, classes=len(source.classes), size=size, device=device, cache=cache
    )


def _check(chosen: tiers.Tier, sources: dict[str, DataSet]) -> None:
    """Raise now, before anything is read, what would fail later: a level that a backbone lacks, weights that do not
    fit, crops larger than the images, a scale that leaves nothing, a missing library."""
    asked = [(MAIN, variant) for variant in chosen.extra]
    asked += [(name, variant) for name, setting in chosen.settings.items() for variant in setting.variants]
    asked += [
        (name, one) for m in chosen.mechanisms.values() for name in (m.shows, m.absent) for one in (m.better, m.worse)
    ]
    levels: dict[str, set[str]] = {MAIN: set()}
    for name, variant in asked:
        if variant.at:
            levels.setdefault(name, set()).update(level for level, _ in variant.at)
    for name, named in levels.items():
        at = tuple((level, dense(1)) for level in sorted(named))
        build(Variant(dense(1), at=at), chosen.settings[name].network, 2, seed=0)
    for name, setting in chosen.settings.items():
        source, crop = sources[name], setting.recipe.crop
        trained = training_size(source)
        class_weights.check(setting.recipe, source.classes, name)
        if crop is not None and any(side > limit for side, limit in zip(crop, trained, strict=True)):
            raise InputError(
                f"the crop of {name} must fit into its training images of {trained} (height, width), got {crop}; make "
                "recipe.crop smaller"
            )
        seen = {"images of": source.size, "training images of": crop or trained}
        for what, size in seen.items():
            check(setting.network, size, f"{what} {name}")
    for cell in chosen.cells:
        if cell.inference and chosen.reason(cell) is None:
            stride = stride_of(chosen.settings[cell.setting].network)
            predict.check(chosen.inference[cell.inference], sources[cell.setting].size, stride)


def _check_inheritance(chosen: tiers.Tier, name: str, facts: dict[str, Facts]) -> None:
    """Raises InputError if a setting cannot start from the weights of the one before it."""
    setting = chosen.settings[name]
    before = chosen.settings[setting.after or ""]
    first, second = (
        build(Variant(dense(1)) if s.task == tiers.SEGMENT else None, s.network, len(facts[n]["classes"]), seed=0)
        for n, s in ((setting.after or "", before), (name, setting))
    )
    inherit(second, first.state_dict(), f"those of {setting.after!r}, from which {name!r} starts,")


if __name__ == "__main__":
    sys.exit(stage.run(main))
