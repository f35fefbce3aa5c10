"""Backbones and the block of Fig. 5B: what they compute, what stays fixed in training, which weights they take."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from study.models.backbones import (
    BACKBONES,
    ResNetGCN,
    ShallowResNet,
    ShallowResNetGCN,
    TorchvisionResNet,
    load_weights,
    transfer,
)
from study.models.build import build_backbone
from study.models.resnet_gcn_block import GlobalBlock, subsample
from study.spec.errors import InputError
from study.spec.training import Network, freeze
from study.store.code_digest import ROOT, entry, reached

WIDTHS, STRIDES = (8, 16, 16), (2, 4, 4)
OPTIONS = {
    "shallow": {"widths": WIDTHS, "strides": STRIDES},
    "shallow_gcn": {"widths": WIDTHS, "strides": STRIDES, "gcn": {"res3": [3, 6], "res4": [5, 6]}, "join": "concat"},
    "resnet": {"depth": 50, "weights": None, "frozen_norm": True},
    "resnet_gcn": {"join": "sum", "weights": None, "frozen_norm": True},
    "efficientnet_lite0": {"weights": None},
    "timm": {"model": "resnet18", "weights": None, "frozen_norm": True},
}


@pytest.fixture(autouse=True)
def _drawing() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@functools.cache
def _resnet() -> TorchvisionResNet:
    return TorchvisionResNet(50, None, True).train()


def _images(number: int, side: int) -> torch.Tensor:
    return (torch.rand(number, 3, side, side) * 255).contiguous(memory_format=torch.channels_last)


def _step(backbone: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of a pass in channels_last, by parameter."""
    backbone.to(memory_format=torch.channels_last).zero_grad()
    sum((maps * torch.randn_like(maps)).mean() for maps in backbone(images).values()).backward()
    return {name: weights.grad for name, weights in backbone.named_parameters()}


def _statistics(backbone: nn.Module) -> dict[str, torch.Tensor]:
    return {n: b.clone() for n, b in backbone.named_buffers() if "running" in n or "tracked" in n}


def test_the_options_above_are_those_of_every_backbone() -> None:
    assert OPTIONS.keys() == BACKBONES.keys()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_backbone_yields_its_declared_channels_and_strides(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(Network(name, (), freeze(OPTIONS[name]))).eval()
        found = backbone(torch.empty(2, 3, 128, 192))
    assert list(found) == list(backbone.channels) == list(backbone.strides)
    for level, stride in backbone.strides.items():
        assert tuple(found[level].shape) == (2, backbone.channels[level], 128 // stride, 192 // stride)


# batch normalisation and the backward pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number", "side"),
    [("resnet", 1, 64), ("resnet", 2, 65), ("resnet_gcn", 1, 64), ("resnet_gcn", 2, 33), ("shallow_gcn", 1, 96)],
)
def test_channels_last_gives_every_weight_a_finite_gradient(name: str, number: int, side: int) -> None:
    """Scales and shifts of frozen batch normalisation too (D48)."""
    backbone = build_backbone(Network(name, (), freeze(OPTIONS[name]))).train()
    for weights in backbone.parameters():  # torchvision may start a scale at zero, which would hide what is behind
        nn.init.uniform_(weights, 0.001, 0.01)
    gradients = _step(backbone, _images(number, side))
    assert [n for n, g in gradients.items() if g is None or not g.isfinite().all() or not g.any()] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "resnet_gcn"])
@pytest.mark.parametrize("frozen", [True, False])
def test_only_unfrozen_batch_statistics_move_in_training(name: str, frozen: bool) -> None:
    backbone = build_backbone(Network(name, (), freeze(OPTIONS[name] | {"frozen_norm": frozen})))
    model = nn.Sequential(backbone).eval().train()  # as the loop does: on what holds the backbone
    before = _statistics(backbone)
    with torch.no_grad():
        model(_images(1, 64))
    moved = [n for n, value in _statistics(backbone).items() if not torch.equal(value, before[n])]
    assert len(before) > 150 and moved == ([] if frozen else list(before))
    assert backbone.training


def test_with_frozen_statistics_images_ignore_their_batch() -> None:
    images = _images(2, 64)
    images[1] *= 0.1
    with torch.no_grad():
        alone, together = _resnet()(images[:1])["res5"], _resnet()(images)["res5"][:1]
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_strided_1x1_convolutions_train_where_torchs_own_crash() -> None:
    """In a process of its own: few channels on a large map in channels_last end torch 2.14 without a message."""
    script = """
import torch
from torch import nn
from study.models.resnet_gcn_block import subsample
for inputs, outputs in ((3, 16), (8, 32)):
    net = nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False)).to(memory_format=torch.channels_last)
    subsample(net)
    maps = torch.rand(1, inputs, 96, 96).contiguous(memory_format=torch.channels_last).requires_grad_()
    wanted = nn.functional.conv2d(maps.detach()[..., ::2, ::2], net[0].weight)
    for _ in range(5):
        net(maps).backward(torch.ones_like(wanted))
    torch.testing.assert_close(net(maps), wanted)
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("side", [64, 65])
def test_a_resnet_computes_what_torchvisions_does(side: int) -> None:
    """Its strided projections are subsampled beforehand: the same function, the same gradients."""
    ours = TorchvisionResNet(50, None, True).double().train()
    import torchvision  # takes seconds, and one test alone needs it

    theirs = torchvision.models.resnet50(weights=None).double().eval()
    theirs.fc, theirs.avgpool = nn.Identity(), nn.Identity()
    theirs.load_state_dict(ours.net.state_dict())
    images = _images(2, side).double()
    found, wanted = ours(images)["res5"], theirs(ours.normalise(images))
    torch.testing.assert_close(found.flatten(1), wanted)
    found.square().mean().backward()
    wanted.square().mean().backward()
    gradients = {name: weights.grad for name, weights in theirs.named_parameters()}
    assert sum("downsample.0" in name for name in gradients) == 4
    for name, weights in ours.net.named_parameters():
        torch.testing.assert_close(weights.grad, gradients[name])


def test_only_strided_1x1_convolutions_are_subsampled() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1, 2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 6, 1, (3, 1)))
    maps = torch.randn(1, 4, 23, 22)
    wanted = net(maps)
    names = list(net.state_dict())
    subsample(net)
    assert [conv.stride for conv in net] == [(1, 1), (1, 1), (2, 2), (1, 1)]
    assert list(net.state_dict()) == names
    torch.testing.assert_close(net(maps), wanted)


# the block of Fig. 5B


@pytest.mark.parametrize("join", ["sum", "concat"])
@pytest.mark.parametrize(("inputs", "stride"), [(6, 1), (4, 1), (4, 2)])
def test_the_block_computes_what_fig_5b_draws(join: str, inputs: int, stride: int) -> None:
    """Written out with torch's functions: Conv-BN-ReLU four times, Conv-BN, the input added, ReLU."""
    block = GlobalBlock(inputs, 3, 6, k=5, stride=stride, join=join).eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
    maps = torch.randn(2, inputs, 12, 10)

    def unit(maps: torch.Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, step: int) -> torch.Tensor:
        height, width = conv.weight.shape[2:]
        maps = functional.conv2d(maps, conv.weight, None, step, (height // 2, width // 2))
        shape = (1, -1, 1, 1)
        maps = (maps - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
        return maps * norm.weight.view(shape) + norm.bias.view(shape)

    branches = []
    for branch, kernels in zip(block.branches, ([(1, 5), (5, 1)], [(5, 1), (1, 5)]), strict=True):
        assert [tuple(conv.weight.shape[2:]) for conv in branch if isinstance(conv, nn.Conv2d)] == kernels
        middle = unit(maps, branch[0], branch[1], stride).relu()
        branches.append(unit(middle, branch[3], branch[4], 1).relu())
    joined = sum(branches) if join == "sum" else torch.cat(branches, 1)
    same = inputs == 6 and stride == 1
    assert isinstance(block.skip, nn.Identity) is same
    skip = maps if same else unit(maps[..., ::stride, ::stride], block.skip[0], block.skip[1], 1)
    torch.testing.assert_close(block(maps), (unit(joined, *block.last, 1) + skip).relu(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "join", "weights"),
    [
        ("layer3", None, 1_114_112), ("layer3", "sum", 1_029_690), ("layer3", "concat", 1_116_730),
        ("layer4", None, 4_456_448), ("layer4", "sum", 4_161_536), ("layer4", "concat", 4_423_680),
    ],
)  # fmt: skip
def test_identity_blocks_have_the_weights_of_table_11(layer: str, join: str | None, weights: int) -> None:
    """Millions, of convolutions: res-4 1.114 against 1.030 (sum) or 1.117 (concat), res-5 4.456, 4.162 or 4.424."""
    with torch.device("meta"):
        backbone = TorchvisionResNet(50, None, True) if join is None else ResNetGCN(join, None, True)
    block = getattr(backbone.net, layer)[1]
    found = sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Conv2d))
    assert found == weights


def test_resnet50_gcn_differs_only_in_res4_and_res5() -> None:
    """Table 11: k = 5 with 85 channels in all six blocks of res-4, k = 7 with 128 in all three of res-5."""
    with torch.device("meta"):
        plain, gcn = TorchvisionResNet(50, None, True), ResNetGCN("sum", None, True)
    shapes = [{n: v.shape for n, v in net.net.state_dict().items()} for net in (plain, gcn)]
    differing = {n.split(".")[0] for n in shapes[0].keys() | shapes[1].keys() if shapes[0].get(n) != shapes[1].get(n)}
    assert differing == {"layer3", "layer4"}
    for layer, number, k, width in (("layer3", 6, 5, 85), ("layer4", 3, 7, 128)):
        blocks = list(getattr(gcn.net, layer))
        assert len(blocks) == number and all(isinstance(block, GlobalBlock) for block in blocks)
        convs = [m for block in blocks for m in block.branches.modules() if isinstance(m, nn.Conv2d)]
        assert {(m.out_channels, max(m.kernel_size), min(m.kernel_size)) for m in convs} == {(width, k, 1)}
    assert (plain.channels, plain.strides) == (gcn.channels, gcn.strides)


@pytest.mark.parametrize("make", [TorchvisionResNet, ResNetGCN])
def test_repeated_blocks_share_nothing(make) -> None:
    with torch.device("meta"):
        net = make("concat", None, True).net if make is ResNetGCN else make(50, None, True).net
    for layer, number in (("layer1", 3), ("layer2", 4), ("layer3", 6), ("layer4", 3)):
        assert len({id(block) for block in getattr(net, layer)}) == number
    weights = [id(weight) for _, weight in net.named_parameters(remove_duplicate=False)]
    assert len(set(weights)) == len(weights)


def test_shallow_gcn_changes_only_the_named_levels() -> None:
    """A seed's shallow nets with and without the block differ in the named levels alone."""
    nets = []
    for make in (ShallowResNet, functools.partial(ShallowResNetGCN, gcn=(("res3", (5, 6)),), join="sum")):
        torch.manual_seed(7)
        nets.append(make(WIDTHS, STRIDES).state_dict())
    plain, gcn = nets
    same = {n for n in plain.keys() & gcn.keys() if torch.equal(plain[n], gcn[n])}
    assert {n for n in plain if n not in same} == {n for n in plain if n.startswith("blocks.res3.")}
    assert {n for n in gcn if n not in same} == {n for n in gcn if n.startswith("blocks.res3.")}
    assert any(n.startswith("blocks.res4.") for n in same)


@pytest.mark.parametrize("gcn", [{"res4": (5, 6)}, (("res4", (5, 6)),)])
def test_shallow_gcn_accepts_mappings_and_frozen_pairs(gcn) -> None:
    net = ShallowResNetGCN(WIDTHS, STRIDES, gcn, "concat")
    assert [isinstance(block, GlobalBlock) for block in net.blocks.values()] == [False, False, True]


def test_no_backbone_reaches_another_ones_code() -> None:
    """A training's key holds what it reaches: new backbones leave the keys of old ones alone."""
    module = "study.models.backbones"
    every = {entry(module, "BACKBONES", name)[1] for name in BACKBONES} | {"GlobalBlock"}
    classes = {name: {found for _, found in reached(entry(module, "BACKBONES", name))} & every for name in BACKBONES}
    assert classes == {
        "shallow": {"ShallowResNet"},
        "shallow_gcn": {"ShallowResNetGCN", "ShallowResNet", "GlobalBlock"},
        "resnet": {"TorchvisionResNet"},
        "resnet_gcn": {"ResNetGCN", "TorchvisionResNet", "GlobalBlock"},
        "efficientnet_lite0": {"EfficientNetLite0"},
        "timm": {"TimmBackbone"},
    }


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("resnet", {"depth": 34}, r"depth of a ResNet must be 50, 101 or 152 .*, got 34; "),
        ("resnet", {"depth": "50"}, r"depth of a ResNet must be .*, got '50'; "),
        ("resnet_gcn", {"join": "product"}, r"must be joined by one of .*sum.*concat.*, got 'product'; "),
        ("resnet_gcn", {"weights": "imagenet"}, r"ResNet50-GCN must .*, got imagenet; name it"),
        ("shallow_gcn", {"join": None}, r"must be joined by .*, got None; "),
        ("shallow_gcn", {"gcn": {"res9": [5, 6]}}, r"gcn must name levels of .*res4.*, got 'res9'; "),
        ("shallow_gcn", {"gcn": {"res4": 5}}, r"network.options must fit the backbone shallow_gcn "),
    ],
)
def test_wrong_options_are_told(name: str, change: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        build_backbone(Network(name, (), freeze(OPTIONS[name] | change)))


# weights


@pytest.mark.slow
@pytest.mark.parametrize("classifier", [True, False])
def test_resnet_files_load_with_or_without_classifier(tmp_path: Path, classifier: bool) -> None:
    given = {n: torch.rand_like(v) if v.is_floating_point() else v for n, v in _resnet().net.state_dict().items()}
    file = given | ({"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)} if classifier else {})
    torch.save(file, tmp_path / "resnet50.pth")
    ours = TorchvisionResNet(50, str(tmp_path / "resnet50.pth"), True).net.state_dict()
    assert ours.keys() == given.keys() and all(torch.equal(ours[n], v) for n, v in given.items())


@pytest.mark.parametrize("make", [functools.partial(TorchvisionResNet, 50), functools.partial(ResNetGCN, "sum")])
def test_a_file_of_another_network_names_misfitting_tensors(tmp_path: Path, make) -> None:
    with torch.device("meta"):
        names = TorchvisionResNet(101, None, True).net.state_dict()
    state = {n: torch.zeros(()).expand(v.shape) for n, v in names.items() if n.startswith(("layer3.2", "layer4"))}
    torch.save(state, tmp_path / "resnet101.pth")
    told = r"must fit ResNet tensor by tensor.*resnet101\.pth.*\d+ of \d+ do not fit \(.+\)"
    with pytest.raises(InputError, match=told):
        make(str(tmp_path / "resnet101.pth"), True)


@pytest.mark.slow
def test_resnet_gcn_weights_load_only_under_their_join(tmp_path: Path) -> None:
    given = ResNetGCN("sum", None, True).net.state_dict()
    torch.save(given, tmp_path / "gcn.pt")
    ours = ResNetGCN("sum", str(tmp_path / "gcn.pt"), False).net.state_dict()
    assert all(torch.equal(ours[n], v) for n, v in given.items())
    with pytest.raises(InputError, match=r"layer3\.0\.last\.0\.weight"):
        ResNetGCN("concat", str(tmp_path / "gcn.pt"), False)


def test_a_weight_transfer_is_all_or_nothing() -> None:
    given, taken = (ShallowResNet(WIDTHS, STRIDES) for _ in range(2))
    state = {n: v.clone() for n, v in given.state_dict().items()}
    state["blocks.res3.norm.running_mean"].fill_(3)
    transfer(taken, state, "the first training's")
    assert all(torch.equal(value, state[n]) for n, value in taken.state_dict().items())
    wrong = {n: v + 1 for n, v in state.items() if n != "blocks.res2.conv.weight"} | {"more": torch.zeros(1)}
    told = (
        r"must fit ShallowResNet tensor by tensor, got the other training's, where 2 of \d+ do not fit "
        r"\(blocks\.res2.*, more\); "
    )
    with pytest.raises(InputError, match=told):
        transfer(taken, wrong, "the other training's")
    assert all(torch.equal(value, state[n]) for n, value in taken.state_dict().items())


def test_without_skips_only_tensors_of_that_prefix(tmp_path: Path) -> None:
    net = nn.ModuleDict({"fc": nn.Linear(1, 1), "fcx": nn.Linear(1, 1)})
    torch.save(net.state_dict() | {"head.weight": torch.zeros(1)}, tmp_path / "net.pt")
    load_weights(net, tmp_path / "net.pt", without="head.")
    with pytest.raises(InputError, match=r"\(fc\.bias, fc\.weight, head\.weight\)"):
        load_weights(net, tmp_path / "net.pt", without="fc.")


def test_a_dilated_resnet_keeps_its_resolution() -> None:
    """Stride 8 to the end, with the weights of the undilated network."""
    plain, dilated = (TorchvisionResNet(50, None, frozen_norm=True, dilated=d).eval() for d in (False, True))
    dilated.load_state_dict(plain.state_dict())
    with torch.no_grad():
        maps, wide = plain(torch.rand(1, 3, 64, 96)), dilated(torch.rand(1, 3, 64, 96))
    assert [tuple(wide[level].shape[2:]) for level in dilated.strides] == [(16, 24), (8, 12), (8, 12), (8, 12)]
    assert {level: 64 // maps[level].shape[2] for level in maps} == plain.strides
    assert dilated.strides == {"res2": 4, "res3": 8, "res4": 8, "res5": 8}
