"""Class weights: their effect on the loss, their values, and what is rejected (D124)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional

from pipelines import data as data_stage
from study.commands import preview
from study.config import tiers
from study.config.inheritance import in_full
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.heads import Variant, gcn
from study.spec.training import Recipe
from study.store import keys
from study.store.runs import Store
from study.training import class_weights, worker
from study.training.loop import loss_of
from study.training.worker import train
from tests.conftest import ROOT
from tests.training import test_distributed
from tests.training.test_resume import job

FACTS = {"classes": ["ground", "roof", "tree"], "pixels": [600, 300, 0]}
PARAMS = in_full(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))


def recipe(weights: Any) -> Recipe:
    block = PARAMS["tiers"]["smoke"] | {"recipe": PARAMS["tiers"]["smoke"]["recipe"] | {"class_weights": weights}}
    return tiers.load(PARAMS | {"tiers": {"smoke": block}}, "smoke").main.recipe


def test_the_loss_is_a_weighted_mean() -> None:
    torch.manual_seed(0)
    scores, labels = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 1], [2, VOID]]])
    picked = -functional.log_softmax(scores, 1)
    losses = [picked[0, 0, 0, 0], picked[0, 1, 0, 1], picked[0, 2, 1, 0]]
    expected = (losses[0] + 4 * losses[1] + 0.5 * losses[2]) / 5.5
    torch.testing.assert_close(loss_of(scores, labels, torch.tensor([1, 4, 0.5])), expected)
    torch.testing.assert_close(loss_of(scores, labels, torch.tensor([10, 40, 5.0])), expected)
    assert torch.equal(loss_of(scores, labels, None), loss_of(scores, labels))


def test_weights_go_by_name_and_default_to_one() -> None:
    assert class_weights.weights_of(recipe({"tree": 2.5}), FACTS) == [1, 1, 2.5]
    assert class_weights.weights_of(recipe({"tree": 2.5}), FACTS | {"classes": FACTS["classes"][::-1]}) == [2.5, 1, 1]
    assert class_weights.weights_of(recipe(None), FACTS) is None


def test_inverse_weights_give_classes_equal_shares() -> None:
    found = class_weights.weights_of(recipe("inverse"), FACTS)
    assert found == [0.75, 1.5, 1.0]  # 900 / (2 x 600), 900 / (2 x 300), and one that no loss sees
    parts = [weight * number for weight, number in zip(found or (), FACTS["pixels"], strict=True)]
    assert parts[0] == parts[1] and sum(parts) == 900


def test_each_weighting_is_a_training_of_its_own() -> None:
    left_out = tiers.load(PARAMS, "smoke").main.recipe
    assert "class_weights" not in PARAMS["tiers"]["smoke"]["recipe"] and left_out == recipe(None)
    training = job_of(left_out)
    found = {
        keys.digest(keys.identity(dataclasses.replace(training, recipe=recipe(weights)), "print", "cpu"))
        for weights in (None, "inverse", {"roof": 2}, {"roof": 3}, {"tree": 2})
    }
    assert len(found) == 5


def job_of(chosen: Recipe) -> Any:
    smoke = tiers.load(PARAMS, "smoke")
    return test_distributed.Training(Variant(gcn(3)), smoke.main.data, smoke.main.network, chosen, 0, 1)


def test_a_training_learns_by_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first loss is torch's weighted loss of the network's output for the first batch."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    original = worker.fit

    def fit(state, batch, recipe, **more):
        inputs, labels, _ = batch(0)
        seen.append((state.model(inputs).detach().clone(), labels))
        yield from original(state, batch, recipe, **more)

    losses = {}
    for key in ("plain", "weighted"):
        order = job(tmp_path, key, steps=1)
        classes = order.subject.facts["classes"]
        named = ((classes[0], 0.1), (classes[2], 5.0)) if key == "weighted" else None
        chosen = dataclasses.replace(order.subject.training.recipe, class_weights=named, precision="fp32")
        training = dataclasses.replace(order.subject.training, recipe=chosen)
        order = dataclasses.replace(order, subject=dataclasses.replace(order.subject, training=training))
        with monkeypatch.context() as patch:
            patch.setattr(worker, "fit", fit)
            train(order)
        ((step, losses[key]),) = json.loads(Store(tmp_path).run(key).path("curve.json").read_text())["loss"]
    (scores, labels), (same, _) = seen
    assert torch.equal(scores, same)
    weights = torch.ones(len(classes))
    weights[0], weights[2] = 0.1, 5.0
    assert losses["plain"] == pytest.approx(float(functional.cross_entropy(scores, labels.long(), ignore_index=VOID)))
    expected = functional.cross_entropy(scores, labels.long(), weights, ignore_index=VOID)
    assert losses["weighted"] == pytest.approx(float(expected)) != pytest.approx(losses["plain"])


@pytest.mark.slow
def test_two_processes_weight_as_one_does(tmp_path: Path) -> None:
    """Their parts of a batch have different sums of weights."""
    chosen = dataclasses.replace(test_distributed.SGD, class_weights="inverse")
    for processes in (1, 2):
        train(test_distributed.job(tmp_path, str(processes), test_distributed.CONVNEXT, chosen, processes))
    one, two = (torch.load(tmp_path / name / "weights.pt", weights_only=True) for name in "12")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6
    curves = [json.loads((tmp_path / name / "curve.json").read_text())["loss"] for name in "12"]
    assert np.allclose(*curves, rtol=1e-4)


@pytest.mark.parametrize(
    "weights", ["balanced", {}, {"roof": 0}, {"roof": -1}, {"roof": "2"}, {"roof": True}, {"roof": None}, 2, [1, 2],
                {"roof": float("nan")}, {"roof": 1e9}]
)  # fmt: skip
def test_invalid_weights_are_rejected(weights: Any) -> None:
    with pytest.raises(InputError) as error:
        recipe(weights)
    line = str(error.value)
    assert line.startswith("tiers.smoke.recipe.class_weights must be ") and ", got " in line and "; " in line


def test_unknown_classes_are_rejected_before_reading_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smoke = PARAMS["tiers"]["smoke"]
    block = smoke | {"recipe": smoke["recipe"] | {"class_weights": {"rooof": 2}}}
    params = PARAMS | {"tier": "smoke", "tiers": {"smoke": block}}
    monkeypatch.chdir(tmp_path)
    tiers.write(params, tmp_path / "params.yaml")
    told = "recipe.class_weights of main must name classes of its data, got 'rooof'; choose from background, "
    for action in (data_stage.main, lambda: preview.preview(tiers.read(), None)):
        with pytest.raises(InputError, match=told):
            action()
    assert not list(tmp_path.rglob("*.npy"))
