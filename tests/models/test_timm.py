"""Backbones of timm: their maps are timm's own, they train in channels_last, and what cannot serve is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from study.models.backbones import TimmBackbone
from study.models.build import build_backbone
from study.spec.errors import InputError
from study.spec.training import Network, freeze
from tests.conftest import Project

pytestmark = pytest.mark.slow

CHANNELS = {
    "resnet18": (64, 128, 256, 512),
    "mobilenetv3_small_100": (16, 24, 48, 576),
    "convnext_atto": (40, 80, 160, 320),
    "regnety_002": (24, 56, 152, 368),
    "mambaout_femto": (48, 96, 192, 288),  # gives (N, H, W, C) of itself
}
STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


@pytest.fixture(autouse=True)
def _drawing() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _images(number: int, height: int, width: int) -> torch.Tensor:
    return (torch.rand(number, 3, height, width) * 255).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", CHANNELS)
def test_channels_last_gives_every_weight_a_finite_gradient(name: str) -> None:
    backbone = build_backbone(Network("timm", (), freeze({"model": name, "weights": None, "frozen_norm": False})))
    assert backbone.training
    assert backbone.channels == dict(zip(STRIDES, CHANNELS[name], strict=True)) and backbone.strides == STRIDES
    found = backbone.to(memory_format=torch.channels_last)(_images(2, 64, 64))
    sizes = {level: (2, backbone.channels[level], 64 // stride, 64 // stride) for level, stride in STRIDES.items()}
    assert {level: tuple(maps.shape) for level, maps in found.items()} == sizes
    sum((maps * torch.randn_like(maps)).mean() for maps in found.values()).backward()
    gradients = {n: weights.grad for n, weights in backbone.named_parameters()}
    assert [n for n, g in gradients.items() if g is None or not g.isfinite().all()] == []


@pytest.mark.parametrize("name", CHANNELS)
def test_the_maps_are_those_of_timms_own_features(name: str) -> None:
    """Of the same weights, on images in 0..1 normalised as timm says; the deepest of each stride."""
    ours = TimmBackbone(name, None, True).eval()
    whole = timm.create_model(name, pretrained=False)
    whole.load_state_dict(ours.net.state_dict(), strict=False)
    cfg, images = whole.pretrained_cfg, _images(1, 96, 64)
    mean, std = (torch.tensor(cfg[what]).view(1, 3, 1, 1) for what in ("mean", "std"))
    with torch.no_grad():
        maps = whole.eval().forward_intermediates(
            (images / 255 - mean) / std, output_fmt="NCHW", intermediates_only=True
        )
        found = ours(images)
    deepest = {96 // one.shape[2]: one for one in maps}
    for level, stride in STRIDES.items():
        torch.testing.assert_close(found[level], deepest[stride], rtol=1e-3, atol=1e-4)


def test_strided_1x1_convolutions_are_subsampled() -> None:
    """As torch's own crash in training: see study.models.resnet_gcn_block."""
    net = TimmBackbone("regnety_002", None, True).net
    ones = [module for module in net.modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)]
    assert {conv.stride for conv in ones} == {(1, 1)} and sum(hasattr(conv, "every") for conv in ones) == 4


@pytest.mark.parametrize("frozen", [True, False])
def test_only_unfrozen_batch_statistics_move_in_training(frozen: bool) -> None:
    model = nn.Sequential(TimmBackbone("mobilenetv3_small_100", None, frozen)).eval().train()
    before = {n: b.clone() for n, b in model.named_buffers() if "running" in n}
    with torch.no_grad():
        model(_images(2, 64, 64))
    moved = [n for n, value in model.named_buffers() if n in before and not torch.equal(value, before[n])]
    assert before and moved == ([] if frozen else list(before))


def test_image_normalisation_follows_the_model_tag() -> None:
    found = {name: TimmBackbone(name, None, True) for name in ("resnetv2_50x1_bit", "resnet18.a1_in1k")}
    assert found["resnetv2_50x1_bit"].mean.flatten().tolist() == [127.5] * 3
    imagenet = torch.tensor([58.395, 57.12, 57.375])
    torch.testing.assert_close(found["resnet18.a1_in1k"].std.flatten(), imagenet)


def test_a_missing_stride_leaves_the_other_levels() -> None:
    backbone = TimmBackbone("shvit_s1", None, True)  # strides 16, 32 and 64
    assert backbone.strides == {"res4": 16, "res5": 32}
    assert list(backbone(_images(1, 64, 64))) == ["res4", "res5"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": "resnet81"}, r"must be one of timm\.list_models\(\).*, got 'resnet81'; write e\.g\. resnet18"),
        ({"model": "resnet18.no_tag"}, r"must be one of .*, got 'resnet18\.no_tag'; write e\.g\. resnet18"),
        ({"model": "hf-hub:timm/resnet18.a1_in1k"}, r"must be one of .*; write e\.g\. resnet18\.a1_in1k"),
        ({"model": 18}, r"must be one of .*, got 18; write e\.g\. resnet18"),
        ({"model": "convmixer_768_32"}, r"must have feature maps at strides among .*, got .* with \[7\]; take another"),
        ({"model": "swin_tiny_patch4_window7_224"}, r"must take images of any size .*, got swin_tiny.* \(224\)"),
        ({"model": "inception_v3"}, r"must take images of any size .*, got inception_v3 with .*; take a convol"),
        ({"weights": "imagenet"}, r"pretrained weights must be a file, got .*imagenet; "),
        ({"weights": "/no/such/file.pth"}, r"pretrained weights must be a file, got /no/such/file\.pth; "),
        ({"depth": 50}, r"network\.options must fit the backbone timm .*depth"),
    ],
)
def test_what_cannot_serve_is_told(change: dict, told: str) -> None:
    options = {"model": "resnet18", "weights": None, "frozen_norm": True}
    with pytest.raises(InputError, match=told):
        build_backbone(Network("timm", (), freeze(options | change)))


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_100"])
def test_a_file_loads_with_any_or_no_classifier(tmp_path: Path, name: str) -> None:
    """What lies behind the last map is in timm's files, of 1000 classes or others, and not in ours."""
    first: dict[str, torch.Tensor] = {}
    for number in (1000, 7, 0):
        state = timm.create_model(name, num_classes=number).state_dict()
        first = first or state
        torch.save(
            first | {n: v for n, v in state.items() if n not in first or first[n].shape != v.shape}, tmp_path / "net.pt"
        )
        ours = TimmBackbone(name, str(tmp_path / "net.pt"), True).net.state_dict()
        assert len(ours) > 50 and all(torch.equal(first[n], value) for n, value in ours.items())
    torch.save(ours, tmp_path / "ours.pt")
    again = TimmBackbone(name, str(tmp_path / "ours.pt"), True).net.state_dict()
    assert all(torch.equal(ours[n], value) for n, value in again.items())


def test_weights_of_another_architecture_name_misfitting_tensors(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet34").state_dict(), tmp_path / "resnet34.pt")
    told = r"must fit ResNet tensor by tensor.*resnet34\.pt, where \d+ of \d+ do not fit \(layer1\.2\.bn1\.bias, .*\); "
    with pytest.raises(InputError, match=told):
        TimmBackbone("resnet18", str(tmp_path / "resnet34.pt"), True)


@pytest.mark.long
def test_a_timm_tier_trains_from_a_weights_file(project: Project) -> None:
    torch.save(timm.create_model("resnet18").state_dict(), project.folder / "resnet18.pt")
    options = {"model": "resnet18", "weights": "resnet18.pt", "frozen_norm": True}
    project.tier["network"] = {
        "backbone": "timm", "levels": ["res3", "res4", "res5"], "frozen": False, "output_stride": 1, "options": options,
    }  # fmt: skip
    project.tier.update(settings={}, tables=[], extra=[{"head": "gcn", "k": 3, "refine": True}])
    project.save()
    project.stages("data", "plan", "ablate", "evaluate", "score")
    (key,) = project.runs()
    run = project.folder / "runs" / key
    spec = json.loads((run / "training.json").read_text())["spec"]
    assert spec["network"]["backbone"] == "timm" and ["model", "resnet18"] in spec["network"]["options"]
    with np.load(run / "counts.npz") as counts:
        assert counts["counts"].sum() > 0
    before = torch.load(project.folder / "resnet18.pt", weights_only=True)["conv1.weight"]
    after = torch.load(run / "weights.pt", weights_only=True)["backbone.net.conv1.weight"]
    assert not torch.equal(before, after) and (before - after).abs().max() < 0.1
    assert ",done" in (project.reports / "scores.csv").read_text()
