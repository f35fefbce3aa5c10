"""The ablation as a real Optuna study on disk: each planned training asked once, nothing lost by a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from study.ablation.optuna_study import KEY, Ablation
from study.store.code_digest import ROOT


def _labels(head: str, kernel_size: int, seed: int = 0, refine: bool = False, width: float | None = None, **more):
    fixed = {"label": f"{head} k={kernel_size}", "data": "main", "steps": 20, "cost": 1, "backbone": "shallow"}
    named = {"head": head, "kernel_size": kernel_size, "seed": seed, "refine": refine, "width": width}
    return fixed | named | more


PLANNED = {
    "gcn-br": _labels("GCN", 15, refine=True),
    "gcn-15": _labels("GCN", 15),
    "stack": _labels("stack", 7, width=0.5),
    "gcn-15-seed-2": _labels("GCN", 15, seed=2),
    "texture": _labels("1x1", 1, data="texture"),
    "1x1": _labels("1x1", 1),
}
CURVE = [(10, 0.25), (20, 0.5)]


@pytest.fixture
def log(tmp_path) -> Path:
    return tmp_path / "optuna" / "shapes.log"


def _trials(log: Path) -> list[optuna.trial.FrozenTrial]:
    """The study as anyone else reads it from the journal file."""
    return optuna.load_study(study_name="shapes", storage=JournalStorage(JournalFileBackend(str(log)))).trials


def _by_key(log: Path, state: TrialState) -> list[str]:
    return [trial.user_attrs[KEY] for trial in _trials(log) if trial.state == state]


def _ask_all(ablation: Ablation) -> list[str]:
    asked = []
    while key := ablation.ask():
        asked.append(key)
    return asked


def _start(log: Path, planned=PLANNED, done=(), todo=None) -> Ablation:
    ablation = Ablation(log, "shapes", planned)
    todo = [key for key in planned if key not in done] if todo is None else todo
    ablation.start(dict.fromkeys(done, (0.5, CURVE)), todo)
    return ablation


def test_each_planned_training_is_asked_once_in_order(log):
    assert _ask_all(_start(log)) == list(PLANNED)
    order = list(reversed(PLANNED))
    assert _ask_all(_start(log.with_name("other.log"), todo=order)) == order


def test_what_is_done_is_never_asked(log):
    done = ["gcn-15", "1x1"]
    assert _ask_all(_start(log, done=done)) == [key for key in PLANNED if key not in done]
    assert sorted(_by_key(log, TrialState.COMPLETE)) == sorted(done)


def test_nothing_is_asked_where_nothing_is_left(log):
    assert _start(log, done=PLANNED).ask() is None


def test_results_and_scores_on_the_way_are_told(log):
    ablation = _start(log)
    _ask_all(ablation)
    ablation.tell("stack", 0.625, CURVE)
    [trial] = [trial for trial in _trials(log) if trial.state == TrialState.COMPLETE]
    assert (trial.user_attrs[KEY], trial.value, trial.intermediate_values) == ("stack", 0.625, dict(CURVE))
    assert trial.datetime_complete >= trial.datetime_start


def test_a_training_done_earlier_has_its_scores(log):
    _start(log, done=["stack"])
    [trial] = [trial for trial in _trials(log) if trial.state == TrialState.COMPLETE]
    assert (trial.user_attrs[KEY], trial.value, trial.intermediate_values) == ("stack", 0.5, dict(CURVE))


def test_a_failure_keeps_its_reason_and_is_retried(log):
    ablation = _start(log)
    _ask_all(ablation)
    ablation.fail("stack", "the loss must be finite")
    [trial] = [trial for trial in _trials(log) if trial.state == TrialState.FAIL]
    assert trial.user_attrs == {KEY: "stack", "reason": "the loss must be finite"}
    for key in PLANNED.keys() - {"stack"}:
        ablation.tell(key, 0.5, CURVE)
    assert _ask_all(_start(log, done=PLANNED.keys() - {"stack"})) == ["stack"]


def test_results_may_arrive_in_any_order(log):
    ablation = _start(log)
    for place, key in enumerate(reversed(_ask_all(ablation))):
        ablation.tell(key, place / 10, [])
    values = {trial.user_attrs[KEY]: trial.value for trial in _trials(log)}
    assert values == {key: place / 10 for place, key in enumerate(reversed(PLANNED))}


def test_a_trial_records_its_factors_as_typed_values(log):
    _ask_all(_start(log, done=["1x1"]))
    params = {trial.user_attrs[KEY]: trial.params for trial in _trials(log)}
    assert params["gcn-br"] == {
        "head": "GCN", "kernel_size": 15, "width": 0.0, "BR": True, "seed": 0, "data": "main", "backbone": "shallow",
    }  # fmt: skip
    assert params["stack"] | {"seed": 0} == {
        "head": "stack", "kernel_size": 7, "width": 0.5, "BR": False, "seed": 0, "data": "main", "backbone": "shallow",
    }  # fmt: skip
    assert (params["gcn-15-seed-2"]["seed"], params["texture"]["data"]) == (2, "texture")
    types = {"head": str, "kernel_size": int, "width": float, "BR": bool, "seed": int, "data": str, "backbone": str}
    for found in params.values():
        assert {name: type(value) for name, value in found.items()} == types


def test_planned_factors_fit_their_ranges_without_a_warning(log):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _ask_all(_start(log)) == list(PLANNED)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.ablation.test_optuna_study import CURVE, PLANNED
from study.ablation.optuna_study import Ablation
ablation = Ablation(Path(sys.argv[1]), "shapes", PLANNED)
ablation.start({"1x1": (0.5, CURVE)}, [key for key in PLANNED if key != "1x1"])
asked = [ablation.ask() for _ in range(3)]
ablation.tell(asked[0], 0.75, CURVE)
Path(sys.argv[2]).write_text(" ".join(asked))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(log, tmp_path) -> list[str]:
    """A driver that told one training, was killed with two running and left others waiting; what it had asked."""
    command = [sys.executable, "-c", KILLED, str(log), str(tmp_path / "asked")]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    asked = (tmp_path / "asked").read_text().split()
    assert asked == list(PLANNED)[:3]
    assert _by_key(log, TrialState.RUNNING) == asked[1:]
    assert _by_key(log, TrialState.WAITING) == list(PLANNED)[3:-1]
    return asked


def test_a_killed_drivers_running_trials_fail_and_rerun(log, killed):
    done = [killed[0], "1x1"]
    ablation = _start(log, done=done)
    assert _by_key(log, TrialState.RUNNING) == []
    assert set(killed[1:]) <= set(_by_key(log, TrialState.FAIL))
    asked = _ask_all(ablation)
    assert asked == [key for key in PLANNED if key not in done]
    for key in asked:
        ablation.tell(key, 0.5, CURVE)
    assert sorted(_by_key(log, TrialState.COMPLETE)) == sorted(PLANNED), "each training is complete exactly once"
    assert not _by_key(log, TrialState.RUNNING) and not _by_key(log, TrialState.WAITING)


def test_a_training_finished_unreported_counts_as_complete(log, killed):
    """Its worker lived on and wrote DONE: the store says done, the study said running."""
    done = [killed[0], killed[1], "1x1"]
    ablation = _start(log, done=done)
    assert sorted(_by_key(log, TrialState.COMPLETE)) == sorted(done)
    assert killed[1] not in _ask_all(ablation)


def test_a_twice_killed_driver_asks_each_training_once(log, killed):
    _start(log, done=["1x1"]).ask()
    assert _ask_all(_start(log, done=["1x1"])) == [key for key in PLANNED if key != "1x1"]


def test_a_torn_last_journal_line_is_tolerated(log, killed):
    with log.open("ab") as file:
        file.write(b'{"op_code": 4, "worker_id": "torn')
    assert _ask_all(_start(log, done=[killed[0], "1x1"])) == [k for k in PLANNED if k not in (killed[0], "1x1")]


def test_a_lost_study_is_rebuilt_from_the_store(log):
    _start(log, done=PLANNED)
    log.unlink()
    assert _start(log, done=PLANNED).ask() is None
    assert sorted(_by_key(log, TrialState.COMPLETE)) == sorted(PLANNED)


def test_starting_again_adds_nothing_twice(log):
    for _ in range(3):
        _start(log, done=PLANNED)
    assert sorted(_by_key(log, TrialState.COMPLETE)) == sorted(PLANNED)
    assert len(_trials(log)) == len(PLANNED)


def test_a_training_lost_from_the_store_is_rerun(log):
    _start(log, done=PLANNED)
    assert _ask_all(_start(log, done=PLANNED.keys() - {"stack"})) == ["stack"]


@pytest.mark.parametrize(
    "new",
    [
        _labels("GCN", 31),
        _labels("kxk", 5),
        _labels("1x1", 1, data="another"),
        _labels("GCN", 15, seed=9),
        _labels("stack", 7, width=2.0),
    ],
    ids=["kernel size", "head", "data set", "seed", "width"],
)
def test_a_growing_plan_asks_only_new_trainings(log, new):
    ablation = _start(log)
    for key in _ask_all(ablation):
        ablation.tell(key, 0.5, CURVE)
    planned = PLANNED | {"new": new}
    ablation = _start(log, planned, done=PLANNED)
    assert _ask_all(ablation) == ["new"]
    ablation.tell("new", 0.9, CURVE)
    assert sorted(_by_key(log, TrialState.COMPLETE)) == sorted(planned)
    best = max(_trials(log), key=lambda trial: trial.value or 0)
    assert best.user_attrs[KEY] == "new"
    assert best.params["kernel_size"] == new["kernel_size"] and best.params["head"] == new["head"]


def test_a_shrinking_plan_asks_no_dropped_trainings(log, killed):
    planned = {key: PLANNED[key] for key in ("1x1", "texture")}
    assert _ask_all(_start(log, planned, done=["1x1"])) == ["texture"]


def test_the_studies_of_two_tiers_are_apart(log):
    _start(log, done=PLANNED)
    other = Ablation(log.with_name("smoke.log"), "smoke", PLANNED)
    other.start({}, ["1x1"])
    assert _ask_all(other) == ["1x1"]
    assert sorted(_by_key(log, TrialState.COMPLETE)) == sorted(PLANNED)


def test_the_dashboard_lists_the_study(log):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the dashboard's own imports
        dashboard = pytest.importorskip("optuna_dashboard")
        from wsgiref.util import setup_testing_defaults

        _start(log, done=PLANNED)
        app = dashboard.wsgi(JournalStorage(JournalFileBackend(str(log))))
        environ: dict = {}
        setup_testing_defaults(environ)
        environ["PATH_INFO"] = "/api/studies"
        said: list = []
        body = b"".join(app(environ, lambda status, headers, error=None: said.append(status))).decode()
    assert said == ["200 OK"]
    assert '"shapes"' in body
