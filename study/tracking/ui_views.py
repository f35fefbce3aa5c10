"""What the MLflow UI shows by default: saved views with their columns and charts, colours, pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from study.data import display
from study.spec.documents.data import Read
from study.spec.documents.plan import PlannedCell, PlannedTraining

SHOWN = 4  # samples in a run's picture
LEAST_PX, GAP, FONT_PX = 192, 4, 13  # in that picture: least width of a sample, gap, size of names
LONGEST_NAME = 200  # of a class; MLflow takes 250 characters
HEAD_COLOURS = {"1x1": "#7f7f7f", "kxk": "#de8f05", "stack": "#029e73", "GCN": "#0173b2"}
OTHER_COLOUR = "#cc78bc"  # for a user's own head families


def _line(metric: str) -> dict[str, Any]:
    # The UI smooths lines by default: over kernel sizes that would draw scores that do not exist.
    raw = {"lineSmoothness": 0, "useGlobalLineSmoothing": False, "displayPoints": True}
    return {"type": "LINE", "metricKey": metric, "selectedMetricKeys": [metric]} | raw


_SCATTER = {
    "type": "SCATTER",
    "xaxis": {"key": "kernel_size", "type": "PARAM"},
    "yaxis": {"key": "val/miou", "type": "METRIC"},
}
_PARALLEL = {"type": "PARALLEL", "selectedParams": ["head", "kernel_size", "BR"], "selectedMetrics": ["val/miou"]}
_SCORES, _PAPER, _TUNE, _LOSS = map(_line, ("val/miou", "paper/miou", "tune/miou", "train/loss"))
_BAR = {"type": "BAR", "metricKey": "val/miou"}
_SAMPLES = {"type": "IMAGE", "imageKeys": ["samples"], "step": 0, "showRunParams": False}
SECTIONS = ("Study", "val", "class", "paper", "spread", "cost", "tune", "train")  # all but the first are folded
_COLUMNS = {
    "cell": "head kernel_size BR val/miou paper/miou paper/miou_difference spread/miou_low spread/miou_high",
    "training": "head kernel_size BR seed val/miou val/pixel_accuracy parameters",
}
# key: (name, kind of run, charts, params that group runs into means)
VIEWS: dict[str, tuple[str, str, list[dict[str, Any]], list[str]]] = {
    "cells": ("Cells beside the paper", "cell", [_SCATTER, _PARALLEL, _PAPER], []),
    "lines": ("mIoU against kernel size", "cell", [_SCORES, _PAPER], ["series"]),
    "trainings": ("Trainings, every seed", "training", [_SCATTER, _PARALLEL, _SAMPLES, _TUNE, _LOSS], []),
    "means": ("Means by head and kernel size", "training", [_BAR, _SCATTER], ["head", "kernel_size"]),
    "curves": ("Curves, mean over seeds", "training", [_TUNE, _LOSS], ["variant"]),
}
TRIALS = "Trials of the exploration"
# A mean by head and kernel size must not mix data sets, or networks with and without BR.
_ALIKE = {"means": " AND tags.`study.data` = 'main' AND params.`BR` = '0'"}


def experiment_tags(created: int) -> dict[str, str]:
    """VIEWS as the tags that the UI's own "Save as new view" writes (MLflow 3.15 on), for its menu "Views".

    ``created`` is in milliseconds since 1970: the menu puts the newest first.
    """
    tags = {"mlflow.experimentKind": "custom_model_development"}  # opens on runs, not on traces
    for place, (key, (name, kind, charts, by)) in enumerate(VIEWS.items()):
        state = _state(kind, _COLUMNS[kind].split(), charts, by, alike=_ALIKE.get(key, ""))
        saved = {"name": name, "createdAt": created - place, "updatedAt": created, "state": json.dumps(state)}
        tags[f"mlflow.sharedViewState.{key}"] = json.dumps(saved)
    return tags


def exploration_tags(created: int, params: Sequence[str]) -> dict[str, str]:
    """The view of an exploration's trials as a tag (see ``experiment_tags``). Their runs have these ``params``."""
    scatter = _SCATTER | {
        "xaxis": {"key": "cost/macs", "type": "METRIC"},
        "yaxis": {"key": "tune/score", "type": "METRIC"},
    }
    parallel = {"type": "PARALLEL", "selectedParams": [*params], "selectedMetrics": ["tune/score"]}
    columns = [*params, "tune/score", "cost/macs", "cost/parameters"]
    state = _state("trial", columns, [scatter, parallel], [])
    saved = {"name": TRIALS, "createdAt": created + 1, "updatedAt": created, "state": json.dumps(state)}
    return {"mlflow.sharedViewState.trials": json.dumps(saved)}


def _state(
    kind: str, columns: list[str], charts: list[dict[str, Any]], by: list[str], *, alike: str = ""
) -> dict[str, Any]:
    """The state of a saved view: runs of a ``kind``, filtered by ``alike`` too, grouped into means ``by`` params."""
    columns = [f"metrics.`{name}`" if "/" in name else f"params.`{name}`" for name in columns]
    groups = [{"mode": "param", "groupByData": param} for param in by]
    shared = {"metricSectionId": "Study", "runsCountToCompare": 100}
    return {
        "searchFilter": f"tags.`study.kind` = '{kind}'{alike}",
        "orderByKey": {"cell": "tags.`study.place`", "trial": "metrics.`tune/score`"}.get(kind, "metrics.`val/miou`"),
        "orderByAsc": kind == "cell",
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,  # keeps the order of SECTIONS
        "compareRunSections": [{"uuid": s, "name": s, "display": s == "Study", "columns": 2} for s in SECTIONS],
        "compareRunCharts": [shared | {"uuid": str(n)} | chart for n, chart in enumerate(charts)],
        "groupBy": {"aggregateFunction": "average", "groupByKeys": groups} if groups else None,
        "useGroupedValuesInCharts": bool(groups),
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def run_labels(labels: PlannedCell | PlannedTraining) -> tuple[dict[str, object], dict[str, str]]:
    """Params and tags that trainings and cells have in common. ``variant`` is the label, with the data set if that is
    not the tier's main one; ``series`` is the same without the kernel size."""
    series = _on(labels, labels["label"].replace(f" k={labels['kernel_size']}", "", 1))
    params: dict[str, object] = {
        "head": labels["head"],
        "kernel_size": labels["kernel_size"],
        "width": labels["width"],
    }
    tags = {"study.label": labels["label"], "study.data": labels["data"]}
    tags["mlflow.runColor"] = HEAD_COLOURS.get(labels["head"], OTHER_COLOUR)
    return params | {"BR": int(labels["refine"]), "series": series, "variant": _on(labels, labels["label"])}, tags


def _on(labels: PlannedCell | PlannedTraining, name: str) -> str:
    return name if labels["data"] == "main" else f"{name} ({labels['data']})"


def class_metrics(classes: Sequence[str]) -> list[str]:
    """The metric of each class, such as ``class/road``: unique, and a name that MLflow accepts."""
    found: list[str] = []
    for number, name in enumerate(classes):
        plain = "class/" + re.sub(r"[^\w -]", "_", name).strip()[:LONGEST_NAME]
        found.append(f"{plain} {number}" if plain in found or plain == "class/" else plain)
    return found


def picture(path: Path, facts: Read) -> Image.Image:
    """A run's picture, a row for each sample: image, prediction, truth, without padding. Below them is a legend of the
    classes in it."""
    with np.load(path) as samples:
        parts = [samples[name][:SHOWN] for name in ("images", "predictions", "labels")]
    colours = display.colours_of(facts)
    times = -(-LEAST_PX // parts[0].shape[2])  # small scenes are enlarged, so that their legend can be read
    rows, seen = [], set[int]()
    for image, prediction, labels in zip(*parts, strict=True):
        height, width = display.true_size(image, labels)
        masks = [mask[:height, :width] for mask in (prediction, labels)]
        seen |= {int(label) for mask in masks for label in np.unique(mask)}
        row = [image[:height, :width], *(colours[mask] for mask in masks)]
        rows.append([part.repeat(times, 0).repeat(times, 1) for part in row])
    wide = max(3 * row[0].shape[1] + 2 * GAP for row in rows)
    names = [(facts["classes"][label] if label < len(facts["classes"]) else "void", label) for label in sorted(seen)]
    legend = _legend([(name, tuple(colours[label].tolist())) for name, label in names], wide)
    tall = sum(row[0].shape[0] + GAP for row in rows)
    canvas = Image.new("RGB", (wide, tall + legend.height), "white")
    top = 0
    for row in rows:
        for place, part in enumerate(row):
            canvas.paste(Image.fromarray(np.ascontiguousarray(part)), (place * (part.shape[1] + GAP), top))
        top += row[0].shape[0] + GAP
    canvas.paste(legend, (0, top))
    return canvas


def _legend(entries: list[tuple[str, tuple[int, ...]]], wide: int) -> Image.Image:
    """Names beside squares of their colours, in lines of at most ``wide`` px."""
    font = ImageFont.load_default(FONT_PX)
    places, left, line = [], 0, 0
    for name, _ in entries:
        width = round(font.getlength(name)) + 3 * FONT_PX
        if left and left + width > wide:
            left, line = 0, line + 1
        places.append((left, line * 2 * FONT_PX))
        left += width
    found = Image.new("RGB", (wide, 2 * FONT_PX * (line + 1)), "white")
    draw = ImageDraw.Draw(found)
    for (name, colour), (left, top) in zip(entries, places, strict=True):
        draw.rectangle((left, top + 4, left + FONT_PX, top + 4 + FONT_PX), fill=colour, outline="black")
        draw.text((left + 1.5 * FONT_PX, top + 3), name, fill="black", font=font)
    return found
