"""Scores of single classes: IoU by class and variant over seeds, and the confusions of headline networks (D131, D132).

Pure functions of a plan and of collected counts.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
import pandas as pd

from study.paper import headline
from study.spec.documents.plan import PlanFile
from study.spec.documents.reading import columns_of, version_of
from study.spec.documents.tables import ClassRow, Confusion
from study.statistics import results
from study.statistics.intervals import half_width
from study.store.runs import json_bytes

CONFUSED = "confusion"  # the folder of the headline networks' confusions, in a report and in examined/
INDEX = "index.json"
_TEXTS = ("setting", "variant", "inference", "class")


def table(plan: PlanFile, *folders: Path) -> pd.DataFrame:
    """The rows of per_class.csv: a row per class, for each variant of a setting and each other inference of its
    trainings. A class that is neither in val nor predicted by a seed has no IoU there. ``low`` and ``high`` are nan
    with fewer than two seeds. ``folders`` hold the collected results by key."""
    asked: dict[tuple[str, str, str], list[str]] = {}
    for key, one in plan["trainings"].items():
        asked.setdefault((one["data"], one["label"], ""), []).append(key)
    for key, other in plan["evaluations"].items():
        asked.setdefault((other["data"], other["label"], other["inference"]), []).append(key)
    rows = []
    for (setting, variant, inference), keys in asked.items():
        facts = plan["data"][setting]
        if facts["task"] != "segment":
            continue
        places = [results.place(key, folders) for key in keys]
        done = [place for place in places if results.status(place) == results.DONE]
        scores = np.array([results.class_scores(place) for place in done]).reshape(len(done), len(facts["classes"]))
        for number, name in enumerate(facts["classes"]):
            values = scores[:, number][~np.isnan(scores[:, number])]
            mean, half = float(values.mean()) if len(values) else math.nan, half_width(values)
            rows.append({
                "setting": setting, "variant": variant, "inference": inference, "class": name, "mean": mean,
                "low": mean - half, "high": mean + half, "seeds": len(values),
                "images_with": facts["images_with"][number], "pixels": facts["pixels"][number],
                "version": version_of(ClassRow),
            })  # fmt: skip
    return pd.DataFrame(rows, columns=columns_of(ClassRow))


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of a per_class.csv. Raises InputError if it is missing or has another version."""
    return results.declared(path, ClassRow, _TEXTS)


def confusions(plan: PlanFile, examined: Path) -> dict[str, np.ndarray]:
    """Address of a headline cell -> (K, K) counts of val pixels [label, prediction], for the cells that were
    counted."""
    found = {}
    for address in headline.segmenting(plan):
        path = examined / CONFUSED / f"{headline.file_name(address)}.npz"
        if path.is_file():
            with np.load(path) as archive:
                found[address] = archive["confusion"]
    return found


def confusion_files(plan: PlanFile, examined: Path) -> dict[str, bytes]:
    """The files of confusion/: for each headline network a CSV of counts, one row per true class, and their index."""
    index: dict[str, Confusion] = {}
    files, keys = {}, headline.segmenting(plan)
    for address, matrix in confusions(plan, examined).items():
        one = plan["trainings"][keys[address]]
        name = f"{headline.file_name(address)}.csv"
        index[name] = {
            "cell": address, "training": keys[address], "label": one["label"], "seed": one["seed"], "data": one["data"]
        }  # fmt: skip
        files[name] = _csv(matrix, plan["data"][one["data"]]["classes"])
    files[INDEX] = json_bytes(index)
    return {f"{CONFUSED}/{name}": content for name, content in files.items()}


def _csv(matrix: np.ndarray, classes: list[str]) -> bytes:
    """One row per true class, one column per predicted class."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["class", *classes])
    rows.writerows([name, *counts] for name, counts in zip(classes, matrix.tolist(), strict=True))
    return text.getvalue().encode()


def confused(folder: Path, plan: PlanFile) -> dict[str, Path]:
    """Address of a headline cell -> its file in confusion/ of a report's ``folder``."""
    paths = {at: folder / CONFUSED / f"{headline.file_name(at)}.csv" for at in headline.segmenting(plan)}
    return {address: path for address, path in paths.items() if path.is_file()}
