"""The MLflow view of the run store on a real SQLite database: what it logs, and that a replay changes nothing."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from study.data import display
from study.data.prepare import PAD_COLOUR
from study.tracking.mlflow_runs import Tracker
from study.tracking.ui_views import GAP, LEAST_PX, VIEWS, class_metrics, picture
from tests.conftest import ROOT

SCORES = {"miou": 0.5, "pixel_accuracy": 0.9, "boundary_accuracy": 0.7, "internal_accuracy": 0.95}
FACTS = {"classes": ["ground", "a/b: road?", "sky"], "colours": {"ground": [10, 20, 30]}}
BY_CLASS = [0.25, 0.75, math.nan]
HEADS = {"GCN k=3": ("GCN", 3, False), "GCN k=7 + BR": ("GCN", 7, True), "stack k=7": ("stack", 7, False)}


def _labels(label: str) -> dict[str, Any]:
    head, kernel_size, refine = HEADS[label]
    return {"label": label, "head": head, "kernel_size": kernel_size, "refine": refine, "width": None, "data": "main"}


def _plan(root: Path) -> dict[str, Any]:
    """Three heads with two seeds each; the stack's second seed failed. Results are in root / "results" / key."""
    trainings, cells = {}, []
    for label in HEADS:
        runs = {str(seed): f"{label.split()[0]}-{label.split()[1]}-{seed}" for seed in (0, 1)}
        trainings |= {
            key: _labels(label) | {"seed": int(seed), "steps": 20, "backbone": "shallow"} for seed, key in runs.items()
        }
        fixed = {"table": "T1", "row": "score", "column": label, "metric": "miou", "paper": 0.7, "parameters": None}
        cells.append(_labels(label) | fixed | {"address": f"T1/score/{label}", "runs": runs})
    counted = {"address": "T2/params/3", "table": "T2", "row": "params", "column": "3", "metric": "parameters"}
    cells.append(_labels("GCN k=3") | counted | {"paper": 260.0, "parameters": 258, "runs": {}})
    rng = np.random.default_rng(0)
    for key in trainings:
        folder = root / "results" / key
        folder.mkdir(parents=True)
        if key == "stack-k=7-1":
            failed = {"kind": "OutOfMemory", "reason": "3 GB asked, 2 GB free", "retry": "make retry TIER=smoke"}
            (folder / "failed.json").write_text(json.dumps(failed))
            continue
        curve = {"loss": [[10, 2.0], [20, 1.0]], "score": [[20, 0.4]]}
        result = {"parameters": 1234, "head_parameters": 234, "seconds": {"train": 40, "evaluate": 5}, "steps": 20}
        (folder / "curve.json").write_text(json.dumps(curve))
        (folder / "result.json").write_text(json.dumps(result))
        maps = rng.integers(0, 3, (2, 8, 8), dtype=np.uint8)
        images = rng.integers(0, 255, (2, 8, 8, 3), dtype=np.uint8)
        np.savez(folder / "samples.npz", images=images, predictions=maps, labels=maps, names=["a", "b"])
    return {"trainings": trainings, "cells": cells, "evaluations": {}, "data": {"main": FACTS}}


def _frames(plan: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """scores.csv and its summary, in the columns the tracker reads."""
    rows, means = [], []
    for cell in plan["cells"]:
        fixed = {"address": cell["address"], "metric": cell["metric"], "paper": cell["paper"]}
        for seed, key in cell["runs"].items():
            value, status = (np.nan, "failed") if key == "stack-k=7-1" else (0.5, "done")
            rows.append(fixed | {"seed": int(seed), "value": value, "run": key, "status": status})
        mean, sd = (0.5, 0.01) if cell["runs"] else (258.0, np.nan)
        means.append(fixed | {"mean": mean, "sd": sd, "low": mean - 0.02, "high": mean + 0.02, "failed": 0})
    return pd.DataFrame(rows), pd.DataFrame(means)


def _replay(root: Path, plan: dict[str, Any], name: str = "mlflow") -> Tracker:
    tracker = Tracker(root / name / "mlflow.db", root / name / "artifacts", "smoke")
    log(tracker, root, plan)
    return tracker


def log(tracker: Tracker, root: Path, plan: dict[str, Any]) -> None:
    """Log a whole plan from the results in ``root``."""
    for key, labels in plan["trainings"].items():
        folder = root / "results" / key
        failed = (folder / "failed.json").exists()
        tracker.training(key, labels, folder, {} if failed else SCORES, FACTS, [] if failed else BY_CLASS)
    tracker.cells(plan, *_frames(plan))


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A read-only folder with results and their view, shared because creating a database's tables takes seconds."""
    root = tmp_path_factory.mktemp("logged")
    plan = _plan(root)
    Tracker(root / "empty" / "mlflow.db", root / "empty" / "artifacts", "other")
    shutil.copytree(root / "empty", root / "mlflow")
    _replay(root, plan)
    return root, plan


@pytest.fixture
def copied(tmp_path: Path, logged: tuple[Path, dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """A copy of it, to change."""
    return Path(shutil.copytree(logged[0], tmp_path / "copy")), copy.deepcopy(logged[1])


def _client(root: Path, name: str = "mlflow"):
    from mlflow.tracking import MlflowClient

    return MlflowClient(name if "://" in name else f"sqlite:///{root / name / 'mlflow.db'}")


def _runs(root: Path, name: str = "mlflow", condition: str = "") -> dict[str, Any]:
    """The active runs by name; fails if two share a name."""
    client = _client(root, name)
    found = list(client.search_runs([client.get_experiment_by_name("smoke").experiment_id], condition))
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


@pytest.mark.slow
def test_a_training_logs_numbers_curves_times_and_pictures(logged):
    root, plan = logged
    run = _runs(root)["GCN k=7 + BR, seed 0"]
    assert {name: run.data.params[name] for name in ("kernel_size", "BR", "seed", "parameters", "head", "series")} == {
        "kernel_size": "7", "BR": "1", "seed": "0", "parameters": "1234", "head": "GCN", "series": "GCN + BR"
    }  # fmt: skip
    assert {name: run.data.metrics[f"val/{name}"] for name in SCORES} == SCORES
    client = _client(root)
    loss = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in loss] == [(10, 2.0), (20, 1.0)]
    assert [point.step for point in client.get_metric_history(run.info.run_id, "tune/miou")] == [20]
    assert run.info.end_time - run.info.start_time == 45_000
    assert len(client.list_artifacts(run.info.run_id, "images")) == 2, "the picture and its preview"
    classes = {name: value for name, value in run.data.metrics.items() if name.startswith("class/")}
    assert classes == {"class/ground": 0.25, "class/a_b_ road_": 0.75}, "and none of a class that is not in val"


@pytest.mark.slow
def test_a_failed_training_is_logged_with_its_reason(logged):
    root, plan = logged
    run = _runs(root)["stack k=7, seed 1"]
    assert run.info.status == "FAILED"
    assert run.data.tags["study.failed"] == "OutOfMemory: 3 GB asked, 2 GB free"
    assert "make retry TIER=smoke" in run.data.tags["mlflow.note.content"]


@pytest.mark.slow
def test_a_cell_logs_mean_interval_and_paper_value(logged):
    root, plan = logged
    runs = _runs(root, condition="tags.`study.kind` = 'cell'")
    assert runs.keys() == {cell["address"] for cell in plan["cells"]}
    cell = runs["T1/score/GCN k=3"]
    assert cell.data.metrics == pytest.approx({
        "val/miou": 0.5, "spread/miou_sd": 0.01, "spread/miou_low": 0.48, "spread/miou_high": 0.52,
        "paper/miou": 0.7, "paper/miou_difference": -0.2,
    })  # fmt: skip
    assert [point.step for point in _client(root).get_metric_history(cell.info.run_id, "val/miou")] == [3]
    training = _runs(root)["GCN k=3, seed 1"]
    assert training.info.run_id in cell.data.tags["mlflow.note.content"], "a link to each seed"
    assert runs["T2/params/3"].data.metrics["cost/parameters"] == 258


@pytest.mark.slow
def test_a_replay_changes_nothing_but_retried_runs(copied):
    root, plan = copied

    def ids() -> dict[str, str]:
        return {name: run.info.run_id for name, run in _runs(root).items()}

    tracker = _replay(root, plan)
    before = ids()
    assert len(before) == len(plan["trainings"]) + len(plan["cells"]) + 1, "and the report"
    _replay(root, plan)
    assert ids() == before

    folder = root / "results" / "stack-k=7-1"
    (folder / "failed.json").unlink()
    for path in (root / "results" / "stack-k=7-0").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tracker.training("stack-k=7-1", plan["trainings"]["stack-k=7-1"], folder, SCORES, FACTS, BY_CLASS)
    after = ids()
    assert {name for name in after if after[name] != before[name]} == {"stack k=7, seed 1"}
    assert _runs(root)["stack k=7, seed 1"].info.status == "FINISHED"


@pytest.mark.slow
def test_counted_confusions_are_attached_to_their_cell(copied):
    root, plan = copied
    table = root / "GCN.csv"
    table.write_text("class,a,b\na,5,1\nb,0,2\n")
    address = plan["cells"][0]["address"]
    tracker = Tracker(root / "mlflow" / "mlflow.db", root / "mlflow" / "artifacts", "smoke")
    before = {name: run.info.run_id for name, run in _runs(root).items()}
    for _ in range(2):
        tracker.cells(plan, *_frames(plan), {address: table})
        after = {name: run.info.run_id for name, run in _runs(root).items()}
        assert {name for name in after if after[name] != before[name]} <= {address}
        assert [f.path for f in _client(root).list_artifacts(after[address], "confusion")] == ["confusion/GCN.csv"]
    assert after[address] != before[address]


def test_class_metrics_have_unique_valid_names():
    from mlflow.utils.validation import _validate_metric_name

    names = ["road", "road", "a/b", "a?b", "..", "", " ", "déjà vu", "x\n", "w" * 999, "v" * 999, "$HOME", "100 %"]
    found = class_metrics(names)
    assert len(set(found)) == len(names) and found[:3] == ["class/road", "class/road 1", "class/a_b"]
    for metric in found:
        _validate_metric_name(metric)


def test_pictures_have_class_colours_and_no_padding(tmp_path):
    images = np.full((2, 40, 60, 3), PAD_COLOUR, np.uint8)
    labels = np.full((2, 40, 60), 255, np.uint8)
    images[:, :20, :30] = 200
    labels[:, :20, :30], labels[1, 0] = 1, 255
    path = tmp_path / "samples.npz"
    np.savez(path, images=images, labels=labels, predictions=np.zeros_like(labels), names=["a", "b"])
    colours = {"ground": [10, 20, 30], "road": [250, 0, 0], "sky": [0, 0, 250]}
    facts = {"classes": [*colours], "colours": colours}
    shown = np.asarray(picture(path, facts))
    times = -(-LEAST_PX // 60)
    width, height = 30 * times, 20 * times
    assert shown.shape[1] == 3 * width + 2 * GAP and (shown[:height, :width] == 200).all()
    assert (shown[:height, width + GAP : 2 * width + GAP] == (10, 20, 30)).all()
    assert (shown[:height, 2 * (width + GAP) :] == (250, 0, 0)).all()
    legend = shown[2 * (height + GAP) :]
    in_sight = {(10, 20, 30): True, (250, 0, 0): True, display.VOID_COLOUR: True, (0, 0, 250): False}
    for colour, there in in_sight.items():
        assert (legend == colour).all(-1).any() == there


@pytest.mark.slow
def test_runs_of_a_killed_driver_are_rewritten(copied):
    root, plan = copied
    tracker = _replay(root, plan)
    client = _client(root)
    whole = _runs(root)["GCN k=3, seed 0"]
    client.delete_run(whole.info.run_id)
    tags = {"study.kind": "training", "study.key": whole.data.tags["study.key"]}
    torn = client.create_run(whole.info.experiment_id, tags=tags, run_name="torn")
    assert tracker.sweep() == 1 and tracker.sweep() == 0
    assert client.get_run(torn.info.run_id).info.status == "KILLED"
    _replay(root, plan)
    runs = _runs(root)
    assert "torn" not in runs and runs["GCN k=3, seed 0"].info.status == "FINISHED"


@pytest.mark.slow
def test_a_run_killed_at_its_end_is_rewritten(copied):
    root, plan = copied
    whole = _runs(root)["GCN k=3, seed 0"]
    _client(root).set_terminated(whole.info.run_id, "KILLED")
    _replay(root, plan)
    again = _runs(root)["GCN k=3, seed 0"]
    assert again.info.status == "FINISHED" and again.info.run_id != whole.info.run_id
    assert again.data.metrics == whole.data.metrics


@pytest.mark.slow
def test_runs_that_left_the_plan_are_deleted(copied):
    root, plan = copied
    tracker = _replay(root, plan)
    gone = plan["cells"].pop(0)
    for key in gone["runs"].values():
        del plan["trainings"][key]
    tracker.cells(plan, *_frames(plan))
    assert not {gone["address"], "GCN k=3, seed 0", "GCN k=3, seed 1"} & _runs(root).keys()
    assert len(_runs(root)) == len(plan["trainings"]) + len(plan["cells"]) + 1


def content(root: Path, name: str = "mlflow") -> dict[str, Any]:
    """All that a database holds of each run, except the time of logging; links have keys instead of ids, and
    experiments have no numbers."""
    client, kept = _client(root, name), {}
    experiment = client.get_experiment_by_name("smoke").experiment_id
    numbered = re.compile(rf"(experiments(?:/|=%5B%22)){experiment}\b")
    found = client.search_runs([experiment], max_results=1000)
    keys = {run.info.run_id: run.data.tags["study.key"] for run in found}
    ids = re.compile("|".join(keys))
    for run in found:
        tags = {tag: ids.sub(lambda id: keys[id[0]], value) for tag, value in run.data.tags.items()}
        tags = {tag: numbered.sub(r"\1N", value) for tag, value in tags.items()}
        if tags["study.kind"] == "cell":
            del tags["study.digest"]  # it covers the note, which contains links
        steps = {metric: client.get_metric_history(run.info.run_id, metric) for metric in run.data.metrics}
        points = {metric: [(p.step, p.value) for p in history] for metric, history in steps.items()}
        times = (run.info.start_time, run.info.end_time) if tags["study.kind"] == "training" else ()
        files = [file.path for file in client.list_artifacts(run.info.run_id)]
        kept[tags["study.key"]] = (run.info.status, run.data.params, points, tags, times, files)
    return kept


@pytest.mark.slow
def test_a_rebuild_from_nothing_is_the_same(copied):
    root, plan = copied
    before = content(root)
    assert len(before) == len(plan["trainings"]) + len(plan["cells"]) + 1, "and the report"
    shutil.copytree(root / "empty", root / "second")
    _replay(root, plan, "second")
    assert content(root, "second") == before


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.tracking.test_mlflow_runs import _plan, _replay
from mlflow.tracking import MlflowClient

root, left = Path(sys.argv[1]), int(sys.argv[2])
whole = MlflowClient.log_batch

def log_batch(*arguments, **options):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*arguments, **options)

MlflowClient.log_batch = log_batch
_replay(root, _plan(root))
"""


@pytest.mark.slow
@pytest.mark.parametrize("left", [2, 8])  # amid the trainings, amid the cells
def test_a_killed_study_leaves_no_run_running(logged, tmp_path, left):
    root, plan = tmp_path, logged[1]
    shutil.copytree(logged[0] / "empty", root / "mlflow")
    command = [sys.executable, "-c", KILLED, str(root), str(left)]
    killed = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    client = _client(root)
    running = "attributes.status = 'RUNNING'"
    experiment = client.get_experiment_by_name("smoke").experiment_id
    assert len(client.search_runs([experiment], running)) == 1
    Tracker(root / "mlflow" / "mlflow.db", root / "mlflow" / "artifacts", "smoke").sweep()
    assert client.search_runs([experiment], running) == []
    _replay(root, plan)
    shutil.copytree(logged[0] / "empty", root / "second")
    _replay(root, plan, "second")
    assert content(root) == content(root, "second")


@pytest.mark.slow
def test_the_views_name_only_what_runs_have(logged):
    root, plan = logged
    tracker = Tracker(root / "mlflow" / "mlflow.db", root / "mlflow" / "artifacts", "smoke")
    client = _client(root)
    experiment = client.get_experiment_by_name("smoke")
    assert f"/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=cells&" in tracker.url(
        "http://host:5000/"
    )
    for view in VIEWS:
        state = json.loads(json.loads(experiment.tags[f"mlflow.sharedViewState.{view}"])["state"])
        runs = _runs(root, condition=state["searchFilter"])
        known = {f"params.`{name}`" for run in runs.values() for name in run.data.params}
        known |= {f"metrics.`{name}`" for run in runs.values() for name in run.data.metrics}
        assert runs and set(state["selectedColumns"]) <= known
        charted = {chart["metricKey"] for chart in state["compareRunCharts"] if "metricKey" in chart}
        assert {f"metrics.`{name}`" for name in charted} <= known


def _trial(number: int, score: float | None, **changed: Any) -> dict[str, Any]:
    return {
        "number": number, "state": "PRUNED" if score is None else "COMPLETE", "label": f"GCN k={number}", "head": "gcn",
        "k": {"res4": 3, "res5": 2 * number + 3}, "width": None, "refine": ["head"], "lr": 0.01, "values": {},
        "key": f"key{number}", "score": score, "step": 20, "macs": 10**6, "parameters": 9, "memory": 8, "work": 0.1,
        "reason": "" if score else "stopped early after 20 steps",
    } | changed  # fmt: skip


def test_trials_of_an_exploration_compare_in_their_own_view(copied: tuple[Path, dict[str, Any]]) -> None:
    """Each is a child of one run, and the view filters, sorts and shows what these runs have."""
    root, _ = copied
    tracker = Tracker(root / "mlflow" / "mlflow.db", root / "mlflow" / "artifacts", "smoke")
    rows = [_trial(0, 0.4), _trial(1, 0.6), _trial(2, None)]
    tracker.trials(rows, "pareto")
    tracker.trials(rows, "pareto")  # nothing new
    runs = _runs(root, condition="tags.`study.kind` = 'trial'")
    assert len(runs) == 3
    parents = {run.data.tags["mlflow.parentRunId"] for run in runs.values()}
    (parent,) = _runs(root, condition="tags.`study.kind` = 'exploration'").values()
    assert parents == {parent.info.run_id}
    experiment = _client(root).get_experiment_by_name("smoke")
    saved = json.loads(experiment.tags["mlflow.sharedViewState.trials"])
    state = json.loads(saved["state"])
    assert saved["name"] == "Trials of the exploration" and state["searchFilter"] == "tags.`study.kind` = 'trial'"
    assert state["orderByKey"] == "metrics.`tune/score`" and not state["orderByAsc"]
    best = runs["trial 1: GCN k=1"]
    for column in state["selectedColumns"]:
        kind, name = column.split(".", 1)
        assert name.strip("`") in getattr(best.data, kind), column
    charts = {chart["type"]: chart for chart in state["compareRunCharts"]}
    assert charts["SCATTER"]["xaxis"]["key"] in best.data.metrics and charts["SCATTER"]["yaxis"]["key"] == "tune/score"
    assert set(charts["PARALLEL"]["selectedParams"]) <= best.data.params.keys()
    assert best.data.metrics["tune/score"] == 0.6 and best.data.params["kernel_size_res5"] == "5"
    pruned = runs["trial 2: GCN k=2"]
    assert "tune/score" not in pruned.data.metrics
    assert pruned.data.tags["mlflow.note.content"] == "stopped early after 20 steps"
    tracker.trials(rows[:2], "pareto")  # another exploration has begun
    assert len(_runs(root, condition="tags.`study.kind` = 'trial'")) == 2
