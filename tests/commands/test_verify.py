"""`make verify` on a report that a small tier made: it passes as made, and names whatever is stale or was edited.

STUDY_TEST_PROJECT names the folder of a project with such a report, which is taken instead of making one.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.commands import plan_diff, render, value_diff, verify
from study.config import tiers
from study.plan import networks
from study.report import digests
from study.spec.errors import InputError
from study.store.runs import Store
from tests.conftest import Project

pytestmark = pytest.mark.slow
MADE = ("data", "plan", "ablate", "evaluate", "score", "report")


def make(folder: Path) -> Path:
    """Run the stages of a small tier in ``folder``, up to its report."""
    project = Project(folder)
    project.tier["receptive"] = None
    project.save()
    project.stages(*MADE)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("STUDY_TEST_PROJECT")
    return Path(named) if named else make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def counted() -> Callable[..., dict[str, Any]]:
    """Counts the networks of a tier once, which takes as long as the rest of a verification."""
    known: dict[str, dict[str, Any]] = {}
    count = networks.anatomy_of

    def anatomy_of(chosen: tiers.Tier, manifest: dict[str, Any]) -> dict[str, Any]:
        asked = repr((chosen.main.network, manifest["data"]))
        if asked not in known:
            known[asked] = count(chosen, manifest)
        return copy.deepcopy(known[asked])

    return anatomy_of


@pytest.fixture
def reports(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Callable[..., Any]) -> Path:
    """A copy of the report's folder, in a project whose store is that of the original."""
    monkeypatch.setattr(networks, "anatomy_of", counted)
    shutil.copytree(made / "reports", tmp_path / "reports")
    shutil.copy(made / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDY_STORE", str(made / "runs"))
    return tmp_path / "reports" / "smoke"


def told(capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Exit status and lines of a verification of the tier in the working folder."""
    status = verify.verify(tiers.read())
    return status, capsys.readouterr().out.splitlines()


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1))


def test_a_report_as_it_was_made_verifies(reports: Path, capsys) -> None:
    status, lines = told(capsys)
    assert (status, len(lines)) == (0, 1), lines
    numbers, files = re.findall(r"[\d,]+(?= numbers)|(?<=digests of )[\d,]+", lines[0])
    assert int(numbers) > 50 and int(files) > 30
    assert lines[0].endswith("all match")


def test_an_edited_score_is_reported_with_both_values(reports: Path, capsys) -> None:
    rows = (reports / "scores.csv").read_text().splitlines()
    place = next(i for i, row in enumerate(rows) if row.startswith("T5/GCN/overall"))
    cells = rows[place].split(",")
    was, cells[6] = cells[6], "0.987"
    rows[place] = ",".join(cells)
    (reports / "scores.csv").write_text("\n".join(rows) + "\n")
    status, lines = told(capsys)
    assert status == 1
    where = f"error: scores.csv, T5/GCN/overall, {cells[4]}, seed 0, table T5, value"
    assert f"{where}: must be {was}, which the stored counts give, got 0.987; run `make repro TIER=smoke`" in lines
    assert any("report.pdf must be made from the files next to it" in line and "scores.csv" in line for line in lines)


def _metric(folder: Path) -> None:
    numbers = json.loads((folder / "metrics.json").read_text())
    numbers["miou"]["GCN k=15"] += 0.25
    (folder / "metrics.json").write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")


def _one_count_more(folder: Path, name: str) -> None:
    path = next((folder / "results").glob(f"*/{name}"))
    with np.load(path) as archive:
        counts = archive["counts"].copy()
    counts[0, 0, 0, 0] += 1
    np.savez_compressed(path, counts=counts)


def _damaged(folder: Path) -> None:
    next((folder / "results").glob("*/counts.npz")).write_bytes(b"PK")


def _pdf(folder: Path) -> None:
    (folder / "report.pdf").write_bytes((folder / "report.pdf").read_bytes() + b" ")


def _words(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    report["tables"][0]["rows"][0]["lines"][0]["cells"][0]["main"] = "99.9"
    (folder / "report.json").write_text(json.dumps(report))


def _older(folder: Path) -> None:
    """The form that report.json had when figures were names."""
    report = json.loads((folder / "report.json").read_text())
    report["figures"] = [figure["name"] for figure in report["figures"]]
    (folder / "report.json").write_text(json.dumps(report))


def _deviation(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    report["deviations"][0]["here"] = "every image there is"
    (folder / "report.json").write_text(json.dumps(report))


def _status(folder: Path) -> None:
    found = json.loads((folder / "provenance.json").read_text())
    next(iter(found["runs"].values()))["status"] = "failed"
    (folder / "provenance.json").write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_metric, ["metrics.json, miou GCN k=15: must be"]),
        (lambda f: _one_count_more(f, "counts.npz"),
         ["counts.npz must have the sha256 of", "counts.npz must be the one in the run store"]),
        (lambda f: _one_count_more(f, "tune.npz"),
         ["tune.npz must have the sha256 of", "tune.npz must be the one in the run store"]),
        (lambda f: next((f / "results").glob("*/tune.npz")).unlink(), ["tune.npz must have the sha256", "got no file"]),
        (_words, ["report.json, tables", 'got "99.9"', "report.json must be the file that the report stage made"]),
        (_older, ["report.json must have the format that this code writes, got one of another version"]),
        (_deviation, ["report.json, deviations", 'got "every image there is"']),
        (_status, ["must be failed, as provenance.json says, got done"]),
        (lambda f: replaced(f / "tables" / "T5.csv", "done", "failed"), ["tables/T5.csv, T5/", "must be done"]),
        (lambda f: replaced(f / "audit.json", '"agrees"', '"differs"'), ["audit.json, [", 'must be "agrees"']),
        (lambda f: replaced(f / "examined" / "anatomy.json", "21", "22"), ["examined/anatomy.json, "]),
        (lambda f: replaced(f / "examined" / "costs.json", '"macs": ', '"macs": 1'), ["examined/costs.json, main "]),
        (lambda f: replaced(f / "matched.csv", "better", "worse"), ["matched.csv, source paper", "must be better"]),
        (lambda f: replaced(f / "costs.csv", "T5/GCN/overall,G", "T5/GCN/overall,X"), ["costs.csv, T5/GCN/overall"]),
        (lambda f: (f / "tables" / "T9.csv").write_text("x\n"), ["tables/T9.csv must not exist"]),
        (lambda f: (f / "plots" / "kernel_size.csv").unlink(), ["plots/kernel_size.csv must exist, but is missing"]),
        (_pdf, ["report.pdf must be the file that the report stage made, got an edited one"]),
        (lambda f: replaced(f / "figures" / "F4.svg", "path", "Path"), ["figures/F4.svg must be the file"]),
        (lambda f: (f / "figures" / "F4.svg").unlink(), ["figures/F4.svg must be the file", "got none"]),
        (lambda f: (f / digests.NAME).unlink(), ["outputs.json must exist and be readable"]),
        (lambda f: replaced(f / "plan.json", '"paper": 0.7', '"paper": 0.8'), ["plan.json, cells T5/"]),
        (_damaged, ["must follow from the stored counts, got unreadable counts"]),
    ],
    ids=lambda value: value[0].split(" ")[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_what_was_edited_is_named(reports: Path, capsys, edit: Callable[[Path], None], words: list[str]) -> None:
    edit(reports)
    status, lines = told(capsys)
    assert status == 1
    for word in words:
        assert [line for line in lines if word in line and line.startswith("error: ") and "; " in line], (word, lines)


def test_numbers_newer_than_the_pdf_make_it_stale(reports: Path, capsys) -> None:
    """The score stage ran again with another commit: every number is right, and the PDF is of before."""
    replaced(reports / "provenance.json", '"commit": "', '"commit": "f00d')
    status, lines = told(capsys)
    assert status == 1 and len(lines) == 2
    assert lines[0] == (
        "error: report.pdf must be made from the files next to it, got a stale one: provenance.json changed after it "
        "was made; run `make repro TIER=smoke`"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda block: block["recipe"].update(lr=0.005), "params, main recipe lr, which was 0.004 and is 0.005"),
        (lambda block: block.update(seeds=[0, 1]), "3 trainings of main (GCN k=15 + BR seed 1, "),
        (lambda block: block.update(seeds=[7]), "must be needed by params.yaml and the paper"),
        (lambda block: block.update(title="another"), 'plan.json, title: must be "another"'),
        (lambda block: block.update(notes=["new"]), "the tier's block of params.yaml changed after it was made"),
    ],
)
def test_a_changed_parameter_is_named_with_its_values(reports: Path, capsys, change, words: str) -> None:
    params = tiers.read()
    change(params["tiers"]["smoke"])
    tiers.write(params, Path("params.yaml"))
    status, lines = told(capsys)
    assert status == 1 and [line for line in lines if words in line], lines


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("code", "because of code, whose digest was 000 and is"),
        ("torch", "because of torch, which was 000 and is"),
        ("data", "because of data, whose fingerprint was 000 and is"),
    ],
)
def test_a_key_that_changed_says_which_part_did(reports: Path, part: str, words: str) -> None:
    today = json.loads((reports / "plan.json").read_text())
    key = next(iter(today["trainings"]))
    text = (reports / "plan.json").read_text().replace(key, "0" * 64)  # the name of before
    stands = json.loads(text)
    stands["identities"]["0" * 64][part] = "000"
    (line,) = plan_diff.changes(stands, today)
    assert line.startswith("plan.json must have the keys of today for 1 trainings of main (") and words in line


def test_a_clone_without_a_store_lists_unchecked_parts(reports: Path, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("STUDY_STORE", str(tmp_path / "nowhere"))
    status, lines = told(capsys)
    assert status == 0
    assert [line for line in lines if line.startswith("not checked: 3 of 3 runs against the run store: not in ")]
    assert [line for line in lines if line.startswith("not checked: data of main: no copy in ")]
    assert not (tmp_path / "nowhere").exists()


def test_changed_data_in_the_cache_is_named(reports: Path, capsys, monkeypatch, tmp_path, made: Path) -> None:
    shutil.copytree(made / "runs" / "cache", tmp_path / "store" / "cache")
    monkeypatch.setenv("STUDY_STORE", str(tmp_path / "store"))
    path = next((tmp_path / "store" / "cache").glob("*/val-labels.npy"))
    labels = np.load(path)
    labels[0, 0, 0] ^= 1
    np.save(path, labels)
    status, lines = told(capsys)
    assert status == 1 and [line for line in lines if "must hold the data that was read for main" in line]


def test_provenance_links_a_number_to_its_trainings(reports: Path) -> None:
    manifest, found = (json.loads((reports / f"{name}.json").read_text()) for name in ("plan", "provenance"))
    key = next(cell for cell in manifest["cells"] if cell["address"] == "T5/GCN/overall")["runs"]["0"]
    run, identity = found["runs"][key], manifest["identities"][key]
    assert run["mlflow"]["name"] == "GCN k=15, seed 0" and run["mlflow"]["link"].startswith("#/experiments/")
    assert identity["data"] == found["data"]["main"] and len(identity["code"]) == 64
    assert identity["device"] == "cpu" and identity["torch"] == found["versions"]["torch"]
    assert run["commit"] == "" and len(run["sha256"]) == 64  # the folder is no repository


def test_file_differences_show_place_and_both_values() -> None:
    assert value_diff.files("a.csv", b"x\n", b"x\n") == []
    was, now = b"address,metric,value\nT1/a,miou,1\n", b"address,metric,value\nT1/a,miou,2\nT1/b,miou,\n"
    assert value_diff.files("a.csv", was, now) == [
        "a.csv, T1/a, miou, value: must be 2, which the stored counts give, got 1",
        "a.csv, T1/b, miou: must be a row, which the stored counts give, got nothing",
    ]
    assert value_diff.values({"a": [1, 2.0]}, {"a": [1, 2]}) == [("a [1]", "2.0", "2")]
    assert value_diff.values({"a": float("nan")}, {"a": float("nan")}) == []
    (line,) = value_diff.files("a.json", b'{"a":  1}', b'{"a": 1}')
    assert "byte for byte" in line
    (line,) = value_diff.files("a.json", b"{", b"{}")
    assert "cannot be read" in line
    many = b"address,value\n" + b"".join(b"T1/%d,0\n" % i for i in range(40))
    assert len(value_diff.files("a.csv", many, many.replace(b",0", b",1"))) == value_diff.SHOWN + 1
    assert (
        value_diff.numbers(b"a,b\n1,x\n2.5,\n", "a.csv") == 2
        and value_diff.numbers(b'{"a": [1, "2", true]}', "a.json") == 1
    )


def test_a_partial_report_shows_holes_for_unfinished_runs(reports: Path, monkeypatch, tmp_path) -> None:
    shutil.copytree(Path(os.environ["STUDY_STORE"]), tmp_path / "runs")
    monkeypatch.setenv("STUDY_STORE", str(tmp_path / "runs"))
    plan = json.loads((reports / "plan.json").read_text())
    cell = next(cell for cell in plan["cells"] if cell["address"] == "T5/GCN/overall")
    for key in cell["runs"].values():
        (tmp_path / "runs" / key / "DONE").unlink()
    before = {path: path.read_bytes() for path in reports.glob("*.*")}
    kept = Store().ablated("smoke")
    kept.unlink()
    made = render.render("smoke")
    assert made == Path("reports/smoke/partial/report.pdf") and made.read_bytes().startswith(b"%PDF-")
    assert {path: path.read_bytes() for path in before} == before, "the report that is there is left alone"
    assert not kept.exists(), "a wall time is the run's to write"
    found = json.loads((made.parent / "report.json").read_text())
    assert "have ended. A claim gets a verdict once all seeds of its look have ended." in found["partial"]
    table = next(table for table in found["tables"] if table["heading"].startswith("Table 5."))
    kinds = {row["name"]: row["lines"][0]["cells"][-1]["kind"] for row in table["rows"]}
    assert kinds["GCN"] == "hole" and kinds["baseline"] == "ours" and found["holes"] == []
    assert "not yet" in (made.parent / "report.html").read_text(encoding="utf-8")
    shutil.rmtree(reports)
    with pytest.raises(InputError, match="a report needs a plan"):
        render.render("smoke")
