"""The report of a small but complete fake tier: equal bytes, holes with reasons, one seed, foreign heads."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typst

from study.models import anatomy
from study.paper import tables as paper
from study.report import document
from study.report.figures import families
from study.spec.cells import Cell, Table
from study.spec.heads import Conv, Head, Variant, dense, gcn, share_of
from study.spec.training import Network, freeze
from study.statistics import equal_cost, per_class, questions, results, verdicts

TIER = {
    "title": "Fake scenes", "judges": "nothing", "meaningless": False, "seeds": [0, 1, 2], "tables": ["T1"],
    "notes": ["heads at #strong[two] levels only", "steps: 120 of an unknown number"], "band_px": 2,
    "network": {"backbone": "tiny_resnet", "levels": ["res4", "res5"], "frozen": False, "output_stride": 1},
    "recipe": {"optimizer": "adamw", "lr": 0.004, "schedule": "cosine", "steps": 120, "batch": 16},
    "data": {"name": "fake", "root": "/home/someone/data", "size": 64}, "frequent": None,
}  # fmt: skip
STEPS = 120
RULES = {"alpha": 0.05, "margin_points": 0.5, "margin_ratio": 1.03, "error_floor_points": 1, "draws": 200,
         "settled": {"peak": 2, "end": 1, "fall": 0.2}}  # fmt: skip
NETWORK = Network("shallow", ("res3", "res4"), freeze({"widths": [8, 16, 16], "strides": [2, 4, 4]}))
DEVIATIONS = [
    {"id": "batch", "what": "Images a #strong[batch]", "status": "departs", "paper": "1", "place": "Sec. 4",
     "here": "16", "decisions": ["D22"], "effect": "Less noise."},
]  # fmt: skip
AUDITED = {"group": "Parameters", "what": "Weights of GCN k = 3", "where": "Table 2", "printed": "260K",
           "recomputed": "260,694", "verdict": "differs", "note": "truncated"}  # fmt: skip


@cache
def anatomies() -> dict[str, Any]:
    """Descriptions of the paper's network, of one with a local head, and of the tier's network."""
    sizes = {"paper": 15, "paper_local": 1, "tier": 15}
    return {
        name: anatomy.describe(Variant(gcn(k) if k > 1 else dense(1), refine=k > 1), NETWORK, 4, (64, 64))
        for name, k in sizes.items()
    } | {"blocks": anatomy.blocks(), "receptive": {}, "table11": {}}


def _key(label: str, data: str, seed: int) -> str:
    return hashlib.sha256(f"{label}/{data}/{seed}".encode()).hexdigest()


def _listing(name: str, data: str, variants: list[Variant]) -> Table:
    cells = tuple(Cell(name, "score", v.label, v, "miou", None, data or "main") for v in variants)
    return Table(name, f"Listing {name}", None, ("score",), tuple(v.label for v in variants), cells)


SETTING = {
    "data": {}, "network": {}, "after": None, "band_px": 1,
    "recipe": {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "schedule": "poly", "warmup": 0.1,
               "steps": STEPS, "batch": 4, "flip": False, "crop": None, "precision": "fp32", "validations": 2},
}  # fmt: skip


def fake_plan(tables: list[Table], seeds: int, classes: int = 4, frequent: list[int] | None = None) -> dict[str, Any]:
    """A plan.json as study.plan.planner writes it, for ``tables``."""
    cells, trainings = [], {}
    names = [f"class {index}" for index in range(classes)]
    facts = {"name": "fake", "task": "segment", "classes": names, "splits": {"train": 2000, "tune": 200, "val": 500},
             "size": [24, 32], "fingerprint": "f" * 64, "images_with": [9] * classes, "pixels": [99] * classes,
             "listed": {}, "notes": [], "groups": None, "streamed": False, "frequent": frequent, "title": "",
             "after": None}  # fmt: skip
    for table in tables:
        for cell in table.cells:
            data, head = cell.setting, cell.variant.head
            labels = {
                "label": cell.variant.label, "head": head.family, "kernel_size": head.kernel_size,
                "refine": cell.variant.refine, "width": share_of(head.width, 2048, 21),
            }  # fmt: skip
            runs = {str(s): _key(cell.variant.label, data, s) for s in range(seeds) if cell.trained}
            for seed, key in runs.items():
                trainings[key] = labels | {
                    "seed": int(seed), "data": data, "steps": STEPS, "cost": 1, "lr": 0.1, "optimizer": "sgd",
                    "batch": 4, "backbone": "shallow", "after": None, "questions": {},
                }  # fmt: skip
            cells.append(
                {"address": cell.address, "table": cell.table, "row": cell.row, "column": cell.column}
                | {"metric": cell.metric, "paper": cell.paper, "data": data, "runs": runs}
                | {"inference": "", "not_applicable": None}
                | {"parameters": None if cell.trained else head.parameters(2048, 21)} | labels
            )  # fmt: skip
    metrics = {"miou": "mean IoU, all present classes", "pixel_accuracy": "pixel accuracy"}
    metrics |= {} if frequent is None else {"miou_frequent": "mean IoU, frequent classes"}
    found = {
        "tier": "fake", "title": TIER["title"], "judges": "The mechanism only.", "meaningless": False,
        "scale": "mechanism", "verdicts": RULES, "not_asked": {},
        "settings": dict.fromkeys(("main", *(cell["data"] for cell in cells)), SETTING),
        "tables": [{"id": t.id, "title": t.title, "page": t.page, "rows": list(t.rows), "columns": list(t.columns),
                    "note": t.note, "submitted": None, "data": t.cells[0].setting} for t in tables],
        "cells": cells, "trainings": trainings, "evaluations": {}, "metrics": metrics,
        "version": 1, "block": {}, "identities": {}, "inference": {},
        "data": {"main": facts | {"role": "main"}}
        | {name: facts | {"name": f"fake {name}", "role": "control"}
           for name in {cell["data"] for cell in cells} - {"main"}},
    }  # fmt: skip
    return found | {"questions": questions.digests(found), "wording": questions.wording()}


def fake_run(folder: Path, training: dict[str, Any], classes: int, samples: int = 2) -> None:
    """Write the files of one training to results/<key>/; its scores rise with k."""
    draw = np.random.default_rng(training["seed"] * 100 + training["kernel_size"])
    share = 0.5 + 0.02 * training["kernel_size"] + 0.05 * training["refine"] + draw.normal(0, 0.01)
    hits = (draw.uniform(0.9, 1.1, (8, 2, classes)) * 100 * min(share, 0.9)).astype(np.int64)
    counts = np.stack([hits, 110 - hits, 110 - hits], axis=-1)
    labels = np.full((samples, 24, 32), 255, np.uint8)
    labels[:, 2:-2, 2:-2] = np.arange(28) * classes // 28
    folder.mkdir(parents=True)
    for name in ("counts.npz", "tune.npz"):
        np.savez(folder / name, counts=counts)
    images = draw.integers(0, 255, (samples, 24, 32, 3), dtype=np.uint8)
    predictions = (labels % classes).astype(np.uint8)
    np.savez(folder / "samples.npz", images=images, predictions=predictions, labels=labels, names=np.array(["a", "b"]))
    steps = range(10, STEPS + 1, 10)
    rise = 30 if training["head"] == "1x1" else 8
    score = [[step, share * (1 - 0.6 * np.exp(-step / rise))] for step in steps]
    curve = {"loss": [[step, 2.0 * np.exp(-step / 40)] for step in steps], "score": score}
    (folder / "curve.json").write_text(json.dumps(curve))
    weights = 1000 * training["kernel_size"] * (3 if training["head"] == "stack" else 1)
    told = {"parameters": weights + 10**6, "head_parameters": weights, "peak_memory_mb": 500 + weights / 1000}
    told |= {"seconds": {"train": weights / 100}, "peak_gpu_memory_mb": None}
    (folder / "result.json").write_text(json.dumps(told))


def fake_costs(plan: dict[str, Any]) -> dict[str, dict[str, dict[str, int]]]:
    """examined/costs.json with the weights of ``fake_run``; a stack's multiply-adds do not follow from its weights."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for told in plan["trainings"].values():
        weights = 1000 * told["kernel_size"] * (3 if told["head"] == "stack" else 1)
        macs = weights * (500 if told["head"] == "stack" else 256)
        cost = {"parameters": weights + 10**6, "head_parameters": weights, "macs": macs + 10**7, "head_macs": macs}
        found.setdefault(told["data"], {})[told["label"]] = cost
    return found


def fake_folder(folder: Path, plan: dict[str, Any], failed: dict[str, str] | None = None) -> Path:
    """A complete reports/<tier>/ without the report; ``failed`` maps keys to the reason of their failure."""
    folder.mkdir(parents=True)
    failed = failed or {}
    for key, training in plan["trainings"].items():
        if key in failed:
            (folder / "results" / key).mkdir(parents=True)
            told = {"kind": "TrainingFailed", "reason": failed[key], "retry": "make retry TIER=fake"}
            (folder / "results" / key / "failed.json").write_text(json.dumps(told))
        else:
            fake_run(folder / "results" / key, training, len(plan["data"]["main"]["classes"]))
    (folder / "results").mkdir(exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "examined").mkdir()
    (folder / "examined" / "anatomy.json").write_text(json.dumps(anatomies()))
    (folder / "audit.json").write_text(json.dumps([AUDITED]))
    judged = verdicts.content(plan, folder / "results", computed={})
    (folder / "verdicts.json").write_text(json.dumps(judged))
    frame = results.frame(plan, folder / "results")
    frame.to_csv(folder / "scores.csv", index=False)
    (folder / "examined" / "costs.json").write_text(json.dumps(fake_costs(plan)))
    for name, rows in equal_cost.tables(folder, plan, frame).items():
        rows.to_csv(folder / f"{name}.csv", index=False)
    per_class.table(plan, folder / "results").to_csv(folder / "per_class.csv", index=False)
    runs = {key: {"status": results.status(folder / "results" / key)} for key in plan["trainings"]}
    for key in set(runs) - set(failed):
        runs[key]["seconds"] = {"train": 31.4, "evaluate": 2.5}
    planned = len(plan["trainings"])
    provenance = {
        "version": 1, "tier": plan["tier"], "commit": "0123456789abcdef", "dirty": True, "lacking": "",
        "versions": {"torch": "2.9"},
        "hardware": {"cpu": "Fake CPU", "cores": 2, "memory_gb": 7.7, "device": "cpu"}, "workers": 2, "engine": "ray",
        "seconds": {"train": 3000.0, "evaluate": 120.0, "wall": 1800.0}, "data": {}, "runs": runs,
        "trainings": {"planned": planned, "executed": 3, "done": planned - len(failed), "failed": len(failed)},
        "evaluations": {"planned": 0, "done": 0, "failed": 0},
    }  # fmt: skip
    provenance["gpu_check"] = {
        "version": 1, "device": {"kind": "cuda", "name": "Fake GPU", "torch": "2.9"}, "steps": {}, "seconds": 301.5,
        "lines": [
            {"check": "training twice", "promise": "equal to the bit", "found": "equal", "kept": True, "seconds": 3.0},
            {"check": "loaders", "promise": "keep up", "found": "0.8 #read", "kept": False, "seconds": 3.0},
            {"check": "peak", "promise": "", "found": "812.3 TFLOP/s", "kept": None, "seconds": 3.0},
        ],
    }  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps(provenance))
    return folder


def _content(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def _table(content: dict[str, Any], name: str) -> dict[str, Any]:
    return next(table for table in content["tables"] if table["heading"].startswith(f"Table {name}."))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """T1, T2 and T5 over three seeds with a control set; GCN k=11 failed on every seed, k=13 on one."""
    tables = [paper.TABLES[name] for name in ("T1", "T2", "T5")]
    tables.append(_listing("C1", "texture", [Variant(dense(1)), Variant(gcn(15))]))
    reason = "loss became nan; *not markup* #panic() $x$ <tag>"
    failed = {_key("GCN k=11", "main", seed): reason for seed in range(3)}
    failed[_key("GCN k=13", "main", 1)] = "out of memory"
    folder = fake_folder(tmp_path_factory.mktemp("report") / "full", fake_plan(tables, 3, 6), failed)
    document.build(folder, TIER, DEVIATIONS)
    return folder


def test_the_check_of_the_device_is_shown(full: Path) -> None:
    """Each line with its promise, and a broken one as such."""
    page = (full / "report.html").read_text(encoding="utf-8")
    shown = page[page.rindex("The check of the device") :]
    told = shown[: shown.index("</table>")]
    assert "Fake GPU" in told and "0.8 #read" in told and "812.3 TFLOP/s" in told
    assert told.count("broken") == 1 and told.count("kept") == 1


@pytest.mark.slow
def test_equal_inputs_give_equal_bytes(full: Path) -> None:
    names = [
        "report.pdf",
        "report.html",
        "report.json",
        *sorted(f"figures/{p.name}" for p in (full / "figures").iterdir()),
    ]
    before = {name: (full / name).read_bytes() for name in names}
    document.build(full, TIER, DEVIATIONS)
    assert [name for name in names if (full / name).read_bytes() != before[name]] == []
    assert before["report.pdf"].startswith(b"%PDF-") and b"/Outlines" in before["report.pdf"]


@pytest.mark.slow
def test_the_html_page_contains_everything_in_the_pdf(full: Path) -> None:
    page, content = (full / "report.html").read_text(encoding="utf-8"), _content(full)
    headings = re.findall(r"<h3>(.*?)</h3>", page)
    assert [table["heading"] for table in content["tables"]] == [h for h in headings if h.startswith("Table ")]
    assert page.count("<img ") == len(list((full / "figures").glob("*.svg")))
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', page))  # nothing is fetched
    assert "<link" not in page and "<script src" not in page and "<style>" in page
    assert all(cell["main"] in page for row in content["tables"][0]["rows"] for line in row["lines"]
               for cell in line["cells"] if "main" in cell)  # fmt: skip
    assert "T1/score/3 <code>" in page  # from a cell to the keys of its trainings
    assert "#panic()" in page and "<tag>" not in page  # text is data, never markup
    assert "color: #" in page  # verdicts keep their colours


@pytest.mark.slow
def test_every_figure_exists_as_vector_graphics(full: Path) -> None:
    found = {path.stem for path in (full / "figures").glob("*.svg")}
    drawn = {"kernel_size", "parameters", "boundary", "control", "F1", "F2", "F4", "F5", "F6", "network"} | {"costs"}
    assert found == drawn | {"curves_main", "curves_texture"}
    # Only the samples are bitmaps; text is outlined, so readers do not need our fonts.
    for path in (full / "figures").glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert "<text" not in text
        assert ("<image" in text) == (path.stem == "F6")


@pytest.mark.slow
def test_a_hole_shows_its_reason_and_retry(full: Path) -> None:
    table = _table(_content(full), "1")
    by_column = dict(zip(table["columns"], table["rows"][0]["lines"][0]["cells"], strict=True))
    assert by_column["11"]["kind"] == "hole"
    assert by_column["13"]["partial"] and not by_column["15"]["partial"]
    first, second = table["holes"]
    assert first["what"] == "GCN k=11, seeds 0, 1, 2"
    assert "loss became nan; *not markup* #panic() $x$ <tag>" in first["reason"]
    assert first["retry"] == "make retry TIER=fake"
    assert second["what"] == "GCN k=13, seed 1"
    assert _content(full)["holes"] == table["holes"]


@pytest.mark.slow
def test_cells_show_ours_above_and_the_papers_below(full: Path) -> None:
    content = _content(full)
    ours, printed = _table(content, "1")["rows"][0]["lines"]
    assert (ours["source"], printed["source"]) == ("ours", "paper")
    assert [cell["main"] for cell in printed["cells"]][:2] == ["69.0", "70.1"]
    summary = results.summary(results.frame(json.loads((full / "plan.json").read_text()), full / "results"))
    row = summary[(summary["address"] == "T1/score/15") & (summary["metric"] == "miou")].iloc[0]
    assert ours["cells"][-1]["main"] == f"{row['mean'] * 100:.1f}"
    assert ours["cells"][-1]["side"] == f"± {(row['high'] - row['mean']) * 100:.1f}"
    counts = _table(content, "2")["rows"][2]["lines"][0]["cells"][0]
    assert (counts["main"], counts["side"]) == ("260,694", "260K")
    assert [line["source"] for line in _table(content, "C1")["rows"][0]["lines"]] == ["ours"]


@pytest.mark.slow
def test_last_slopes_show_which_variants_still_improve(full: Path) -> None:
    """The scores rise as 1 - 0.6 exp(-step / 30) for 1x1 and with 8 instead of 30 for the rest."""
    curves = results.curves(json.loads((full / "plan.json").read_text()), full / "results")
    slopes = results.last_slopes(curves).set_index(["data", "label"])
    one = slopes.loc[("main", "1x1")]
    rise = 0.6 * (np.exp(-110 / 30) - np.exp(-120 / 30))
    assert one["slope"] == pytest.approx(one["last"] / (1 - 0.6 * np.exp(-120 / 30)) * rise * 1000)
    assert one["threshold"] == pytest.approx(0.5 / 12 * 100)
    assert one["loss_change"] == pytest.approx(np.exp(-12 / 40) - 1, abs=0.1)
    assert slopes.loc[("main", "GCN k=15"), "slope"] < 0.01
    steeper = curves.assign(value=curves["value"].where(curves["kind"] == "loss", curves["step"] / 200))
    assert results.last_slopes(steeper)["improving"].all()
    single = curves[(curves["kind"] == "loss") | (curves["step"] == STEPS)]
    assert results.last_slopes(single)["slope"].isna().all() and not results.last_slopes(single)["improving"].any()


@pytest.mark.slow
def test_reports_work_with_one_seed_and_foreign_heads(tmp_path: Path) -> None:
    """Also 21 classes, two mean IoUs, a meaningless tier, and a data set with neither controls nor Table 5."""
    odd = Variant(Head(((Conv((5, 5)),),), "wavelet", 5))
    plan = fake_plan([paper.TABLES["T1"], _listing("X", "", [odd])], 1, 21, [0, 1, 2]) | {"meaningless": True}
    folder = fake_folder(tmp_path / "one", plan)
    document.build(folder, TIER, DEVIATIONS)
    often, overall, printed = _table(_content(folder), "1")["rows"][0]["lines"]
    assert (often["source"], overall["source"], printed["source"]) == ("ours, frequent", "ours, all", "paper")
    assert {cell["side"] for cell in overall["cells"]} == {""}
    drawn = {shown["name"] for shown in _content(folder)["figures"]}
    assert "kernel_size" in drawn and not {"control", "boundary"} & drawn
    assert len(set(families.styles(plan).values())) == 5


@pytest.mark.slow
def test_a_meaningless_tier_says_so_on_every_page(tmp_path: Path) -> None:
    """Only warnings and holes have the alarm colour. Here every cell is a hole, and the PDF is still built."""
    plan = fake_plan([paper.TABLES["T1"]], 2) | {"meaningless": True, "scale": "none"}
    folder = fake_folder(tmp_path / "none", plan, dict.fromkeys(plan["trainings"], "died"))
    document.build(folder, TIER, DEVIATIONS)
    pages = typst.compile(folder / "typst" / "report.typ", root=folder, format="svg", ignore_system_fonts=True)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert '<p class="warning">THESE NUMBERS MEAN NOTHING.' in page and "Verdicts on the claims" in page
    plain = json.loads((folder / "plan.json").read_text()) | {"meaningless": False}
    (folder / "plan.json").write_text(json.dumps(plain))
    calm = typst.compile(folder / "typst" / "report.typ", root=folder, format="svg", ignore_system_fonts=True)
    alarm = b"#b3261e"
    document.build(folder, TIER, DEVIATIONS)
    assert 'class="warning"' not in (folder / "report.html").read_text(encoding="utf-8")
    assert len(pages) > 1 and all(alarm in page for page in pages)
    assert alarm not in calm[0] and pages[0].count(alarm) > 1
