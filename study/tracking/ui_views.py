"""What the MLflow UI shows without being set up: saved views with their columns and charts, colours, pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from study.data.pixels import voc_palette
from study.spec.constants import VOID
from study.spec.documents import PlannedCell, PlannedTraining

SHOWN = 4  # samples in a run's picture
HEAD_COLOURS = {"1x1": "#7f7f7f", "kxk": "#de8f05", "stack": "#029e73", "GCN": "#0173b2"}
OTHER_COLOUR = "#cc78bc"  # a user's own families


def _line(metric: str) -> dict[str, Any]:
    # The UI smooths lines unless told: over kernel sizes that would draw scores that nothing has.
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
SECTIONS = ("Study", "val", "paper", "spread", "cost", "tune", "train")  # of charts; all but the first are folded
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
# A mean by head and kernel size must not mix in what else differs.
_ALIKE = {"means": " AND tags.`study.data` = 'main' AND params.`BR` = '0'"}


def experiment_tags(created: int) -> dict[str, str]:
    """VIEWS as the tags that the UI's own "Save as new view" writes (MLflow 3.15 on), for its menu "Views".

    ``created`` is in milliseconds since 1970: the menu puts the newest first.
    """
    tags = {"mlflow.experimentKind": "custom_model_development"}  # opens on runs, not on traces
    for place, (key, (name, kind, charts, by)) in enumerate(VIEWS.items()):
        columns = [f"metrics.`{c}`" if "/" in c else f"params.`{c}`" for c in _COLUMNS[kind].split()]
        groups = [{"mode": "param", "groupByData": param} for param in by]
        shared = {"metricSectionId": "Study", "runsCountToCompare": 100}
        state = {
            "searchFilter": f"tags.`study.kind` = '{kind}'{_ALIKE.get(key, '')}",
            "orderByKey": "tags.`study.place`" if kind == "cell" else "metrics.`val/miou`",
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
        saved = {"name": name, "createdAt": created - place, "updatedAt": created, "state": json.dumps(state)}
        tags[f"mlflow.sharedViewState.{key}"] = json.dumps(saved)
    return tags


def run_labels(labels: PlannedCell | PlannedTraining) -> tuple[dict[str, object], dict[str, str]]:
    """Params and tags that trainings and cells have in common. ``variant`` is the label with the data set where that is
    not the tier's own; ``series`` is the same without the kernel size."""
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


def picture(path: Path) -> Image.Image:
    """A run's picture, a row for each sample: image, prediction, truth; classes in colours, void white."""
    with np.load(path) as samples:
        parts = [samples[name][:SHOWN] for name in ("images", "predictions", "labels")]
    palette = voc_palette()
    palette[VOID] = 255
    parts = [part if part.ndim == 4 else palette[part] for part in parts]
    framed = [np.pad(part, ((0, 0), (0, 4), (0, 4), (0, 0)), constant_values=255) for part in parts]  # 4 px gaps
    return Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in zip(*framed, strict=True)]))
