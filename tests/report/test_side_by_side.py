"""Reports side by side: two folders, and a tier against an experiment of `dvc exp`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from study.paper import tables as paper
from study.report import side_by_side
from study.spec.errors import InputError
from tests.report.test_document import fake_folder, fake_plan


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """T1 and T5 over three seeds, and T1 alone over two."""
    found = {}
    for name, tables, seeds in (("one", ("T1", "T5"), 3), ("other", ("T1",), 2)):
        folder = tmp_path_factory.mktemp("comparison") / name
        fake_folder(folder, fake_plan([paper.TABLES[table] for table in tables], seeds, 6), {})
        plan = json.loads((folder / "plan.json").read_text())
        plan["settings"]["main"]["recipe"]["lr"] = 0.1 * seeds
        (folder / "plan.json").write_text(json.dumps(plan))
        found[name] = folder
    return found


def test_comparisons_list_every_reports_cells_and_claims(two, tmp_path):
    made = side_by_side.build(two, tmp_path)
    assert made.read_bytes().startswith(b"%PDF-")
    content = json.loads((tmp_path / "comparison.json").read_text())
    cells = {(cell["table"], cell["row"], cell["column"]): cell for cell in content["cells"]}
    assert set(cells["T1", "score", "15"]["found"]) == {"one", "other"}
    assert set(cells["T5", "GCN", "overall"]["found"]) == {"one"}
    assert cells["T1", "score", "15"]["paper"] == "74.5"
    # Means over different seeds differ.
    one, other = (cells["T1", "score", "15"]["found"][name] for name in two)
    assert one != other and all("±" in text for text in (one, other))
    claims = {claim["says"]: claim["found"] for claim in content["claims"]}
    assert set(claims["Mean IoU rises with GCN's kernel size"]) == {"one", "other"}
    assert set(claims["BR raises the mean IoU of GCN"]) == {"one"}, "the other does not have Table 5"
    assert "GCN beats all others on the VOC 2012 test set" in content["unasked"]
    strips = [row["strip"] for found in claims.values() for row in found.values() if row["strip"]]
    assert strips and all(0 <= strip["at"] <= 1 for strip in strips)
    assert [row["what"] for row in content["differ"]] == ["recipe.lr"]
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert one in page and other in page and "recipe.lr" in page


def test_comparisons_need_two_complete_reports(two, tmp_path):
    with pytest.raises(InputError, match="two reports or more"):
        side_by_side.build({"one": two["one"]}, tmp_path)
    with pytest.raises(InputError, match=r"got no plan.json of none"):
        side_by_side.build(two | {"none": tmp_path}, tmp_path)


@pytest.mark.long
@pytest.mark.slow
def test_an_experiment_compares_with_the_workspace(project):
    project.repository()
    project.run("dvc", "exp", "run", "-n", "slower", "-S", "tiers.smoke.recipe.lr=0.001")
    told = project.python("-m", "study", "compare", "smoke", "smoke@slower")
    folder = project.folder / "reports" / "comparison"
    assert told.stdout.strip() == "reports/comparison/comparison.pdf" and (folder / "comparison.html").is_file()
    content = json.loads((folder / "comparison.json").read_text())
    # The files from the cache equal those that the experiment left in the workspace.
    assert content["differ"] == [] and {one["name"] for one in content["reports"]} == {"smoke", "smoke@slower"}
    assert content["cells"] and all(len(set(cell["found"].values())) == 1 for cell in content["cells"])
    assert all(set(cell["found"]) == {"smoke", "smoke@slower"} for cell in content["cells"])
    for name in ("smoke@nothing", "nowhere"):
        failed = project.python("-m", "study", "compare", "smoke", name, check=False)
        assert failed.returncode == 2 and failed.stderr.startswith("error: ")
