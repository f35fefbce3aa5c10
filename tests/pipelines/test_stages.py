"""Stages, pretraining and evaluations through the real pipeline: inheritance, failure, resuming, and bad input."""

from __future__ import annotations

import csv
import json
import shutil
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from pipelines import data
from study.ablation import queue
from study.config import tiers
from study.spec.errors import InputError
from study.store import stage
from tests.conftest import Project


@pytest.fixture
def staged(project: Project) -> Project:
    """Tables 5 and 7 of the smoke tier, with four steps per training."""
    project.tier["tables"] = ["T5", "T7"]
    for name in ("T7 Stage-1", "T7 Stage-2", "T7 Stage-3"):
        project.tier["settings"][name].pop("data", None)
    project.save()
    return project


def rows(project: Project) -> dict[tuple[str, str], dict[str, str]]:
    with (project.reports / "scores.csv").open() as file:
        return {(row["address"], row["metric"]): row for row in csv.DictReader(file)}


def plan_of(project: Project) -> dict:
    return json.loads((project.reports / "plan.json").read_text())


def run_of(project: Project, setting: str, label: str) -> str:
    found = [k for k, t in plan_of(project)["trainings"].items() if (t["data"], t["label"]) == (setting, label)]
    assert len(found) == 1
    return found[0]


@pytest.mark.slow
def test_a_failed_stage_stops_only_its_descendants(staged):
    staged.tier["settings"]["T7 Stage-1"]["recipe"] = {"lr": 1e30}
    staged.save()
    staged.stages("data", "plan", "ablate", "evaluate", "score", "report")
    found = rows(staged)
    assert {found[f"T5/{row}/overall", "miou"]["status"] for row in ("baseline", "GCN", "GCN+BR")} == {"done"}
    trained = [row for (address, metric), row in found.items() if address.startswith("T7/") and metric == "miou"]
    assert len(trained) == 11 and {row["status"] for row in trained} <= {"failed", "not applicable"}
    told = {}
    for number in (1, 2, 3):
        key = run_of(staged, f"T7 Stage-{number}", "GCN k=15")
        told[number] = json.loads((staged.reports / "results" / key / "failed.json").read_text())
    assert told[1]["kind"] == "TrainingFailed" and "loss must be finite" in told[1]["reason"]
    assert told[2]["kind"] == told[3]["kind"] == "NotRun" and "before it failed" in told[2]["reason"]
    assert staged.stages("conclude", check=False).returncode == 1
    before = staged.runs()

    staged.tier["settings"]["T7 Stage-1"]["recipe"] = {}
    staged.save()
    staged.stages("data", "plan", "ablate", "evaluate", "score")
    built = find_spec("pydensecrf") is not None  # otherwise the cell is not applicable
    assert {row["status"] for row in rows(staged).values()} == {"done"} | (set() if built else {"not applicable"})
    assert before.items() <= staged.runs().items(), "what was done before is not trained again"
    plan = plan_of(staged)
    assert len([key for key, training in plan["trainings"].items() if training["after"]]) == 6
    # An evaluation uses the weights of its training and stores none.
    assert all(not (staged.folder / "runs" / key / "weights.pt").exists() for key in plan["evaluations"])
    assert len(plan["evaluations"]) == 1 + built


@pytest.mark.slow
def test_a_stage_starts_from_the_previous_stages_weights(staged):
    """With a learning rate near zero, the second stage ends where the first did."""
    staged.tier["tables"] = ["T7"]
    for name in ("T7 Stage-2", "T7 Stage-3"):
        staged.tier["settings"][name]["recipe"] = {"lr": 1e-12, "steps": 1, "weight_decay": 0}
    staged.save()
    staged.stages("data", "plan", "ablate")
    states = []
    for number in (1, 2, 3):
        path = staged.folder / "runs" / run_of(staged, f"T7 Stage-{number}", "1x1") / "weights.pt"
        states.append(torch.load(path, weights_only=True))
    trained = [name for name, value in states[0].items() if value.is_floating_point() and "running" not in name]
    for later in states[1:]:
        assert all(torch.allclose(states[0][name], later[name], atol=1e-6) for name in trained)


@pytest.mark.slow
def test_evaluation_restores_deleted_copies_of_the_data(project):
    project.tier["receptive"] = None
    project.save()
    project.stages("data", "plan", "ablate")
    cache = project.folder / "runs" / "cache"
    for place in [place for place in cache.iterdir() if place.is_dir()]:
        shutil.rmtree(place)
    assert "counting the confusions of 3 networks" in project.stages("evaluate").stdout
    assert len(list((project.reports / "examined" / "confusion").glob("*.npz"))) == 3


@pytest.mark.slow
def test_pretraining_reports_errors_and_hands_on_its_backbone(project):
    project.tier["tables"] = ["T6"]
    project.save()
    project.stages("data", "plan", "ablate", "evaluate", "score", "report", "conclude")
    found = rows(project)
    error = found["T6/ImageNet cls err/ResNet50", "top5_error"]
    key = run_of(project, "T6 ResNet50 pretraining", "classifier")
    ranks = np.load(project.folder / "runs" / key / "counts.npz")["ranks"]
    assert error["status"] == "done" and float(error["value"]) == pytest.approx((ranks >= 5).mean())
    assert ranks.shape == (4,) and ranks.min() >= 0 and ranks.max() < 36
    tuned = np.load(project.folder / "runs" / key / "tune.npz")["ranks"]
    assert tuned.shape == (plan_of(project)["data"]["T6 ResNet50 pretraining"]["splits"]["tune"],)
    assert {t["after"] for t in plan_of(project)["trainings"].values() if t["data"] == "T6 ResNet50"} == {key}


def block(**changes) -> dict:
    params = tiers.read()
    params["tiers"]["smoke"] |= changes
    return params


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": {"T7 Stage-2": {"after": "T7 Stage-0"}}}, "must name a setting .*'T7 Stage-0'; take one"),
        ({"settings": {"a": {"after": "b"}, "b": {"after": "a"}}}, "must name a setting of the tier that comes before"),
        ({"settings": {"T7 Stage-1": {"task": "guess"}}}, "task must be one of .*, got 'guess'"),
        ({"settings": {"colour": {}}}, "must have a name of its own"),
        ({"settings": {}}, "must have 'T6 ResNet50 pretraining', which .*; add it, or give the reason under"),
        ({"inference": {}}, "inference must have 'MS', which T7/Stage-3-MS/.* needs"),
        ({"inference": {"MS": {"scales": []}}}, "scales must name at least one scale"),
        ({"inference": {"MS": {"scales": [0]}}}, "scales must be a positive number, above 0, got 0"),
        ({"inference": {"MS": {"crop": 64}}}, r"crop must be two whole numbers from 1 up \(height, width\), got 64"),
        ({"inference": {"MS": {"crf": {"iterations": 3}}}}, "crf must have the key"),
        ({"receptive": {"occluder_px": 0, "stride_px": 1, "enlarge": 1, "share": 0.1, "mass": 0.5, "images": 1}},
         "occluder_px must be a whole number from 1 up, got 0"),
    ],
)  # fmt: skip
def test_bad_settings_report_rule_value_and_remedy(change, words):
    with pytest.raises(InputError, match=words):
        tiers.load(block(**change), "smoke")


def test_tables_marked_not_applicable_need_no_setting():
    reasons = {"T6": "no", "T7": "no", "T9/Stage-1": "no", "T9/Stage-2-MS": "no", "T9/Stage-2-MS-CRF": "no"}
    chosen = tiers.load(block(not_applicable=reasons), "smoke")
    assert set(chosen.settings) == {"main", "colour", "T9 Stage-1", "T9 Stage-2"}


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("settings", "T9 Stage-1", "recipe"), {"crop": [64, 256]}, "the crop of T9 Stage-1 must fit"),
        (("inference", "MS"), {"scales": [0.01]}, "a scale must leave at least one cell"),
        (("inference", "crops"), {"crop": [128, 64], "crops": [1, 4]}, "a crop must fit into the image"),
        (("inference", "crops"), {"crop": [64, 32], "crops": [1, 2]}, "crops must cover the image"),
        (("settings", "T7 Stage-3"), {"after": "T7 Stage-2", "data": {"cue": "texture"},
                                      "network": {"options": {"widths": [8, 16, 16, 24], "strides": [1, 2, 4, 4]}}},
         "weights must fit .* tensor by tensor"),
        (("mechanisms",), {"mine": {"claim": "gain_k", "says": "It gains", "shows": "main", "absent": "T7 Stage-1",
                                    "better": {"head": "gcn", "k": 3, "at": {"res9": {"head": "dense", "k": 1}}},
                                    "worse": {"head": "dense", "k": 1}}},
         "a level must be one of the backbone's .* got 'res9'"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_the_data_stage_rejects_settings_that_cannot_work(project, place, value, words, monkeypatch, capsys):
    project.tier["tables"] = ["T7", "T9"]
    *parents, last = place
    target = project.tier
    for name in parents:
        target = target[name]
    target[last] = value
    project.save()
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("STUDY_STORE", str(project.folder / "runs"))
    assert stage.run(data.main) == 2
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert all(part in told for part in words.split(" .* ")), told
    assert not project.runs()


@pytest.mark.slow
def test_a_crf_needs_its_library_unless_optional(project):
    script = (
        "import sys, importlib.abc\n"
        "class Block(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'pydensecrf': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name.startswith('pydensecrf') else real(name, *a)\n"
        "from pipelines import data\nfrom study.store import stage\nsys.exit(stage.run(data.main))\n"
    )
    project.tier["tables"] = ["T7"]
    project.save()
    done = project.python("-c", script, check=False)
    assert done.returncode == 0, done.stderr
    project.tier["inference"]["MS-CRF"].pop("optional")
    project.save()
    done = project.python("-c", script, check=False)
    assert done.returncode == 2 and "pydensecrf2" in done.stderr and "make crf" in done.stderr


def test_a_child_awaiting_its_parent_holds_no_slot():
    begun = []
    jobs = queue.Schedule(queue.Inline(lambda payload: {"payload": payload}), 2, begun.append)
    jobs.submit("parent", 1)
    jobs.submit("child", 2, after=("parent",))
    assert jobs.free == 1
    ended = []
    while jobs.busy:
        ended += [event.key for event in jobs.wait(0.01)]
    assert begun == ended == ["parent", "child"]
