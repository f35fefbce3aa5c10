"""Shows what a tier will cost before anything runs: trainings, steps, hours on this device, disk, and missing data."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np

from study.ablation import planned_cost, room
from study.commands import expect, rehearse
from study.commands.forecast import Forecast, Setting, forecast, here
from study.config import places, tiers
from study.config.execution import Execution, execution_of, rehearsed, trainings_a_gpu
from study.data import download
from study.data.prepare import DataSet, open_data, padded, read_before, training_size
from study.data.sample import Sample, sample
from study.models.build import build_backbone, check, untrained
from study.plan import planner
from study.spec.data_set_plugins import module_of
from study.spec.digest import digest
from study.spec.documents import gpu_check
from study.spec.documents.data import Facts
from study.spec.documents.reading import read
from study.spec.documents.tier import Params
from study.spec.errors import InputError
from study.spec.training import Network
from study.spec.words import counted, duration
from study.store import stage
from study.store.runs import Store, weights_digest
from study.training import class_weights, speed_probe
from study.training.batches import features_folder

GIB = 2**30
HALF = 2  # bytes of a cached feature
UNKNOWN = "unknown"
SHOWN = 3  # errors of images that are printed in full
# Numbers of images of the official val splits, for data sets that are missing.
VAL_IMAGES = {"voc": 1449, "coco": 1449, "cityscapes": 500, "imagenet": 50_000}


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known about a setting's data: the number of classes, (height, width) of training (``train``) and other
    (``size``) images, counts of images by split, the opened ``sample`` and one ``picture`` (None: none was opened), the
    facts of an earlier reading (``read``), and what is missing, in words (``lacks``)."""

    classes: int
    train: tuple[int, int]
    size: tuple[int, int]
    images: dict[str, int]
    sample: Sample | None = None
    picture: np.ndarray | None = None
    read: Facts | None = None
    lacks: str = ""


def preview(params: Params, name: str | None, every: bool = False, hours: float | None = None) -> Forecast:
    """Print what a tier will run and cost on this device, and return the forecast. Trains and fetches nothing.

    If the tier draws seeds by need, the forecast covers its first look, and ``hours`` sets its budget in params.yaml.
    Opens some images and masks of each split, or ``every`` one. Raises InputError for a mistake in the tier, for images
    that would end the data stage (one error for all that were found), and for a place that is not writable. Missing
    data and a disk that is too small are printed, not raised.
    """
    chosen, store = tiers.load(params, name), Store()
    execution = execution_of(params | {"tier": chosen.name})
    places.check(params, store, chosen.name)
    for setting in chosen.settings.values():
        weights_digest(setting.network)  # raises InputError for a missing file before anything is probed
    print(f"tier {chosen.name}: {chosen.title}\n", flush=True)
    known = _known(params, chosen, store.cache, every)
    _data(chosen, known)
    _refuse({setting.data: known[name].sample for name, setting in chosen.settings.items()}.values())
    facts, first = _facts(chosen, known, execution.device, store.cache), chosen
    if chosen.by_need:
        first = dataclasses.replace(chosen, seeds=chosen.first_seeds, by_need=None)
    elif hours is not None:
        raise InputError(
            f"hours need a tier that draws seeds by need, got {chosen.name}; write its seeds as "
            "{start: 0, first: 5, most: 13}"
        )
    planned = planner.build(first, facts, execution.device)
    done = {key for key in planned.trainings if store.run(key).path("DONE").is_file()}
    seen = {name: _seen(setting, known[name], store.cache) for name, setting in chosen.settings.items()}
    foretold = forecast(planned, seen, execution, store, bool(params.get("tune", False)))
    _work(planned, foretold, execution, done)
    if params["execution"]["gpus_per_training"] == "auto" and execution.device == "cuda":
        print(f"  gpus_per_training auto: {_share(chosen.name)}")
    left = [key for key in planned.trainings if key not in done]
    _on_checked_gpu(planned, left, seen, store)
    _disk(planned, known, seen, execution, left=left, store=store)
    if chosen.by_need:
        _by_need(chosen, planned, seen, foretold=foretold, store=store, hours=hours)
    return foretold


def _on_checked_gpu(planned: planner.Plan, left: list[str], seen: dict[str, Setting], store: Store) -> None:
    """Print how long the trainings take on the GPU that was checked last, if its check had this tier's network."""
    try:
        known = read(store.root / gpu_check.FILE, gpu_check.GpuCheckFile)
    except InputError:  # none, a damaged one, or another version's
        return
    if (step := known["steps"].get(planned.tier.name)) is None or known["device"]["kind"] != "cuda":
        return
    facts = {name: cast(Facts, {**planned.facts[name], **sees.facts}) for name, sees in seen.items()}
    cost = sum(planned_cost.of_training(planned.trainings[key], facts[planned.data_of[key]]) for key in left)
    hours = duration(cost * planned_cost.TERA / step["work_per_s"])
    print(f"\n  trainings on one {known['device']['name']}, by its check: {hours}")


def _by_need(
    chosen: tiers.Tier,
    first: planner.Plan,
    seen: dict[str, Setting],
    *,
    foretold: Forecast,
    store: Store,
    hours: float | None,
) -> None:
    """Print what the looks of a tier cost and should decide; writes the budget for ``hours``."""
    facts = {name: cast(Facts, {**first.facts[name], **seen[name].facts}) for name in first.facts}
    if hours is not None and chosen.by_need:  # ignore the old budget, which may be too small
        chosen = dataclasses.replace(chosen, by_need=chosen.by_need.model_copy(update={"budget": None}))
    planned = planner.build(chosen, facts, first.device)
    plan = planned.manifest(planned_cost.of_plan(planned))
    work = plan["sequence"]["work"]
    left = [key for key in first.trainings if not store.run(key).path("DONE").is_file()]
    left += [key for key in first.evaluations if not store.run(key).path("DONE").is_file()]
    seconds = {part.name: part.seconds for part in foretold.parts}
    budget = expect.tell(plan, sum(work[key] for key in left), seconds, hours)
    if budget is not None:
        expect.write(Path("params.yaml"), chosen.name, budget)
        print(f"\n  params.yaml: tiers.{chosen.name}.seeds now has budget: {budget:g}")


def _refuse(samples: Iterable[Sample | None]) -> None:
    """Raises InputError if an image would end the data stage: its error, or one for several."""
    found = [error for sample in samples if sample for error in sample.errors]
    if len(found) > 1:
        told = "".join(f"\n({place}) {error}" for place, error in enumerate(found[:SHOWN], 1))
        more = f"\nand {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise InputError(f"images and masks must be readable, got {len(found)} errors:{told}{more}")
    if found:
        raise found[0]


def _seen(setting: tiers.Setting, known: Known, cache: Path) -> Setting:
    """The facts of a setting that a forecast needs."""
    reading = 0.0 if known.read else known.sample.seconds if known.sample else None
    cached = False
    if known.read and setting.network.frozen:
        folder = features_folder(setting.network, known.read, cache, setting.recipe.flip)
        cached = (folder / "meta.json").is_file()
    return Setting(
        known.classes,
        known.train,
        known.size,
        known.images,
        reading=reading,
        picture=known.picture,
        cached=cached,
    )


def _share(name: str) -> str:
    """The value that gpus_per_training: auto gets, and why."""
    known = rehearsed(name)
    if known is None:
        return f"1, because no rehearsal has measured this tier's GPU memory; run `make rehearse TIER={name}`"
    peak, memory = known
    share = counted(trainings_a_gpu(peak, memory), "training")
    return f"{share} per GPU; the largest in the rehearsal took {peak / 1024:.1f} of {memory / 1024:.1f} GB"


def _known(params: Params, chosen: tiers.Tier, cache: Path, every: bool) -> dict[str, Known]:
    """What is known about each setting's data. For a missing official set, a synthetic stand-in gives the sizes."""
    found: dict[str, Known] = {}
    of_data: dict[Any, Known] = {}
    with tempfile.TemporaryDirectory() as folder:
        stands_in: tiers.Tier | None = None
        for name, setting in chosen.settings.items():
            try:
                source = _open(name, setting, cache)
                if setting.data not in of_data:
                    of_data[setting.data] = _opened(setting, source, cache, chosen.band_px, every)
                found[name] = of_data[setting.data]
            except InputError as error:
                if stands_in is None:
                    block = rehearse.stand_in(params["tiers"][chosen.name], Path(folder))
                    # Under another tier name, so that STUDY_DATA_<tier> does not apply to it.
                    stands_in = tiers.load(params | {"tiers": {"stand_in": block}}, "stand_in")
                if stands_in.settings[name].data == setting.data:
                    raise  # a user's own data set has no stand-in
                source = _open(name, stands_in.settings[name], Path(folder))
                images = {"val": VAL_IMAGES.get(setting.data.name, 0)}
                found[name] = Known(len(source.classes), training_size(source), source.size, images, lacks=str(error))
    return found


def _opened(setting: tiers.Setting, source: DataSet, cache: Path, band_px: int, every: bool) -> Known:
    """What is known about a data set, with a sample of its images unless all were read before."""
    read = read_before(setting.data, source, cache, band_px, stream=setting.stream)
    looked = None if read else sample(source, band_px, every)
    picture = None
    if source.splits.get("val") and not (looked and looked.errors):
        picture, _ = padded(*source.read("val", 0), source.size)
    return Known(
        len(source.classes),
        training_size(source),
        source.size,
        dict(source.splits),
        sample=looked,
        picture=picture,
        read=read,
    )


def _open(name: str, setting: tiers.Setting, cache: Path) -> DataSet:
    source = open_data(setting.data, setting.root, cache, stage.ticker(f"annotations of {setting.data.name}"))
    class_weights.check(setting.recipe, source.classes, name)
    check(setting.network, setting.recipe.crop or training_size(source), f"training images of {setting.data.name}")
    return source


def _facts(chosen: tiers.Tier, known: dict[str, Known], device: str, cache: Path) -> dict[str, Facts]:
    """The data stage's facts if it has run, else placeholders that distinguish trainings without reading an image."""
    path = Path("reports") / chosen.name / "data.json"
    made = read(path, dict[str, Facts]) if path.is_file() else {}
    facts: dict[str, Facts] = {}
    for name, setting in chosen.settings.items():
        # A fingerprint is enough to give the trainings keys.
        read_as: dict[str, Any] = {**made.get(name, {"fingerprint": digest(setting.data)}), **(known[name].read or {})}
        facts[name] = cast(Facts, read_as)
        if setting.recipe.precision == "auto" and "precision" not in facts[name]:
            if not here(device):  # the machine with the device chooses it
                facts[name]["precision"] = {"precision": UNKNOWN, "device": UNKNOWN, "fp32_s": 0.0, "bf16_s": 0.0}
                continue
            classify, sees = setting.task == tiers.CLASSIFY, known[name]
            facts[name]["precision"] = speed_probe.precision(
                setting.network,
                setting.recipe,
                classify,
                classes=sees.classes,
                size=sees.train,
                device=device,
                cache=cache,
            )
    return facts


def _work(planned: planner.Plan, foretold: Forecast, execution: Execution, done: set[str]) -> None:
    """Print the trainings by setting, and the parts of the time."""
    print(f"\n  {'setting':30} {'trainings':>9} {'left':>6} {'steps each':>10} {'s per step':>11}  precision")
    for name in dict.fromkeys(planned.data_of.values()):
        keys = [key for key in planned.trainings if planned.data_of[key] == name]
        recipe, ahead = planned.trainings[keys[0]].recipe, len(set(keys) - done)
        steps = sorted(foretold.step[key] for key in keys if key in foretold.step)
        span = UNKNOWN if ahead else "-"
        if steps:
            least, most = f"{steps[0]:.2g}", f"{steps[-1]:.2g}"
            span = least if least == most else f"{least}-{most}"
        print(f"  {name:30} {len(keys):9} {ahead:6} {recipe.steps:10,} {span:>11}  {recipe.precision}")
    left = [key for key in planned.trainings if key not in done]
    steps_left = sum(planned.trainings[key].recipe.steps for key in left)
    on = f"{counted(execution.workers, 'worker')} of this machine ({execution.device})"
    if not here(execution.device):
        on = f"{counted(execution.workers, 'worker')} with {execution.device}, which this machine does not have"
    print(f"\n  {counted(len(planned.trainings), 'training')} ({len(done)} done before), {steps_left:,} steps left")
    print(f"\n  time on {on}, measured on {counted(foretold.probed, 'probe')}")
    for part in foretold.parts:
        print(f"    {part.name:12} {UNKNOWN if part.seconds is None else duration(part.seconds):>10}  {part.work}")
    at_least = "at least " if foretold.unknown else "about "
    but = f"; {counted(len(foretold.unknown), 'part')} cannot be measured here" if foretold.unknown else ""
    print(f"    {'in all':12} {at_least}{duration(foretold.known)}{but}")
    if planned.tier.tuning is not None and not any(part.name == "search" for part in foretold.parts):
        print("    tune is off: the search for each variant's best values (TUNE=yes) is not included")


def _disk(
    planned: planner.Plan,
    known: dict[str, Known],
    seen: dict[str, Setting],
    execution: Execution,
    *,
    left: list[str],
    store: Store,
) -> None:
    settings = {setting.data: (name, setting) for name, setting in planned.tier.settings.items()}.values()
    fetched = sum(download.UNPACKED * archive.size for archive in _archives(planned.tier).values())
    parts = {
        "archives to fetch and unpack": fetched,
        "cached images": sum(_cached(setting, known[name]) for name, setting in settings if not known[name].read),
        "cached features": sum(
            _features(s.network, s.recipe.flip, known[n])
            for n, s in settings
            if s.network.frozen and not seen[n].cached
        ),
        **room.of_trainings(planned, {name: sees.facts for name, sees in seen.items()}, execution, left),
    }
    free = shutil.disk_usage(store.root).free
    told = ", ".join(f"{what} {size / GIB:,.1f}" for what, size in parts.items() if size)
    print(f"\n  disk (GiB): {told}; {sum(parts.values()) / GIB:,.1f} in all, {free / GIB:,.1f} free in {store.root}")
    if refusal := places.too_small(store, sum(parts.values())):
        print(f"  {refusal}")


def _cached(setting: tiers.Setting, known: Known) -> int:
    """Bytes of the images, masks and boundary bands that will be cached."""
    kept = sum(n for split, n in known.images.items() if not (setting.stream and split == "train"))
    return (3 + (setting.task == tiers.SEGMENT)) * kept * known.size[0] * known.size[1]


def _features(network: Network, flip: bool, known: Known) -> int:
    backbone = build_backbone(dataclasses.replace(network, options=untrained(network)))
    cells = sum(
        backbone.channels[level] * known.size[0] * known.size[1] // backbone.strides[level] ** 2
        for level in network.levels
    )
    return HALF * cells * (sum(known.images.values()) + known.images.get("train", 0) * flip)


def _archives(chosen: tiers.Tier) -> dict[str, download.Archive]:
    """The archives that the data stage would fetch or unpack, by name."""
    return {archive.name: archive for setting in chosen.settings.values() for archive in _lacking(setting)}


def _lacking(setting: tiers.Setting) -> list[download.Archive]:
    module, options = module_of(setting.data)
    if not setting.fetch or setting.root is None or not hasattr(module, "archives"):
        return []
    return download.missing(module.archives(options), setting.root)


def _data(chosen: tiers.Tier, known: dict[str, Known]) -> None:
    """Print which data is there and which is missing."""
    print("  data")
    for name, setting in chosen.settings.items():
        if not known[name].lacks:
            images = ", ".join(f"{split} {number:,}" for split, number in known[name].images.items())
            print(f"    {name:30} {setting.data.name}: {images}; {_opened_of(known[name])}")
        else:
            print(f"    {name:30} {setting.data.name}: MISSING")
    archives, told = _archives(chosen), set()
    for archive in archives.values():
        size = f"{archive.size / GIB:.1f} GiB"
        if archive.urls:
            print(f"    to fetch: {archive.name} ({size}); `make repro` does that")
        else:
            print(f"    to download yourself: {archive.name} ({size}). {archive.where}")
    for name, setting in chosen.settings.items():
        if known[name].lacks and not _lacking(setting) and setting.data.name not in told:
            told.add(setting.data.name)
            print(f"    {setting.data.name}: {' '.join(known[name].lacks.split())}")


def _opened_of(known: Known) -> str:
    """How many images were opened, and which classes are in no training mask among them."""
    if known.read:
        return "all read before"
    assert known.sample is not None
    looked = known.sample
    unseen = f"; note: none of their training masks shows {', '.join(looked.unseen)}" if looked.unseen else ""
    return f"{looked.read:,} of {looked.of:,} opened{'' if looked.read == looked.of else ' (--all: all)'}{unseen}"
