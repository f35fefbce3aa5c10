"""What an ablation tells while it runs: durations, time left, a line per training, and the status from any terminal."""

from __future__ import annotations

import time

import pytest

from study.ablation import progress
from study.spec.words import duration
from study.store.runs import EVALUATED, PRODUCTS, Store, write_json
from study.training import observers
from tests.conftest import training_job

COSTS = {"k3": 30, "k7": 70, "k9": 90, "k11": 110, "k3 + BR": 1000, "k9 + BR": 2000}


def _plan(*names: str) -> dict:
    """A plan of trainings named ``label/seed``, on the main data set but for labels that begin with ``texture``."""
    trainings = {}
    for name in names:
        label, seed = name.split("/")
        data = "texture" if label.startswith("texture") else "main"
        fixed = {"refine": label.endswith("BR"), "cost": COSTS.get(label, 1)}
        trainings[name.replace("/", "-")] = {"label": label, "seed": int(seed), "data": data} | fixed
    return {"tier": "shapes", "trainings": trainings, "evaluations": {}}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.4, "0 s"), (45, "45 s"), (89, "89 s"), (90, "2 min"), (180, "3 min"), (7080, "118 min"),
        (7200, "2 h 0 min"), (7800, "2 h 10 min"), (360000, "100 h 0 min"), (8_640_000, "100 days"),
    ],
)  # fmt: skip
def test_a_duration_is_told_in_the_unit_that_a_person_would_take(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("tenths", range(880, 920))
def test_a_duration_never_shows_a_minute_as_sixty_seconds_or_more_than_ninety(tenths):
    text = duration(tenths / 10)
    assert text == "2 min" or (text.endswith(" s") and int(text.split()[0]) <= 90)


def _left(plan: dict, finished: dict[str, float], running: dict[str, float], workers: int) -> float | None:
    """``running``: seconds so far of those that have told no step."""
    kinds = {key: (job["label"], job["refine"], job["cost"]) for key, job in plan["trainings"].items()}
    return progress.remaining(kinds, finished, {key: {"seconds": so_far} for key, so_far in running.items()}, workers)


def test_nothing_is_foretold_before_anything_ended_or_made_a_step():
    assert _left(_plan("a/0", "a/1"), {}, {"a-0": 5.0}, 2) is None


def test_a_step_foretells_the_whole():
    kinds = dict.fromkeys("abc", ("GCN", False, 1))
    told = {"seconds": 30.0, "step": 10, "steps": 40}
    assert progress.remaining(kinds, {}, {"a": told}, 1) == pytest.approx(90 + 120 + 120)
    assert progress.remaining(kinds, {"b": 100.0}, {"a": told}, 1) == pytest.approx(80 + 110), "the mean of both"


def test_the_time_left_is_what_equal_trainings_took_shared_among_the_workers():
    plan = _plan("a/0", "a/1", "a/2", "b/0", "b/1")
    finished = {"a-0": 10.0, "b-0": 30.0}
    assert _left(plan, finished, {}, 1) == pytest.approx(10 + 10 + 30)
    assert _left(plan, finished, {"b-1": 25.0, "a-1": 4.0}, 1) == pytest.approx(6 + 10 + 5)


def test_a_training_of_a_kind_that_never_ended_is_expected_to_take_the_mean():
    assert _left(_plan("a/0", "b/0", "c/0"), {"a-0": 10.0, "b-0": 30.0}, {}, 1) == pytest.approx(20)


def test_what_is_cheaper_than_all_that_ended_is_expected_to_take_less():
    """The costliest are first: their mean would foretell many times what is left."""
    plan = _plan("k11/0", "k9/0", "k7/0", "k3/0")
    finished = {"k11-0": 25.0, "k9-0": 21.0}  # 3 s, and 0.2 s for each unit of cost
    assert _left(plan, finished, {}, 1) == pytest.approx(17 + 9)
    assert _left(plan, finished, {"k7-0": 12.0}, 1) == pytest.approx(5 + 9)
    steep = {"k11-0": 25.0, "k9-0": 5.0}  # a line that would be below zero at no cost: through nothing instead
    per_cost = (110 * 25 + 90 * 5) / (110**2 + 90**2)
    assert _left(plan, steep, {}, 1) == pytest.approx((70 + 30) * per_cost)


@pytest.mark.parametrize("took", [(25.0, 25.0), (21.0, 25.0)])
def test_where_cost_tells_nothing_of_time_the_mean_is_expected(took):
    plan = _plan("k11/0", "k9/0", "k3/0")
    assert _left(plan, dict(zip(("k11-0", "k9-0"), took, strict=True)), {}, 1) == pytest.approx(sum(took) / 2)


def test_costs_with_and_without_br_are_not_compared():
    plan = _plan("k11/0", "k9/0", "k9 + BR/0", "k3 + BR/0", "k3/0")
    finished = {"k11-0": 25.0, "k9-0": 21.0, "k9 + BR-0": 22.0}
    assert _left(plan, finished, {}, 1) == pytest.approx(22 + 9)
    assert _left(_plan("k11/0", "k9/0", "k9 + BR/0"), {"k11-0": 25.0, "k9-0": 21.0}, {}, 1) == pytest.approx(23)


def test_the_time_left_is_at_least_that_of_the_longest_training():
    plan = _plan("a/0", "b/0", "b/1", "a/1")
    assert _left(plan, {"a-0": 1.0, "b-0": 100.0}, {}, 8) == pytest.approx(100)


def test_a_training_that_takes_longer_than_expected_never_gives_time_back():
    plan = _plan("a/0", "a/1", "a/2")
    assert _left(plan, {"a-0": 10.0}, {"a-1": 500.0}, 1) == pytest.approx(10)


def test_nothing_is_left_when_all_have_ended():
    assert _left(_plan("a/0"), {"a-0": 3.0}, {}, 2) == 0


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def _finish(store: Store, key: str, seconds: float) -> None:
    run = store.run(key)
    for name in PRODUCTS:
        write_json(run.path(name), {"seconds": {"train": seconds - 1, "evaluate": 1.0}})
    run.finish()


def _tell(store: Store, key: str, age_s: float, **said) -> None:
    fixed = {"step": 40, "steps": 100, "seconds": 12.0, "loss": 1.2345, "score": 0.456, "pid": 1, "host": "node-7"}
    write_json(store.run(key).path("progress.json"), fixed | {"time": time.time() - age_s} | said)


def test_the_status_counts_what_is_done_running_failed_and_left_and_foretells_the_rest(store):
    plan = _plan("a/0", "a/1", "b/0", "b/1", "texture b/0", "a/2")
    _finish(store, "a-0", 40)
    _tell(store, "a-1", age_s=-7200)  # by a clock that has jumped
    store.run("b-0").fail("TrainingFailed", "the loss must be finite, got nan at step 7 of 100; lower the rate")
    _tell(store, "b-1", age_s=0)  # its worker was killed just now
    with store.run("a-1").writing():
        head, *lines = progress.status(store, plan, workers=1).splitlines()
    assert head.startswith("shapes: 1 of 6 trainings done, 1 running, 1 failed, 3 left, about ")
    assert lines[0] == (
        "  running  a, seed 1 on node-7 (process 1): step 40/100 after 12 s, 3.33 steps a second, loss 1.234, "
        "tune score 45.6 %"
    )
    assert lines[1] == "  failed   b, seed 0: the loss must be finite, got nan at step 7 of 100; lower the rate"
    assert len(lines) == 2


def test_the_status_tells_of_evaluations_and_of_what_runs_beside_the_plan(store):
    plan = _plan("a/0")
    _finish(store, "a-0", 40)
    asked = {"label": "a", "seed": 0, "data": "main"}
    plan["evaluations"] = {name: asked | {"inference": name} for name in ("MS", "crops", "MS-CRF")}
    store.run("MS", EVALUATED).path("DONE").parent.mkdir()
    store.run("MS", EVALUATED).path("DONE").touch()
    store.run("MS-CRF").fail("RuntimeError", "no room")
    observers.tell(store.run("crops"), 3, 8, 6.0)
    _tell(store, "searched", age_s=0)
    write_json(store.run("searched").path("training.json"), {"labels": asked | {"lr": 0.004, "seed": 100}})
    at_work = {"host": "node-1", "pid": 7, "since": store.now(), "tier": "shapes"}
    with store.run("crops").writing(), store.run("searched").writing(), store.run("b-0").writing():
        head, driver, *lines = progress.status(store, plan, 1, [at_work]).splitlines()
    assert head == "shapes: 1 of 1 training done, 0 running, 0 failed, 0 left; 1 of 3 evaluations done, about 10 s"
    assert driver.startswith("  driver   node-1 (process 7) for ")
    assert lines[0].startswith("  running  a (crops), seed 0 on ")
    assert lines[0].endswith(": step 3/8 after 6 s, 0.50 steps a second")
    assert lines[1] == (
        "  running  a, seed 100 at lr 0.004 (of a search, or of another tier) on node-7 (process 1): step 40/100 "
        "after 12 s, 3.33 steps a second, loss 1.234, tune score 45.6 %"
    )
    assert lines[2:] == ["  failed   a (MS-CRF), seed 0: no room"]


def test_a_failed_training_does_not_shorten_what_the_others_are_expected_to_take(store):
    plan = _plan("a/0", "a/1", "b/0")
    _finish(store, "a-0", 1000)
    store.run("b-0").fail("TrainingFailed", "the loss must be finite")
    assert "about 17 min once `make repro` runs" in progress.status(store, plan, workers=1)  # one more a
    at_work = {"host": "node-1", "pid": 7, "since": store.now(), "tier": "shapes"}
    assert progress.status(store, plan, 1, [at_work]).splitlines()[0].endswith("about 17 min"), "it has begun"


def test_a_failed_training_is_no_example_for_its_other_seeds(store):
    plan = _plan("a/0", "b/0", "b/1")
    _finish(store, "a-0", 1000)
    store.run("b-0").fail("TrainingFailed", "the loss must be finite")
    assert "about 17 min" in progress.status(store, plan, workers=1)  # b/1 takes the mean of what was done: 1000 s


def test_a_training_that_is_tried_again_is_no_longer_told_as_failed(store):
    from study.spec.heads import Variant, dense
    from study.spec.training import Data, Network, Recipe, Training
    from study.training.worker import train

    network = Network("shallow", ("res2",), (("strides", (1,)), ("widths", (4,))))
    recipe = Recipe("adamw", 0.004, 0.9, 0.0, "constant", 0.0, 2, 2, False, "fp32", 1)
    training = Training(Variant(dense(1)), Data("shapes"), network, recipe, 0, 1)
    store.run("a-0").fail("WorkerCrashedError", "the worker died")
    assert "1 failed" in progress.status(store, _plan("a/0", "a/1"), workers=1)
    facts = {
        "classes": ["x", "y"],
        "fingerprint": "f" * 64,
        "streamed": False,
    }  # nothing is cached under it: this ends at the first batch
    with pytest.raises(FileNotFoundError):
        train(training_job("a-0", training, facts, store.root))
    assert "0 failed, 2 left" in progress.status(store, _plan("a/0", "a/1"), workers=1)


def test_the_status_of_a_store_without_runs_says_what_is_left_and_foretells_nothing(store):
    assert progress.status(store, _plan("a/0", "a/1"), 2) == (
        "shapes: 0 of 2 trainings done, 0 running, 0 failed, 2 left"
    )


def test_the_status_of_an_ablation_that_is_through_foretells_nothing(store):
    _finish(store, "a-0", 3)
    assert progress.status(store, _plan("a/0"), 2) == "shapes: 1 of 1 training done, 0 running, 0 failed, 0 left"


def test_a_training_that_has_said_no_loss_yet_is_shown_without_one(store):
    _finish(store, "a-0", 3)
    _tell(store, "a-1", age_s=0, loss=None, score=None, step=1)
    with store.run("a-1").writing():
        said = progress.status(store, _plan("a/0", "a/1"), 2)
    assert "step 1/100" in said and "None" not in said


def test_without_a_terminal_a_line_is_printed_per_training_and_no_control_codes(store, capsys):
    plan = _plan("GCN k=15 + BR/0", "1x1/0", "texture [1x1]/0", "1x1/1")
    keys = list(plan["trainings"])
    with progress.Display(store, plan, {keys[3]}, workers=2) as display:
        assert display.live is None
        display.begin(keys[0])
        display.begin(keys[1])
        display.refresh()
        display.end(keys[0], ("miou", 0.5046))
        display.end(keys[1], None, "the loss must be finite, got nan")
        display.begin(keys[2])
        display.end(keys[2], ("miou", 0.25))
    start, *lines = capsys.readouterr().out.splitlines()
    assert start == "3 trainings to run on 2 workers, 1 done before"
    assert lines[0].startswith("[2/4]  GCN k=15 + BR, seed 0: mIoU 50.5 % in 0 s; 1 running, 1 left, about ")
    assert lines[1] == "[3/4]  1x1, seed 0 FAILED after 0 s: the loss must be finite, got nan"
    assert lines[2].startswith("[4/4]  texture [1x1] on texture, seed 0: mIoU 25.0 % in 0 s; 0 running, 0 left")
    assert len(lines) == 3
    assert "\x1b" not in "".join(lines)


def test_a_long_line_is_not_broken_in_a_log(store, capsys):
    plan = _plan("a/0")
    with progress.Display(store, plan, set(), workers=1) as display:
        display.begin("a-0")
        display.end("a-0", None, "a reason of many words " * 20)
    assert len(capsys.readouterr().out.splitlines()) == 2  # the start, and the failure


def test_trainings_done_earlier_are_no_example_of_how_long_one_takes(store, capsys):
    """They took no time in this ablation: one training of 100 s out of four with two done before leaves 100 s."""
    plan = _plan("a/0", "a/1", "a/2", "a/3")
    with progress.Display(store, plan, {"a-0", "a-1"}, workers=1) as display:
        display.running["a-2"] = time.monotonic() - 100
        display.end("a-2", ("miou", 0.5))
    assert "about 2 min" in capsys.readouterr().out
