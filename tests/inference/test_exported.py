"""Models in one file: equal to the networks that were trained, whole without a store, and told where they are not."""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from study.ablation.model_card import card
from study.config import tiers
from study.data.prepare import PAD_COLOUR, prepare
from study.inference import exported, pictures
from study.inference.exported import Model, load, windows
from study.models import described
from study.spec.errors import InputError
from study.spec.heads import Variant, dense, gcn
from study.spec.training import Network, Training, freeze
from study.store.runs import Store
from study.training.batches import cache_features, open_source
from study.training.count import predict
from study.training.device import settle
from study.training.worker import train, weights_of
from tests.conftest import ROOT, training_job

PARAMS = tiers.read(ROOT / "params.yaml")
ORIGIN: Any = {
    "paper": "a paper", "licence": "Apache-2.0", "tier": "tiny", "title": "Tiny scenes", "judges": "Nothing at all.",
    "meaningless": True, "scale": "none", "cell": "T5/GCN/overall", "label": "GCN k=5", "setting": "main",
    "training": "0" * 64, "seed": 0, "commit": "", "torch": "2", "scores": [
        {"metric": "miou", "value": 0.25, "mean": 0.5, "low": 0.4, "high": 0.6, "seeds": 3}],
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _as_in_trainings():
    before = torch.get_num_threads()
    settle("cpu")
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_flush_denormal(False)
    torch.set_num_threads(before)


class Made:
    """A short training on real scenes, and the file of its network."""

    def __init__(self, folder: Path, network: Network | None = None) -> None:
        smoke, self.store = tiers.load(PARAMS, "smoke"), Store(folder / "runs")
        main = smoke.main
        network = main.network if network is None else network
        self.facts = prepare(main.data, None, self.store.cache, smoke.band_px)
        if network.frozen:
            cache_features(network, self.facts, self.store.cache, main.recipe.flip)
        recipe = dataclasses.replace(main.recipe, steps=4, batch=4, validations=1)
        self.training = Training(Variant(gcn(5), refine=True), main.data, network, recipe, 0, smoke.band_px)
        job = training_job("key", self.training, self.facts, self.store.root, labels={"label": "GCN"})
        train(job)
        self.file = folder / "model.safetensors"
        recipe_as_json = json.loads(json.dumps(dataclasses.asdict(recipe)))
        self.about = exported.export(self.file, job.subject, job.context, ORIGIN | {"recipe": recipe_as_json})

    def in_the_run(self) -> tuple[np.ndarray, np.ndarray]:
        """The val images, and what the network said of them where it was trained."""
        device = torch.device("cpu")
        source = open_source(self.training, self.facts, self.store.cache, device)
        trained = exported.build(self.training.variant, self.training.network, len(self.facts["classes"]), 0)
        trained.load_state_dict(weights_of(self.store.run("key")))
        trained = trained.to(memory_format=torch.channels_last).eval()
        said = [predict(trained, inputs, labels.shape[-2:]) for inputs, labels, _ in source.examples("val")]
        return np.array(source.array("val-images.npy")), np.concatenate(said)


FROZEN = Network(
    "shallow", ("res3", "res4"), freeze({"widths": [4, 6, 8], "strides": [2, 4, 8]}), frozen=True, output_stride=2
)


@pytest.mark.parametrize("network", [None, FROZEN], ids=["trained whole", "frozen backbone"])
def test_an_exported_file_reproduces_the_trained_predictions(tmp_path: Path, network: Network | None) -> None:
    made = Made(tmp_path, network)
    images, said = made.in_the_run()
    whole = load(made.file)
    again = np.stack([whole.predict(image) for image in images])
    assert len(np.unique(said)) > 1 and np.array_equal(again, said)
    assert made.about["parameters"] == sum(parameter.numel() for parameter in whole.network.parameters())


@pytest.mark.slow
def test_a_pretrained_backbone_is_in_the_file(tmp_path: Path) -> None:
    """Features are cached four at a time and asked for one at a time, which may round a pixel in some ten thousand
    otherwise."""
    network = Network("efficientnet_lite0", ("res4", "res5"), freeze({"weights": "imagenet"}), True, 8)
    made = Made(tmp_path, network)
    images, said = made.in_the_run()
    whole = load(made.file)
    again = np.stack([whole.predict(image) for image in images])
    assert len(np.unique(said)) > 1 and (again != said).mean() < 1e-3
    assert made.about["network"]["options"] == {"weights": "imagenet"} and made.file.stat().st_size > 10e6


@pytest.mark.slow
def test_the_file_alone_is_enough_in_another_process(made: Made, model: Model, tmp_path: Path) -> None:
    """No store, no params.yaml, no unpickling."""
    file = tmp_path / "elsewhere.safetensors"
    file.write_bytes(made.file.read_bytes())
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    np.save(tmp_path / "image.npy", image)
    code = (
        "import pickle, sys, torch\n"
        "def refuse(*args, **options): raise AssertionError('unpickled')\n"
        "torch.load = pickle.load = pickle.loads = refuse\n"
        "torch.set_num_threads(1)\n"
        "import numpy as np\n"
        "from study.inference.exported import load\n"
        "np.save('classes.npy', load(sys.argv[1]).predict(np.load('image.npy')))"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=tmp_path, check=True, env={"PYTHONPATH": str(ROOT), "HOME": "/"}
    )
    assert np.array_equal(np.load(tmp_path / "classes.npy"), model.predict(image))


def test_loading_leaves_the_callers_draws_alone(made: Made) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load(made.file)
    assert torch.equal(torch.rand(1), expected)


def test_equal_models_are_equal_bytes(made: Made, tmp_path: Path) -> None:
    assert Made(tmp_path).file.read_bytes() == made.file.read_bytes()


@pytest.mark.parametrize("size", [(64, 64), (40, 30), (64, 100), (150, 90), (1, 1)])
def test_classes_have_the_size_of_the_image(model: Model, size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    classes, scores = model.predict(image), model.scores(image)
    assert classes.shape == size and classes.dtype == np.uint8
    assert scores.shape == (len(model.names), *size) and scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(0), 1, atol=1e-5)
    assert (scores.argmax(0) == classes).mean() > 0.99  # float32 may tie what float64 tells apart


def test_a_smaller_image_is_padded_as_in_training(model: Model) -> None:
    image = np.random.default_rng(2).integers(0, 256, (40, 30, 3), np.uint8)
    whole = np.full((64, 64, 3), PAD_COLOUR, np.uint8)
    whole[:40, :30] = image
    assert np.array_equal(model.predict(image), model.predict(whole)[:40, :30])


def test_a_larger_image_is_seen_by_windows(model: Model) -> None:
    """What one window sees alone, at a corner, is what it says of that part."""
    image = np.random.default_rng(3).integers(0, 256, (64, 112, 3), np.uint8)
    classes = model.predict(image)
    assert windows(112, 64) == 2
    assert np.array_equal(classes[:, :48], model.predict(image[:, :64])[:, :48])
    assert np.array_equal(classes[:, 64:], model.predict(image[:, 48:])[:, 16:])


@pytest.mark.parametrize(("side", "number"), [(1, 1), (64, 1), (65, 2), (112, 2), (113, 3), (1000, 21)])
def test_windows_overlap_by_a_quarter(side: int, number: int) -> None:
    assert windows(side, 64) == number


def test_an_image_above_longest_is_shrunk_for_prediction(model: Model) -> None:
    image = np.repeat(np.repeat(np.random.default_rng(4).integers(0, 256, (32, 32, 3), np.uint8), 8, 0), 8, 1)
    classes = model.predict(image, longest=64)
    assert classes.shape == (256, 256)
    small = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR))
    said = model.predict(small)
    assert (classes[2::4, 2::4] == said).mean() > 0.9  # but for edges, which are smooth


def test_paths_pictures_and_pixels_give_equal_predictions(model: Model, tmp_path: Path) -> None:
    image = np.random.default_rng(5).integers(0, 256, (60, 50, 3), np.uint8)
    path, turned = tmp_path / "image.png", Image.fromarray(image)
    turned.getexif()[274] = 6
    turned.save(path, exif=turned.getexif())
    said = model.predict(np.rot90(image, -1).copy())
    assert np.array_equal(model.predict(path), said) and np.array_equal(model.predict(str(path)), said)
    with Image.open(path) as opened:
        assert np.array_equal(model.predict(opened), said)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((4, 4), np.uint8), "got uint8 (4, 4); convert it"),
        (np.zeros((4, 4, 3)), "got float64 (4, 4, 3); convert it"),
        (np.zeros((0, 4, 3), np.uint8), "an image must have pixels"),
        ([[1]], "got list; convert it"),
        ("nowhere.png", "got no file nowhere.png"),
        (Image.new("I;16", (4, 4)), "must have 8 bits per channel and be opaque, got one of mode I;16"),
        (Image.new("RGBA", (4, 4)), "got one of mode RGBA"),
    ],
)
def test_what_is_no_image_is_told(model: Model, image: Any, says: str) -> None:
    with pytest.raises(InputError) as told:
        model.predict(image)
    assert says in str(told.value)


def _changed(file: Path, **changes: Any) -> bytes:
    """A model's file with other metadata."""
    with safe_open(file, framework="pt") as opened:
        about = json.loads(opened.metadata()["study"]) | changes
    save_file(load_file(file), file.with_suffix(".new"), {"study": json.dumps(about)})
    return file.with_suffix(".new").read_bytes()


FAULTS = {
    "cut off": (lambda file: file.read_bytes()[:-10], "must be a whole .safetensors file"),
    "empty": (lambda file: b"", "must be a whole .safetensors file"),
    "a pickle": (lambda file: pickle.dumps({"a": 1}), "nothing else is loaded: it could run code"),
    "a bit turned": (lambda file: file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]), "with other content"),
    "other classes": (lambda file: _changed(file, classes=["a", "b"]), "with other content"),
    "older": (lambda file: _changed(file, version=0), "must have format version 1, got 0"),
    "a key less": (lambda file: _changed(file, recipe={}), "metadata must be as the code writes them"),
    "of others": (lambda file: _changed(file, project="another"), "from other software"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_foreign_or_old_files_are_reported(made: Made, tmp_path: Path, fault: str) -> None:
    change, says = FAULTS[fault]
    file = tmp_path / "model.safetensors"
    file.write_bytes(made.file.read_bytes())
    file.write_bytes(change(file))
    with pytest.raises(InputError) as told:
        load(file)
    assert says in str(told.value) and str(file) in str(told.value)


@pytest.mark.parametrize("tier", sorted(PARAMS["tiers"]))
def test_networks_and_variants_survive_json(tier: str) -> None:
    chosen = tiers.load(PARAMS, tier)
    for setting in chosen.settings.values():
        told = json.loads(json.dumps(described.of_network(setting.network, [0.0], [1.0])))
        assert described.network_of(told) == setting.network
    for variant in (*chosen.extra, Variant(dense(1), at=(("res5", gcn(7)),))):
        assert described.variant_of(json.loads(json.dumps(described.of_variant(variant)))) == variant


def test_a_mask_stores_labels_and_a_palette() -> None:
    classes, colours = np.array([[0, 1], [1, 2]], np.uint8), np.array([[9, 9, 9], [1, 2, 3], [4, 5, 6]], np.uint8)
    found = pictures.mask(classes, colours)
    assert found.mode == "P" and np.array_equal(np.asarray(found), classes)
    assert np.array_equal(np.asarray(found.convert("RGB")), colours[classes])


def test_a_legend_lists_only_the_visible_classes() -> None:
    classes, colours = np.zeros((300, 400), np.uint8), np.array([[0, 0, 0], [250, 0, 0], [0, 250, 0]], np.uint8)
    classes[:100] = 1
    found = np.asarray(pictures.overlay(np.full((300, 400, 3), 100, np.uint8), classes, ("Erde", "Дом", "x"), colours))
    assert found.shape[1] == 400 and found[0, 0].tolist() == [175, 50, 50] and found[200, 0].tolist() == [50, 50, 50]
    legend = found[300:].reshape(-1, 3).tolist()
    assert [250, 0, 0] in legend and [0, 0, 0] in legend and [0, 250, 0] not in legend


def test_a_card_shows_scores_classes_and_loading_code(made: Made) -> None:
    text = card(made.about, "model.safetensors")
    assert "| mean IoU | 25.0 | 50.0 | 40.0 to 60.0 | 3 |" in text and 'load("model.safetensors")' in text
    assert all(f"| {label} | {name} | " in text for label, name in enumerate(made.about["classes"]))
    assert "Nothing at all." in text and "Apache-2.0" in text and "None" not in text
