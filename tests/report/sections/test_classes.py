"""The section on single classes: which networks and classes it shows, and its numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from study.paper.tables import TABLES
from study.report.sections import classes
from study.statistics import per_class
from tests.report.test_document import DEVIATIONS, TIER, document, fake_folder, fake_plan, fake_run


def written(folder: Path, plan: dict, number: int) -> Path:
    for key, training in plan["trainings"].items():
        fake_run(folder / "results" / key, training, number)
    per_class.table(plan, folder / "results").to_csv(folder / "per_class.csv", index=False)
    return folder


@pytest.mark.parametrize(("number", "rows"), [(8, 8), (21, 21), (23, 23), (150, 40)])
def test_at_most_40_classes_appear_most_frequent_first(tmp_path: Path, number: int, rows: int) -> None:
    plan = fake_plan([TABLES["T5"]], 2, number)
    plan["data"]["main"] |= {"pixels": [*range(number)], "images_with": [*range(1, number + 1)]}
    (told,) = classes.words(written(tmp_path, plan, number), plan)
    assert told["headline"] and told["columns"] == ["1x1", "GCN k=15", "GCN k=15 + BR"]
    assert (len(told["rows"]), told["all"]) == (rows, number)
    assert [row["name"] for row in told["rows"][:2]] == [f"class {number - 1}", f"class {number - 2}"]
    assert told["rows"][0]["images"] == str(number)
    shown = per_class.read_rows(tmp_path / "per_class.csv").set_index(["variant", "class"])
    row = shown.loc[("GCN k=15", f"class {number - 1}")]
    cell = told["rows"][0]["cells"][1]
    assert cell["main"] == f"{100 * row['mean']:.1f}" and cell["side"] == f"± {100 * (row['high'] - row['mean']):.1f}"


def test_without_headline_networks_first_and_last_variants_appear(tmp_path: Path) -> None:
    plan = fake_plan([TABLES["T1"]], 1, 3)
    (told,) = classes.words(written(tmp_path, plan, 3), plan)
    assert not told["headline"] and told["columns"] == ["1x1", "GCN k=15"]
    assert all(cell["side"] == "" for row in told["rows"] for cell in row["cells"]), "one seed has no interval"


def test_small_shares_keep_two_significant_digits() -> None:
    assert [classes._percent(share) for share in (0.5, 0.0123, 0.000012, 0)] == ["50.0", "1.2", "0.0012", "0"]


@pytest.mark.slow
def test_the_page_says_where_the_other_classes_are(tmp_path: Path) -> None:
    plan = fake_plan([TABLES["T5"]], 1, 60)
    folder = fake_folder(tmp_path / "fake", plan)
    document.build(folder, TIER, DEVIATIONS)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert ">Classes</h2>" in page and "The 40 most" in page and "frequent of 60 classes" in page
    assert len(json.loads((folder / "report.json").read_text())["classes"][0]["rows"]) == 40
