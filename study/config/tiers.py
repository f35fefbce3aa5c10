"""Reads params.yaml; no other module does. A tier binds the paper's cells to data, a backbone, a recipe and seeds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import yaml

from study.config import schema
from study.config.inheritance import in_full
from study.config.schema import AROUND, CLASSIFY, SEGMENT, Receptive, Rules, Submission, Submitted
from study.config.search_space import Tuning
from study.paper.tables import TABLES
from study.spec.cells import Cell, Table
from study.spec.checks import checked
from study.spec.constants import MAIN
from study.spec.data_set_plugins import module_of
from study.spec.documents.tier import Params, TierBlock
from study.spec.errors import InputError
from study.spec.heads import Variant
from study.spec.training import Data, Inference, Network, Recipe
from study.store.runs import located

WORSE, BETTER = "worse", "better"  # columns of a mechanism's table
EXPLORE = "explore"  # key of params.yaml: the number of trials of an exploration
TUNE = "tune"  # key of params.yaml: whether to search each variant's best values


@dataclass(frozen=True)
class Setting:
    """The setting of trainings: data, network and recipe, and the setting ``after`` which they start, with its weights.

    ``root`` is the data set's folder. With ``stream``, training images are read from there at each step (D56); with
    ``fetch``, missing archives that may be fetched are. ``role`` is main, control (a second data set on which a few
    variants test the first) or stage (all others: stages of Tables 7 and 9, networks and pretrainings of Table 6).
    ``task`` is segment or classify.
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
class Mechanism:
    """A contrast that should appear in the setting ``shows`` and hardly in ``absent`` if the paper's ``claim`` is right
    (D146): ``better`` (with an ``inference`` of the tier, if named) scores above ``worse`` in a ``metric``.
    ``remains`` is the largest share of the gain that may remain in ``absent``."""

    says: str
    claim: str
    better: Variant
    worse: Variant
    shows: str
    absent: str
    metric: str
    inference: str
    remains: float = 0.25


@dataclass(frozen=True)
class Tier:
    """One block of params.yaml.

    ``frequent`` is the rule for frequent classes: (least number of training images, least share of the labelled
    training pixels), None if all classes count alike. ``scale`` determines which claims may be judged, ``verdicts`` the
    rules (None only if no claim may be judged), ``tuning`` the search for each variant's best values. ``seeds`` are all
    seeds that may be drawn; ``by_need`` determines which of them are drawn only for open claims (D149), None if all
    are drawn. ``judged_by`` is the mean that claims about mean IoU use.
    """

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
    not_asked: dict[str, str]
    tuning: Tuning | None
    mechanisms: dict[str, Mechanism] = field(default_factory=dict)
    by_need: schema.Seeds | None = None
    explore: schema.Explore | None = None
    judged_by: str = "miou"
    block: TierBlock = field(default_factory=dict, compare=False, repr=False)  # the block of params.yaml, in full

    @property
    def main(self) -> Setting:
        return self.settings[MAIN]

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """The seeds that every training gets."""
        return self.seeds[: self.by_need.first] if self.by_need else self.seeds

    def mechanism_tables(self) -> list[Table]:
        """One table per mechanism."""
        return [mechanism_table(mechanism_id(name), one) for name, one in self.mechanisms.items()]

    @property
    def cells(self) -> list[Cell]:
        """The cells of the tier's tables from the paper, and of its mechanisms."""
        return [
            cell for table in (*map(TABLES.__getitem__, self.tables), *self.mechanism_tables()) for cell in table.cells
        ]

    def reason(self, cell: Cell) -> str | None:
        """Why a cell is not applicable in this tier; None if it is applicable."""
        parts = cell.address.split("/")
        starts = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        return next((self.not_applicable[start] for start in starts if start in self.not_applicable), None)


def mechanism_id(name: str) -> str:
    """The id of a mechanism's table. It uses the name, so the order of the block does not matter."""
    return f"M-{name}"


def mechanism_table(name: str, one: Mechanism) -> Table:
    """The table of a mechanism: one row per setting, the two variants as columns."""
    columns = {WORSE: (one.worse, ""), BETTER: (one.better, one.inference)}
    cells = tuple(
        Cell(name, setting, column, variant=variant, metric=one.metric, paper=None, setting=setting, inference=how)
        for setting in (one.shows, one.absent)
        for column, (variant, how) in columns.items()
    )
    told = {column: variant.label + (f", {how}" if how else "") for column, (variant, how) in columns.items()}
    note = f"Worse: {told[WORSE]}; better: {told[BETTER]}."
    return Table(name, one.says, None, rows=(one.shows, one.absent), columns=tuple(columns), cells=cells, note=note)


def read(path: Path = Path("params.yaml")) -> Params:
    """The whole of params.yaml with every tier in full, each value checked by study.config.schema.

    Raises InputError if the file is missing or not YAML, or if the schema refuses it.
    """
    try:
        params = content(path.read_text(encoding="utf-8"))
    except yaml.constructor.ConstructorError as error:
        if error.problem != "found unhashable key" or error.problem_mark is None:
            raise _unreadable(path, error) from error
        raise InputError(
            f"a key of params.yaml must be text or a number, got a list or a mapping in line "
            f"{error.problem_mark.line + 1} of {path}; write a name before it, such as roof: [128, 0, 0]"
        ) from None
    # ValueError: bytes that are not UTF-8, a date that does not exist, a number of thousands of digits.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise _unreadable(path, error) from error
    return check(params)


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"params.yaml must be a readable YAML file, got {path} ({error}); restore it")


def check(params: object) -> Params:
    """The content of params.yaml with every tier in full (see inheritance), each value checked by study.config.schema.
    Raises InputError for an invalid value."""
    if isinstance(params, dict) and isinstance(params.get("tiers"), dict):
        _check_names(params["tiers"])
    full = in_full(checked(dict[Any, Any], params, ""))
    whole: schema.Params = checked(schema.Params, full, "")
    for name, block in whole.tiers.items():
        for changes, where in _changes(block, f"tiers.{name}").values():
            _merged(changes, full["tiers"][name], where)
    return cast(Params, full)


def write(params: Params, path: Path) -> None:
    """Write params.yaml, in the order of its keys and without comments."""
    path.write_text(text(params), encoding="utf-8")


def text(params: Mapping[str, object], *, compact: bool = False) -> str:
    """YAML, in the order of the keys. ``compact`` writes short lists in brackets and leaves Unicode unescaped."""
    style = None if compact else False
    return yaml.safe_dump(dict(params), sort_keys=False, width=120, default_flow_style=style, allow_unicode=compact)


def content(text: str) -> Any:
    """The content of a YAML text, unchecked."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)  # the C loader, if present, is five times as fast
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def load(params: Params, name: str | None = None) -> Tier:
    """The tier ``name`` (by default the one in ``params``). Raises InputError with the key, the rule and the remedy."""
    params = in_full(params)
    name = params["tier"] if name is None else name
    tiers: dict[str, Any] = checked(dict[Any, Any], params["tiers"], "tiers")
    _check_names(tiers)
    if name not in list(tiers):
        raise InputError(f"tier must be one of {', '.join(tiers)}, got {name!r}; set `tier:` in params.yaml")
    where = f"tiers.{name}"
    own, block = tiers[name], checked(schema.Tier, tiers[name], where)
    by_need = block.seeds if isinstance(block.seeds, schema.Seeds) else None
    settings = _settings(own, block, where, os.environ.get(f"STUDY_DATA_{name.upper()}"))
    found = Tier(
        name=name,
        title=block.title,
        judges=block.judges,
        meaningless=block.meaningless,
        notes=block.notes,
        seeds=by_need.all if by_need else block.seeds,
        tables=block.tables,
        settings=settings,
        inference={name: how.made() for name, how in block.inference.items()},
        not_applicable=block.not_applicable,
        receptive=block.receptive,
        submission=None,  # set below, once the trainable cells are known
        submitted=block.submitted,
        band_px=block.band_px,
        samples=block.samples,
        frequent=(block.frequent.min_images, block.frequent.min_pixels) if block.frequent else None,
        extra=tuple(variant.variant() for variant in block.extra),
        scale=block.scale,
        verdicts=block.verdicts,
        not_asked=block.not_asked,
        tuning=_tuning(block.tuning) if block.tuning else None,
        mechanisms={name: _mechanism(one) for name, one in block.mechanisms.items()},
        by_need=by_need,
        explore=block.explore,
        judged_by=block.judged_by,
        block=own,
    )
    declared = found  # before cells are dropped: a missing library is not a mistake in params.yaml
    found = replace(found, not_applicable=found.not_applicable | _without_library(found, block))
    for mechanism, one in found.mechanisms.items():
        _check_mechanism(one, found, f"{where}.mechanisms.{mechanism}")
    needed = {name for name, setting in settings.items() if setting.role != "stage"}
    for cell in found.cells:
        if not cell.trained or found.reason(cell) is not None:
            continue
        _bound(cell, found, where)
        at: str | None = cell.setting
        while at is not None:
            needed.add(at)
            at = settings[at].after
    if block.submission:
        _check_submission(block.submission, declared, f"{where}.submission")
    # Settings that no table of the tier needs are never read or trained, so their options are not checked.
    for setting, (changes, place) in _changes(block, where).items():
        if setting in needed:
            data, network, _ = _merged(changes, own, place)
            _check_options(data, network, place)
    kept = {name: setting for name, setting in settings.items() if name in needed}
    return replace(found, settings=kept, submission=block.submission)


def _check_names(tiers: dict[str, Any]) -> None:
    for name in tiers:
        checked(schema.TierName, name, lambda _: "a tier's name")


def _tuning(block: schema.Tuning) -> Tuning:
    search = tuple((name, tuple(map(float, values))) for name, values in block.search.items())
    rungs = tuple(map(float, block.rungs))
    return Tuning(block.settings, search, block.seeds, rungs=rungs, keep=float(block.keep), factorial=block.factorial)


def _mechanism(block: schema.Mechanism) -> Mechanism:
    return Mechanism(
        says=block.says, claim=block.claim, better=block.better.variant(), worse=block.worse.variant(),
        shows=block.shows, absent=block.absent, metric=block.metric, inference=block.inference or "",
        remains=float(block.remains),
    )  # fmt: skip


def _check_mechanism(one: Mechanism, tier: Tier, where: str) -> None:
    for key, name in (("shows", one.shows), ("absent", one.absent)):
        setting = tier.settings.get(name)
        if setting is None or setting.task == CLASSIFY or setting.after is not None:
            known = [other for other, s in tier.settings.items() if s.task != CLASSIFY and s.after is None]
            raise InputError(
                f"{where}.{key} must be a segmentation setting of the tier without `after:`, got {name!r}; take one of "
                f"{', '.join(known)}, add a control, or remove the mechanism (null) or all (mechanisms: null)"
            )
    if one.inference and one.inference not in tier.inference:
        raise InputError(
            f"{where}.inference must be one of the tier's inference methods ({', '.join(tier.inference) or 'none'}), "
            f"got {one.inference!r}; rename it"
        )
    if one.better == one.worse and not one.inference:
        raise InputError(
            f"{where}.worse must differ from better (or name an inference, which applies to better only), got "
            f"{one.worse.label} twice; change one"
        )


def _changes(block: schema.Tier, where: str) -> dict[str, tuple[dict[str, Any], str]]:
    """By setting: the changes to the tier's own data, network and recipe, and their place in params.yaml."""
    found: dict[str, tuple[dict[str, Any], str]] = {MAIN: ({}, where)}
    for name, control in block.controls.items():
        changes = {"data": control.data, "network": control.network, "recipe": control.recipe}
        found[name] = changes, f"{where}.controls.{name}"
    return found | {name: (dict(other), f"{where}.settings.{name}") for name, other in block.settings.items()}


def _merged(
    changes: dict[str, Any], own: dict[str, Any], where: str
) -> tuple[schema.Data, schema.Network, schema.Recipe]:
    """The tier's own blocks, merged with the changes of a setting."""
    changed = changes.get("data", {})
    same = changed.get("name", own["data"]["name"]) == own["data"]["name"]
    data = (own["data"] if same else {key: own["data"].get(key) for key in AROUND}) | changed
    network = checked(schema.Network, own["network"] | changes.get("network", {}), f"{where}.network")
    recipe = checked(schema.Recipe, own["recipe"] | changes.get("recipe", {}), f"{where}.recipe")
    return checked(schema.Data, data, f"{where}.data"), network, recipe


def _settings(own: dict[str, Any], block: schema.Tier, where: str, root: str | None) -> dict[str, Setting]:
    """The tier's own setting, its controls and its other settings; all but the first are changes to the first."""
    about: dict[str, dict[str, Any]] = {MAIN: {"role": "main", "title": ""}}
    for name, control in block.controls.items():
        variants = tuple(variant.variant() for variant in control.variants)
        about[name] = {"role": "control", "title": control.title, "variants": variants}
    for name, other in block.settings.items():
        about[name] = {"role": "stage", "title": other.title, "after": other.after, "task": other.task}
    changes = _changes(block, where)
    return {name: _setting(changes[name][0], own, changes[name][1], root, **more) for name, more in about.items()}


def _setting(changes: dict[str, Any], own: dict[str, Any], where: str, root: str | None, **more: Any) -> Setting:
    data, network, recipe = _merged(changes, own, where)
    lies = changes.get("data", {}).get("root") or root or data.root  # the setting's, the variable's, the tier's
    setting = Setting(
        data=data.made(), root=located(lies) if lies else None, stream=bool(data.stream), fetch=bool(data.fetch),
        network=network.made(), recipe=recipe.made(), **more,
    )  # fmt: skip
    if setting.network.frozen and (setting.recipe.crop or setting.task == CLASSIFY):
        raise InputError(
            f"{where} must train its backbone if it crops or classifies (features of a frozen one are computed once, "
            "from whole images), got network.frozen: true; set it to false or drop the crop"
        )
    if setting.network.frozen and setting.stream:
        raise InputError(
            f"{where}.data.stream must be false if the backbone is frozen (its features are computed once, from cached "
            "images), got true; set it to false"
        )
    return setting


def _check_options(data: schema.Data, network: schema.Network, where: str) -> None:
    module_of(data.made(), f"{where}.data")
    if network.backbone in schema.BACKBONES:
        checked(schema.BACKBONES[network.backbone], network.options, f"{where}.network.options")


def _check_submission(wanted: Submission, tier: Tier, where: str) -> None:
    cells = _segmentations(tier)
    if wanted.cell not in cells:
        raise InputError(
            f"{where}.cell must be the address of a segmentation that the tier trains, got {wanted.cell!r}; take one "
            f"such as {next(iter(cells), 'T1/score/15 (with its table)')}"
        )
    data = cells[wanted.cell]
    if wanted.format != data:
        raise InputError(
            f"{where}.format must be that of the cell's data set {data} (the server scores only its classes), got "
            f"{wanted.format!r}; name a cell trained on {wanted.format}"
        )
    if wanted.seed not in tier.first_seeds:
        seeds = ", ".join(map(str, tier.first_seeds))
        raise InputError(f"{where}.seed must be one of {seeds}, got {wanted.seed}; rename it")


def _segmentations(tier: Tier) -> dict[str, str]:
    """By address of each cell whose segmentation the tier trains: the name of its data set."""
    cells = [cell for table in tier.tables for cell in TABLES[table].cells if cell.variant is not None and cell.trained]
    settings = {cell.address: cell.setting for cell in cells if tier.reason(cell) is None}
    settings |= {f"X/score/{variant.label}": MAIN for variant in tier.extra}
    return {cell: tier.settings[name].data.name for cell, name in settings.items() if name in tier.settings}


def _without_library(tier: Tier, block: schema.Tier) -> dict[str, str]:
    """The cells with an optional CRF whose library is missing, each with the reason."""
    if find_spec("pydensecrf") is not None:
        return {}
    optional = {name for name, how in block.inference.items() if how.optional and how.crf}
    cells = (cell for cell in tier.cells if cell.inference in optional)
    return {
        cell.address: "The dense CRF's library is not installed (make crf, then dvc repro --force)." for cell in cells
    }


def _bound(cell: Cell, tier: Tier, where: str) -> None:
    """Raises InputError if the tier lacks a cell's setting or inference method."""
    for kind, name, known in (("settings", cell.setting, tier.settings), ("inference", cell.inference, tier.inference)):
        if name and name not in known:
            raise InputError(
                f"{where}.{kind} must have {name!r}, which {cell.address} needs; add it, or give the reason under "
                f"not_applicable why {cell.table} (or a part such as {cell.table}/{cell.row}) has no number here"
            )
    if cell.variant is None and tier.settings[cell.setting].task != CLASSIFY:
        raise InputError(f"{where}.settings.{cell.setting}.task must be classify for {cell.address}; set it")
