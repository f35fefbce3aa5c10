"""Tiers of photographs with a frozen backbone, on tiny folders in the official layouts."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from pipelines import data
from study import metrics
from study.config import tiers
from study.data.prepare import prepare
from study.paper.headline import HEADLINE
from study.spec.training import Data, Network, freeze
from study.training.batches import cache_features, features_folder

NETWORK = Network("efficientnet_lite0", ("res4", "res5"), freeze({"weights": "imagenet"}), True, 8)


def picture(random: np.random.Generator, height: int, width: int) -> tuple[Image.Image, Image.Image]:
    """A photograph with two flat halves and its mask."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, random.integers(8, width - 8) :] = 3
    image = random.integers(0, 90, (height, width, 3)).astype(np.uint8) + 40 * mask[..., None]
    return Image.fromarray(image), Image.fromarray(mask)


@pytest.fixture
def voc(tmp_path):
    base = tmp_path / "devkit" / "VOCdevkit" / "VOC2012"
    random = np.random.default_rng(0)
    lists = base / "ImageSets" / "Segmentation"
    for folder in (base / "JPEGImages", base / "SegmentationClass", lists):
        folder.mkdir(parents=True)
    names = [f"2007_{i:06d}" for i in range(10)]
    for i, name in enumerate(names):
        image, mask = picture(random, 64 - i, 60 + i % 3)
        image.save(base / "JPEGImages" / f"{name}.jpg")
        mask.save(base / "SegmentationClass" / f"{name}.png")
    (lists / "train.txt").write_text("\n".join(names[:7]) + "\n")
    (lists / "val.txt").write_text("\n".join(names[7:]) + "\n")
    return tmp_path / "devkit"


def cached(voc, tmp_path, flip=True):
    data = Data("voc", freeze({"train": "auto", "tune": 2, "pad": [64, 64]}))
    facts = prepare(data, voc, tmp_path / "cache", 2)
    cache_features(NETWORK, facts, tmp_path / "cache", flip)
    return facts, features_folder(NETWORK, facts, tmp_path / "cache", flip)


def test_cached_features_are_standardised_over_the_training_split(voc, tmp_path):
    facts, folder = cached(voc, tmp_path)
    assert facts["splits"] == {"train": 5, "tune": 2, "val": 3}
    for level, shape in (("res4", (4, 4, 112)), ("res5", (2, 2, 320))):
        maps = np.load(folder / f"train-{level}.npy").astype(np.float64)
        mean, scale = np.load(folder / f"moments-{level}.npy")
        maps = (maps - mean) * scale
        assert maps.shape == (5, *shape)
        np.testing.assert_allclose(maps.mean((0, 1, 2)), 0, atol=2e-3)
        np.testing.assert_allclose(maps.var((0, 1, 2)), 1, atol=5e-3)
        assert np.load(folder / f"train-{level}-flipped.npy").shape == maps.shape
        assert not np.array_equal(
            np.load(folder / f"train-{level}-flipped.npy"), np.load(folder / f"train-{level}.npy")
        )
        assert not (folder / f"val-{level}-flipped.npy").exists()


@pytest.mark.slow
def test_damaged_features_are_recomputed_and_flips_kept_apart(voc, tmp_path):
    facts, folder = cached(voc, tmp_path)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    content = bytearray(whole["val-res5.npy"])
    content[-1] ^= 1
    (folder / "val-res5.npy").write_bytes(content)
    cache_features(NETWORK, facts, tmp_path / "cache", True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    assert features_folder(NETWORK, facts, tmp_path / "cache", False) != folder


def test_stage_3_uses_the_frequent_classes_of_main():
    facts = {
        "T7 Stage-3": {"classes": ["a", "b"], "images_with": [4, 1], "pixels": [90, 10]},
        "main": {"classes": ["a", "b"], "images_with": [9, 8], "pixels": [500, 500]},
        "T7 Stage-1": {"classes": ["a", "c", "d"], "images_with": [9, 1, 9], "pixels": [90, 5, 5]},
    }
    data.settle_frequent(facts, (3, 0.05))
    assert {name: found["frequent"] for name, found in facts.items()} == {
        "main": [0, 1], "T7 Stage-3": [0, 1], "T7 Stage-1": [0, 2],
    }  # fmt: skip


def _models_are_written_again_where_the_cache_is_gone(project, weights):
    """Models hold the moments of features, which only the cache has."""
    before = json.loads((weights / "index.json").read_text())
    for place in [place for place in (project.folder / "runs" / "cache").iterdir() if place.is_dir()]:
        shutil.rmtree(place)
    project.stages("ablate")
    assert before and json.loads((weights / "index.json").read_text()) == before


@pytest.mark.slow
def test_a_voc_folder_runs_through_the_whole_pipeline(project, voc):
    block = tiers.read(project.folder / "params.yaml")["tiers"]["voc_subset"]
    block |= {"tables": ["T5", "T7"], "seeds": [0], "samples": 2, "frequent": {"min_images": 3, "min_pixels": 0.1}}
    block["data"] |= {"tune": 2, "pad": [64, 64]}
    block["recipe"] |= {"steps": 3, "batch": 2, "validations": 1}
    project.params["tiers"]["voc_subset"], project.params["tier"] = block, "voc_subset"
    project.save()
    project.environment["STUDY_DATA_VOC_SUBSET"] = str(voc)
    project.stages("data", "plan", "ablate", "evaluate", "score", "report")
    folder = project.folder / "reports" / "voc_subset"
    plan = json.loads((folder / "plan.json").read_text())
    staged = [t for t in plan["trainings"].values() if t["after"]]
    # Stage-2 is Table 5's own training; Stage-3 starts from it, and its evaluations run the backbone on scaled images.
    assert len(plan["trainings"]) == 6 and {t["data"] for t in staged} == {"T7 Stage-3"}
    assert all((folder / "examined" / key / "counts.npz").is_file() for key in plan["evaluations"])
    facts = json.loads((folder / "data.json").read_text())["main"]
    assert facts["frequent"] == [0, 3]
    assert facts["colours"]["person"] == [192, 128, 128], "VOC's own"
    # Training and confusion use the same cached features, so their counts are equal.
    index = json.loads((folder / "confusion" / "index.json").read_text())
    assert {told["cell"] for told in index.values()} == {address for address in HEADLINE if address[:2] in ("T5", "T7")}
    for name, told in index.items():
        counted = np.loadtxt(folder / "confusion" / name, int, delimiter=",", skiprows=1, usecols=range(1, 22))
        stored = np.load(folder / "results" / told["training"] / "counts.npz")["counts"]
        assert np.array_equal(metrics.counts(counted), metrics.total(stored).sum(0)) and counted.sum()
    _models_are_written_again_where_the_cache_is_gone(project, folder / "weights")
    with (folder / "scores.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["address"] == "T5/GCN/overall"]
    assert {row["metric"]: row["paper"] for row in rows} == {"miou": "0.745", "miou_frequent": "", "pixel_accuracy": ""}
    assert all(0 <= float(row["value"]) <= 1 for row in rows)
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")
