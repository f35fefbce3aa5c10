"""The search for each variant's best values: its rules, its stage with real trainings, and what is made of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from study.ablation import optuna_study
from study.ablation.importances import importances
from study.config import tiers
from study.config.search_space import Tuning
from study.plan import halving
from study.plan.halving import Candidate
from study.spec.errors import InputError
from study.spec.heads import Variant, dense, gcn
from study.statistics import at_best
from tests.conftest import ROOT

STEPS = 100
ONE, GCN15 = Variant(dense(1)), Variant(gcn(15))


@pytest.fixture
def shapes() -> tiers.Tier:
    return tiers.load(tiers.read(), "shapes")


def _tuning(keep: float = 0.5, rungs: tuple[float, ...] = (0.25, 0.5)) -> Tuning:
    return Tuning(("main",), (("lr", (0.1, 0.2, 0.3, 0.4)),), (100,), rungs, keep, (1,))


def _members(
    shapes: tiers.Tier, variant: Variant, scores: list[dict[int, float]], whole: bool = False
) -> list[Candidate]:
    recipe = shapes.main.recipe
    return [
        Candidate(
            "main", variant, replace(recipe, steps=STEPS, lr=(i + 1) / 10), {100: f"{variant.label}{i}"}, whole, s
        )
        for i, s in enumerate(scores)
    ]


def test_each_rung_keeps_the_best_half_per_variant(shapes):
    slow = _members(shapes, ONE, [{25: s, 50: s, 100: s} for s in (0.1, 0.4, 0.3, 0.2)])
    fast = _members(shapes, GCN15, [{25: s, 50: s, 100: s} for s in (0.9, 0.6, 0.7, 0.8)])
    found = slow + fast
    halving.halve(found, 0, _tuning())
    assert [c.dropped for c in found] == [25, None, None, 25, None, 25, 25, None]
    halving.halve(found, 1, _tuning())
    assert [c.dropped for c in found] == [25, None, 50, 25, None, 25, 25, 50]
    assert {variant.label: recipe.lr for (_, variant), recipe in halving.best(found).items() if variant} == {
        "1x1": 0.2, "GCN k=15": 0.1,
    }  # fmt: skip


def test_of_equal_scores_the_shared_setting_wins(shapes):
    found = _members(shapes, ONE, [{25: 0.5, 50: 0.5, 100: 0.5}] * 4)
    for rung in (0, 1):
        halving.halve(found, rung, _tuning())
    assert halving.best(found)["main", ONE] == found[0].recipe
    for recipe in (shapes.main.recipe, replace(shapes.main.recipe, lr=0.5)):  # that a tier shares, listed or not
        first, *others = shapes.tuning.recipes(recipe)
        assert first == recipe and recipe not in others


def test_a_dropped_candidate_cannot_be_the_best(shapes):
    found = _members(shapes, ONE, [{25: 0.5, 50: 0.5, 100: 0.5}, {25: 0.1, 50: 0.1, 100: 0.9}], whole=True)
    halving.halve(found, 0, _tuning())
    assert found[1].runs and not found[1].eligible
    assert halving.best(found)["main", ONE].lr == found[0].recipe.lr


def test_a_failed_candidate_neither_wins_nor_counts(shapes):
    found = _members(shapes, ONE, [{}, {25: 0.2, 50: 0.2, 100: 0.2}, {25: 0.1}])
    found[0].failed = "the loss must be finite"
    for rung in (0, 1):
        halving.halve(found, rung, _tuning())
    assert halving.best(found)["main", ONE].lr == 0.2


def test_all_variants_share_candidates_and_maximum_steps(shapes):
    facts = {name: {"fingerprint": name, "classes": [], "listed": {}} for name in shapes.settings}
    planned, found = halving.candidates(shapes, facts, "cpu")
    groups: dict[halving.Group, list[Candidate]] = {}
    for candidate in found:
        groups.setdefault(candidate.group, []).append(candidate)
    rates = [0.002, 0.004, 0.008, 0.016]
    assert all(sorted(c.recipe.lr for c in members) == rates for members in groups.values())
    assert {training.recipe.steps for training in planned.trainings.values()} == {500}
    assert {training.seed for training in planned.trainings.values()} == {100}
    labels = {variant.label for _, variant in groups if variant}
    assert {"1x1", "GCN k=15 + BR", "stack k=11", "1x1 + BR", "GCN k=7 + BR"} <= labels
    least = halving.steps_of(found, shapes.tuning)
    assert least["main", ONE] == 4 * 500  # of the factorial: trained to the end
    assert least["main", Variant(gcn(3))] == 4 * 125 + 2 * 125 + 1 * 250


def test_the_tuned_plan_has_only_searched_cells():
    shapes = tiers.load(tiers.read(), "smoke")
    facts = {name: {"fingerprint": name, "classes": [], "listed": {}} for name in shapes.settings}
    recipe = shapes.tuning.recipes(shapes.main.recipe)[1]
    cells = halving.tuned(shapes, facts, "cpu", {("main", GCN15): recipe}).cells
    rates = {cell.address for cell, _, runs in cells if runs}
    assert rates == {"T1/score/15", "T5/GCN/boundary", "T5/GCN/internal", "T5/GCN/overall"}
    manifest = halving.tuned(shapes, facts, "cpu", {("main", GCN15): recipe}).manifest()
    assert {training["lr"] for training in manifest["trainings"].values()} == {recipe.lr}
    told = {cell["address"]: cell["not_applicable"] for cell in manifest["cells"]}
    assert told["T7/Stage-1/GCN"] and told["T7/Stage-1/GCN"].startswith("Not searched")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"search": {}}, "must name at least one part of the recipe"),
        ({"search": {"steps": [3]}}, "must be one of lr"),
        ({"search": {"lr": [0.004, 0.004]}}, "different values"),
        ({"search": {"lr": ["1e-3", 0.004]}}, "write it with a dot"),
        ({"seeds": [0]}, "seeds that no reported number uses"),
        ({"seeds": []}, "seeds that no reported number uses"),
        ({"rungs": [0.5, 0.25]}, "rising shares"),
        ({"rungs": [1.0]}, "rising shares"),
        ({"keep": 2}, "keep must be a number from 0 to 1"),
        ({"settings": ["T7 Stage-2"]}, "settings must be one of"),
        ({"factorial": [4]}, "odd"),
        ({"more": 1}, "known keys only"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_invalid_tuning_block_is_refused(change, words):
    params = tiers.read()
    params["tiers"]["smoke"]["tuning"] |= change
    with pytest.raises(InputError, match=words):
        tiers.load(params, "smoke")


@pytest.mark.slow
def test_importances_tell_a_planted_factor_from_the_others():
    rows = [
        {"whole": True, "failed": "", "setting": "main", "kernel_size": k, "refine": br, "values": {"lr": lr},
         "scores": {"50": 0.0, "100": 0.4 + 0.02 * k + 0.01 * br + lr}}
        for k in (1, 7, 15) for br in (False, True) for lr in (0.01, 0.02)
    ]  # fmt: skip
    found = importances(rows).set_index("parameter")["importance"]
    assert found.sum() == pytest.approx(1)
    assert found["kernel size"] > 0.9
    rows = [row | {"scores": {"100": 0.5}} for row in rows]
    assert importances(rows).empty
    assert optuna_study.importances([]) == {}


def test_differences_at_the_best_are_paired_by_seed():
    frame = pd.DataFrame({"address": "T1/score/3", "metric": "miou", "seed": [0, 1, 2], "value": [0.1, 0.5, 0.9]})
    better = frame.assign(value=[0.11, 0.52, 0.93])
    (row,) = at_best.compared(frame, better).to_dict("records")
    assert row["difference"] == pytest.approx(0.02)
    assert row["low"] == pytest.approx(0.02 - 4.302653 * 0.01 / 3**0.5, abs=1e-6)


@pytest.mark.slow
def test_choosing_leaves_comments_and_order_alone(project):
    text = (ROOT / "params.yaml").read_text()
    (project.folder / "params.yaml").write_text(text)
    project.python("-m", "study", "choose", "smoke", "--tune", "yes")
    changed = (project.folder / "params.yaml").read_text()
    assert changed == text.replace("tier: shapes", "tier: smoke").replace("tune: false ", "tune: true ", 1)
    assert tiers.read(project.folder / "params.yaml")["tune"] is True
    failed = project.python("-m", "study", "choose", "cityscapes", "--tune", "yes", check=False)
    assert failed.returncode == 2 and "tiers.cityscapes.tuning must define the search" in failed.stderr


def _searching(project, **recipe) -> None:
    project.params["tune"] = True
    project.tier["recipe"] |= {"lr": 0.004} | recipe
    project.save()
    project.stages("data", "plan", "ablate")


@pytest.mark.slow
def test_a_search_yields_verdicts_and_a_verified_report(project):
    project.tier.update({"scale": "mechanism", "meaningless": False, "seeds": [0, 1]})
    project.tier["verdicts"]["settled"] = {"peak": 100, "end": 100, "fall": 1}  # so few steps settle nothing
    _searching(project)
    project.stages("evaluate", "tune", "score", "report")
    found = json.loads((project.reports / "tuning" / "search.json").read_text())
    ended = [trial for trial in found["trials"] if "4" in trial["scores"]]
    assert found["on"] and all("2" in trial["scores"] for trial in found["trials"])
    assert {trial["label"] for trial in ended if trial["whole"]} == {"1x1", "1x1 + BR", "GCN k=15", "GCN k=15 + BR"}
    judged = json.loads((project.reports / "verdicts.json").read_text())
    pairs = {row["claim"]: (row["verdict"], again["verdict"]) for row, again in
             zip(judged["rows"], judged["tuned"], strict=True)}  # fmt: skip
    assert "untested" not in pairs["br_overall"]
    assert pairs["order_in_stages"] == ("untested", "untested")
    for name in ("importances", "search_lr"):
        assert (project.reports / "figures" / f"{name}.svg").is_file()
    assert "all match" in project.python("-m", "study", "verify").stdout
    # A score that was edited afterwards is found: by its outcome, and against the run store.
    path = project.reports / "tuning" / "search.json"
    worst = next(trial for trial in found["trials"] if not trial["best"] and "4" in trial["scores"])
    worst["scores"] = dict.fromkeys(worst["scores"], 0.99)
    path.write_text(json.dumps(found))
    told = project.python("-m", "study", "verify", check=False)
    assert told.returncode == 1 and "as in the run store" in told.stdout and "which its scores give" in told.stdout


@pytest.mark.slow
def test_a_paused_training_ends_as_an_undisturbed_one(project):
    _searching(project)
    project.stages("tune")
    trials = json.loads((project.reports / "tuning" / "search.json").read_text())["trials"]
    key = next(trial["keys"]["100"] for trial in trials if trial["whole"])
    with np.load(project.folder / "runs" / key / "counts.npz") as archive:
        paused = archive["counts"]
    # The same training at one go: its seed becomes one of the tier's, and the search another one's.
    shutil.rmtree(project.folder / "runs")
    project.params["tune"] = False
    project.tier["seeds"] = [100]
    project.tier["tuning"]["seeds"] = [101]
    project.tier["recipe"]["lr"] = next(t["values"]["lr"] for t in trials if t["keys"]["100"] == key)
    project.save()
    project.stages("data", "plan", "ablate")
    with np.load(project.folder / "runs" / key / "counts.npz") as archive:
        assert (archive["counts"] == paused).all()


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_search_reaches_the_same_result(project):
    project.tier["tuning"]["factorial"] = [1]
    _searching(project, steps=40)
    other = project.folder / "undisturbed"
    command = [sys.executable, "-m", "pipelines.tune"]
    running = subprocess.Popen(command, cwd=project.folder, env=project.environment, start_new_session=True)
    runs, deadline = project.folder / "runs", time.monotonic() + 120
    while len(list(runs.glob("*/pauses.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not (project.reports / "tuning" / "search.json").is_file()
    project.stages("tune")
    first = (project.reports / "tuning" / "search.json").read_bytes()
    project.environment["STUDY_STORE"] = str(other)
    project.stages("data", "ablate", "tune")
    assert (project.reports / "tuning" / "search.json").read_bytes() == first
    import optuna

    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(runs / "optuna/smoke.log")))
    states = [t.state.name for t in optuna.load_study(study_name="smoke tuning", storage=storage).trials]
    assert set(states) <= {"COMPLETE", "PRUNED"} and "PRUNED" in states
    assert len(states) == len(json.loads(first)["trials"])


@pytest.mark.slow
def test_without_the_switch_nothing_is_searched(project):
    project.stages("data", "plan")
    project.stages("tune")
    assert json.loads((project.reports / "tuning" / "search.json").read_text()) == {
        "version": 1,
        "on": False,
        "trials": [],
    }
    assert not list((project.folder / "runs").glob("*/pauses.json"))
