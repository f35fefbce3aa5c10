"""Processes that share a training take the steps of one process, end with the first that dies, and report it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from study.config import tiers
from study.config.execution import CONTEXT_MB, execution_of, trainings_a_gpu
from study.data.prepare import folder_of, prepare
from study.data.synthetic_layouts import LAYOUTS
from study.models.build import build
from study.seeds import batch_indices
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.heads import Variant, gcn
from study.spec.jobs import TrainingJob
from study.spec.training import Data, Network, Recipe, Training, freeze
from study.store.code_digest import ROOT
from study.store.runs import Store, write_json
from study.training import distributed
from study.training.batches import IMAGES, cache_features, open_source
from study.training.worker import train
from tests.conftest import training_job

SGD = Recipe("sgd", 0.02, 0.9, 0.0005, "poly", 0.0, 5, 4, True, "fp32", 1, (48, 48))
CONVNEXT = Network("timm", ("res3",), freeze({"model": "test_convnext", "weights": None, "frozen_norm": True}))
FEATURES = Network("shallow", ("res3",), freeze({"widths": [4, 6], "strides": [4, 8]}), frozen=True)


def job(root: Path, key: str, network: Network, recipe: Recipe, processes: int) -> TrainingJob:
    """A training on the smoke tier's scenes, some of them partly void; all that the second of two processes sees at
    step 1 is void, and so is all of step 3. If the network is frozen, features are cached."""
    smoke = tiers.load(tiers.read(ROOT / "params.yaml"), "smoke")
    store, data = Store(root), smoke.main.data
    facts = prepare(data, None, store.cache, smoke.band_px)
    path = folder_of(store.cache, facts["fingerprint"]) / "train-labels.npy"
    labels = np.load(path)
    for image in range(len(labels)):
        labels[image, :, : image * 7 % 40] = VOID
    labels[batch_indices(len(labels), recipe.batch, 0, 1)[recipe.batch // 2 :]] = VOID
    labels[batch_indices(len(labels), recipe.batch, 0, 3)] = VOID
    np.save(path, labels)
    if network.frozen:
        cache_features(network, facts, store.cache, recipe.flip)
    training = Training(Variant(gcn(5), refine=True), data, network, recipe, 0, smoke.band_px)
    return training_job(key, training, facts, store.root, processes=processes)


@pytest.mark.slow
def test_two_processes_train_the_same_as_one(tmp_path: Path) -> None:
    """With a partly unused backbone, and parts with unequal numbers of labelled pixels."""
    for processes in (1, 2):
        train(job(tmp_path, str(processes), CONVNEXT, SGD, processes))
    one, two = (torch.load(tmp_path / name / "weights.pt", weights_only=True) for name in "12")
    begun = build(Variant(gcn(5), refine=True), CONVNEXT, 7, 0).state_dict()
    moved = max(float((one[name] - begun[name]).abs().max()) for name in one)
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert one.keys() == two.keys() and moved > 0.01 and apart < 1e-6
    (first, second) = (np.load(tmp_path / name / "counts.npz")["counts"] for name in "12")
    assert np.array_equal(first, second)
    curves = [json.loads((tmp_path / name / "curve.json").read_text())["loss"] for name in "12"]
    assert np.allclose(*curves, rtol=1e-4)
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in "12"]
    assert [result["processes"] for result in results] == [1, 2]


@pytest.mark.slow
def test_one_process_resumes_after_another_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dataclasses.replace(SGD, steps=60, crop=None)
    killed: list[int] = []

    class Watched(distributed._Others):
        """The real processes, the first of which is killed after some steps."""

        def __init__(self, *args) -> None:
            super().__init__(*args)
            threading.Thread(target=self.kill, daemon=True).start()

        def kill(self) -> None:
            told = tmp_path / "key" / "checkpoint.pt"
            while not told.is_file():
                time.sleep(0.001)
            killed.append(self.running[1].pid)
            os.kill(self.running[1].pid, signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(distributed, "_Others", Watched)
        with pytest.raises(
            distributed.ProcessLost, match=r"must stay alive, got process 1 ended by SIGKILL; start the training"
        ):
            train(job(tmp_path, "key", FEATURES, recipe, 2))
    assert len(killed) == 1 and not torch.distributed.is_initialized()
    assert not Store(tmp_path).run("key").done()
    train(job(tmp_path, "key", FEATURES, recipe, 1))
    result = json.loads((tmp_path / "key" / "result.json").read_text())
    assert 1 <= result["resumed"][0] < 60 and result["processes"] == 1


def test_the_parts_of_a_batch_are_the_batch(tmp_path: Path) -> None:
    LAYOUTS["voc"](tmp_path)
    data = Data("voc", freeze({"train": "sbd", "tune": 2, "pad": [512, 512]}))
    recipe = dataclasses.replace(SGD, batch=6, crop=(96, 160))
    for stream in (False, True):
        facts = prepare(data, tmp_path, tmp_path / "cache", 2, stream=stream)
        training = Training(Variant(gcn(3)), data, CONVNEXT, recipe, 0, 2)
        whole = open_source(training, facts, tmp_path / "cache", torch.device("cpu"), root=tmp_path)
        raw, labels = whole.raw_batch(3)
        parts = [distributed.Team(rank, 3).part(whole).raw_batch(3) for rank in range(3)]
        assert [len(part) for _, part in parts] == [2, 2, 2]
        assert torch.equal(torch.cat([part[IMAGES] for part, _ in parts]), raw[IMAGES])
        assert torch.equal(torch.cat([part for _, part in parts]), labels)


def test_unshareable_trainings_are_rejected_early(tmp_path: Path) -> None:
    smoke = tiers.load(tiers.read(ROOT / "params.yaml"), "smoke")
    training = Training(Variant(gcn(5)), smoke.main.data, smoke.main.network, SGD, 0, 1)
    for processes, rule in (
        (3, r"batch must be a multiple of .* got 4 images for 3; set "),
        (2, r"not compute batch st"),
    ):
        with pytest.raises(InputError, match=rule):
            train(training_job("key", training, {}, tmp_path / "store", processes=processes))
    assert not (tmp_path / "store").exists()


def test_trainings_share_a_gpu_by_its_memory(tmp_path: Path, monkeypatch) -> None:
    each = 1000 + CONTEXT_MB
    fits = {memory: trainings_a_gpu(1000, memory) for memory in (each, 2 * each, 2.3 * each, 4.4 * each, 90 * each)}
    assert list(fits.values()) == [1, 1, 2, 3, 4]
    monkeypatch.setenv("STUDY_STORE", str(tmp_path))
    params = tiers.read(ROOT / "params.yaml")
    params["execution"] |= {"device": "cuda", "gpus_per_training": "auto", "workers": 1}
    assert execution_of(params).gpus_per_training == 1
    write_json(Store(tmp_path).peak(params["tier"]), {"peak_mb": 1000, "memory_mb": 2.3 * each})
    found = execution_of(params)
    assert (found.gpus_per_training, found.processes) == (0.5, 1)
    params["execution"]["gpus_per_training"] = 4
    assert execution_of(params).processes == 4
