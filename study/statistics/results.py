"""Tidy frames of a plan and its counts: one row per cell, metric and seed; means and intervals over seeds; curves.

Pure functions of a plan (the content of plan.json) and a folder of collected results (``results/<key>/``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study import metrics
from study.spec.cells import SERVED
from study.spec.constants import MAIN, PAUSES
from study.spec.documents.plan import PlanFile, PlannedCell, Submitted
from study.spec.documents.reading import AGAIN, columns_of, version_of
from study.spec.errors import InputError
from study.statistics.intervals import half_width

COLUMNS = ["address", "table", "row", "column", "metric", "seed", "value", "paper", "run", "status"]
# A variant counts as still improving when its last slope, held over a tenth of the training, would gain this much.
IMPROVING_POINTS, IMPROVING_SHARE = 0.5, 0.1
DONE, FAILED, MISSING, COUNTED = "done", "failed", "missing", "counted"
NOT_APPLICABLE, NOT_SUBMITTED = "not applicable", "not submitted"
SUBMITTED, PRINTED = "submitted", "printed"  # a server's score for our submission; the score of another method
OURS = "ours"  # the paper's name for its own row among those of other methods


def read(path: Path) -> pd.DataFrame:
    """The frame of a scores.csv. No text in it is read as a missing value: a variant may well be called "null"."""
    texts = dict.fromkeys(("address", "table", "row", "column", "metric", "run", "status"), str)
    missing = dict.fromkeys(("seed", "value", "paper"), "")
    return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=missing)


def declared(path: Path, kind: type, texts: Iterable[str]) -> pd.DataFrame:
    """The rows of a table whose columns and version ``kind`` declares. ``texts`` are columns of words, in which nothing
    is a missing value. Raises InputError if the table is missing or has another version."""
    words = dict.fromkeys((*texts, "version"), str)
    missing = {name: "" for name in columns_of(kind) if name not in words}
    try:
        found = pd.read_csv(path, dtype=words, keep_default_na=False, na_values=missing)
        fits = list(found.columns) == columns_of(kind) and set(found["version"]) <= {str(version_of(kind))}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table ({error}); {AGAIN}") from error
    if not fits:
        raise InputError(
            f"{path} must have format version {version_of(kind)}, got other columns or another version (another "
            f"version of the code wrote it); {AGAIN}"
        )
    return found


def scores(folder: Path, frequent: list[int] | None) -> dict[str, float]:
    """Every metric of one training, the leading one first; ``frequent`` are the classes of miou_frequent."""
    with np.load(folder / "counts.npz") as archive:
        (name,) = archive.files
        measured = archive[name]
    found = metrics.score_all(name, measured)
    if frequent is not None and name == "counts":
        found["miou_frequent"] = metrics.miou(measured, frequent)
    return found


def judged_classes(plan: PlanFile, data: str = MAIN) -> list[int] | None:
    """The classes of the mean IoU that claims are judged by, and that searches compare on the tune split (D93); None:
    all of them."""
    return plan["data"][data]["frequent"] or None if plan.get("judged_by", "miou") == "miou_frequent" else None


def tune_score(folder: Path, classes: Iterable[int] | None = None) -> float:
    """The score of one training on the whole tune split: mean IoU over ``classes`` (None: all), or accuracy."""
    with np.load(folder / "tune.npz") as archive:
        (name,) = archive.files
        return metrics.main_score(name, archive[name], classes)


def searched_score(folder: Path, step: int, classes: Iterable[int] | None = None) -> float | None:
    """The score on the tune split of a run that paused, or ended, after ``step`` steps; None if it did neither."""
    known, ended = _json(folder / PAUSES), _json(folder / "result.json")
    if str(step) in known:
        ((name, measured),) = known[str(step)].items()
        return metrics.main_score(name, np.array(measured), classes)
    return tune_score(folder, classes) if ended.get("steps") == step else None


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def class_scores(folder: Path) -> list[float]:
    """IoU of each class of one training, nan where a class is neither in val nor predicted."""
    with np.load(folder / "counts.npz") as archive:
        return metrics.class_iou(archive["counts"])


def questions_of(folder: Path) -> dict[str, str]:
    """The digests of the questions that a training recorded before its first step; none if it recorded none."""
    path = folder / "training.json"
    return json.loads(path.read_text(encoding="utf-8"))["labels"].get("questions", {}) if path.is_file() else {}


def leading(scores: dict[str, float]) -> tuple[str, float]:
    """The metric that an ablation maximises, with its value: mIoU, or the accuracy of a classifier."""
    return next(iter(scores.items()))


def status(folder: Path) -> str:
    """Whether a training's collected results are there (DONE), marked as a failure, or missing."""
    if (folder / "counts.npz").is_file():
        return DONE
    return FAILED if (folder / "failed.json").is_file() else MISSING


def frame(plan: PlanFile, *folders: Path, computed: dict[str, float] | None = None) -> pd.DataFrame:
    """One row per cell, metric and seed, with COLUMNS. Values are fractions or counts; nan if a training failed or the
    cell cannot have a value. ``folders`` hold the collected results by key; ``computed`` are counts by address."""
    known: dict[str, dict[str, float]] = {}
    submitted = {table["id"]: table["submitted"] for table in plan["tables"]}
    rows = []
    for cell in plan["cells"]:
        fixed = {name: value for name, value in cell.items() if name in COLUMNS[:4]}
        if not cell["runs"]:
            value, state = _untrained(cell, computed or {}, submitted[cell["table"]])
            values = {"metric": cell["metric"], "seed": None, "value": value, "paper": cell["paper"]}
            rows.append(fixed | values | {"run": "", "status": state})
        frequent = plan["data"][cell["data"]]["frequent"] if cell["runs"] else None
        for seed, key in cell["runs"].items():
            folder = place(key, folders)
            state = status(folder)
            if state == DONE and key not in known:
                known[key] = scores(folder, frequent)
            also = [name for name in plan["metrics"] if name != "miou"] if cell["metric"] == "miou" else []
            if frequent is None:
                also = [name for name in also if name != "miou_frequent"]
            for metric in [cell["metric"], *also]:
                value = known[key][metric] if state == DONE else math.nan
                paper = cell["paper"] if metric == cell["metric"] else None
                values = {"metric": metric, "seed": int(seed), "value": value, "paper": paper}
                rows.append(fixed | values | {"run": key, "status": state})
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"seed": "Int64", "value": float, "paper": float})


def _untrained(cell: PlannedCell, computed: dict[str, float], submitted: Submitted | None) -> tuple[float | None, str]:
    """Value and status of a cell without trainings. ``submitted`` is the server's score for our submission."""
    if cell["metric"] in SERVED:
        if cell["row"] != OURS:
            return None, PRINTED
        return (round(submitted["percent"] / 100, 6), SUBMITTED) if submitted else (None, NOT_SUBMITTED)
    value = computed.get(cell["address"], cell["parameters"])
    return value, NOT_APPLICABLE if cell["not_applicable"] else MISSING if value is None else COUNTED


def place(key: str, folders: tuple[Path, ...]) -> Path:
    """The first folder that has something for ``key``."""
    return next((folder / key for folder in folders if (folder / key).is_dir()), folders[0] / key)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Per cell and metric: mean, sd, number of seeds, 95 % t interval over seeds (nan with one seed), the paper's value
    and the number of seeds without a value."""
    rows = []
    for (address, metric), group in frame.groupby(["address", "metric"], sort=False):
        values = group["value"].dropna().to_numpy()
        n = len(values)
        mean = float(values.mean()) if n else math.nan
        sd = float(values.std(ddof=1)) if n > 1 else math.nan
        half = half_width(values)
        first = group.iloc[0]
        rows.append(
            {"address": address, "metric": metric}
            | {name: first[name] for name in ("table", "row", "column")}
            | {"mean": mean, "sd": sd, "seeds": n, "low": mean - half, "high": mean + half}
            | {"paper": first["paper"], "failed": int(group["status"].isin([FAILED, MISSING]).sum())}
            | {"status": first["status"]}
        )
    return pd.DataFrame(rows)


def curves(plan: PlanFile, results: Path) -> pd.DataFrame:
    """Training loss and tune-split mIoU of every training, one row per point."""
    rows = []
    for key, training in plan["trainings"].items():
        path = results / key / "curve.json"
        if not path.is_file():
            continue
        labels = {name: training[name] for name in ("label", "head", "kernel_size", "refine", "data", "seed")}
        for kind, points in json.loads(path.read_text()).items():
            rows += [{"run": key} | labels | {"kind": kind, "step": step, "value": value} for step, value in points]
    names = ["run", "label", "head", "kernel_size", "refine", "data", "seed", "kind", "step", "value"]
    return pd.DataFrame(rows, columns=names)


def last_slopes(curves: pd.DataFrame) -> pd.DataFrame:
    """One row per data set and variant, with means over seeds: ``steps``; ``last`` tune score (a fraction); ``slope``
    between the last two scores in points of mean IoU per 100 steps (nan without two), and that of the ``least`` and the
    ``greatest`` seed; ``threshold`` in the same unit; ``improving``; and ``loss_change``, the change of the mean loss
    from the tenth of the steps before the last to the last tenth (a fraction)."""
    runs = curves.drop_duplicates("run").set_index("run")[["data", "label", "head", "kernel_size", "refine"]]
    runs["steps"] = curves.groupby("run")["step"].max()
    score = curves[curves["kind"] == "score"].sort_values("step").groupby("run")[["run", "step", "value"]]
    last, before = (score.nth(place).set_index("run") for place in (-1, -2))
    runs["last"] = last["value"]
    runs["slope"] = (last["value"] - before["value"]) / (last["step"] - before["step"]) * 100 * 100
    loss = curves[curves["kind"] == "loss"]
    tenth = np.ceil(loss["step"] * 10 / loss["run"].map(runs["steps"]))
    late, early = (loss[tenth == place].groupby("run")["value"].mean() for place in (10, 9))
    runs["loss_change"] = late / early - 1
    found = runs.groupby(["data", "label", "head", "kernel_size", "refine"], sort=False, as_index=False).agg(
        steps=("steps", "max"), last=("last", "mean"), slope=("slope", "mean"), least=("slope", "min"),
        greatest=("slope", "max"), loss_change=("loss_change", "mean"),
    )  # fmt: skip
    threshold = IMPROVING_POINTS / (IMPROVING_SHARE * found["steps"]) * 100
    return found.assign(threshold=threshold, improving=found["slope"] > threshold)
