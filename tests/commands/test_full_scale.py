"""What the paper's own scale needs: streamed images, batches read ahead, precision by a probe, preview, rehearsal."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from study.commands import preview, rehearse
from study.config import tiers
from study.data.prepare import folder_of, open_data, prepare
from study.data.synthetic_layouts import LAYOUTS
from study.models.backbones import BACKBONES
from study.models.build import build
from study.plan import planner
from study.spec.constants import MAIN
from study.spec.errors import InputError
from study.spec.heads import Variant, dense, gcn, stack
from study.spec.training import Data, Network, Recipe, Training, freeze
from study.store.runs import Store
from study.training import speed_probe
from study.training.batches import IMAGES, open_source
from study.training.prefetch import batches
from study.training.worker import train
from tests.conftest import ROOT, training_job

PARAMS = tiers.read(ROOT / "params.yaml")
VOC = Data("voc", freeze({"train": "sbd", "tune": 2, "pad": [512, 512]}))
NETWORK = Network("shallow", ("res2", "res3"), freeze({"widths": [4, 4], "strides": [4, 8]}))
RECIPE = Recipe("sgd", 0.01, 0.9, 0.0, "constant", 0.0, 6, 2, True, "fp32", 2, (96, 160))


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("voc")
    LAYOUTS["voc"](root)
    return root


def training(recipe: Recipe = RECIPE, data: Data = VOC) -> Training:
    return Training(Variant(gcn(3)), data, NETWORK, recipe, 0, 2)


def test_streamed_and_cached_sets_share_a_fingerprint(voc, tmp_path):
    cached, streamed = (prepare(VOC, voc, tmp_path, 2, stream=stream) for stream in (False, True))
    assert cached | {"streamed": True} == streamed
    folders = [folder_of(tmp_path, f["fingerprint"], f["streamed"]) for f in (cached, streamed)]
    kept = [{path.name for path in folder.glob("*.npy")} for folder in folders]
    assert kept[0] - kept[1] == {"train-images.npy", "train-labels.npy"} and not kept[1] - kept[0]


def test_a_streamed_training_sees_identical_batches(voc, tmp_path):
    sources = []
    for stream in (False, True):
        facts = prepare(VOC, voc, tmp_path, 2, stream=stream)
        sources.append(open_source(training(), facts, tmp_path, torch.device("cpu"), root=voc))
    for step in range(4):
        (raw, labels), (other, others) = (source.raw_batch(step) for source in sources)
        assert raw[IMAGES].dtype == torch.uint8 and raw[IMAGES].shape == (2, 96, 160, 3)
        assert torch.equal(raw[IMAGES], other[IMAGES]) and torch.equal(labels, others)


def test_streamed_image_classes_match_the_cache(tmp_path):
    LAYOUTS["imagenet"](tmp_path / "images")
    data = Data("imagenet", freeze({"size": 64, "resize": 80, "tune": 2}))
    recipe = dataclasses.replace(RECIPE, crop=(64, 64))
    found = []
    for stream in (False, True):
        facts = prepare(data, tmp_path / "images", tmp_path / "cache", 1, stream=stream)
        source = open_source(
            dataclasses.replace(training(recipe, data), variant=None), facts, tmp_path / "cache", torch.device("cpu"),
            root=tmp_path / "images",
        )  # fmt: skip
        found.append([source.raw_batch(step) for step in range(3)])
    for (raw, labels), (other, others) in zip(*found, strict=True):
        assert labels.dtype == torch.int64 and torch.equal(labels, others) and torch.equal(raw[IMAGES], other[IMAGES])


def test_a_pickled_source_omits_its_memory_maps(voc, tmp_path):
    facts = prepare(VOC, voc, tmp_path, 2, stream=True)
    source = open_source(training(), facts, tmp_path, torch.device("cpu"), root=voc)
    source.raw_batch(0)
    packed = pickle.dumps(source)
    assert len(packed) < 100_000
    assert torch.equal(pickle.loads(packed).raw_batch(1)[1], source.raw_batch(1)[1])


@pytest.mark.slow
def test_batches_read_ahead_match_the_callers_own(voc, tmp_path):
    facts = prepare(VOC, voc, tmp_path, 2, stream=True)
    source = open_source(training(), facts, tmp_path, torch.device("cpu"), root=voc)
    ahead = batches(source, 2, 6, processes=2)
    for step in range(2, 6):
        inputs, labels, _ = ahead(step)
        own, known, _ = source.training_batch(step)
        assert torch.equal(inputs, own) and torch.equal(labels, known)
        assert inputs.is_contiguous(memory_format=torch.channels_last) and inputs.dtype == torch.float32
    with pytest.raises(AssertionError, match="in the order of their steps"):
        batches(source, 0, 6, processes=1)(3)


@pytest.mark.slow
def test_who_reads_the_images_changes_no_weight(voc, tmp_path):
    weights = []
    for name, stream, loaders in (("cached", False, 0), ("streamed", True, 0), ("ahead", True, 1)):
        store = Store(tmp_path / name)
        facts = prepare(VOC, voc, store.cache, 2, stream=stream)
        job = training_job("k", training(), facts, store.root, root=voc, loaders=loaders)
        train(job)
        weights.append(torch.load(store.run("k").path("weights.pt"), weights_only=True))
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]) and torch.equal(tensor, weights[2][name])


def test_large_images_are_evaluated_few_at_a_time(tmp_path):
    source = open_source(
        training(data=Data("shapes")), {"streamed": False, "fingerprint": "f", "classes": ["a"]}, tmp_path,
        torch.device("cpu"),
    )  # fmt: skip
    for size, most in (((64, 64), 16), ((512, 512), 16), ((1024, 2048), 2), ((4000, 5000), 1)):
        source._arrays = {
            "val-labels.npy": np.zeros((18, *size), np.uint8), source.band["val"]: np.zeros((18, *size), bool),
            "val-images.npy": np.zeros((18, *size, 3), np.uint8),
        }  # fmt: skip
        _, labels, _ = next(source.examples("val"))
        assert len(labels) == most


def test_fixed_heads_stay_unless_a_variant_overrides_them():
    network = dataclasses.replace(NETWORK, fixed=(("res2", dense(1)),))
    assert network.head_at("res2", Variant(stack(5))) == dense(1)
    assert network.head_at("res3", Variant(stack(5))) == stack(5)
    assert network.head_at("res2", Variant(stack(5), at=(("res2", gcn(3)),))) == gcn(3)
    heads = build(Variant(stack(5)), network, 3, 0).decoder.heads
    assert [len(list(heads[level].parameters())) for level in ("res2", "res3")] == [1, 2]


def test_bilinear_deconvolutions_are_never_trained():
    for deconvolution, trained in (("learned", True), ("bilinear", False)):
        network = dataclasses.replace(NETWORK, deconvolution=deconvolution)
        ups = build(Variant(dense(1)), network, 3, 0).decoder.ups
        assert len(ups) == 3 and {p.requires_grad for p in ups.parameters()} == {trained}


@pytest.mark.slow
def test_deep_random_networks_with_fixed_statistics_stay_finite():
    """Without residual branches that start at zero the maps of fifty blocks grow beyond all numbers."""
    for name, options in (("resnet", {"depth": 152}), ("resnet_gcn", {"join": "concat"})):
        backbone = BACKBONES[name](**options, weights=None, frozen_norm=True).train()
        with torch.no_grad():
            maps = backbone(torch.full((1, 3, 64, 64), 200.0))
        assert all(0 < float(m.abs().max()) < 1e4 for m in maps.values())


def smoke_with(**recipe) -> tiers.Tier:
    params = tiers.read(ROOT / "params.yaml")
    params["tiers"]["smoke"] |= {"tables": ["T5"], "controls": {}, "mechanisms": {}}
    params["tiers"]["smoke"]["recipe"] |= recipe
    return tiers.load(params, "smoke")


def test_precision_auto_keeps_the_faster_choice(tmp_path, monkeypatch):
    took = {"fp32": 2.0, "bf16": 1.0}
    monkeypatch.setattr(speed_probe, "step_seconds", lambda training, *a, **k: took[training.recipe.precision])
    found = speed_probe.precision(NETWORK, RECIPE, False, 3, (64, 64), "cpu", tmp_path)
    assert found == {"precision": "bf16", "fp32_s": 2.0, "bf16_s": 1.0, "device": "cpu"}
    took["bf16"] = 1.9  # a busy machine changes no key
    assert speed_probe.precision(NETWORK, RECIPE, False, 3, (64, 64), "cpu", tmp_path) == found
    assert speed_probe.precision(NETWORK, RECIPE, False, 3, (64, 96), "cpu", tmp_path)["precision"] == "fp32"


@pytest.mark.parametrize(("slower", "asked"), [(9.0, 2), (1.5, 4)])
def test_an_undecided_precision_probe_runs_another_round(tmp_path, monkeypatch, slower, asked):
    tried = []

    def took(training: Training, *sizes: Any, **steps: Any) -> float:
        tried.append(training.recipe.precision)
        return {"fp32": 1.0, "bf16": slower}[tried[-1]]

    monkeypatch.setattr(speed_probe, "step_seconds", took)
    found = speed_probe.precision(NETWORK, RECIPE, False, 3, (64, 64), "cpu", tmp_path)
    assert (found["precision"], tried) == ("fp32", ["fp32", "bf16"] * (asked // 2))


@pytest.mark.parametrize("variant", [Variant(gcn(3), refine=True), None])
def test_a_speed_probe_restores_the_thread_count(variant):
    threads = torch.get_num_threads()
    tried = dataclasses.replace(training(), variant=variant)
    assert 0 < speed_probe.step_seconds(tried, 3, (96, 160), "cpu") < 30
    assert torch.get_num_threads() == threads and not torch.are_deterministic_algorithms_enabled()


def test_precision_auto_is_resolved_in_the_keys():
    chosen, fixed = smoke_with(precision="auto"), smoke_with(precision="bf16")
    facts = {"fingerprint": "f", "precision": {"precision": "bf16"}}
    auto = planner.build(chosen, {MAIN: facts}, "cpu")
    assert {t.recipe.precision for t in auto.trainings.values()} == {"bf16"}
    assert set(auto.trainings) == set(planner.build(fixed, {MAIN: {"fingerprint": "f"}}, "cpu").trainings)


@pytest.mark.slow
def test_the_data_stage_records_the_chosen_precision(project):
    project.tier["recipe"]["precision"] = "auto"
    project.save()
    told = project.stages("data").stdout
    facts = json.loads((project.reports / "data.json").read_text())
    chosen = facts["main"]["precision"]["precision"]
    assert chosen in ("fp32", "bf16") and f"precision auto: {chosen} on cpu" in told
    project.stages("plan", "ablate")
    spec = json.loads(next((project.folder / "runs").glob("*/training.json")).read_text())["spec"]
    assert spec["recipe"]["precision"] == chosen


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"stream": "yes"}}, r"data\.stream must be true or false, got 'yes'"),
        ({"network": {"frozen": True}, "data": {"stream": True}}, r"data\.stream must be false if the backbone is"),
        ({"network": {"deconvolution": "nearest"}}, r"deconvolution must be one of learned, bilinear, got 'nearest'"),
        ({"network": {"fixed": {"res2": {"head": "dens", "k": 1}}}}, r"fixed\.res2\.head must be one of dense"),
        ({"recipe": {"precision": "fp16"}}, r"precision must be one of fp32, bf16, auto, got 'fp16'"),
    ],
)
def test_wrong_options_are_told(change, message):
    params = tiers.read(ROOT / "params.yaml")
    for part, values in change.items():
        params["tiers"]["smoke"][part] |= values
    with pytest.raises(InputError, match=message):
        tiers.load(params, "smoke")


def test_the_environment_variable_overrides_a_relative_root(monkeypatch):
    monkeypatch.delenv("STUDY_DATA_VOC", raising=False)
    settings = tiers.load(PARAMS, "voc").settings
    assert {setting.root for setting in settings.values()} == {ROOT / "data"}
    monkeypatch.setenv("STUDY_DATA_VOC", "/my/data")
    assert {setting.root for setting in tiers.load(PARAMS, "voc").settings.values()} == {Path("/my/data")}


def test_the_papers_tiers_have_the_papers_protocol():
    voc, cityscapes = (tiers.load(PARAMS, name) for name in ("voc", "cityscapes"))
    for chosen in (voc, cityscapes):
        recipe, network = chosen.main.recipe, chosen.main.network
        assert (recipe.optimizer, recipe.batch, recipe.momentum, recipe.weight_decay) == ("sgd", 1, 0.99, 0.0005)
        assert recipe.flip and dict(network.options)["depth"] == 152
        assert network.levels == ("res2", "res3", "res4", "res5") and network.output_stride == 1
    assert dict(voc.main.data.options)["pad"] == (512, 512)
    assert dict(voc.settings["T7 Stage-1"].data.options)["pad_train"] == (640, 640)
    assert cityscapes.main.recipe.crop == (800, 800)
    assert cityscapes.inference["crops"].crop == (1024, 1024) and cityscapes.inference["crops"].crops == (1, 4)
    fact = {"fingerprint": "f", "precision": {"precision": "fp32"}}
    counted = {name: fact | {"fingerprint": name} for name in voc.settings}
    counted["T7 Stage-2"] = counted["main"]
    planned = planner.build(voc, counted, "cpu")
    assert len(planned.trainings) == 34 * 10, "19 of Tables 1 to 5, 9 of 7 and 6 of 6, each with at most ten seeds"
    assert voc.first_seeds == cityscapes.first_seeds == tuple(range(5))


@pytest.mark.slow
def test_a_rehearsal_replaces_official_sets_and_shortens_trainings(tmp_path):
    params = rehearse.shortened(PARAMS, "voc", tmp_path)
    found = tiers.load(params, "voc")
    for setting in found.settings.values():
        assert setting.recipe.steps == rehearse.STEPS and setting.root.is_relative_to(tmp_path)
        assert dict(setting.network.options).get("weights") is None
        open_data(setting.data, setting.root, tmp_path / "cache")
    full = tiers.load(PARAMS, "voc")
    for name, setting in full.settings.items():
        short = found.settings[name]
        assert {k: v for k, v in setting.data.options if "pad" in k} == {
            k: v for k, v in short.data.options if "pad" in k
        }
        assert (setting.after, setting.recipe.crop, setting.network.levels) == (
            short.after, short.recipe.crop, short.network.levels,
        )  # fmt: skip
    assert full.seeds[:1] == found.seeds and full.tables == found.tables and full.inference == found.inference
    own = {"data": {"name": "voc", "classes": ["a", "b"], "tune": 5, "root": "/mine"}}
    assert rehearse.stand_in(own, tmp_path) == own, "a user's own set stays"


@pytest.mark.slow
def test_a_preview_tells_work_disk_and_missing_data(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STUDY_STORE", str(tmp_path / "runs"))
    monkeypatch.setenv("STUDY_DATA_VOC", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    params = tiers.read(ROOT / "params.yaml")
    block = params["tiers"]["voc"]
    block |= {"tables": ["T5", "T7"], "seeds": [0, 1]}
    block["network"] |= {"backbone": "shallow", "levels": ["res2"], "options": {"widths": [4], "strides": [4]}}
    found = preview.preview(params, "voc")
    told = capsys.readouterr().out
    assert "main" in told and "T7 Stage-1" in told
    # Table 5's three, and Stage-1 to 3 of the same variants: two seeds.
    assert (
        "24 trainings (0 done before)" in told and f"{2 * 3 * (100_000 + 330_000 + 100_000 + 30_000):,} steps" in told
    )
    assert found.unknown == ["reading"] and found.probed >= 6, "what is not there cannot be read"
    assert "in all       at least" in told
    dearest, cheapest = max(found.step.values()), min(found.step.values())
    trainings = next(part for part in found.parts if part.name == "trainings").seconds
    assert 24 * 30_000 * cheapest / 16 < trainings < 2 * 2 * 3 * 560_000 * dearest
    assert "archives to fetch and unpack" in told and "free in" in told
    assert "T7 Stage-1                     coco: MISSING" in told
    assert "to fetch: VOCtrainval_11-May-2012.tar (1.9 GiB)" in told and "to fetch: train2017.zip" in told
    assert "4 evaluations" in told
    assert not (tmp_path / "reports").exists() and not (tmp_path / "nothing").exists()


@pytest.mark.slow
def test_a_preview_names_what_a_person_must_bring(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STUDY_STORE", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    params = tiers.read(ROOT / "params.yaml")
    params["tiers"]["cityscapes"]["data"]["root"] = str(tmp_path / "data")
    params["tiers"]["cityscapes"]["network"] |= {
        "backbone": "shallow", "levels": ["res2"], "options": {"widths": [4], "strides": [4]}
    }  # fmt: skip
    params["execution"] |= {
        "device": "cpu" if torch.cuda.is_available() else "cuda",
        "workers": 1,
    }  # nothing is measured
    preview.preview(params, "cityscapes")
    told = capsys.readouterr().out
    for name in ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip", "leftImg8bit_trainextra.zip"):
        assert f"to download yourself: {name}" in told
    assert "cityscapes-dataset.com" in told


@pytest.mark.long
@pytest.mark.slow
def test_a_rehearsal_runs_every_stage_and_cleans_up(project):
    """The paper's VOC tier with a small network: SBD, COCO, ImageNet, three stages, pretraining, scales."""
    block = project.params["tiers"]["voc"]
    block |= {
        "tables": ["T5", "T6", "T7", "T8"],
        "inference": {"MS": {"scales": [0.5]}, "MS-CRF": {"scales": [0.5, 1]}},
    }
    small = {"widths": [4, 4], "strides": [8, 16]}
    block["network"] |= {"backbone": "shallow", "levels": ["res2", "res3"], "options": small}
    for name, setting in block["settings"].items():
        if "network" in setting:
            more = {"gcn": {"res3": [5, 2]}, "join": "concat"} if "GCN" in name else {}
            setting["network"] = {"backbone": "shallow_gcn" if more else "shallow", "options": small | more}
    project.save()
    ended = project.python("-m", "study", "rehearse", "voc", timeout_s=800)
    assert "rehearsal of voc: 18 trainings of 2 steps and 2 evaluations" in ended.stdout
    assert ", 0 failed; the largest worker took" in ended.stdout
    assert not list((project.folder / "runs").glob("rehearsal-*")) and not (project.folder / "reports" / "voc").exists()


@pytest.mark.long
@pytest.mark.slow
def test_a_rehearsal_tells_what_fails(project):
    block = project.params["tiers"]["smoke"]
    block["recipe"] |= {"optimizer": "sgd", "lr": 1e30}
    project.save()
    ended = project.python("-m", "study", "rehearse", "smoke", check=False)
    assert ended.returncode == 1 and "FAILED  GCN k=15, seed 0: the loss must be finite" in ended.stdout
    block["network"]["levels"] = ["res9"]
    project.save()
    ended = project.python("-m", "study", "rehearse", "smoke", check=False)
    assert ended.returncode == 2 and "a level must be one of the backbone's" in ended.stderr
    assert "stage data of the rehearsal failed with status 2" in ended.stderr


@pytest.mark.slow
def test_the_data_stage_reads_archives_from_a_mirror(project, tmp_path):
    """A first run on another machine: the archives lie in a folder, the data folder is not there yet."""
    import tarfile

    LAYOUTS["voc"](tmp_path / "made")
    (tmp_path / "mirror").mkdir()
    for name, folder, mode in (
        ("VOCtrainval_11-May-2012.tar", "VOCdevkit", "w"), ("benchmark.tgz", "benchmark_RELEASE", "w:gz"),
    ):  # fmt: skip
        with tarfile.open(tmp_path / "mirror" / name, mode) as tar:
            tar.add(tmp_path / "made" / folder, folder)
    source = (project.folder / "study" / "data" / "sets" / "voc.py").read_text()
    for known in ("md5:6cd6e144f989b92b3379bac3b3de84fd", "md5:82b4d87ceb2ed10f6038a1cba92111cb"):
        assert known in source
    block = yaml.safe_load(yaml.safe_dump(project.params["tiers"]["smoke"]))
    block["data"] = {"name": "voc", "root": "photographs", "fetch": True, "stream": True, "train": "sbd", "tune": 2,
                     "pad": [512, 512]}  # fmt: skip
    project.params["tiers"]["smoke"] = block
    project.save()
    project.environment["STUDY_MIRROR"] = str(tmp_path / "mirror")
    refused = project.stages("data", check=False)
    assert refused.returncode == 2 and "6cd6e144f989b92b3379bac3b3de84fd" in refused.stderr, "not the official archive"
    for known in ("md5:6cd6e144f989b92b3379bac3b3de84fd", "md5:82b4d87ceb2ed10f6038a1cba92111cb"):
        source = source.replace(known, "")
    (project.folder / "study" / "data" / "sets" / "voc.py").write_text(source)
    told = project.stages("data").stdout
    facts = json.loads((project.reports / "data.json").read_text())["main"]
    assert facts["splits"] == {"train": 6, "tune": 2, "val": 2} and facts["streamed"]
    assert facts["listed"] == {"voc/train": 4, "voc/val": 2, "voc/augmented": 8, "voc/test": 2}
    assert "note: Images of VOC 2012 with SBD, listed here: the paper has 10,582, these lists 8" in told
    assert (project.folder / "photographs" / "VOCdevkit").is_dir()
    assert not list((project.folder / "photographs").glob("*.t*")), "used where it lay, not copied"


def test_evaluating_a_streamed_set_needs_no_training_images(voc, tmp_path):
    facts = prepare(VOC, voc, tmp_path, 2, stream=True)
    source = open_source(training(), facts, tmp_path, torch.device("cpu"))  # as an evaluation does, without a root
    inputs, labels, band = next(source.examples("val"))
    assert inputs.shape == (2, 3, 512, 512) and labels.shape == band.shape == (2, 512, 512)
