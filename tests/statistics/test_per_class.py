"""Scores of single classes from handmade counts, and the confusion files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from study import metrics
from study.paper.tables import TABLES
from study.spec.errors import InputError
from study.statistics import outputs, per_class, results
from tests.report.test_document import fake_plan

CLASSES = ["ground", "null", "a,b"]


@pytest.fixture
def planned(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """Table 5 over three seeds; in ``results`` GCN has two of them, the others none."""
    plan = fake_plan([TABLES["T5"]], 3, len(CLASSES))
    plan["data"]["main"] |= {"classes": CLASSES, "images_with": [7, 3, 1], "pixels": [700, 30, 1]}
    hits = {0: 60, 1: 80}
    for key, told in plan["trainings"].items():
        if told["label"] == "GCN k=15" and told["seed"] in hits:
            counts = np.zeros((2, 2, 3, 3), np.int64)
            counts[0, 0, 0, metrics.TP] = hits[told["seed"]]
            counts[1, 1, 0, metrics.FN] = 100 - hits[told["seed"]]
            counts[0, 1, 1] = (1, 1, 2) if told["seed"] else (0, 0, 0)  # one seed neither has nor predicts it
            (tmp_path / key).mkdir()
            np.savez(tmp_path / key / "counts.npz", counts=counts)
    return plan, tmp_path


def test_classes_have_means_and_intervals_over_seeds(planned) -> None:
    plan, folder = planned
    rows = per_class.table(plan, folder).set_index(["variant", "class"])
    ground = rows.loc[("GCN k=15", "ground")]
    half = stats.t.ppf(0.975, 1) * np.std([0.6, 0.8], ddof=1) / math.sqrt(2)
    assert [ground[name] for name in ("mean", "low", "high")] == pytest.approx([0.7, 0.7 - half, 0.7 + half])
    assert (ground["seeds"], ground["images_with"], ground["pixels"], ground["setting"]) == (2, 7, 700, "main")
    one, none = rows.loc[("GCN k=15", "null")], rows.loc[("GCN k=15", "a,b")]
    assert (one["mean"], one["seeds"]) == (0.25, 1) and math.isnan(one["low"]), "one seed has no interval"
    assert none["seeds"] == 0 and math.isnan(none["mean"])
    assert rows.loc[("1x1", "ground"), "seeds"] == 0, "a variant that failed is told"
    assert len(rows) == 3 * len({told["label"] for told in plan["trainings"].values()})


def test_class_scores_average_to_the_mean_iou(planned) -> None:
    plan, folder = planned
    for place in folder.iterdir():
        with np.load(place / "counts.npz") as archive:
            assert np.nanmean(results.class_scores(place)) == pytest.approx(metrics.miou(archive["counts"]))


def test_evaluations_have_rows_but_classifiers_have_none(planned) -> None:
    plan, folder = planned
    key = next(iter(plan["trainings"]))
    plan["evaluations"] = {"e" * 64: {"label": "1x1", "seed": 0, "data": "main", "training": key, "inference": "MS"}}
    assert set(per_class.table(plan, folder)["inference"]) == {"", "MS"}
    plan["data"]["main"]["task"] = "classify"
    assert per_class.table(plan, folder).empty


def test_per_class_files_round_trip_and_are_versioned(planned, tmp_path: Path) -> None:
    plan, folder = planned
    rows, path = per_class.table(plan, folder), tmp_path / "per_class.csv"
    path.write_bytes(outputs._csv(rows))
    again = per_class.read_rows(path)
    assert again["class"].tolist() == rows["class"].tolist(), "a class may be called null"
    assert np.allclose(again["mean"], rows["mean"], equal_nan=True)
    path.write_text(path.read_text().replace(",1\n", ",9\n"))
    with pytest.raises(InputError, match="must have format version 1"):
        per_class.read_rows(path)


def test_headline_confusions_are_written_with_an_index(planned, tmp_path: Path) -> None:
    plan, _ = planned
    (tmp_path / "examined" / "confusion").mkdir(parents=True)
    matrix = np.arange(9).reshape(3, 3)
    np.savez(tmp_path / "examined" / "confusion" / "T5-GCN-overall.npz", confusion=matrix)
    files = per_class.confusion_files(plan, tmp_path / "examined")
    assert files.keys() == {"confusion/T5-GCN-overall.csv", "confusion/index.json"}
    assert files["confusion/T5-GCN-overall.csv"].decode().splitlines() == [
        'class,ground,null,"a,b"', "ground,0,1,2", "null,3,4,5", '"a,b",6,7,8',
    ]  # fmt: skip
    (told,) = json.loads(files["confusion/index.json"]).values()
    assert (told["cell"], told["label"], told["seed"], told["data"]) == ("T5/GCN/overall", "GCN k=15", 0, "main")
    assert plan["trainings"][told["training"]]["label"] == "GCN k=15"


def test_without_headline_networks_there_is_an_empty_index(tmp_path: Path) -> None:
    plan = fake_plan([TABLES["T1"]], 1)
    assert per_class.confusion_files(plan, tmp_path) == {"confusion/index.json": b"{}\n"}
