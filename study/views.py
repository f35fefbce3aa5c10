"""The experiment as the MLflow UI opens it: saved views with their columns and charts, as experiment tags."""

from __future__ import annotations

import json
from typing import Any

_SCATTER = {
    "type": "SCATTER",
    "xaxis": {"key": "kernel_size", "type": "PARAM"},
    "yaxis": {"key": "val/miou", "type": "METRIC"},
}
_PARALLEL = {"type": "PARALLEL", "selectedParams": ["head", "kernel_size", "BR"], "selectedMetrics": ["val/miou"]}
_SCORES, _PAPER, _TUNE, _LOSS = (
    {"type": "LINE", "metricKey": name} for name in ("val/miou", "paper/miou", "tune/miou", "train/loss")
)
_SAMPLES = {"type": "IMAGE", "imageKeys": ["samples"], "step": 0, "showRunParams": False}
SECTIONS = ("Study", "val", "paper", "spread", "cost")  # of charts; all but the first are folded
_COLUMNS = {
    "cell": "head kernel_size BR val/miou spread/miou_low spread/miou_high paper/miou paper/miou_difference",
    "training": "head kernel_size BR seed val/miou val/pixel_accuracy parameters",
}
# key: (name, kind of run, charts, params that group runs into means)
VIEWS: dict[str, tuple[str, str, list[dict[str, Any]], list[str]]] = {
    "cells": ("Cells beside the paper", "cell", [_SCATTER, _PARALLEL, _PAPER], []),
    "lines": ("mIoU against kernel size", "cell", [_SCORES, _PAPER], ["series"]),
    "trainings": ("Trainings, every seed", "training", [_SCATTER, _PARALLEL, _TUNE, _LOSS, _SAMPLES], []),
    "curves": ("Curves, mean over seeds", "training", [_TUNE, _LOSS], ["series", "kernel_size"]),
}


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
            "searchFilter": f"tags.`study.kind` = '{kind}'",
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
        }
        saved = {"name": name, "createdAt": created - place, "updatedAt": created, "state": json.dumps(state)}
        tags[f"mlflow.sharedViewState.{key}"] = json.dumps(saved)
    return tags
