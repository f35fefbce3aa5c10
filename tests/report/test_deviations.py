"""Deviations from the paper's protocol are read from the tier, so an edit of params.yaml changes the rows."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from typing import Any

import pytest
import yaml

from study.config import tiers
from study.config.inheritance import in_full
from study.paper.tables import TABLES
from study.plan import planner
from study.report import deviations, document
from study.report.deviations import DEPARTS, ITEMS, SAME, SILENT, rows
from tests.conftest import ROOT
from tests.report import test_document

PARAMS = in_full(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
WRITTEN = set(re.findall(r"^\*\*(D\d{2,3})\b", (ROOT / "reports" / "decisions.md").read_text(), re.MULTILINE))
Row = dict[str, Any]


def found(name: str, change: tuple[tuple[str, ...], Any] | None = None) -> dict[str, Row]:
    """Rows of a tier by id, after setting one value of its block."""
    params = copy.deepcopy(PARAMS)
    if change is not None:
        *path, last = change[0]
        block = params["tiers"][name]
        for key in path:
            block = block[key]
        block[last] = change[1]
    return {row["id"]: row for row in rows(tiers.load(params, name))}


def counted(name: str, status: str) -> int:
    return sum(row["status"] == status for row in found(name).values())


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.id)
def test_each_item_is_complete(item: deviations.Item) -> None:
    assert item.decisions and set(item.decisions) <= WRITTEN, "a decision must be written down"
    assert item.what and item.effect.endswith(".")
    # If the paper states a value, there is a value to compare with and its place; if it is silent, neither.
    assert (item.says is None) == (item.paper is None) == (item.place == "")


def test_items_are_unique_and_name_the_papers_settings() -> None:
    assert len({item.id for item in ITEMS}) == len({item.what for item in ITEMS}) == len(ITEMS)
    known = {cell.setting for table in TABLES.values() for cell in table.cells}
    assert {name for item in ITEMS for name in item.about} <= known


@pytest.mark.parametrize("name", PARAMS["tiers"])
def test_rows_of_every_tier_are_text_in_json(name: str) -> None:
    here = list(found(name).values())
    assert json.loads(json.dumps(here)) == here
    for row in here:
        assert row["status"] in (SAME, DEPARTS, SILENT)
        assert (row["paper"] is None) == (row["status"] == SILENT)
        assert row["here"] and "None" not in row["here"] and "(" not in row["here"][:1]


def test_every_item_appears_in_some_tier() -> None:
    assert {row for name in PARAMS["tiers"] for row in found(name)} == {item.id for item in ITEMS}


def test_paper_scale_tiers_depart_in_three_items() -> None:
    apart = {name: {key for key, row in found(name).items() if row["status"] == DEPARTS} for name in PARAMS["tiers"]}
    assert apart["voc"] == {"tune", "normalised", "test_voc"}
    assert apart["cityscapes"] == {"tune", "normalised", "test_cityscapes"}
    assert {"data", "input", "backbone", "weights", "levels", "optimizer", "batch", "band", "flip"} <= apart["shapes"]
    assert not {"input", "band", "flip", "weights"} & apart["voc_subset"], "its images and padding are the paper's"
    assert len(apart["voc"]) < len(apart["voc_subset"]) < len(apart["camvid"]) < len(apart["smoke"])
    assert counted("voc", SAME) > 20 > 10 > counted("shapes", SAME)


RECIPE, NETWORK, DATA = ("recipe",), ("network",), ("data",)


@pytest.mark.parametrize(
    ("path", "value", "item", "here"),
    [
        ((*RECIPE, "optimizer"), "adamw", "optimizer", "adamw"),
        ((*RECIPE, "momentum"), 0.9, "momentum", "0.9"),
        ((*RECIPE, "weight_decay"), 0.001, "decay", "0.001"),
        ((*RECIPE, "batch"), 16, "batch", "16"),
        ((*RECIPE, "flip"), False, "flip", "no"),
        ((*RECIPE, "crop"), [321, 321], "input", "321x321"),
        ((*NETWORK, "levels"), ["res4", "res5"], "levels", "res4, res5"),
        ((*NETWORK, "output_stride"), 4, "output_stride", "4"),
        ((*NETWORK, "options", "depth"), 101, "backbone", "resnet, 101"),
        ((*NETWORK, "options", "weights"), None, "weights", "random weights"),
        ((*DATA, "train"), "train", "data", "voc, train train"),
        ((*DATA, "pad"), [640, 640], "input", "640x640"),
        (("band_px",), 3, "band", "3"),
        (("frequent",), {"min_images": 9, "min_pixels": 0.5}, "mean", "in at least 9 training images and on 50 %"),
        (("settings", "T7 Stage-1", "data", "pad_train"), [512, 512], "input_coco", "512x512"),
        (("settings", "T7 Stage-1", "data", "voc"), "train", "stage1", "coco, voc train"),
        (("settings", "T7 Stage-3", "data"), {}, "stage3", "voc, train sbd"),
        (("settings", "T7 Stage-2", "after"), None, "before2", "weights of imagenet"),
        (("settings", "T7 Stage-3", "after"), "T7 Stage-1", "before3", "those of T7 Stage-1"),
        (
            ("settings", "T6 ResNet50", "network"),
            {"options": {"depth": 101, "weights": None, "frozen_norm": True}},
            "resnet50",
            "resnet, 101",
        ),
    ],
)
def test_an_edit_of_params_makes_its_row_depart(path: tuple[str, ...], value: Any, item: str, here: str) -> None:
    assert found("voc")[item]["status"] == SAME
    edited = found("voc", (path, value))[item]
    assert edited["status"] == DEPARTS and here in edited["here"]


@pytest.mark.parametrize(
    ("path", "value", "item", "here"),
    [
        ((*RECIPE, "lr"), 0.5, "lr", "0.5"),
        ((*RECIPE, "schedule"), "constant", "schedule", "constant"),
        ((*RECIPE, "steps"), 123456, "steps", "123,456"),
        ((*RECIPE, "precision"), "bf16", "precision", "bf16"),
        ((*NETWORK, "deconvolution"), "bilinear", "deconvolution", "fixed"),
        ((*NETWORK, "fixed"), {"res2": {"head": "dense", "k": 1}}, "varied", "fixed at res2"),
        ((*NETWORK, "options", "frozen_norm"), False, "norm", "statistics of the batch"),
        (("inference", "MS", "scales"), [0.5, 2], "scales", "0.5, 2"),
        (("seeds",), [0, 4], "seeds", "2 (seed 0, 4)"),
        (("settings", "T7 Stage-1", "data", "others"), "void", "coco", "others void"),
        (("receptive", "occluder_px"), 11, "receptive", "11 px"),
    ],
)
def test_silent_items_show_the_tiers_own_value(path: tuple[str, ...], value: Any, item: str, here: str) -> None:
    before, after = found("voc")[item], found("voc", (path, value))[item]
    assert before["status"] == after["status"] == SILENT
    assert here not in before["here"] and here in after["here"]


def test_an_undone_departure_counts_as_the_same() -> None:
    assert found("voc", (("data", "tune"), 0))["tune"]["status"] == DEPARTS, "COCO's stage has a tune split of its own"
    score = {"T8": {"percent": 80.0, "link": "http://host/page"}}
    assert found("voc", (("submitted",), score))["test_voc"]["status"] == SAME
    assert found("cityscapes", (("data", "tune"), 0))["tune"]["status"] == SAME
    assert found("shapes", (("band_px",), 7))["band"]["status"] == SAME


def test_one_departing_setting_makes_the_row_depart() -> None:
    row = found("voc", (("settings", "T7 Stage-3", "recipe", "batch"), 8))["batch"]
    assert row["status"] == DEPARTS
    assert row["here"] == "ablations, T6 ResNet50, T6 ResNet50-GCN, T7 Stage-1, T7 Stage-2: 1; T7 Stage-3: 8"


def test_only_items_a_tier_trains_appear() -> None:
    chosen = dataclasses.replace(tiers.load(PARAMS, "shapes"), tables=("T1",), mechanisms={})
    few = {row["id"]: row for row in rows(chosen)}
    assert {"band", "scales"} <= found("shapes").keys(), "a mechanism asks for both"
    assert not {"band", "distance", "stage1", "resnet50", "imagenet", "scales", "crf", "test_voc"} & few.keys()
    assert "T7" not in few["steps"]["here"]
    streets = found("cityscapes")
    assert not {"data", "scored", "input", "varied"} & streets.keys(), "no ablation is trained there"
    assert "stage1" not in found("voc_subset"), "COCO is not applicable there"


def test_rewording_a_deviation_changes_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = tiers.load(PARAMS, "voc")
    facts = {name: {"fingerprint": name, "classes": ["a"], "splits": {}} for name in chosen.settings}
    before = planner.build(chosen, facts, "cpu").manifest()
    monkeypatch.setattr(deviations, "ITEMS", ())
    assert deviations.rows(chosen) == [] and planner.build(chosen, facts, "cpu").manifest() == before


@pytest.mark.slow
def test_the_report_shows_the_table(tmp_path: Any) -> None:
    planned = test_document.fake_plan([TABLES["T1"]], 2)
    folder = test_document.fake_folder(tmp_path / "fake", planned)
    block = {k: v for k, v in test_document.TIER.items() if k != "notes"}
    assert document.build(folder, block, list(found("shapes").values())).stat().st_size > 0
