"""Inputs of `dvc plots`: the written rows, and the templates in .dvc/plots, filled as DVC fills them."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest
import yaml
from dvc_render import VegaRenderer

from study.config import tiers
from study.paper.labels import labels
from study.plan import planner
from study.statistics import outputs
from tests.conftest import ROOT

PLOTS = {
    plot.rsplit("/", 1)[1]: properties
    for each in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["score"]["do"]["plots"]
    for plot, properties in each.items()
}


@pytest.fixture(scope="module")
def heads() -> pd.DataFrame:
    """Rows of kernel_size.csv for the default tier if each of its cells had a score."""
    params = tiers.read(ROOT / "params.yaml")
    chosen = tiers.load(params, "shapes")
    facts = {"fingerprint": "f" * 64, "classes": ["a", "b"], "streamed": False, "frequent": None}
    planned = planner.build(chosen, dict.fromkeys(chosen.settings, facts), "cpu")
    cells = [planned._cell(*cell) for cell in planned.cells]
    metric = {"classifier": "pixel_accuracy"}
    scores = [{"address": c["address"], "metric": metric.get(c["head"], "miou"), "mean": 0.5} for c in cells]
    return outputs.kernel_sizes({"cells": cells}, pd.DataFrame(scores))


def _spec(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A plot of two revisions, as `dvc plots diff` makes it."""
    points = [row | {"rev": rev} for rev in ("HEAD", "workspace") for row in rows]
    spec = VegaRenderer(points, name, template_dir=str(ROOT / ".dvc" / "plots"), **PLOTS[name]).get_filled_template()
    assert spec["data"]["values"] == points
    assert "<DVC" not in json.dumps(spec), "an anchor that DVC does not know"
    return spec


def test_each_head_has_one_score_per_kernel_size(heads):
    """Stacks of other widths and networks with BR would make its line jump up and down."""
    assert not heads.duplicated(["head", "kernel_size"]).any()
    found = heads.groupby("head")["kernel_size"].agg(list).to_dict()
    assert found == {"1x1": [1], "GCN": [3, 5, 7, 9, 11, 13, 15], "kxk": [3, 5, 7, 9], "stack": [3, 5, 7, 9, 11]}


def test_colours_mark_heads_and_dashes_mark_revisions(heads):
    spec = _spec("kernel_size.csv", heads.to_dict("records"))
    encoding = spec["encoding"]
    assert [encoding[part]["field"] for part in ("x", "y", "color", "strokeDash")] == [
        "kernel_size", "miou", "head", "rev",
    ]  # fmt: skip
    assert spec["mark"]["point"], "a head of one kernel size is a point"
    assert {"kernel_size", "miou", "head"} == set(heads.columns)


def test_each_variant_has_a_panel_coloured_by_revision():
    rows = [{"label": label, "step": 100, "value": 0.5} for label in (labels(None)["label"], "GCN k=15")]
    spec = _spec("learning_curves.csv", rows)
    encoding = spec["spec"]["encoding"]
    assert spec["facet"]["field"] == "label"
    assert [encoding[part]["field"] for part in ("x", "y", "color")] == ["step", "value", "rev"]
    assert encoding["color"]["scale"]["domain"] == ["HEAD", "workspace"]
