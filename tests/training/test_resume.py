"""A stopped training resumes bit for bit, and damaged files in the store are redone, never read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from study import metrics
from study.config import tiers
from study.data.prepare import folder_of, prepare
from study.inference import predict as multi_scale
from study.inference import worker as evaluator
from study.inference.worker import evaluate
from study.spec.constants import PAUSES, VOID
from study.spec.heads import Variant, gcn
from study.spec.jobs import EvaluationJob, TrainingJob
from study.spec.training import Crf, Inference, Training
from study.statistics import results
from study.store import stop_signals
from study.store.runs import EVALUATED, Store
from study.training import worker
from study.training.loop import TrainingFailed
from study.training.observers import Attempt, Pause
from study.training.worker import train
from tests.conftest import ROOT, training_job

PRODUCTS = ("counts.npz", "curve.json", "samples.npz", "tune.npz")


def job(root: Path, key: str, checkpoint_s: float = 0.0, steps: int = 8) -> TrainingJob:
    params = tiers.read(ROOT / "params.yaml")
    params["tiers"]["smoke"]["data"] |= {"train": 16, "tune": 4, "val": 4}
    params["tiers"]["smoke"]["recipe"]["steps"] = steps
    smoke = tiers.load(params, "smoke")
    store = Store(root)
    facts = prepare(smoke.main.data, None, store.cache, smoke.band_px)
    training = Training(
        Variant(gcn(5), refine=True), smoke.main.data, smoke.main.network, smoke.main.recipe, 0, smoke.band_px
    )
    labels = {"label": "GCN k=5 + BR"}
    return training_job(
        key, training, facts, store.root, labels=labels, checkpoint_s=checkpoint_s, samples=smoke.samples
    )


def products(root: Path, key: str) -> list[bytes]:
    return [(root / key / name).read_bytes() for name in PRODUCTS]


class Stop(Exception):
    pass


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let the loop raise once ``steps`` steps are done, as a killed process would end there."""
    original = worker.fit

    def fit(state, batch, recipe, **more):
        for done, loss in original(state, batch, recipe, **more):
            yield done, loss
            if done == steps:
                raise Stop

    monkeypatch.setattr(worker, "fit", fit)


@pytest.mark.slow
def test_a_resumed_training_is_bit_identical(tmp_path, monkeypatch):
    train(job(tmp_path, "whole"))
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(Stop):
            train(job(tmp_path, "resumed"))
    assert (tmp_path / "resumed" / "checkpoint.pt").is_file()
    train(job(tmp_path, "resumed"))
    assert json.loads((tmp_path / "resumed" / "result.json").read_text())["resumed"] == [5]
    assert products(tmp_path, "resumed") == products(tmp_path, "whole")


@pytest.mark.slow
def test_a_paused_training_is_scored_by_the_judged_classes(tmp_path):
    asked = job(tmp_path, "paused", steps=4)
    every = train(replace(asked, until=2))["tune"]
    two = train(replace(asked, until=2, classes=(0, 2)))["tune"]
    counts = json.loads((tmp_path / "paused" / PAUSES).read_text())["2"]["counts"]
    ious = metrics.class_iou(np.array(counts))
    assert two == pytest.approx((ious[0] + ious[2]) / 2) != every
    assert every == pytest.approx(np.nanmean(ious)) == results.searched_score(tmp_path / "paused", 2)
    ended = train(replace(asked, until=4, classes=(0, 2)))["tune"]
    assert ended == results.tune_score(tmp_path / "paused", (0, 2)) != two
    assert ended == results.searched_score(tmp_path / "paused", 4, (0, 2))
    assert results.searched_score(tmp_path / "paused", 3) is None, "it had no pause there"
    train(job(tmp_path, "whole", steps=4))
    assert products(tmp_path, "paused") == products(tmp_path, "whole"), "a pause changes nothing"


@pytest.mark.slow
def test_a_training_stopped_at_its_pause_pauses_there(tmp_path, monkeypatch):
    """Killed while it counts, asked to stop at that step, or saved there before anyone asked for a pause."""
    whole = train(replace(job(tmp_path, "whole", steps=4), until=2))["tune"]
    with monkeypatch.context() as patch:
        patch.setattr(Attempt, "measure", lambda *_: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            train(replace(job(tmp_path, "killed", steps=4), until=2))
    assert train(replace(job(tmp_path, "killed", steps=4), until=2))["tune"] == whole
    for key, steps in (("saved", 2), ("past", 3)):
        with monkeypatch.context() as patch:
            stop_after(patch, steps)  # a checkpoint is saved after each step, and this one is not asked to pause
            with pytest.raises(Stop):
                train(job(tmp_path, key, steps=4))
        assert train(replace(job(tmp_path, key, steps=4), until=2))["tune"] == whole
    stop = tmp_path / "stop"
    stopped = replace(job(tmp_path, "stopped", steps=4), until=2)
    stopped = replace(stopped, context=replace(stopped.context, stop=stop))
    with monkeypatch.context() as patch:
        count = Pause.count
        patch.setattr(Pause, "count", lambda self: (stop.touch(), count(self)))
        with contextlib.suppress(stop_signals.Stopped):
            train(stopped)
    stop.unlink()
    assert train(stopped)["tune"] == whole


@pytest.mark.slow
def test_a_stopped_evaluation_resumes_at_the_next_image(tmp_path, monkeypatch):
    trained, stop, asked = job(tmp_path, "trained", steps=2), tmp_path / "stop", []
    train(trained)
    passes = multi_scale.passes

    def counted(network, images, *rest):
        asked.append(len(images))
        if len(asked) == 2:
            stop.touch()
        return passes(network, images, *rest)

    monkeypatch.setattr(multi_scale, "passes", counted)
    monkeypatch.setattr(evaluator, "PROGRESS_S", 0.0)
    mirrored = Inference((1.0,), True, None, (1, 1), None)

    def order(key: str, samples: int = 2) -> EvaluationJob:
        context = replace(trained.context, samples=samples, checkpoint_s=600, stop=stop)
        return EvaluationJob(key, trained.subject, context, mirrored)

    with pytest.raises(stop_signals.Stopped):
        evaluate(order("resumed"))
    assert len(asked) == 2 and Store(tmp_path).run("resumed").progress()["step"] == 2
    stop.unlink()
    shutil.copytree(tmp_path / "resumed", tmp_path / "other")
    scores = evaluate(order("resumed"))
    assert len(asked) == 4 and not (tmp_path / "resumed" / "checkpoint.pt").exists()
    assert evaluate(order("whole")) == scores and len(asked) == 8
    assert evaluate(order("other", samples=4)) == scores and len(asked) == 12, "other samples: from the start"
    with np.load(tmp_path / "other" / "samples.npz") as kept:
        assert len(kept["predictions"]) == len(kept["names"]) == 4
    names = ("counts.npz", "samples.npz")
    assert [(tmp_path / "resumed" / n).read_bytes() for n in names] == [
        (tmp_path / "whole" / n).read_bytes() for n in names
    ]


@pytest.mark.slow
def test_a_crf_evaluation_also_does_the_plain_one(tmp_path, monkeypatch):
    """Both use the same passes, wherever either was stopped, and equal separate evaluations."""
    pytest.importorskip("pydensecrf")
    trained, asked, stop = job(tmp_path, "trained"), [], tmp_path / "stop"
    train(trained)
    plain = Inference((1.0,), True, None, (1, 1), None)
    refined = replace(plain, crf=Crf(2, 3, 3.0, 20, 5, 4.0))
    real = multi_scale.probabilities

    def counted(*args):
        asked.append(1)
        if len(asked) == 2:
            stop.touch()
        return real(*args)

    monkeypatch.setattr(multi_scale, "probabilities", counted)
    monkeypatch.setattr(evaluator, "PROGRESS_S", 0.0)

    def order(key: str, inference: Inference, beside: str | None = None) -> EvaluationJob:
        context = replace(trained.context, samples=2, checkpoint_s=600, stop=stop)
        return EvaluationJob(key, trained.subject, context, inference, beside)

    with pytest.raises(stop_signals.Stopped):
        evaluate(order("both", refined, "plain"))
    stop.unlink()
    (tmp_path / "both" / "checkpoint.pt").unlink()  # one is now further than the other
    evaluate(order("both", refined, "plain"))
    assert len(asked) == 2 + 4 and Store(tmp_path).run("plain", EVALUATED).done()
    with Store(tmp_path).run("elsewhere", EVALUATED).writing():  # another process holds the plain one
        evaluate(order("alone", refined, "elsewhere"))
    assert not Store(tmp_path).run("elsewhere", EVALUATED).done()
    asked.clear()
    evaluate(order("both", refined, "plain"))
    evaluate(order("plain", plain))
    assert not asked, "both were done"
    asked += [1, 1]
    evaluate(order("by itself", plain))
    for mine, other in (("both", "alone"), ("plain", "by itself")):
        for name in ("counts.npz", "samples.npz"):
            assert (tmp_path / mine / name).read_bytes() == (tmp_path / other / name).read_bytes(), (mine, name)
    assert (tmp_path / "both" / "counts.npz").read_bytes() != (tmp_path / "plain" / "counts.npz").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_checkpoint_is_not_read(tmp_path, monkeypatch, damage):
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(Stop):
            train(job(tmp_path, "damaged"))
    path = tmp_path / "damaged" / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)
    train(job(tmp_path, "damaged"))
    assert json.loads((tmp_path / "damaged" / "result.json").read_text())["resumed"] == []
    train(job(tmp_path, "whole"))
    assert products(tmp_path, "damaged") == products(tmp_path, "whole")


@pytest.mark.slow
def test_a_damaged_product_is_trained_again(tmp_path):
    train(job(tmp_path, "key"))
    whole = products(tmp_path, "key")
    path = tmp_path / "key" / "counts.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not Store(tmp_path).run("key").done()
    train(job(tmp_path, "key"))
    assert products(tmp_path, "key") == whole
    assert Store(tmp_path).run("key").done()


def test_a_non_finite_loss_ends_the_training(tmp_path):
    sane = job(tmp_path, "key")
    training = sane.subject.training
    training = replace(training, recipe=replace(training.recipe, lr=1e30))
    mad = replace(sane, subject=replace(sane.subject, training=training))
    with pytest.raises(worker.TrainingFailed, match=r"the loss must be finite, got (nan|inf) at step"):
        train(mad)
    assert not Store(tmp_path).run("key").done()


@pytest.mark.slow
def test_a_done_training_is_not_trained_again(tmp_path):
    train(job(tmp_path, "key"))
    before = (tmp_path / "key" / "DONE").stat().st_mtime_ns
    train(job(tmp_path, "key"))
    assert (tmp_path / "key" / "DONE").stat().st_mtime_ns == before


@pytest.mark.slow
def test_threads_do_not_change_a_result(tmp_path):
    torch.set_num_threads(2)
    train(job(tmp_path, "two"))
    assert torch.get_num_threads() == 1
    train(job(tmp_path, "one"))
    assert products(tmp_path, "two") == products(tmp_path, "one")


@pytest.mark.slow
def test_a_killed_worker_resumes_at_any_step(tmp_path):
    train(job(tmp_path, "whole", steps=60))
    program = (
        "import sys; from pathlib import Path; "
        "from tests.training.test_resume import job; from study.training.worker import train; "
        "train(job(Path(sys.argv[1]), 'killed', steps=60))"
    )
    killed = 0
    for _ in range(30):
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT)
        seen = tmp_path / "killed" / "checkpoint.pt"
        before = seen.stat().st_mtime_ns if seen.is_file() else 0
        while process.poll() is None and (not seen.is_file() or seen.stat().st_mtime_ns == before):
            time.sleep(0.001)
        time.sleep(0.05 * (killed % 3))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        if process.wait() == 0 or killed == 3:
            break
    assert killed
    train(job(tmp_path, "killed", steps=60))
    assert products(tmp_path, "killed") == products(tmp_path, "whole")


def test_a_training_without_labelled_pixels_fails(tmp_path):
    untaught = job(tmp_path, "key", steps=2)
    path = folder_of(Store(tmp_path).cache, untaught.subject.facts["fingerprint"]) / "train-labels.npy"
    np.save(path, np.full_like(np.load(path), VOID))
    with pytest.raises(
        TrainingFailed, match="must see a labelled pixel in one of its steps, got none in 2; label more"
    ):
        train(untaught)
    assert not (tmp_path / "key" / "DONE").exists()
