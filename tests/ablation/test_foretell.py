"""How long trainings and evaluations should take, as the plans of the project's own tiers have them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from study.ablation import foretell, progress
from study.ablation.workload import Workload
from study.config import tiers
from study.config.execution import execution_of
from study.plan import planner
from study.spec.training import Crf, Inference
from study.store.runs import Store
from tests.conftest import ROOT

FACTS = {"classes": list("abcdefg"), "size": [64, 64], "splits": {"train": 3000, "tune": 400, "val": 600},
         "fingerprint": "f" * 64, "streamed": False, "frequent": None}  # fmt: skip


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    return workload_of("shapes", tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """Of a tier with stages, crops and CRFs."""
    return workload_of("smoke", tmp_path_factory.mktemp("staged"))


def workload_of(tier, folder):
    params = tiers.read(ROOT / "params.yaml") | {"tier": tier}
    chosen = tiers.load(params)
    planned = planner.build(chosen, dict.fromkeys(chosen.settings, FACTS), "cpu")
    return Workload(planned, planned.manifest(), execution_of(params), Store(folder))


@pytest.fixture(scope="module")
def trainings(workload):
    kinds = foretell.trainings(workload, "shapes")
    assert kinds.keys() == workload.planned.trainings.keys()
    return {kind.name: kind for kind in kinds.values()}


def test_predicted_step_ratios_match_measured_ones(trainings):
    """Seconds of a step of 16 images on one core of a Xeon and of an EPYC: the ratio of one is within the error of the
    other's. By the rank of the plan, a boundary refinement would take eleven times as long as the 1x1 head."""
    step = {label: kind.step_s for (data, label), kind in trainings.items() if data == "main"}
    measured = {"GCN k=15 + BR": (0.054, 0.064), "GCN k=15": (0.039, 0.024), "kxk k=9": (0.042, 0.026),
                "stack k=11": (0.063, 0.072), "stack k=7": (0.047, 0.033)}  # fmt: skip
    base = (0.036, 0.018)  # of the 1x1 head
    for label, seconds in measured.items():
        ratios = [took / least for took, least in zip(seconds, base, strict=True)]
        assert min(ratios) / 1.35 <= step[label] / step["1x1"] <= 1.35 * max(ratios), label


@pytest.mark.slow
def test_a_training_forecast_includes_steps_and_scoring(staged):
    kinds = {kind.name: kind for kind in foretell.trainings(staged, "smoke").values()}
    first, second = kinds["T7 Stage-1", "1x1"], kinds["T7 Stage-2", "1x1"]
    assert (first.steps, second.steps) == (20, 20)
    assert first.beside_s == second.beside_s and 0.3 < first.beside_s < 3


def test_seeds_of_a_variant_share_one_kind(workload, trainings):
    assert len(trainings) == len(workload.planned.trainings) / len(workload.planned.tier.seeds)
    assert set(progress.kept(workload.store, "shapes").values()) == set(trainings.values())


def sixteen(trainings):
    """The first with a batch of 16: in a small one modules weigh more than images."""
    first = next(iter(trainings))
    return replace(first, recipe=replace(first.recipe, batch=16))


def test_step_time_follows_frozen_features_and_crop_size(workload):
    training = sixteen(t for t in workload.planned.trainings.values() if t.variant)
    whole = foretell.of_training(("",), training, FACTS)
    frozen = replace(training, network=replace(training.network, frozen=True))
    assert foretell.of_training(("",), frozen, FACTS).step_s < 0.75 * whole.step_s
    large = FACTS | {"size": [64, 128]}
    cropped = replace(training, recipe=replace(training.recipe, crop=(64, 64)))
    assert foretell.of_training(("",), cropped, large).step_s == pytest.approx(whole.step_s, rel=0.05)
    assert foretell.of_training(("",), training, large).step_s == pytest.approx(2 * whole.step_s, rel=0.1)


def test_an_evaluation_takes_its_passes_and_the_crf(staged):
    training = sixteen(t for t in staged.planned.trainings.values() if t.variant and t.variant.refine)

    def image(asked: Inference) -> float:
        return foretell.of_evaluation(("",), training, asked, FACTS | {"size": [64, 128]}).step_s

    crf = Crf(10, 1, 2, 10, 10, 3)
    once, crops = image(Inference(crop=(64, 64))), image(Inference(crop=(64, 64), crops=(1, 4)))
    assert crops == pytest.approx(4 * once)
    assert image(Inference(crop=(64, 64), crops=(1, 4), flip=True)) == pytest.approx(2 * crops)
    assert image(Inference(crop=(64, 64), crops=(1, 4), scales=(1.0, 1.0, 1.0))) == pytest.approx(3 * crops)
    assert image(Inference(crop=(64, 64), scales=(2.0,))) > 1.9 * once
    assert image(Inference(crop=(64, 64), crf=crf)) - once == pytest.approx(64 * 128 * 7 * 10 * foretell.CRF_S)


def test_evaluations_count_one_step_per_image(staged):
    workload = staged
    kinds = foretell.evaluations(workload)
    assert kinds.keys() == workload.planned.evaluations.keys()
    assert {kind.steps for kind in kinds.values()} == {600}
    by_name = {kind.name[2]: kind.left() for kind in kinds.values()}
    assert by_name["MS"] < by_name["MS-CRF"] < by_name["crops-MS-CRF"] and by_name["crops"] < by_name["crops-MS"]
