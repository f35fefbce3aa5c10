"""What an ablation tells while it runs: durations, time left, a line per training, and the status from any terminal."""

from __future__ import annotations

import time

import pytest

from study.ablation import progress
from study.ablation.progress import Beats, Kind, Pace
from study.spec.words import duration
from study.store.runs import EVALUATED, PRODUCTS, Store, write_json
from study.training import observers
from tests.conftest import training_job


def _plan(*names: str) -> dict:
    """A plan of trainings named ``label/seed``, on the main data set but for labels that begin with ``texture``."""
    trainings = {}
    for name in names:
        label, seed = name.split("/")
        data = "texture" if label.startswith("texture") else "main"
        trainings[name.replace("/", "-")] = {"label": label, "seed": int(seed), "data": data}
    return {"tier": "shapes", "trainings": trainings, "evaluations": {}}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.4, "0 s"), (45, "45 s"), (89, "89 s"), (90, "2 min"), (180, "3 min"), (7080, "118 min"),
        (7200, "2 h 0 min"), (7800, "2 h 10 min"), (360000, "100 h 0 min"), (8_640_000, "100 days"),
    ],
)  # fmt: skip
def test_a_duration_has_a_readable_unit(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("tenths", range(880, 920))
def test_durations_switch_to_minutes_at_ninety_seconds(tenths):
    text = duration(tenths / 10)
    assert text == "2 min" or (text.endswith(" s") and int(text.split()[0]) <= 90)


GCN, BR, CRF = Kind(("main", "GCN"), 0.1, 100, 2.0), Kind(("main", "BR"), 0.4, 100, 2.0), Kind(("main", "CRF"), 1.0, 10)


def _heard(kind: Kind, *told: tuple[float, float]) -> Beats:
    """A running job that told of (steps done, seconds so far)."""
    beats = Beats(kind)
    for step, seconds in told:
        beats.hear({"step": step, "steps": kind.steps, "seconds": seconds, "pid": 1, "host": "here"})
    return beats


def test_no_estimate_exists_before_any_progress():
    assert Pace().remaining({GCN: 3}, [Beats(GCN), _heard(BR, (0, 0.0))], 2) is None


def test_time_left_scales_predictions_by_measured_speed():
    pace = Pace()
    pace.add(GCN, GCN.left(), 24.0)  # 12 s were foretold
    assert pace.remaining({GCN: 2, BR: 1}, [], 1) == pytest.approx(2 * 24 + 2 * 42)
    pace.add(BR, BR.left(), 42.0)
    assert pace.remaining({GCN: 2, BR: 1}, [], 1) == pytest.approx(2 * 24 + 42), "each kind by what it took itself"
    assert pace.remaining({GCN: 3, CRF: 1}, [], 1) == pytest.approx(3 * 24 + 10 * (24 + 42) / (12 + 42)), "as all"


def test_time_left_depends_on_workers_and_dependencies():
    pace, stages = Pace(), [Kind((name,), steps=20) for name in ("first", "second", "third")]
    pace.add(GCN, 1.0, 1.0)
    assert pace.remaining({GCN: 4}, [], 2) == pytest.approx(24)
    assert pace.remaining({GCN: 4}, [], 100) == pytest.approx(12)
    then = {stages[0]: {stages[1]}, stages[1]: {stages[2]}}
    waiting = dict.fromkeys(stages, 1)
    assert pace.remaining(waiting, [], 100, then) == pytest.approx(60), "one after the other"
    assert pace.remaining(waiting | {stages[0]: 0}, [_heard(stages[0], (10, 10.0))], 100, then) == pytest.approx(50)
    assert pace.remaining({stages[1]: 0, stages[0]: 1}, [], 100, then) == pytest.approx(20), "what is done takes none"


def test_the_first_steps_are_slow_and_no_example():
    """The first ones took 5 s, those after them 0.2 s each in place of 0.1 s."""
    told = [(0, 0.0), (10, 5.0), (20, 7.0), (30, 9.0)]
    assert Pace().remaining({}, [_heard(GCN, *told)], 1) == pytest.approx(70 * 0.2 + 2 * 2.0)
    only = _heard(GCN, *told[:2])
    assert not only.firm and not _heard(GCN, *told[:3]).firm and _heard(GCN, *told).firm
    assert Pace().remaining({}, [only], 1) == pytest.approx((90 * 0.1 + 2) * 5), "unless there are no others"


def test_self_evaluation_is_not_counted_as_steps():
    told = [(0, 0.0), (50, 5.0), (100, 10.0), (100, 13.0)]
    beats = _heard(GCN, *told)
    assert beats.seen() == pytest.approx((5.0, 5.0)) and beats.done == 1


def test_progress_of_an_earlier_process_is_ignored():
    earlier = {"step": 80, "steps": 100, "seconds": 800.0, "pid": 1, "host": "here"}
    beats = Beats(GCN, earlier)
    beats.hear(earlier)
    assert beats.seen() == (0, 0) and beats.done == 0
    for step, seconds in ((80, 800.0), (85, 804.0), (90, 805.0)):
        beats.hear(earlier | {"step": step, "seconds": seconds, "pid": 2})
    assert beats.seen() == pytest.approx((0.5, 1.0))


def test_a_running_training_counts_only_remaining_steps():
    pace = Pace()
    pace.add(GCN, GCN.left(), GCN.left())
    assert pace.remaining({}, [_heard(GCN, (0, 0.0), (50, 5.0))], 1) == pytest.approx(50 * 0.1 + 2)
    assert Pace().remaining({}, [_heard(CRF, (0, 0.0), (2, 2.0), (10, 10.0))], 1) == pytest.approx(0)


def test_nothing_is_left_when_all_have_ended():
    pace = Pace()
    pace.add(GCN, GCN.left(), 3.0)
    assert pace.remaining({GCN: 0}, [], 2) == 0


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


def test_status_counts_done_running_failed_and_remaining_trainings(store):
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


def test_status_shows_evaluations_and_runs_outside_the_plan(store):
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
        "  running  a, seed 100 at lr 0.004 (from a search or another tier) on node-7 (process 1): step 40/100 "
        "after 12 s, 3.33 steps a second, loss 1.234, tune score 45.6 %"
    )
    assert lines[2:] == ["  failed   a (MS-CRF), seed 0: no room"]


def test_a_failed_training_does_not_shorten_the_estimate(store):
    plan = _plan("a/0", "a/1", "b/0")
    _finish(store, "a-0", 1000)
    store.run("b-0").fail("TrainingFailed", "the loss must be finite")
    assert "about 17 min once `make repro` runs" in progress.status(store, plan, workers=1)  # one more a
    at_work = {"host": "node-1", "pid": 7, "since": store.now(), "tier": "shapes"}
    assert progress.status(store, plan, 1, [at_work]).splitlines()[0].endswith("about 17 min"), "it has begun"


def test_other_seeds_ignore_a_failed_trainings_time(store):
    plan = _plan("a/0", "b/0", "b/1")
    _finish(store, "a-0", 1000)
    store.run("b-0").fail("TrainingFailed", "the loss must be finite")
    assert "about 17 min" in progress.status(store, plan, workers=1)  # b/1 takes the mean of what was done: 1000 s


def test_a_retried_training_is_not_shown_as_failed(store):
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


def test_status_of_an_empty_store_has_no_estimate(store):
    assert progress.status(store, _plan("a/0", "a/1"), 2) == (
        "shapes: 0 of 2 trainings done, 0 running, 0 failed, 2 left"
    )


def test_status_of_a_finished_ablation_has_no_estimate(store):
    _finish(store, "a-0", 3)
    assert progress.status(store, _plan("a/0"), 2) == "shapes: 1 of 1 training done, 0 running, 0 failed, 0 left"


def test_status_omits_a_loss_not_yet_reported(store):
    _finish(store, "a-0", 3)
    _tell(store, "a-1", age_s=0, loss=None, score=None, step=1)
    with store.run("a-1").writing():
        said = progress.status(store, _plan("a/0", "a/1"), 2)
    assert "step 1/100" in said and "None" not in said


def _display(store: Store, plan: dict, done: set[str], workers: int, **more) -> progress.Display:
    kinds = {key: Kind((job["data"], job["label"]), 0.1, 100) for key, job in plan["trainings"].items()}
    return progress.Display(store, plan["trainings"], kinds, done, workers, **more)


def test_without_a_terminal_each_training_prints_one_line(store, capsys):
    plan = _plan("GCN k=15 + BR/0", "1x1/0", "texture [1x1]/0", "1x1/1")
    keys = list(plan["trainings"])
    with _display(store, plan, {keys[3]}, workers=2) as display:
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


def test_long_lines_are_not_wrapped_in_logs(store, capsys):
    plan = _plan("a/0")
    with _display(store, plan, set(), workers=1) as display:
        display.begin("a-0")
        display.end("a-0", None, "a reason of many words " * 20)
    assert len(capsys.readouterr().out.splitlines()) == 2  # the start, and the failure


def test_earlier_trainings_do_not_affect_the_estimate(store, capsys):
    """They took no time in this ablation: one training of 100 s out of four with two done before leaves 100 s."""
    plan, now = _plan("a/0", "a/1", "a/2", "a/3"), [0.0]
    with _display(store, plan, {"a-0", "a-1"}, workers=1, clock=lambda: now[0]) as display:
        display.begin("a-2")
        now[0] = 100.0
        display.end("a-2", ("miou", 0.5))
    assert "about 2 min" in capsys.readouterr().out


def test_a_resumed_training_counts_all_its_seconds(store, capsys):
    plan = _plan("a/0", "a/1")
    with _display(store, plan, set(), workers=1) as display:
        display.begin("a-0")
        _finish(store, "a-0", 300)
        display.end("a-0", ("miou", 0.5))
    assert "in 0 s; 0 running, 1 left, about 5 min" in capsys.readouterr().out


def test_the_first_estimate_waits_for_all_running_trainings(store, capsys):
    plan, now = _plan("a/0", "a/1", "b/0"), [0.0]
    _tell(store, "a-0", 0, step=90, pid=7)  # an earlier process; its checkpoint is gone
    with _display(store, plan, set(), workers=2, clock=lambda: now[0]) as display:
        display.begin("a-0")
        display.begin("a-1")
        now[0] = 100.0  # processes start, and import; none of this is foretold from
        display.refresh()
        for second, steps in enumerate([(0, 0), (1, 0), (3, 1), (5, 3), (6, 5), (7, 6)]):
            now[0] += 1
            for key, step in zip(("a-0", "a-1"), steps, strict=True):
                _tell(store, key, 0, step=step, seconds=10.0 + step)
            display.refresh()
            assert capsys.readouterr().out.count("about") == (second == 4), second
        # One second a step: 93 + 94 + 100 steps are left for two workers.
        assert display.seconds() == pytest.approx((93 + 94 + 100) / 2)


def test_the_first_estimate_waits_at_most_ten_seconds(store, capsys):
    plan, now = _plan("a/0", "b/0"), [0.0]
    with _display(store, plan, set(), workers=2, clock=lambda: now[0]) as display:
        display.begin("a-0")
        display.begin("b-0")  # which tells nothing
        for second in range(100, 110):
            now[0] = second
            _tell(store, "a-0", 0, step=max(0, second - 104), seconds=second - 100.0)
            display.refresh()
            assert capsys.readouterr().out.count("about") == (second == 108), second


def test_status_uses_kept_estimates_unless_they_are_damaged(store):
    plan = _plan("a/0", "b/0")
    _finish(store, "a-0", 1000)
    progress.keep(store, "shapes", {"a-0": GCN, "b-0": BR})
    assert progress.kept(store, "shapes") == {"a-0": GCN, "b-0": BR}
    assert "about 58 min" in progress.status(store, plan, 1)  # 42 s in place of 12 s were foretold
    for damage in ("{", '{"b-0": 3}', '{"b-0": {"length": 3}}', "[]"):
        store.foretold("shapes").write_text(damage)
        assert "about 17 min" in progress.status(store, plan, 1)
