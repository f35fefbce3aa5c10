"""What a tier will cost before anything runs: trainings, steps, hours on this device, disk, and the data it lacks."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

from study.commands import rehearse
from study.config import tiers
from study.config.execution import Execution, execution_of, rehearsed, trainings_a_gpu
from study.config.search_space import Tuning
from study.data import download
from study.data.prepare import open_data, training_size
from study.models.build import build_backbone, check, untrained
from study.plan import halving, planner
from study.spec.data_set_plugins import module_of
from study.spec.digest import digest
from study.spec.documents import Facts, Params, read
from study.spec.errors import InputError
from study.spec.training import Inference, Network, Training
from study.spec.words import counted, duration
from study.store import stage
from study.store.runs import Store, weights_digest
from study.training import class_weights, speed_probe

GIB = 2**30
BYTES, HALF = 4, 2  # of a weight, of a cached feature
COPIES = {"sgd": 2, "adamw": 3}  # of the weights, in a checkpoint: momentum beside them
BACKWARD = 3  # a training step costs about as much as three passes forward
# Images of the official val splits, for sets that are not there yet.
VAL_IMAGES = {"voc": 1449, "coco": 1449, "cityscapes": 500, "imagenet": 50_000}


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of a setting's data: number of classes, (height, width) of training and other images, number of
    images by split, and what is missing in words."""

    classes: int
    train: tuple[int, int]
    size: tuple[int, int]
    images: dict[str, int]
    lacks: str = ""


def preview(params: Params, name: str | None) -> None:
    """Print what a tier will run and cost on this device. Nothing is trained or fetched.

    Raises InputError for a mistake in the tier; data that is missing is no mistake, but is told.
    """
    chosen, store = tiers.load(params, name), Store()
    execution = execution_of(params | {"tier": chosen.name})
    for setting in chosen.settings.values():
        weights_digest(setting.network)  # a file that is missing is told before anything is probed
    known = _known(params, chosen, store.cache)
    planned = planner.build(chosen, _facts(chosen, known, execution.device, store.cache), execution.device)
    done = {key for key in planned.trainings if store.run(key).path("DONE").is_file()}
    print(f"tier {chosen.name}: {chosen.title}")
    _work(planned, known, execution, done, params.get("tune", False))
    if params["execution"]["gpus_per_training"] == "auto" and execution.device == "cuda":
        print(f"  gpus_per_training auto: {_share(chosen.name)}")
    _disk(planned, known, execution, done, store)
    _data(chosen, known)


def _share(name: str) -> str:
    """What gpus_per_training: auto comes to, and why."""
    known = rehearsed(name)
    if known is None:
        return f"1, as no rehearsal has measured this tier's memory on a GPU; run `make rehearse TIER={name}`"
    peak, memory = known
    share = counted(trainings_a_gpu(peak, memory), "training")
    return f"{share} a GPU; the largest of a rehearsal took {peak / 1024:.1f} of {memory / 1024:.1f} GB"


def _known(params: Params, chosen: tiers.Tier, cache: Path) -> dict[str, Known]:
    """Of each setting; a synthetic stand-in tells the sizes of an official set that is missing."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        stands_in: tiers.Tier | None = None
        for name, setting in chosen.settings.items():
            try:
                found[name] = _open(name, setting, cache)
            except InputError as error:
                if stands_in is None:
                    block = rehearse.stand_in(params["tiers"][chosen.name], Path(folder))
                    # By a name of its own: the variable that names the tier's folder is not meant for it.
                    stands_in = tiers.load(params | {"tiers": {"stand_in": block}}, "stand_in")
                if stands_in.settings[name].data == setting.data:
                    raise  # a user's own data set has no stand-in
                shape = _open(name, stands_in.settings[name], Path(folder))
                images = {"val": VAL_IMAGES.get(setting.data.name, 0)}
                found[name] = dataclasses.replace(shape, images=images, lacks=str(error))
    return found


def _open(name: str, setting: tiers.Setting, cache: Path) -> Known:
    source = open_data(setting.data, setting.root, cache, stage.ticker(f"annotations of {setting.data.name}"))
    class_weights.check(setting.recipe, source.classes, name)
    check(setting.network, setting.recipe.crop or training_size(source), f"training images of {setting.data.name}")
    return Known(len(source.classes), training_size(source), source.size, dict(source.splits))


def _facts(chosen: tiers.Tier, known: dict[str, Known], device: str, cache: Path) -> dict[str, Facts]:
    """The data stage's facts where it has run, else what tells trainings apart without reading an image."""
    path = Path("reports") / chosen.name / "data.json"
    made = read(path, dict[str, Facts]) if path.is_file() else {}
    facts: dict[str, Facts] = {}
    for name, setting in chosen.settings.items():
        # Enough for keys, which is all that is asked of a plan that was not made.
        facts[name] = made.get(name) or cast(Facts, {"fingerprint": digest(setting.data)})
        if setting.recipe.precision == "auto" and "precision" not in facts[name]:
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


class _Paces:
    """Seconds of a training step on this device: one probe for each kind of training, the others scaled by FLOPs."""

    def __init__(self, known: dict[str, Known], device: str) -> None:
        self.known, self.device = known, device
        self._flops: dict[Any, int] = {}
        self._measured: dict[Any, tuple[float, int]] = {}  # kind -> seconds of a step, FLOPs of the network probed

    @property
    def probes(self) -> int:
        return len(self._measured)

    def __call__(self, planned: planner.Plan, key: str) -> float:
        training, name = planned.trainings[key], planned.data_of[key]
        like = (training.network, training.recipe.batch, training.recipe.crop, training.recipe.precision, name)
        what = (training.variant, training.network, self.known[name].train)
        if what not in self._flops:
            self._flops[what] = speed_probe.flops(training, self.known[name].classes, self.known[name].train)
        if like not in self._measured:
            self._measured[like] = _measured(planned, name, training, self.known[name], self.device)
        took, of = self._measured[like]
        return took * self._flops[what] / of


def _work(planned: planner.Plan, known: dict[str, Known], execution: Execution, done: set[str], tune: bool) -> None:
    """Trainings by setting, and the search for each variant's best values, with the hours that probes foretell."""
    pace = _Paces(known, execution.device)
    seconds = {key: pace(planned, key) for key in planned.trainings}
    print(f"\n  {'setting':30} {'trainings':>9} {'steps each':>10} {'s a step':>9} {'hours':>8}  precision")
    for name in dict.fromkeys(planned.data_of.values()):
        keys = [key for key in planned.trainings if planned.data_of[key] == name]
        recipe = planned.trainings[keys[0]].recipe
        least, most = min(seconds[k] for k in keys), max(seconds[k] for k in keys)
        hours = sum(seconds[k] * planned.trainings[k].recipe.steps for k in keys) / 3600
        span = f"{least:.3g}" if f"{least:.3g}" == f"{most:.3g}" else f"{least:.2g}-{most:.2g}"
        print(f"  {name:30} {len(keys):9} {recipe.steps:10,} {span:>9} {hours:8,.1f}  {recipe.precision}")
    left = [key for key in planned.trainings if key not in done]
    steps = sum(planned.trainings[key].recipe.steps for key in left)
    training_s = sum(seconds[key] * planned.trainings[key].recipe.steps for key in left)
    asked_s = sum(_evaluated(planned, key, seconds, known) for key in planned.evaluations)
    unit = "GPU hours" if execution.device == "cuda" else "hours of one CPU worker"
    print(
        f"\n  {counted(len(planned.trainings), 'training')} ({len(done)} done before), {steps:,} steps left: "
        f"{training_s / 3600:,.1f} {unit}, estimated from {counted(pace.probes, 'probe')} of this "
        f"device ({execution.device})"
    )
    if planned.evaluations:
        print(
            f"  {counted(len(planned.evaluations), 'evaluation')} by crops, scales or CRF: about "
            f"{asked_s / 3600:,.1f} {unit}, the CRF left out"
        )
    wall = (training_s + asked_s) / execution.workers
    print(f"  on {counted(execution.workers, 'worker')}: about {duration(wall)}")
    if planned.tier.tuning is not None:
        _search(planned, planned.tier.tuning, pace, execution, tune)


def _search(planned: planner.Plan, tuning: Tuning, pace: _Paces, execution: Execution, on: bool) -> None:
    """What the search for each variant's best values would cost, were nothing of it in the store."""
    trials, found = halving.candidates(planned.tier, planned.facts, planned.device)
    steps = halving.steps_of(found, tuning)
    first = {c.group: next(iter(c.keys.values())) for c in found}
    a_step = {group: pace(trials, key) for group, key in first.items()}
    searching_s = sum(a_step[group] * number for group, number in steps.items())
    asked = {(planned.data_of[key], training.variant) for key, training in planned.trainings.items()}
    again = {group: trials.trainings[key].recipe.steps for group, key in first.items() if group in asked}
    again_s = len(planned.tier.seeds) * sum(a_step[group] * number for group, number in again.items())
    wall = duration((searching_s + again_s) / execution.workers)
    print(
        f"  tune ({'on' if on else 'off; TUNE=yes turns it on'}): {len(found)} candidates of {len(first)} variants, "
        f"{sum(steps.values()):,} steps, then at most {len(planned.tier.seeds) * sum(again.values()):,} steps of "
        f"trainings at each variant's best: about {wall} more"
    )


def _measured(planned: planner.Plan, name: str, training: Training, known: Known, device: str) -> tuple[float, int]:
    """Seconds of a step of a setting's training, and operations forward of the network that they were measured with."""
    probed = planned.facts[name].get("precision")
    if probed is None:
        took = speed_probe.step_seconds(training, known.classes, known.train, device)
    else:  # measured when the precision was chosen
        took = probed["bf16_s"] if probed["precision"] == "bf16" else probed["fp32_s"]
        training = dataclasses.replace(training, variant=training.variant and speed_probe.PROBED)
    return took, speed_probe.flops(training, known.classes, known.train)


def _evaluated(planned: planner.Plan, key: str, seconds: dict[str, float], known: dict[str, Known]) -> float:
    """Seconds of an evaluation: passes forward over the pixels of val, at the pace of the training's step."""
    asked = planned.evaluations[key]
    training, name = planned.trainings[asked.training], planned.data_of[asked.training]
    trained, seen = training.recipe.crop or known[name].train, _pixels(asked.inference, known[name].size)
    a_pixel = seconds[asked.training] / training.recipe.batch / BACKWARD / (trained[0] * trained[1])
    return known[name].images.get("val", 0) * seen * a_pixel


def _pixels(inference: Inference, size: tuple[int, int]) -> float:
    """Pixels that a network sees of one image."""
    height, width = inference.crop or size
    passes = sum(scale**2 for scale in inference.scales) * (2 if inference.flip else 1)
    return passes * height * width * inference.crops[0] * inference.crops[1]


def _disk(planned: planner.Plan, known: dict[str, Known], execution: Execution, done: set[str], store: Store) -> None:
    sizes = {
        key: BYTES * speed_probe.weights(training, known[planned.data_of[key]].classes)
        for key, training in planned.trainings.items()
        if key not in done
    }
    copies = max((COPIES[training.recipe.optimizer] for training in planned.trainings.values()), default=0)
    settings = {setting.data: (name, setting) for name, setting in planned.tier.settings.items()}.values()
    fetched = sum(download.UNPACKED * archive.size for archive in _archives(planned.tier).values())
    parts = {
        "archives to fetch and unpack": fetched,
        "cached images": sum(_cached(setting, known[name]) for name, setting in settings),
        "cached features": sum(_features(s.network, s.recipe.flip, known[n]) for n, s in settings if s.network.frozen),
        "weights": sum(sizes.values()),
        "checkpoints of running trainings": execution.workers * copies * max(sizes.values(), default=0),
    }
    free = shutil.disk_usage(store.root).free
    told = ", ".join(f"{what} {size / GIB:,.1f}" for what, size in parts.items() if size)
    print(f"\n  disk (GiB): {told}; {sum(parts.values()) / GIB:,.1f} in all, {free / GIB:,.1f} free in {store.root}")


def _cached(setting: tiers.Setting, known: Known) -> int:
    """Bytes of images, masks and boundary bands in the cache."""
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
    """What the data stage would fetch or unpack, by name."""
    return {archive.name: archive for setting in chosen.settings.values() for archive in _lacking(setting)}


def _lacking(setting: tiers.Setting) -> list[download.Archive]:
    module, options = module_of(setting.data)
    if not setting.fetch or setting.root is None or not hasattr(module, "archives"):
        return []
    return download.missing(module.archives(options), setting.root)


def _data(chosen: tiers.Tier, known: dict[str, Known]) -> None:
    """What is there, and what is missing."""
    print("\n  data")
    for name, setting in chosen.settings.items():
        if not known[name].lacks:
            images = ", ".join(f"{split} {number:,}" for split, number in known[name].images.items())
            print(f"    {name:30} {setting.data.name}: {images}")
        else:
            print(f"    {name:30} {setting.data.name}: MISSING")
    archives, told = _archives(chosen), set()
    for archive in archives.values():
        size = f"{archive.size / GIB:.1f} GiB"
        if archive.urls:
            print(f"    to fetch: {archive.name} ({size}), by `make repro`")
        else:
            print(f"    to bring: {archive.name} ({size}). {archive.where}")
    for name, setting in chosen.settings.items():
        if known[name].lacks and not _lacking(setting) and setting.data.name not in told:
            told.add(setting.data.name)
            print(f"    {setting.data.name}: {' '.join(known[name].lacks.split())}")
