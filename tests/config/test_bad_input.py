"""Bad inputs end before any training in one line with rule, value and remedy; good ones are read, once."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from study.config import tiers
from study.config.execution import execution_of
from study.config.inheritance import in_full
from study.data.prepare import PAD_COLOUR, folder_of, intact, open_data, prepare
from study.models.backbones import load_weights
from study.models.build import build_backbone
from study.plan import planner
from study.spec.constants import MAIN, VOID
from study.spec.documents.data import Facts
from study.spec.documents.plan import PlanFile
from study.spec.documents.reading import read
from study.spec.heads import HEADS
from study.spec.training import Data, Network, freeze
from study.store import stage
from tests.conftest import ROOT

PARAMS = in_full(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
HEIGHT, WIDTH = 24, 32
NAMES = {"train": ("a", "b", "c", "d"), "val": ("e", "f")}
LISTS = Path("ImageSets") / "Segmentation"
Told = Callable[[Callable[[], Any]], str]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """What a stage prints of a mistake: one line on stderr, and exit status 2."""

    def line(action: Callable[[], Any]) -> str:
        assert stage.run(lambda: action() and None) == 2
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("error: ")
        return said.err.strip()

    return line


def _photograph(path: Path, seed: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def _mask(path: Path, seed: int, classes: int, void: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.random.default_rng(seed).integers(0, classes, size, dtype=np.uint8)
    labels[:2] = void
    Image.fromarray(labels).save(path)


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """CamVid as the SegNet tutorial has it: its lists name the masks and images below /SegNet/CamVid."""
    root = tmp_path / "camvid"
    for split, names in NAMES.items():
        for name in names:
            _photograph(root / split / f"{name}.png", ord(name))
            _mask(root / f"{split}annot" / f"{name}.png", ord(name), 11, 11)
        upstream = "/SegNet/CamVid/"
        rows = [f"{upstream}{split}/{name}.png {upstream}{split}annot/{name}.png" for name in names]
        (root / f"{split}.txt").write_text("\n".join(rows) + "\n\n")
    return root


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "voc"
    (root / LISTS).mkdir(parents=True)
    for split, names in NAMES.items():
        for name in names:
            _photograph(root / "JPEGImages" / f"{name}.jpg", ord(name))
            _mask(root / "SegmentationClass" / f"{name}.png", ord(name), 21, VOID)
        (root / LISTS / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def _data(name: str, tune: int = 1, pad: tuple[int, int] = (32, 40)) -> Data:
    own = {"camvid": {"coarse_share": 0, "coarse_px": 0}, "voc": {"train": "auto"}}
    return Data(name, freeze({"tune": tune, "pad": pad} | own[name]))


def _prepare(data: Data, root: Path | None, cache: Path, tick=lambda done, every: None) -> dict[str, Any]:
    return prepare(data, root, cache, 2, tick=tick)


# params.yaml


def _changed(path: str, value: Any, name: str = "smoke") -> dict[str, Any]:
    """params.yaml with one value of a tier's block changed; ``path`` such as data.name. Missing if value is ..."""
    params = copy.deepcopy(PARAMS)
    block = params["tiers"][name]
    *parents, last = path.split(".")
    for parent in parents:
        block = block[parent]
    if value is ...:
        del block[last]
    else:
        block[last] = value
    return params


@pytest.mark.parametrize(
    ("path", "value", "rule", "got", "remedy"),
    [
        ("data.name", "kitti", "data.name must be one of camvid, cityscapes, coco, folder", "'kitti'", "rename"),
        ("data.name", ..., "data must have the key 'name'", "cue", "add it"),
        ("data.tune", -1, "data.tune must be a whole number from 0 up", "-1", "write one"),
        ("data.pad", [64, 64], "data shapes must have the options", "pad", "remove 'pad'"),
        ("network.backbone", "vgg16", "backbone must be an entry of BACKBONES", "'vgg16'", "rename it or add"),
        ("network.levels", [], "levels must name at least one", "none", "write"),
        ("extra", [{"head": "wavelet", "k": 3}], "extra.head must be one of dense, stack, gcn", "'wavelet'", "rename"),
        ("extra", [{"head": "gcn", "k": 4}], "odd", "4", "take one of 1, 3, 5, 7"),
        ("extra", [{"head": "gcn", "k": 0}], "positive odd", "0", "take one of"),
        ("extra", [{"head": "gcn", "k": -3}], "positive odd", "-3", "take one of"),
        ("extra", [{"head": "gcn", "k": "7"}], "whole number", "'7'", "take one of"),
        ("extra", [{"head": "stack", "k": 1}], "from 3 up", "1", "take 3, 5"),
        ("extra", [{"head": "stack", "k": 7, "width": 0}], "width of a stack must be positive", "0", "take a share"),
        (
            "extra",
            [{"head": "stack", "k": 7, "width": 4e8}],
            "width must be at most 100,000 (of the input",
            "400000000",
            "take a share",
        ),
        ("extra", [{"head": "stack", "k": 7, "width": "wide"}], "width must be a number or a share", "'wide'", "1/2"),
        ("extra", [{"head": "gcn", "k": 7, "width": 0.5}], "width must be used with head: stack", "gcn", "drop it"),
        ("extra", [{"head": "gcn"}], "must have the key 'k'", "['head']", "add it"),
        ("extra", [{"head": "gcn", "k": 7, "br": True}], "known keys only", "'br'", "take one of"),
        ("extra", [{"head": "gcn", "k": 7, "at": {"res2": {"head": "x", "k": 1}}}], "at.res2.head", "'x'", "rename"),
        ("tables", ["T1", "T99"], "tables must be one of T1, T2, T3, T4, T5", "'T99'", "rename"),
        ("seeds", [], "seeds must be different whole numbers from 0 up", "[]", "write e.g. [0, 1, 2]"),
        ("seeds", [0, 0], "seeds must be different", "[0, 0]", "write"),
        ("seeds", [-1], "from 0 up", "[-1]", "write"),
        ("seeds", [0.5], "whole numbers", "[0.5]", "write"),
        ("seeds", ["a"], "whole numbers", "['a']", "write"),
        ("recipe.optimizer", "adam", "optimizer must be one of sgd, adamw", "'adam'", "rename"),
        ("recipe.schedule", "step", "schedule must be one of constant, cosine, poly", "'step'", "rename"),
        ("recipe.precision", "fp16", "precision must be one of fp32, bf16", "'fp16'", "rename"),
        ("recipe.steps", 0, "steps must be a whole number from 1 up", "0", "write one"),
        ("recipe.lr", "fast", "lr must be a positive number", "'fast'", "write it with a dot"),
        ("recipe.lr", float("nan"), "lr must be a positive number", "nan", "write one"),
        ("recipe.steps", 1.5, "steps must be a whole number from 1 up", "1.5", "write one"),
        ("recipe.validations", 0, "validations must be a whole number from 1 up", "0", "write one"),
        ("recipe.warmup", 5, "warmup must be a number from 0 to 1", "5", "write one"),
        ("network.output_stride", 0, "output_stride must be a whole number from 1 up", "0", "write one"),
        ("network.output_stride", -1, "output_stride must be a whole number from 1 up", "-1", "write one"),
        ("network.levels", "res5", "levels must be a list", "'res5'", "write it in brackets"),
        ("network.options", None, "options must be a mapping", "None", "write its keys"),
        ("band_px", 0, "band_px must be a whole number from 1 up", "0", "write one"),
        ("seeds", 3, "seeds must be a list", "3", "write it in brackets"),
        ("seeds", [True], "whole numbers", "[True]", "write"),
        ("tables", None, "tables must be a list", "None", "write it in brackets"),
        ("data", None, "data must be a mapping", "None", "write its keys"),
        ("controls", None, "controls must be a mapping", "None", "write its keys"),
        ("extra", [{"head": "gcn", "k": 3, "at": ["res2"]}], "extra.at must be a mapping", "['res2']", "write its"),
        ("recipe.momentum", ..., "recipe must have the key 'momentum'", "batch", "add it"),
        ("recipe", "sgd", "recipe must be a mapping", "'sgd'", "write its keys below"),
        ("band_px", ..., "tiers.smoke must have the key 'band_px'", "data", "add it"),
        ("bands_px", 3, "tiers.smoke must have known keys only", "'bands_px'", "take one of"),
        ("frequent", {"min_images": 3}, "frequent must have the key 'min_pixels'", "min_images", "add it"),
        ("controls.colour.data", {"name": "fog"}, "controls.colour.data.name must be one of", "'fog'", "rename"),
        ("controls.colour.variants", [{"head": "gcn", "k": 2}], "odd", "2", "take one of"),
        ("mechanisms.shape.shows", "fog", "shape.shows must be a segmentation", "'fog'", "take one of main"),
        ("mechanisms.shape.absent", "T7 Stage-2", "absent must be a segmentation", "'T7 Stage-2'", "take one of main"),
        ("mechanisms.shape.absent", "main", "absent must differ from the setting in", "'main'", "name the control"),
        ("mechanisms.shape.claim", "luck", "claim must be one of rises", "'luck'", "rename"),
        ("mechanisms.shape.metric", "accuracy", "metric must be one of miou", "'accuracy'", "rename"),
        ("mechanisms.shape.inference", "TTA", "one of the tier's inference methods (MS", "'TTA'", "rename"),
        ("mechanisms.shape.worse", {"head": "gcn", "k": 15}, "worse must differ", "GCN k=15 twice", "change one"),
    ],
)
def test_a_wrong_value_in_a_tier_is_told(told: Told, path: str, value: Any, rule: str, got: str, remedy: str) -> None:
    line = told(lambda: tiers.load(_changed(path, value), "smoke"))
    before, after = line.split("got ", 1)
    assert rule in before and got in after and remedy in after


def test_an_unknown_tier_error_lists_the_tiers(told: Told) -> None:
    line = told(lambda: tiers.load(PARAMS, "imagenet"))
    assert (
        "tier must be one of shapes, smoke, camvid, voc_subset, voc, voc_weekend, cityscapes, got 'imagenet'; set "
        in line
    )


@pytest.mark.parametrize("blocks", [None, {"smoke": None}])
def test_an_empty_block_is_told(told: Told, blocks: Any) -> None:
    assert "must be a mapping, got None; write its keys" in told(lambda: tiers.load({"tier": "smoke", "tiers": blocks}))


@pytest.mark.parametrize("name", PARAMS["tiers"])
def test_every_project_tier_loads_and_is_planned(name: str) -> None:
    """The good path: each tier's 19 variants by seed and what it adds, once each."""
    loaded = tiers.load(PARAMS, name)
    fact = {"fingerprint": "0", "classes": ["a", "b"], "size": [64, 64], "splits": {}}
    planned = planner.build(loaded, dict.fromkeys(loaded.settings, fact), "cpu")
    main = [t for key, t in planned.trainings.items() if planned.data_of[key] == MAIN]
    assert {t.seed for t in planned.trainings.values()} == set(loaded.seeds)
    assert len({t.variant for t in main} - set(loaded.extra)) <= 19
    assert len(main) == len({t.variant for t in main}) * len(loaded.seeds)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("tier: [shapes\n  x: :", "must be a readable YAML file"),
        ("", "params.yaml must be a mapping"),
        ("- shapes\n", "params.yaml must be a mapping"),
        ("tier: shapes\n", "must have the key 'execution'"),
        (None, "must be a readable YAML file"),
        (b"tier: sh\xe4pes\n", "must be a readable YAML file"),
    ],
    ids=["malformed", "empty", "list", "half", "missing", "not UTF-8"],
)
def test_a_malformed_params_file_is_told(told: Told, tmp_path: Path, content: str | bytes | None, rule: str) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = told(lambda: tiers.read(path))
    assert rule in line and "got " in line and "; " in line


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ({"engine": "slurm"}, "'slurm'"),
        ({"workers": 0}, "0"),
        ({"device": "tpu"}, "'tpu'"),
        ({"x": 1}, "'x'"),
        ({"gpus_per_training": 1.5}, "1.5"),
        ({"gpus_per_training": 0}, "0"),
        ({"processes_per_training": 0}, "0"),
    ],
)
def test_a_wrong_value_in_execution_is_told(told: Told, change: dict[str, Any], got: str) -> None:
    line = told(lambda: execution_of({"execution": PARAMS["execution"] | change}))
    assert "execution" in line and f"got {got}" in line and "; " in line


@pytest.mark.parametrize("make", HEADS.values())
@pytest.mark.parametrize("k", [2, 0, -1])
def test_even_and_non_positive_kernels_are_told(told: Told, make, k: int) -> None:
    assert f"got {k}; take" in told(lambda: make(k))


# weights


def test_unknown_backbones_and_mismatched_weights_are_refused(told: Told, tmp_path: Path) -> None:
    assert "got 'vgg'; rename" in told(lambda: build_backbone(Network("vgg", ("res5",))))
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no state dict")
    layer = torch.nn.Linear(1, 1)
    assert "(bias, weight, x); name the right ones" in told(lambda: load_weights(layer, tmp_path / "other.pt"))
    assert "must be a state dict of tensors" in told(lambda: load_weights(layer, tmp_path / "text.pt"))
    assert "must be a file" in told(lambda: load_weights(layer, tmp_path / "none.pt"))


# folders, lists and images


@pytest.mark.parametrize("name", ["camvid", "voc"])
def test_a_missing_or_empty_data_folder_is_told(told: Told, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    roots = {"none": None, "away": tmp_path / "away", "empty": tmp_path / "empty"}
    lines = {key: told(lambda root=root: open_data(_data(name), root, tmp_path)) for key, root in roots.items()}
    assert "got none; set data.root of the tier in params.yaml or STUDY_DATA_<TIER>" in lines["none"]
    assert f"got {tmp_path / 'away'} (no folder); name the right one" in lines["away"]
    assert f"got {tmp_path / 'empty'} (an empty folder); name the right one" in lines["empty"]


@pytest.mark.parametrize("tune", [0, 4, 400])
def test_a_tune_split_that_leaves_nothing_is_told(told: Told, camvid: Path, tune: int) -> None:
    line = told(lambda: open_data(_data("camvid", tune), camvid, camvid / "cache"))
    assert "tune must be at least 1 and less than the 4 training images" in line and f"got {tune}" in line


def _spoil_list(root: Path) -> None:
    (root / "train.txt").write_text("train/a.png trainannot/a.png\ntrain/b.png trainannot/zz.png\n")


def _spoil_line(root: Path) -> None:
    (root / "val.txt").write_text("val/e.png\n")


def _spoil_size(root: Path) -> None:
    _photograph(root / "train" / "b.png", 0, (HEIGHT, WIDTH + 1))


def _spoil_label(root: Path) -> None:
    _mask(root / "trainannot" / "b.png", 0, 11, 12)


def _spoil_mode(root: Path) -> None:
    _photograph(root / "trainannot" / "b.png", 0)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _enlarge(root: Path) -> None:
    _photograph(root / "val" / "e.png", 0, (48, WIDTH))
    _mask(root / "valannot" / "e.png", 0, 11, 11, (48, WIDTH))


@pytest.mark.parametrize(
    ("spoil", "rule", "got", "remedy"),
    [
        (_spoil_list, "a list must name files that exist", "zz.png", "remove the line"),
        (_spoil_line, "a line of val.txt must name an image and a mask", "'val/e.png'", "correct the list"),
        (lambda root: (root / "val.txt").unlink(), "must have its list val.txt", "val.txt", "name the folder"),
        (lambda root: (root / "val.txt").write_text(""), "split val must have at least one image", "none", "name more"),
        (_spoil_size, "an image and its mask must have the same size", "(24, 33) and (24, 32) for b", "replace one"),
        (_spoil_label, "a mask must hold class labels 0 to 10 or void only", "12 in b", "correct the mask"),
        (_spoil_mode, "a mask must be a palette or grey image", "mode RGB", "convert it"),
        (lambda root: _truncate(root / "train" / "c.png"), "an image must be whole", "c.png", "fetch it again"),
        (lambda root: _truncate(root / "valannot" / "e.png"), "an image must be whole", "e.png", "fetch it again"),
        (lambda root: (root / "val" / "e.png").write_bytes(b""), "an image must be whole", "e.png", "fetch it again"),
        (_enlarge, "e.png must fit into (32, 40)", "(48, 32)", "enlarge `pad`"),
    ],
)
def test_faulty_data_is_refused_and_leaves_no_cache(
    told: Told, camvid: Path, tmp_path: Path, spoil: Callable[[Path], Any], rule: str, got: str, remedy: str
) -> None:
    spoil(camvid)
    line = told(lambda: _prepare(_data("camvid"), camvid, tmp_path / "cache"))
    before, after = line.split("got ", 1)
    assert rule in before and got in after and remedy in after
    cache = tmp_path / "cache"
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.parametrize(
    ("change", "got"),
    [({"cue": "smell"}, "'smell'"), ({"size": 16}, "16"), ({"size": "big"}, "'big'"), ({"tune": 0}, "none")],
)
def test_wrong_options_of_the_synthetic_scenes_are_told(
    told: Told, tmp_path: Path, change: dict[str, Any], got: str
) -> None:
    options = {"cue": "shape", "size": 32, "panels": 1, "train": 1, "tune": 1, "val": 1, "lines": 1, "noise": 0}
    options |= {"mislabelled": 0, "coarse_share": 0, "coarse_px": 0} | change
    line = told(lambda: _prepare(Data("shapes", freeze(options)), None, tmp_path))
    assert "must" in line and f"got {got}; " in line


# the good path


def test_camvid_is_read_padded_with_void_as_255(camvid: Path, tmp_path: Path) -> None:
    facts = _prepare(_data("camvid"), camvid, tmp_path / "cache")
    assert facts["splits"] == {"train": 3, "tune": 1, "val": 2} and len(facts["classes"]) == 11
    folder = folder_of(tmp_path / "cache", facts["fingerprint"])
    images, labels = np.load(folder / "val-images.npy"), np.load(folder / "val-labels.npy")
    assert np.load(folder / "val-names.npy").tolist() == ["e", "f"]
    assert images.shape == (2, 32, 40, 3) and labels.shape == (2, 32, 40)
    given = np.asarray(Image.open(camvid / "valannot" / "e.png"))
    assert images[0, :HEIGHT, :WIDTH].tolist() == np.asarray(Image.open(camvid / "val" / "e.png")).tolist()
    assert labels[0, 2:HEIGHT, :WIDTH].tolist() == given[2:].tolist()
    assert (labels[:, :2] == VOID).all()
    assert (labels[:, HEIGHT:] == VOID).all() and (labels[:, :, WIDTH:] == VOID).all()
    assert (images[:, HEIGHT:] == PAD_COLOUR).all() and (images[:, :, WIDTH:] == PAD_COLOUR).all()
    trained = [np.asarray(Image.open(camvid / "trainannot" / f"{n}.png")) for n in np.load(folder / "train-names.npy")]
    assert facts["pixels"] == np.bincount(np.stack(trained)[:, 2:].ravel(), minlength=11).tolist()


@pytest.mark.parametrize("nested", [False, True])
def test_voc_prefers_the_augmented_training_list(voc: Path, tmp_path: Path, nested: bool) -> None:
    root, base = voc, voc
    if nested:
        root = tmp_path / "outer"
        base = root / "VOCdevkit" / "VOC2012"
        base.parent.mkdir(parents=True)
        voc.rename(base)
    plain = open_data(_data("voc"), root, tmp_path / "cache")
    assert plain.splits == {"train": 3, "tune": 1, "val": 2}
    _photograph(base / "JPEGImages" / "x.jpg", 99)
    for name in (*NAMES["train"], "x"):
        _mask(base / "SegmentationClassAug" / f"{name}.png", 99, 21, VOID)
    rows = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png" for name in NAMES["train"]]
    (base / LISTS / "train_aug.txt").write_text("\n".join([*rows, "x"]))
    augmented = open_data(_data("voc"), root, tmp_path / "cache")
    assert augmented.splits == {"train": 4, "tune": 1, "val": 2}
    parents = {path.parent.name for path in augmented.files() if path.suffix == ".png"}
    assert parents == {"SegmentationClassAug", "SegmentationClass"}
    found = augmented.read("train", 0)[1]
    assert found.tolist() == np.asarray(Image.open(base / "SegmentationClassAug" / "a.png")).tolist()


def test_the_tune_split_depends_on_names_alone(camvid: Path) -> None:
    """Not on the order of the list; and it is never trained on."""

    def named() -> dict[str, set[str]]:
        source = open_data(_data("camvid", 2), camvid, camvid / "cache")
        return {split: {source.name(split, i) for i in range(number)} for split, number in source.splits.items()}

    before = named()
    path = camvid / "train.txt"
    path.write_text("\n".join(reversed(path.read_text().split("\n"))))
    assert named() == before
    assert before["train"] | before["tune"] == set(NAMES["train"]) and not before["train"] & before["tune"]


def test_the_fingerprint_follows_pixels_not_times(camvid: Path, tmp_path: Path) -> None:
    first = _prepare(_data("camvid"), camvid, tmp_path / "cache")["fingerprint"]
    for path in camvid.rglob("*.png"):
        os.utime(path, (1, 1))
    read: list[int] = []
    assert (
        _prepare(_data("camvid"), camvid, tmp_path / "cache", lambda done, every: read.append(done))["fingerprint"]
        == first
    )
    assert len(read) == 6  # they were read again, to find nothing changed
    path = camvid / "valannot" / "f.png"
    mask = np.array(Image.open(path))
    mask[5, 5] = (mask[5, 5] + 1) % 11
    Image.fromarray(mask).save(path)
    assert _prepare(_data("camvid"), camvid, tmp_path / "cache")["fingerprint"] != first


def test_a_cache_is_reused_unless_it_is_damaged(camvid: Path, tmp_path: Path) -> None:
    read: list[int] = []

    def again() -> dict[str, Any]:
        read.clear()
        return _prepare(_data("camvid"), camvid, tmp_path / "cache", lambda done, every: read.append(done))

    facts = again()
    assert read == [1, 2, 3, 4, 5, 6]
    assert again() == facts and read == []
    folder = folder_of(tmp_path / "cache", facts["fingerprint"])
    whole = (folder / "train-images.npy").read_bytes()
    (folder / "train-images.npy").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert not intact(folder)
    assert again() == facts and len(read) == 6 and intact(folder)
    assert (folder / "train-images.npy").read_bytes() == whole
    (folder / "val-labels.npy").unlink()
    assert again() == facts and len(read) == 6 and (folder / "val-labels.npy").is_file()


# the stages


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"tier": "imagnet"},
            "error: tier must be one of shapes, smoke, camvid, voc_subset, voc, voc_weekend, cityscapes, got 'imagnet'",
        ),
        ({}, "error: camvid's data.root must have a folder, got none; set data.root"),
    ],
    ids=["tier", "root"],
)
def test_an_input_error_exits_2_with_one_line(tmp_path: Path, change: dict[str, str], message: str) -> None:
    params = _changed("data", PARAMS["tiers"]["camvid"]["data"]) | {"tier": "smoke"} | change
    params["tiers"]["smoke"] |= {"controls": {}, "mechanisms": {}, "tables": ["T1"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STUDY_")}
    environment |= {"PYTHONPATH": str(ROOT), "STUDY_STORE": str(tmp_path / "runs")}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.data"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1 and done.stdout == ""
    assert not (tmp_path / "reports").exists()


def test_a_broken_or_missing_stage_output_is_refused(told: Told, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"a": 1})[:-1])
    assert "run `make repro`" in told(lambda: read(tmp_path / "plan.json", PlanFile))
    assert "run `make repro`" in told(lambda: read(tmp_path / "data.json", dict[str, Facts]))
