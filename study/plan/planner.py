"""Build a tier's plan, its manifest: unique trainings (parents first) and evaluations, and the keys of each cell."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any, cast

from study.config.schema import Seeds
from study.config.tiers import BETTER, CLASSIFY, WORSE, Mechanism, Tier, mechanism_id
from study.paper.labels import labels
from study.paper.tables import COUNTED_CHANNELS, COUNTED_CLASSES, TABLES
from study.spec.cells import Cell, Table
from study.spec.constants import MAIN
from study.spec.digest import canonical, digest
from study.spec.documents.data import Facts
from study.spec.documents.plan import (
    Asked,
    PlanFile,
    PlannedCell,
    PlannedEvaluation,
    PlannedMechanism,
    PlannedSequence,
    PlannedSetting,
    PlannedSide,
    PlannedTable,
    PlannedTraining,
    Rules,
)
from study.spec.errors import InputError
from study.spec.heads import Variant
from study.spec.training import Inference, Recipe, Training
from study.spec.typed import Json
from study.statistics import mechanisms, questions
from study.store.keys import identity, identity_of_evaluation

METRIC_TITLES = {
    "miou": "mean IoU, all present classes",
    "miou_frequent": "mean IoU, frequent classes",
    "pixel_accuracy": "pixel accuracy",
}


@dataclass(frozen=True)
class Evaluation:
    """A trained network scored by an inference method other than one pass over whole images, the method ``name``."""

    training: str
    name: str
    inference: Inference


@dataclass(frozen=True)
class Plan:
    """The trainings and evaluations of a tier, and the cells that use them.

    ``cells`` have their keys by seed. ``trainings`` are by key, in the order in which they should start. ``init`` maps
    a key to the key of the training whose weights it starts from, ``data_of`` maps a key to its setting. ``device`` is
    cpu or cuda."""

    tier: Tier
    tables: tuple[Table, ...]
    cells: tuple[tuple[Cell, str, dict[int, str]], ...]
    trainings: dict[str, Training]
    data_of: dict[str, str]
    facts: Mapping[str, Facts]
    device: str
    init: dict[str, str] = field(default_factory=dict)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    known: dict[tuple[str, Training, str | None], str] = field(default_factory=dict)  # setting, training, init -> key
    # The parts that each key is the digest of. A training's spec is long, so its own digest stands for it.
    identities: dict[str, dict[str, Json]] = field(default_factory=dict)

    def origin(self, key: str) -> str:
        """The setting of a training's first stage (its own setting if it has no earlier stage)."""
        while key in self.init:
            key = self.init[key]
        return self.data_of[key]

    def plain(self, key: str) -> str | None:
        """The evaluation that differs from this one only in having no CRF, so that one pass serves both; None if there
        is none."""
        asked = self.evaluations[key]
        if asked.inference.crf is None:
            return None
        without = replace(asked.inference, crf=None)
        rest = (k for k, e in self.evaluations.items() if (e.training, e.inference) == (asked.training, without))
        return next(rest, None)

    def manifest(self, work: Mapping[str, float] = MappingProxyType({})) -> PlanFile:
        """The content of plan.json. ``work`` is the cost of trainings and evaluations by key, in tera multiply-adds;
        only a plan with looks has it (see study.ablation.planned_cost)."""
        metrics = [m for m in METRIC_TITLES if m != "miou_frequent" or self.tier.frequent is not None]
        settings = {name: self.tier.settings[name] for name in self.facts}
        asked: Asked = {
            "tier": self.tier.name,
            "scale": self.tier.scale,
            "verdicts": cast(Rules, self.tier.verdicts.model_dump()) if self.tier.verdicts else None,
            "not_asked": self.tier.not_asked,
            "mechanisms": {
                name: planned_mechanism(mechanism_id(name), one) for name, one in self.tier.mechanisms.items()
            },
            "tables": [self._table(table) for table in self.tables],
            "cells": [self._cell(*cell) for cell in self.cells],
            "evaluations": {key: self._evaluation(evaluation) for key, evaluation in self.evaluations.items()},
        }
        if self.tier.judged_by != "miou":
            asked["judged_by"] = self.tier.judged_by
        if self.tier.by_need:
            asked["sequence"] = looks(self.tier.by_need, work)
            self._check_sequence(asked, asked["sequence"])
        answered = questions.of_trainings(asked)
        return {
            **asked,
            "version": 1,
            "title": self.tier.title,
            "judges": self.tier.judges,
            "block": self.tier.block,
            "meaningless": self.tier.meaningless,
            "identities": {key: self.identities[key] for key in (*self.trainings, *self.evaluations)},
            "settings": {name: self._setting(name) for name in self.facts},
            "inference": {name: plain(how) for name, how in self.tier.inference.items()},
            "data": {
                name: {**facts, "role": settings[name].role, "title": settings[name].title,
                       "after": settings[name].after}
                for name, facts in self.facts.items()
            },
            "metrics": {m: METRIC_TITLES[m] for m in metrics},
            "questions": questions.all_digests(asked),
            "wording": questions.wording(),
            "trainings": {key: self._training(key, t, answered[key]) for key, t in self.trainings.items()},
        }  # fmt: skip

    def _check_sequence(self, asked: Asked, sequence: PlannedSequence) -> None:
        """Raises InputError if seeds by need have no claim to decide, or the budget does not cover the first seeds."""
        where = f"tiers.{self.tier.name}.seeds"
        if not questions.family(asked) and not questions.family(asked, mechanisms.claims(asked)):
            raise InputError(
                f"{where} must be a plain list, because the tier's tables have no claim to decide; write e.g. "
                f"[{sequence['seeds'][0]}], or add tables"
            )
        first = {str(seed) for seed in sequence["seeds"][: sequence["at"][0]]}
        keys = {key for _, _, runs in self.cells for seed, key in runs.items() if str(seed) in first}
        keys |= {self.evaluations[key].training for key in keys if key in self.evaluations}
        for key in list(keys):
            while key in self.init:
                keys.add(key := self.init[key])
        cost = math.fsum(sequence["work"].get(key, 0.0) for key in keys)
        if sequence["budget"] is not None and sequence["budget"] < cost:
            raise InputError(
                f"{where}.budget must cover the first {sequence['at'][0]} seeds of every training ({cost:,.0f} tera "
                f"multiply-adds), got {sequence['budget']:,.0f}; raise it, or lower `first`"
            )

    def _table(self, table: Table) -> PlannedTable:
        submitted = self.tier.submitted.get(table.id)
        return {
            "id": table.id,
            "title": table.title,
            "page": table.page,
            "rows": list(table.rows),
            "columns": list(table.columns),
            "note": table.note,
            "data": _common({name for cell, name, _ in self.cells if cell.table == table.id}),
            "submitted": {"percent": submitted.percent, "link": submitted.link} if submitted else None,
        }

    def _cell(self, cell: Cell, data: str, runs: dict[int, str]) -> PlannedCell:
        counted = cell.metric == "parameters" and cell.variant is not None
        return {
            **labels(cell.variant),
            "address": cell.address,
            "table": cell.table,
            "row": cell.row,
            "column": cell.column,
            "metric": cell.metric,
            "paper": cell.paper,
            "parameters": cell.variant.head.parameters(COUNTED_CHANNELS, COUNTED_CLASSES)
            if counted and cell.variant
            else None,
            "data": data,
            "inference": cell.inference,
            "not_applicable": self.tier.reason(cell) if cell.trained else None,
            "runs": {str(seed): key for seed, key in runs.items()},
        }

    def _training(self, key: str, training: Training, questions: dict[str, str]) -> PlannedTraining:
        return {
            **labels(training.variant),
            "seed": training.seed,
            "data": self.data_of[key],
            "steps": training.recipe.steps,
            "lr": training.recipe.lr,
            "optimizer": training.recipe.optimizer,
            "batch": training.recipe.batch,
            "backbone": training.network.backbone,
            "cost": cost(training),
            "after": self.init.get(key),
            "questions": questions,
        }

    def _setting(self, name: str) -> PlannedSetting:
        """A setting's configuration, kept so that a later change can be reported by its key in params.yaml."""
        setting = self.tier.settings[name]
        return {
            "data": plain(setting.data),
            "network": plain(setting.network),
            "recipe": plain(setting.recipe),
            "after": setting.after,
            "band_px": self.tier.band_px,
        }

    def _evaluation(self, evaluation: Evaluation) -> PlannedEvaluation:
        key, training = evaluation.training, self.trainings[evaluation.training]
        return {
            "label": labels(training.variant)["label"],
            "seed": training.seed,
            "data": self.data_of[key],
            "training": evaluation.training,
            "inference": evaluation.name,
        }


def looks(seeds: Seeds, work: Mapping[str, float]) -> PlannedSequence:
    """The looks at a study. Each has a share of alpha in proportion to the seeds that it adds. ``work`` is the cost of
    each training and evaluation, by key."""
    shares = [(at - before) / seeds.most for before, at in itertools.pairwise((0, *seeds.at))]
    every, at = list(seeds.all), list(seeds.at)
    return {"seeds": every, "at": at, "shares": shares, "budget": seeds.budget, "work": dict(work)}


def _common(names: set[str]) -> str:
    """The setting that all cells of a table share, else the tier's main one."""
    return names.pop() if len(names) == 1 else MAIN


def plain(value: Any) -> Any:
    """A frozen value as JSON types; tuples of (name, value) pairs become mappings."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if not isinstance(value, tuple):
        return canonical(value)
    if value and all(isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) for item in value):
        return {name: plain(item) for name, item in value}
    return [plain(item) for item in value]


def cost(training: Training) -> int:
    """A rank for starting long trainings first, so that no long one runs alone at the end: images seen times weights of
    the head, with BR above all others (it works on the finest maps). The share that does not depend on the head is
    small if a frozen backbone's features come from the cache."""
    variant, recipe = training.variant, training.recipe
    head = 0 if variant is None else variant.head.parameters(64, 8) + (1_000_000 if variant.refine else 0)
    return recipe.steps * recipe.batch * ((5_000 if training.network.frozen else 100_000) + head)


def build(
    tier: Tier,
    facts: Mapping[str, Facts],
    device: str,
    recipes: Mapping[tuple[str, Variant | None], Recipe] = MappingProxyType({}),
) -> Plan:
    """Bind every cell of the tier's tables to its trainings and evaluations; cells share equal ones.

    ``facts`` come from the data stage: by setting, the fingerprint and the classes of its data, and the precision that
    a probe chose if the recipe has `precision: auto`. ``recipes`` by (setting, variant) replace the setting's own.
    """
    tables = [TABLES[name] for name in tier.tables]
    if tier.extra:
        tables.append(_listing("X", "Variants beyond the paper", tier.extra, "Added by `extra:` in params.yaml.", MAIN))
    controls = {name: setting for name, setting in tier.settings.items() if setting.role == "control"}
    for number, (name, control) in enumerate(controls.items(), start=1):
        if control.variants:
            tables.append(_listing(f"C{number}", control.title, control.variants, "", name))
    tables += tier.mechanism_tables()
    plan = Plan(tier, tuple(tables), (), trainings={}, data_of={}, facts=facts, device=device)
    cells = []
    for table in tables:
        for cell in table.cells:
            runs = {}
            for seed in tier.seeds if cell.trained and tier.reason(cell) is None else ():
                runs[seed] = key = enter(plan, cell.setting, cell.variant, seed, recipes)
                if cell.inference:
                    how = tier.inference[cell.inference]
                    asked = identity_of_evaluation(key, how)
                    runs[seed] = digest(asked)
                    plan.identities[runs[seed]] = asked
                    plan.evaluations.setdefault(runs[seed], Evaluation(key, cell.inference, how))
            cells.append((cell, cell.setting, runs))
    return replace(plan, cells=tuple(cells), trainings=_ordered(plan))


def enter(
    plan: Plan,
    name: str,
    variant: Variant | None,
    seed: int,
    recipes: Mapping[tuple[str, Variant | None], Recipe] = MappingProxyType({}),
) -> str:
    """Add a training in the setting ``name``, and the stages before it, to the plan; return its key."""
    setting, init, before = plan.tier.settings[name], None, None
    if setting.after is not None:
        pretrained = plan.tier.settings[setting.after].task == CLASSIFY
        init = enter(plan, setting.after, None if pretrained else variant, seed, recipes)
        before = plan.trainings[init]
    recipe, probed = recipes.get((name, variant), setting.recipe), plan.facts[name].get("precision")
    if probed is not None:
        recipe = replace(recipe, precision=probed["precision"])
    training = Training(
        variant, setting.data, setting.network, recipe=recipe, seed=seed, band_px=plan.tier.band_px, init=before
    )
    key = plan.known.get((name, training, init))
    if key is None:  # cells of several tables share most trainings, and a key is slow
        found = identity(training, plan.facts[name]["fingerprint"], plan.device, init)
        key = plan.known[name, training, init] = digest(found)
        plan.identities[key] = found | {"training": digest(found["training"])}
    plan.trainings.setdefault(key, training)
    plan.data_of.setdefault(key, name)
    if init is not None:
        plan.init[key] = init
    return key


def _ordered(plan: Plan) -> dict[str, Training]:
    """Sort trainings by the work left once they start, largest first: their own cost plus the longest chain after them.
    So each comes after the one whose weights it starts from."""
    left = {key: cost(training) for key, training in plan.trainings.items()}
    for key in reversed(plan.trainings):  # children were entered after their parents
        if key in plan.init:
            parent = plan.init[key]
            left[parent] = max(left[parent], cost(plan.trainings[parent]) + left[key])
    order = sorted(plan.trainings, key=lambda key: (-left[key], plan.trainings[key].seed, key))
    return {key: plan.trainings[key] for key in order}


def planned_mechanism(table: str, one: Mechanism) -> PlannedMechanism:
    """The plan's entry for the mechanism of a table."""

    def side(setting: str) -> PlannedSide:
        return {"data": setting, "better": f"{table}/{setting}/{BETTER}", "worse": f"{table}/{setting}/{WORSE}"}

    return {
        "says": one.says, "claim": one.claim, "metric": one.metric, "remains": one.remains, "shows": side(one.shows),
        "absent": side(one.absent),
    }  # fmt: skip


def _listing(name: str, title: str, variants: tuple[Variant, ...], note: str, setting: str) -> Table:
    """A one-row table of scores that the paper does not have."""
    columns = tuple(dict.fromkeys(variant.label for variant in variants))
    cells = {
        v.label: Cell(name, "score", v.label, variant=v, metric="miou", paper=None, setting=setting) for v in variants
    }
    return Table(name, title, None, rows=("score",), columns=columns, cells=tuple(cells.values()), note=note)
