"""The only reader of params.yaml: a tier binds the paper's cells to data, a backbone, a recipe and seeds."""

from __future__ import annotations

import os
from collections.abc import Set
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from study import code
from study.paper import TABLES
from study.spec import HEADS, Data, InputError, Network, Recipe, Variant, freeze

MAIN = "main"  # the name of a tier's own data set, beside those of its controls


@dataclass(frozen=True)
class Execution:
    """How trainings are executed; none of it changes a result but ``device``, which is part of each key."""

    engine: str
    address: str | None
    workers: int
    device: str
    gpus_per_training: float
    checkpoint_s: float
    retries: int


@dataclass(frozen=True)
class Control:
    """A second data set on which a few variants are trained to test the first (the negative control)."""

    title: str
    data: Data
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Tier:
    """One block of params.yaml. ``frequent`` is the rule for frequent classes: (least number of training images, least
    share of the labelled training pixels), None where all classes count alike."""

    name: str
    title: str
    judges: str
    meaningless: bool
    notes: tuple[str, ...]
    seeds: tuple[int, ...]
    tables: tuple[str, ...]
    data: Data
    root: Path | None
    controls: tuple[tuple[str, Control], ...]
    network: Network
    recipe: Recipe
    band_px: int
    samples: int
    frequent: tuple[int, float] | None
    extra: tuple[Variant, ...]

    @property
    def data_sets(self) -> dict[str, Data]:
        """The tier's own data set (``main``) and those of its controls."""
        return {MAIN: self.data} | {name: control.data for name, control in self.controls}


def read(path: Path = Path("params.yaml")) -> dict[str, Any]:
    """The whole of params.yaml. Raises InputError where it is missing or not YAML."""
    try:
        params = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise InputError(f"params.yaml must be a readable YAML file, got {path} ({error}); restore it") from error
    _keys(params, "params.yaml", {"tier", "execution", "tiers"})
    return params


def parse(text: str) -> Any:
    """The content of a YAML text, unchecked."""
    return yaml.safe_load(text)


def load(params: dict[str, Any], name: str | None = None) -> Tier:
    """The tier ``name`` (params' own ``tier`` if None). Raises InputError naming the key, the rule and the remedy."""
    name = params["tier"] if name is None else name
    _mapping(params["tiers"], "tiers")
    if name not in list(params["tiers"]):
        raise InputError(f"tier must be one of {', '.join(params['tiers'])}, got {name!r}; set `tier:` in params.yaml")
    block, where = params["tiers"][name], f"tiers.{name}"
    rest = {field.name for field in fields(Tier)} - {"name", "root"}
    _keys(block, where, rest)
    for key in ("data", "controls"):
        _mapping(block[key], f"{where}.{key}")
    for key in ("notes", "seeds", "tables", "extra"):
        _sequence(block[key], f"{where}.{key}")
    _whole(block["band_px"], 1, f"{where}.band_px")
    _whole(block["samples"], 1, f"{where}.samples")
    data = dict(block["data"])
    root = os.environ.get(f"STUDY_DATA_{name.upper()}", data.pop("root", None))
    for table in block["tables"]:
        _choice(table, TABLES, f"{where}.tables")
    seeds = block["seeds"]
    if not seeds or len(set(seeds)) != len(seeds) or not all(type(s) is int and s >= 0 for s in seeds):
        raise InputError(
            f"{where}.seeds must be different whole numbers from 0 up, got {seeds!r}; write e.g. [0, 1, 2]"
        )
    return Tier(
        **{key: block[key] for key in ("title", "judges", "meaningless", "band_px", "samples")},
        name=name,
        notes=tuple(block["notes"]),
        seeds=tuple(seeds),
        tables=tuple(block["tables"]),
        data=_data(data, f"{where}.data"),
        root=Path(root).expanduser() if root else None,
        controls=tuple((key, _control(c, data, f"{where}.controls.{key}")) for key, c in block["controls"].items()),
        network=_network(block["network"], f"{where}.network"),
        recipe=_recipe(block["recipe"], f"{where}.recipe"),
        frequent=_frequent(block["frequent"], f"{where}.frequent"),
        extra=tuple(variant(v, f"{where}.extra") for v in block["extra"]),
    )


def execution(params: dict[str, Any]) -> Execution:
    """How to execute. ``workers: auto`` is one per core or share of a GPU, ``device: auto`` a GPU if there is one."""
    _keys(params["execution"], "execution", {field.name for field in fields(Execution)})
    block = dict(params["execution"])
    _choice(block["engine"], ("ray", "inline"), "execution.engine")
    _choice(block["device"], ("auto", "cpu", "cuda"), "execution.device")
    if block["device"] == "auto":
        # Planning must not import torch; where NVIDIA's driver is loaded this device exists.
        block["device"] = "cuda" if Path("/dev/nvidiactl").exists() else "cpu"
    if block["device"] == "cpu":
        block["gpus_per_training"] = 0
    if block["workers"] == "auto":
        gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
        share = block["gpus_per_training"]
        block["workers"] = int(gpus / share) if share else len(os.sched_getaffinity(0))
    if not isinstance(block["workers"], int) or block["workers"] < 1:
        raise InputError(f"execution.workers must be auto or a number from 1 up, got {block['workers']!r}; write auto")
    return Execution(**block)


def variant(block: dict[str, Any], where: str) -> Variant:
    """``{head: gcn, k: 15, refine: true, at: {res2: {head: dense, k: 1}}}``: all but head and k is optional."""
    _keys(block, where, {"head", "k"}, {"refine", "width", "at"})
    _mapping(block.get("at", {}), f"{where}.at")
    at = {level: _head(head, f"{where}.at.{level}") for level, head in block.get("at", {}).items()}
    head = _head({key: block[key] for key in ("head", "k", "width") if key in block}, where)
    return Variant(head, bool(block.get("refine", False)), tuple(sorted(at.items(), key=lambda item: item[0])))


def _head(block: dict[str, Any], where: str):
    _keys(block, where, {"head", "k"}, {"width"})
    _choice(block["head"], HEADS, f"{where}.head")
    options = {}
    if "width" in block:
        if block["head"] != "stack":
            raise InputError(f"{where}.width must stand with head: stack only, got head: {block['head']}; drop it")
        try:
            options["width"] = Fraction(str(block["width"]))
        except (ValueError, ZeroDivisionError) as error:
            raise InputError(
                f"{where}.width must be a number or a share such as 1/2, got {block['width']!r}; write e.g. 1/2"
            ) from error
    return HEADS[block["head"]](block["k"], **options)


def _data(block: dict[str, Any], where: str) -> Data:
    if "name" not in block:
        raise InputError(f"{where} must have a name, got {sorted(block)}; add the name of a data set")
    known = sorted(p.stem for p in (code.ROOT / "study" / "data").glob("[a-z]*.py") if p.stem != "pairs")
    _choice(block["name"], known, f"{where}.name")
    return Data(block["name"], freeze({key: value for key, value in block.items() if key != "name"}))


def _control(block: dict[str, Any], main: dict[str, Any], where: str) -> Control:
    _keys(block, where, {"title", "data", "variants"})
    variants = tuple(variant(v, f"{where}.variants") for v in block["variants"])
    return Control(block["title"], _data(main | block["data"], f"{where}.data"), variants)


def _network(block: dict[str, Any], where: str) -> Network:
    _keys(block, where, {"backbone", "levels", "frozen", "output_stride", "options"})
    try:
        code.entry("study.models.backbones", "BACKBONES", block["backbone"])
    except KeyError as error:
        raise InputError(
            f"{where}.backbone must be an entry of BACKBONES in study/models/backbones.py, got {block['backbone']!r}; "
            "rename it or add the entry"
        ) from error
    _sequence(block["levels"], f"{where}.levels")
    _mapping(block["options"], f"{where}.options")
    _whole(block["output_stride"], 1, f"{where}.output_stride")
    if not block["levels"]:
        raise InputError(f"{where}.levels must name at least one level, got none; write e.g. [res4, res5]")
    fixed = {key: block[key] for key in ("backbone", "frozen", "output_stride")}
    return Network(**fixed, levels=tuple(block["levels"]), options=freeze(block["options"]))


def _recipe(block: dict[str, Any], where: str) -> Recipe:
    _keys(block, where, {field.name for field in fields(Recipe)})
    _choice(block["optimizer"], ("sgd", "adamw"), f"{where}.optimizer")
    _choice(block["schedule"], ("constant", "cosine", "poly"), f"{where}.schedule")
    _choice(block["precision"], ("fp32", "bf16"), f"{where}.precision")
    for key in ("steps", "batch", "validations"):
        _whole(block[key], 1, f"{where}.{key}")
    _number(block["lr"], 0, None, f"{where}.lr")
    for key in ("momentum", "weight_decay", "warmup"):
        _number(block[key], 0, 1, f"{where}.{key}")
    return Recipe(**block)


def _frequent(block: dict[str, Any] | None, where: str) -> tuple[int, float] | None:
    if block is None:
        return None
    _keys(block, where, {"min_images", "min_pixels"})
    return block["min_images"], block["min_pixels"]


def _choice(value: Any, allowed: Any, where: str) -> None:
    if value not in allowed:
        raise InputError(f"{where} must be one of {', '.join(map(str, allowed))}, got {value!r}; rename it")


def _mapping(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be a mapping, got {value!r}; write its keys below it")


def _sequence(value: Any, where: str) -> None:
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list, got {value!r}; write it in brackets")


def _whole(value: Any, least: int, where: str) -> None:
    if type(value) is not int or value < least:
        raise InputError(f"{where} must be a whole number from {least} up, got {value!r}; write one")


def _number(value: Any, low: float, high: float | None, where: str) -> None:
    """A number above ``low`` where there is no ``high``, from low to high where there is."""
    if type(value) not in (int, float) or not (low < value < float("inf") if high is None else low <= value <= high):
        rule = f"a positive number, above {low}" if high is None else f"a number from {low} to {high}"
        raise InputError(f"{where} must be {rule}, got {value!r}; write one")


def _keys(block: Any, where: str, required: Set[str], optional: Set[str] = frozenset()) -> None:
    _mapping(block, where)
    if missing := sorted(required - block.keys()):
        raise InputError(f"{where} must have the key {missing[0]!r}, got {sorted(block)}; add it")
    if unknown := sorted(block.keys() - required - optional):
        raise InputError(
            f"{where} must have known keys only, got {unknown[0]!r}; take one of {sorted(required | optional)}"
        )
