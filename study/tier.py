"""The only reader of params.yaml: a tier binds the paper's cells to data, a backbone, a recipe and seeds."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from study import blocks, checks, parse
from study.blocks import Receptive, Rules, Submission, Submitted
from study.paper import TABLES
from study.spec import SERVED, Cell, Data, Inference, InputError, Network, Recipe, Variant
from study.store import located
from study.tuning import Tuning, tuning

MAIN = "main"  # the name of a tier's own setting
TUNE = "tune"  # the key of params.yaml that says whether each variant's best values are searched
CLASSIFY, SEGMENT = "classify", "segment"
AROUND = ("root", "stream", "fetch")  # keys of a data block that change no pixel: where it lies, how it is had
OPTIONAL = {
    "settings", "inference", "receptive", "not_applicable", "submission", "submitted", "scale", "verdicts", "tuning",
    "notes",
}  # fmt: skip
MAPPINGS = OPTIONAL - {"receptive", "submission", "scale", "verdicts", "tuning", "notes"}


@dataclass(frozen=True)
class Setting:
    """What trainings are run in: data, network and recipe, and the setting whose weights they start from.

    ``root`` is the data set's folder; with ``stream`` its training images are read from there at each step (D56), with
    ``fetch`` what is not there and may be fetched is.
    ``role`` is main, control (a second data set on which a few variants test the first) or stage (all others: stages of
    Tables 7 and 9, networks and pretrainings of Table 6). ``task`` is segment or classify.
    """

    role: str
    title: str
    data: Data
    root: Path | None
    stream: bool
    fetch: bool
    network: Network
    recipe: Recipe
    after: str | None = None
    task: str = SEGMENT
    variants: tuple[Variant, ...] = ()


@dataclass(frozen=True)
class Tier:
    """One block of params.yaml. ``frequent`` is the rule for frequent classes: (least number of training images, least
    share of the labelled training pixels), None where all classes count alike. ``scale`` says which claims may be
    judged, ``verdicts`` by which rules (None only where none may), ``tuning`` what is searched for each variant."""

    name: str
    title: str
    judges: str
    meaningless: bool
    notes: tuple[str, ...]
    seeds: tuple[int, ...]
    tables: tuple[str, ...]
    settings: dict[str, Setting]
    inference: dict[str, Inference]
    not_applicable: dict[str, str]
    receptive: Receptive | None
    submission: Submission | None
    submitted: dict[str, Submitted]
    band_px: int
    samples: int
    frequent: tuple[int, float] | None
    extra: tuple[Variant, ...]
    scale: str
    verdicts: Rules | None
    tuning: Tuning | None

    @property
    def main(self) -> Setting:
        return self.settings[MAIN]

    def reason(self, cell: Cell) -> str | None:
        """Why a cell is not applicable at this tier, None where it is."""
        parts = cell.address.split("/")
        starts = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        return next((self.not_applicable[start] for start in starts if start in self.not_applicable), None)


def read(path: Path = Path("params.yaml")) -> dict[str, Any]:
    """The whole of params.yaml. Raises InputError where it is missing or not YAML."""
    try:
        params = content(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise InputError(f"params.yaml must be a readable YAML file, got {path} ({error}); restore it") from error
    checks.keys(params, "params.yaml", {"tier", "execution", "tiers"}, {TUNE, "tracking"})
    checks.yes_or_no(params.get(TUNE, False), TUNE)
    return params


def write(params: dict[str, Any], path: Path) -> None:
    """Write params.yaml, in the order of its keys and without comments."""
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def content(text: str) -> Any:
    """The content of a YAML text, unchecked."""
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # five times as fast where it is there


def load(params: dict[str, Any], name: str | None = None) -> Tier:
    """The tier ``name`` (params' own ``tier`` if None). Raises InputError naming the key, the rule and the remedy."""
    name = params["tier"] if name is None else name
    checks.mapping(params["tiers"], "tiers")
    if name not in list(params["tiers"]):
        raise InputError(f"tier must be one of {', '.join(params['tiers'])}, got {name!r}; set `tier:` in params.yaml")
    if not re.fullmatch(r"\w[\w.-]*", str(name)):
        raise InputError(
            f"a tier's name must be of letters, digits, '_', '-' and '.' (folders and commands take it), got {name!r}; "
            "rename it in params.yaml"
        )
    block, where = params["tiers"][name], f"tiers.{name}"
    _check(block, where)
    settings = _settings(block, where, os.environ.get(f"STUDY_DATA_{name.upper()}"))
    found = Tier(
        **{key: block[key] for key in ("title", "judges", "meaningless", "band_px", "samples")},
        name=name,
        notes=tuple(block.get("notes", ())),
        seeds=tuple(block["seeds"]),
        tables=tuple(block["tables"]),
        settings=settings,
        inference={k: parse.inference(v, f"{where}.inference.{k}") for k, v in block.get("inference", {}).items()},
        not_applicable=block.get("not_applicable", {}),
        receptive=blocks.receptive(block.get("receptive"), f"{where}.receptive"),
        submission=None,  # below, where it is known what can be trained
        submitted=blocks.submitted(block.get("submitted", {}), _served(block["tables"]), f"{where}.submitted"),
        frequent=parse.frequent(block["frequent"], f"{where}.frequent"),
        extra=tuple(parse.variant(v, f"{where}.extra") for v in block["extra"]),
        scale=block.get("scale", blocks.NOTHING),
        verdicts=blocks.rules(block, where),
        tuning=tuning(
            block.get("tuning"),
            f"{where}.tuning",
            [name for name, s in settings.items() if s.after is None and s.task == SEGMENT],
            block["seeds"],
        ),
    )
    found = replace(found, not_applicable=found.not_applicable | _without_library(found, block))
    needed = {name for name, setting in settings.items() if setting.role != "stage"}
    for cell in (cell for table in found.tables for cell in TABLES[table].cells):
        if cell.trained and found.reason(cell) is None:
            _bound(cell, found, where)
            at: str | None = cell.setting
            while at is not None:
                needed.add(at)
                at = settings[at].after
    # What no table of the tier asks for is checked, but never read or trained.
    kept = {name: setting for name, setting in settings.items() if name in needed}
    declared = replace(found, not_applicable=block.get("not_applicable", {}))  # a missing library is no mistake here
    submission = blocks.submission(
        block.get("submission"), _segmentations(declared), found.seeds, f"{where}.submission"
    )
    return replace(found, settings=kept, submission=submission)


def _check(block: dict[str, Any], where: str) -> None:
    required = {field.name for field in fields(Tier)} - {"name"} - OPTIONAL | {"data", "controls", "network", "recipe"}
    checks.keys(block, where, required, OPTIONAL)
    for key in ("data", "controls", "network", "recipe", *sorted(MAPPINGS)):
        checks.mapping(block.get(key, {}), f"{where}.{key}")
    for key in ("notes", "seeds", "tables", "extra"):
        checks.sequence(block.get(key, []), f"{where}.{key}")
    checks.yes_or_no(block["meaningless"], f"{where}.meaningless")
    checks.whole(block["band_px"], 1, f"{where}.band_px")
    checks.whole(block["samples"], 1, f"{where}.samples")
    for table in block["tables"]:
        checks.choice(table, TABLES, f"{where}.tables")
    seeds = block["seeds"]
    if not seeds or len(set(seeds)) != len(seeds) or not all(type(s) is int and s >= 0 for s in seeds):
        raise InputError(
            f"{where}.seeds must be different whole numbers from 0 up, got {seeds!r}; write e.g. [0, 1, 2]"
        )


def _settings(block: dict[str, Any], where: str, root: str | None) -> dict[str, Setting]:
    """The tier's own setting, its controls, and the others as changes to the first."""
    own = {key: block[key] for key in ("data", "network", "recipe")}
    found = {MAIN: _setting("main", "", {}, own, where, root)}
    for name, control in block["controls"].items():
        place = f"{where}.controls.{name}"
        checks.keys(control, place, {"title", "data", "variants"})
        variants = tuple(parse.variant(v, f"{place}.variants") for v in control["variants"])
        changes = {"data": control["data"]}
        found[name] = _setting("control", control["title"], changes, own, place, root, variants=variants)
    for name, changes in block.get("settings", {}).items():
        place = f"{where}.settings.{name}"
        checks.keys(changes, place, set(), {"title", "data", "network", "recipe", "after", "task"})
        checks.choice(changes.get("task", SEGMENT), (SEGMENT, CLASSIFY), f"{place}.task")
        if name in found:
            raise InputError(f"{place} must have a name of its own, got one that a control has; rename it")
        found[name] = _setting("stage", changes.get("title", ""), changes, own, place, root,
                               after=changes.get("after"), task=changes.get("task", SEGMENT))  # fmt: skip
    for name, setting in found.items():
        seen, at = [name], setting.after
        while at is not None:
            if at not in found or at in seen:
                raise InputError(
                    f"{where}.settings.{seen[-1]}.after must name a setting of the tier that comes before it, got "
                    f"{at!r}; take one of {', '.join(n for n in found if n not in seen)} or leave it out"
                )
            seen.append(at)
            at = found[at].after
    return found


def _setting(
    role: str, title: str, changes: dict[str, Any], own: dict[str, Any], where: str, root: str | None, **more: Any
) -> Setting:
    for key in ("data", "network", "recipe"):
        checks.mapping(changes.get(key, {}), f"{where}.{key}")
    data, elsewhere = changes.get("data", {}), {key: own["data"].get(key) for key in AROUND}
    same = data.get("name", own["data"].get("name")) == own["data"].get("name")
    data = (own["data"] if same else elsewhere) | data
    root = changes.get("data", {}).get("root") or root or data.get("root")  # its own, the variable's, the tier's
    for key in ("stream", "fetch"):
        checks.yes_or_no(data.get(key) or False, f"{where}.data.{key}")
    network = own["network"] | changes.get("network", {})
    recipe = own["recipe"] | changes.get("recipe", {})
    setting = Setting(
        role, title, parse.data({k: v for k, v in data.items() if k not in AROUND}, f"{where}.data"),
        located(root) if root else None, bool(data.get("stream")),
        bool(data.get("fetch")),
        parse.network(network, f"{where}.network"), parse.recipe(recipe, f"{where}.recipe"), **more,
    )  # fmt: skip
    if setting.network.frozen and (setting.recipe.crop or setting.task == CLASSIFY):
        raise InputError(
            f"{where} must train its backbone where it crops or classifies (a frozen one's features are made once, of "
            "whole images), got network.frozen: true; set it to false or drop the crop"
        )
    if setting.network.frozen and setting.stream:
        raise InputError(
            f"{where}.data.stream must be false where the backbone is frozen (its features are made once, of cached "
            "images), got true; set it to false"
        )
    return setting


def _served(tables: list[str]) -> list[str]:
    return [name for name in tables if all(cell.metric in SERVED for cell in TABLES[name].cells)]


def _segmentations(tier: Tier) -> dict[str, str]:
    """The name of the data set by address of each cell whose segmentation the tier trains."""
    cells = [cell for table in tier.tables for cell in TABLES[table].cells if cell.variant is not None and cell.trained]
    settings = {cell.address: cell.setting for cell in cells if tier.reason(cell) is None}
    settings |= {f"X/score/{variant.label}": MAIN for variant in tier.extra}
    return {cell: tier.settings[name].data.name for cell, name in settings.items() if name in tier.settings}


def _without_library(tier: Tier, block: dict[str, Any]) -> dict[str, str]:
    """The cells whose CRF is optional, where its library is missing."""
    if find_spec("pydensecrf") is not None:
        return {}
    optional = {name for name, how in block.get("inference", {}).items() if how.get("optional") and how.get("crf")}
    cells = (cell for table in tier.tables for cell in TABLES[table].cells if cell.inference in optional)
    return {
        cell.address: "The dense CRF's library is not installed (make crf, then dvc repro --force)." for cell in cells
    }


def _bound(cell: Cell, tier: Tier, where: str) -> None:
    """Raises InputError where a cell's setting or inference is not the tier's."""
    for kind, name, known in (("settings", cell.setting, tier.settings), ("inference", cell.inference, tier.inference)):
        if name and name not in known:
            raise InputError(
                f"{where}.{kind} must have {name!r}, which {cell.address} needs; add it, or say under not_applicable "
                f"why {cell.table} (or a part such as {cell.table}/{cell.row}) cannot be had here"
            )
    if cell.variant is None and tier.settings[cell.setting].task != CLASSIFY:
        raise InputError(f"{where}.settings.{cell.setting}.task must be classify for {cell.address}; set it")
