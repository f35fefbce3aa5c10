"""TABLES x tier -> unique trainings, parents first; cell -> key. The plan is the manifest of a tier."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from study import code
from study.paper import COUNTED_CHANNELS, COUNTED_CLASSES, TABLES
from study.spec import Cell, Network, Table, Training, Variant, canonical, digest
from study.store import weights_digest
from study.tier import MAIN, Tier

TORCH = version("torch")  # once: reading a package's metadata takes longer than a key
METRIC_TITLES = {
    "miou": "mean IoU, all present classes",
    "miou_frequent": "mean IoU, frequent classes",
    "pixel_accuracy": "pixel accuracy",
}


@dataclass(frozen=True)
class Plan:
    """``cells`` with their keys by seed; ``trainings`` by key, in the order in which they should start."""

    tier: Tier
    tables: tuple[Table, ...]
    cells: tuple[tuple[Cell, str, dict[int, str]], ...]
    trainings: dict[str, Training]
    data_of: dict[str, str]
    facts: dict[str, dict[str, Any]]

    def manifest(self) -> dict[str, Any]:
        """The content of plan.json."""
        metrics = [m for m in METRIC_TITLES if m != "miou_frequent" or self.tier.frequent is not None]
        return {
            "tier": self.tier.name,
            "title": self.tier.title,
            "judges": self.tier.judges,
            "meaningless": self.tier.meaningless,
            "tables": [
                {"id": t.id, "title": t.title, "page": t.page, "rows": t.rows, "columns": t.columns, "note": t.note}
                | {"data": t.data or MAIN}
                for t in self.tables
            ],
            "cells": [self._cell(*cell) for cell in self.cells],
            "trainings": {key: self._training(key, training) for key, training in self.trainings.items()},
            "data": self.facts,
            "metrics": {m: METRIC_TITLES[m] for m in metrics},
        }

    def _cell(self, cell: Cell, data: str, runs: dict[int, str]) -> dict[str, Any]:
        head = cell.variant.head
        return {
            "address": cell.address,
            "table": cell.table,
            "row": cell.row,
            "column": cell.column,
            "metric": cell.metric,
            "paper": cell.paper,
            "parameters": None if cell.trained else head.parameters(COUNTED_CHANNELS, COUNTED_CLASSES),
            "data": data,
            "runs": {str(seed): key for seed, key in runs.items()},
        } | labels(cell.variant)

    def _training(self, key: str, training: Training) -> dict[str, Any]:
        fixed = {"seed": training.seed, "data": self.data_of[key], "steps": training.recipe.steps}
        return labels(training.variant) | fixed | {"cost": cost(training.variant)}


def labels(variant: Variant) -> dict[str, Any]:
    """What tables, plots, the study and the tracker call a variant."""
    head = variant.head
    return {
        "label": variant.label,
        "head": head.family,
        "kernel_size": head.kernel_size,
        "refine": variant.refine,
        "width": None if head.width is None else float(head.width),
    }


def cost(variant: Variant) -> int:
    """A rank for starting long trainings first, so that none is left alone at the end: weights of the head, with BR
    above all others (it works on the finest maps)."""
    return variant.head.parameters(64, 8) + (1_000_000 if variant.refine else 0)


def training_roots(network: Network) -> tuple[code.Symbol, ...]:
    """What a training reaches in the code, beside the data (which is known by its content)."""
    roots = (
        ("study.engine", ""),
        ("study.evaluate", ""),
        ("study.source", "Source"),
        ("study.regions", ""),
        ("study.worker", "_settle"),
        ("study.models", "build"),
        code.entry("study.models.backbones", "BACKBONES", network.backbone),
    )
    frozen = (("study.source", "features_of"), ("study.source", "standardise"))
    return roots + frozen if network.frozen else roots


def key_of(training: Training, fingerprint: str, device: str) -> str:
    """The training's name: sha256 over its spec, its data's fingerprint, its code, the torch version and the device."""
    identity = {
        "training": canonical(training),
        "data": fingerprint,
        "weights": weights_digest(training.network),
        "code": code.code_digest(*training_roots(training.network)),
        "torch": TORCH,
        "device": device,
    }
    return digest(identity)


def build(tier: Tier, facts: dict[str, dict[str, Any]], device: str) -> Plan:
    """Bind every cell of the tier's tables to its trainings; equal trainings are one.

    ``facts`` are the data stage's: by data set (``main`` and the controls), its fingerprint and classes.
    """
    tables = [TABLES[name] for name in tier.tables]
    if tier.extra:
        tables.append(_listing("X", "Variants beyond the paper", tier.extra, "Added by `extra:` in params.yaml.", ""))
    for number, (name, control) in enumerate(tier.controls, start=1):
        tables.append(_listing(f"C{number}", control.title, control.variants, "", name))
    data = tier.data_sets
    trainings: dict[str, Training] = {}
    cells, data_of = [], {}
    for table in tables:
        name = table.data or MAIN
        for cell in table.cells:
            runs = {}
            for seed in tier.seeds if cell.trained else ():
                training = Training(cell.variant, data[name], tier.network, tier.recipe, seed, tier.band_px)
                runs[seed] = key = key_of(training, facts[name]["fingerprint"], device)
                trainings.setdefault(key, training)
                data_of[key] = name
            cells.append((cell, name, runs))
    order = sorted(trainings, key=lambda key: (-cost(trainings[key].variant), trainings[key].seed, key))
    return Plan(tier, tuple(tables), tuple(cells), {key: trainings[key] for key in order}, data_of, facts)


def _listing(name: str, title: str, variants: tuple[Variant, ...], note: str, data: str) -> Table:
    """A table of one row of scores that the paper does not have."""
    columns = tuple(dict.fromkeys(variant.label for variant in variants))
    cells = {v.label: Cell(name, "score", v.label, v, "miou", None) for v in variants}
    return Table(name, title, None, ("score",), columns, tuple(cells.values()), note, data)
