"""Which figures a tier's results allow: chooses the data of each and has it drawn. Computes nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.paper.tables import COUNTED_CHANNELS, COUNTED_CLASSES, FIGURES
from study.report.figures import pictures
from study.report.figures import results as figures
from study.report.schematics import drawings
from study.spec.heads import dense, gcn, stack
from study.statistics import results

MAX_SAMPLES = 6
HEADS = {"GCN": gcn(7), "1\u00d71": dense(1), "k\u00d7k": dense(7), "stack of 3\u00d73": stack(7)}  # Fig. 4


def draw(folder: Path, plan: dict[str, Any], frame: pd.DataFrame, summary: pd.DataFrame) -> list[str]:
    """Draw what the results allow; the names of the figures, whose titles and captions are the template's."""
    frame, summary = figures.described(frame, plan), figures.described(summary, plan)
    # Numbers without a head (errors of classifiers, printed scores of other methods) are in no plot.
    frame, summary = (rows[rows["head"] != "classifier"] for rows in (frame, summary))
    look, drawn = figures.styles(plan), {}
    order = [name for name in ("miou_frequent", "miou") if name in plan["metrics"]]
    names = {name: "mean IoU" if len(order) == 1 else plan["metrics"][name] for name in order}
    scored = summary[summary["mean"].notna()]
    main = scored[(scored["data"] == "main") & (scored["metric"] == order[0])]
    if len(main):
        drawn["kernel_size"] = figures.kernel_size(frame, summary, look, names)
        weights = _weights(folder / "results", plan, main)
        drawn["parameters"] = figures.parameters(weights, _paper_weights(plan), look, names[order[0]])
    if len(scored[(scored["table"] == "T5") & (scored["metric"] == "boundary_accuracy")]):
        drawn["boundary"] = figures.boundary(summary, look)
    scored = scored[scored["metric"] == "miou"]
    sets = {name: data for name, data in plan["data"].items() if data["role"] != "stage"}
    if len(main) and len(sets) > 1 and len(scored[scored["data"].isin(sets) & (scored["data"] != "main")]):
        titles = {name: f"{name}: {data['name']}" for name, data in sets.items()}
        drawn["control"] = figures.control(scored[scored["data"].isin(sets)], look, titles)
    drawn |= _of_trainings(folder, plan) | _of_specification(folder)
    for name, figure in drawn.items():
        figures.save(figure, folder / "figures" / f"{name}.svg")
    return list(drawn)


def _of_specification(folder: Path) -> dict[str, Any]:
    """Fig. 1, 2, 4 and 5, from what the networks are as they are built."""
    anatomy = json.loads((folder / "examined" / "anatomy.json").read_text(encoding="utf-8"))
    return {
        "F1": drawings.localisation(anatomy["paper_local"], anatomy["paper"]),
        "F2": drawings.framework(anatomy["paper"]),
        "F4": drawings.heads(HEADS, COUNTED_CHANNELS, COUNTED_CLASSES),
        "F5": drawings.blocks(anatomy["blocks"]),
        "network": drawings.framework(anatomy["tier"]),
    }


def _of_trainings(folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """Fig. 3, 6 and 7, as far as what they show was trained."""
    drawn = {}
    if (folder / "examined" / "receptive.npz").is_file():
        with np.load(folder / "examined" / "receptive.npz") as archive:
            arrays = {name: archive[name] for name in archive.files}
        # The first image's arrays; others are in the file for who wants to look.
        first = {name.removeprefix("0/"): array for name, array in arrays.items() if name.startswith("0/")}
        drawn["F3"] = pictures.receptive_fields(first)
    for name in ("F6", "F7"):
        samples = _samples(folder, plan, FIGURES[name].cells)
        if samples is not None:
            drawn[name] = figures.qualitative(*samples)
    return drawn


def _weights(folder: Path, plan: dict[str, Any], means: pd.DataFrame) -> pd.DataFrame:
    """One row a variant of ``means`` with the head parameters its trainings report."""
    counts = {}
    for key, training in plan["trainings"].items():
        path = folder / key / "result.json"
        if training["data"] == "main" and training["label"] not in counts and path.is_file():
            counts[training["label"]] = json.loads(path.read_text(encoding="utf-8"))["head_parameters"]
    points = means.drop_duplicates("label")
    return points.assign(head_parameters=points["label"].map(counts)).dropna(subset="head_parameters")


def _paper_weights(plan: dict[str, Any]) -> pd.DataFrame:
    """One row a variant for which the paper prints both a score and a parameter count."""
    cells = [cell for cell in plan["cells"] if cell["paper"] is not None]
    counts = {cell["label"]: cell["paper"] for cell in cells if cell["metric"] == "parameters"}
    scored = {cell["label"]: cell for cell in cells if cell["metric"] == "miou" and cell["label"] in counts}
    rows = [
        {name: cell[name] for name in figures.VARIANT_COLUMNS}
        | {"head_parameters": counts[label], "mean": cell["paper"], "high": math.nan}
        for label, cell in scored.items()
    ]
    return pd.DataFrame(rows, columns=[*figures.VARIANT_COLUMNS, "head_parameters", "mean", "high"])


def _samples(folder: Path, plan: dict[str, Any], addresses: tuple[str, ...]) -> tuple[Any, ...] | None:
    """Images, labels and predictions of these cells, with the classes, at the first seed that has them all; None where
    no seed has. Without Table 5 any three variants of the main set stand in for Figure 6's."""
    cells = [cell for cell in plan["cells"] if cell["address"] in addresses and cell["runs"]]
    if not cells and len(addresses) > 1:
        cells = [cell for cell in plan["cells"] if cell["data"] == "main" and cell["runs"]]
    chosen = dict(list({cell["label"]: cell["runs"] for cell in cells}.items())[:3])
    for seed in sorted({training["seed"] for training in plan["trainings"].values()}):
        found = {}
        for label, runs in chosen.items():
            places = [folder / place / runs.get(str(seed), "") / "samples.npz" for place in ("results", "examined")]
            for path in filter(Path.is_file, places):
                found[label] = np.load(path)
        if found and len(found) == len(chosen):
            first = next(iter(found.values()))
            predictions = {label: archive["predictions"][:MAX_SAMPLES] for label, archive in found.items()}
            classes = plan["data"][cells[0]["data"]]["classes"]
            return first["images"][:MAX_SAMPLES], first["labels"][:MAX_SAMPLES], predictions, classes
    return None


def learning(folder: Path, plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The learning-curve pages, one a data set: the drawn curves, the last slopes and the rule they were judged by."""
    curves, look, pages = results.curves(plan, folder / "results"), figures.styles(plan), []
    if curves.empty:
        return []
    slopes = results.last_slopes(curves)
    staged = slopes["data"].map(lambda name: plan["data"][name]["role"] == "stage")
    for name, table in slopes[~staged].groupby("data", sort=False):
        drawn = figures.learning_curves(curves[curves["data"] == name], look)
        figures.save(drawn, folder / "figures" / f"curves_{name}.svg")
        pages.append(_page(name, table) | {"figure": f"curves_{name}"})
    if staged.any():
        table = slopes[staged]
        pages.append(_page("stages", table.assign(label=table["data"] + ": " + table["label"])) | {"figure": None})
    return pages


def _page(name: str, table: pd.DataFrame) -> dict[str, Any]:
    """The last slopes of a data set's variants as text, with the rule they were judged by."""
    rows = [
        {"improving": bool(row.improving), "cells": [
            row.label, f"{row.steps:,}", _signed(row.last * 100, ".1f"), _signed(row.slope, "+.2f"),
            f"{_signed(row.least, '+.2f')} to {_signed(row.greatest, '+.2f')}", _signed(row.loss_change, "+.1%"),
            "yes" if row.improving else "no",
        ]}
        for row in table.sort_values("slope", ascending=False, kind="stable").itertuples()
    ]  # fmt: skip
    return {
        "data": name, "rows": rows, "unknown": int(table["slope"].isna().sum()),
        "limits": sorted({f"{value:.2g}" for value in table["threshold"]}),
        "points": str(results.IMPROVING_POINTS), "share": f"{results.IMPROVING_SHARE:.0%}",
    }  # fmt: skip


def _signed(value: float, form: str) -> str:
    """A number with a true minus sign, a dash where there is none."""
    return "–" if math.isnan(value) else format(value, form).replace("-", "−")  # noqa: RUF001
