"""What is told of networks is what the built modules are and do: the paper's sizes, counts and receptive fields."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import nn

from study.models import anatomy
from study.models.backbones import ResNetGCN, TorchvisionResNet
from study.models.boundary_refinement import BoundaryRefinement
from study.models.build import build, build_backbone
from study.models.decoder import Deconvolution
from study.models.heads import ConvHead
from study.spec.heads import Variant, dense, gcn, stack
from study.spec.training import Network, freeze

LEVELS = ("res2", "res3", "res4", "res5")
RESNET = {"weights": None, "frozen_norm": True}
SHALLOW = {"widths": (8, 16, 16, 16), "strides": (1, 2, 4, 4)}
NETWORKS = {
    "shallow": Network("shallow", LEVELS, freeze(SHALLOW)),
    "shallow_gcn": Network("shallow_gcn", ("res3", "res5"), freeze(SHALLOW | {"gcn": {"res4": (5, 6)}, "join": "sum"})),
    "efficientnet_lite0": Network("efficientnet_lite0", ("res4", "res5"), freeze({"weights": None}), True, 8),
}
VARIANTS = {"GCN + BR": Variant(gcn(5), refine=True), "stack": Variant(stack(5), at=(("res5", dense(1)),))}


@pytest.fixture(autouse=True)
def _drawing() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _network(depth: int) -> Network:
    return Network("resnet", LEVELS, freeze(RESNET | {"depth": depth}))


# Fig. 2A


@pytest.mark.slow
def test_the_described_network_has_fig_2a_sizes() -> None:
    """ResNet-152 on 512x512, 21 classes: four heads, five deconvolutions, nine BRs, a full-size output."""
    told = anatomy.describe(Variant(gcn(15), refine=True), _network(152), 21, (512, 512))
    assert [(s["name"], s["size"], s["channels"], s["stride"]) for s in told["stages"]] == [
        ("conv1", [256, 256], 64, 2),
        ("res2", [128, 128], 256, 4),
        ("res3", [64, 64], 512, 8),
        ("res4", [32, 32], 1024, 16),
        ("res5", [16, 16], 2048, 32),
    ]
    assert Counter(step["op"] for step in told["steps"]) == {"head": 4, "refine": 9, "up": 5, "add": 3}
    assert [(s["op"], s["name"], s["size"][0]) for s in told["steps"]] == [
        ("head", "res5", 16), ("refine", "head_res5", 16), ("up", "x16", 32),
        ("head", "res4", 32), ("refine", "head_res4", 32), ("add", "res4", 32), ("refine", "sum_res4", 32),
        ("up", "x8", 64),
        ("head", "res3", 64), ("refine", "head_res3", 64), ("add", "res3", 64), ("refine", "sum_res3", 64),
        ("up", "x4", 128),
        ("head", "res2", 128), ("refine", "head_res2", 128), ("add", "res2", 128), ("refine", "sum_res2", 128),
        ("up", "x2", 256), ("refine", "x2", 256), ("up", "x1", 512), ("refine", "x1", 512),
    ]  # fmt: skip
    assert {step["channels"] for step in told["steps"]} == {21} and told["steps"][-1]["size"] == told["input"]
    assert told["levels"] == ["res5", "res4", "res3", "res2"] and told["classes"] == 21
    assert told["parameters"]["heads"] == 2_472_120
    assert told["parameters"]["refinements"] == 71_442 + 9 * 2 * 21
    assert told["deconvolution"] == {"kernel": 4, "stride": 2, "channels": 21}
    assert told["refinement"] == [
        {"kernel": [3, 3], "in": 21, "out": 21, "relu": True}, {"kernel": [3, 3], "in": 21, "out": 21, "relu": False},
    ]  # fmt: skip
    assert told["heads"]["res5"] == [
        [{"kernel": [15, 1], "in": 2048, "out": 21}, {"kernel": [1, 15], "in": 21, "out": 21}],
        [{"kernel": [1, 15], "in": 2048, "out": 21}, {"kernel": [15, 1], "in": 21, "out": 21}],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("label", VARIANTS)
def test_a_description_matches_a_real_pass(name: str, label: str) -> None:
    """Modules, order, sizes and multiply-adds of a pass on the CPU, weights of the model as it is trained."""
    network, variant, size = NETWORKS[name], VARIANTS[label], (64, 96)
    told = anatomy.describe(variant, network, 5, size)
    model, backbone = build(variant, network, 5, seed=0).eval(), build_backbone(network).eval()
    seen, macs = [], Counter()
    kinds = {ConvHead: "head", BoundaryRefinement: "refine", Deconvolution: "up"}

    def watch(name: str, module: nn.Module, part: str) -> None:
        def record(m: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            if type(m) in kinds:
                seen.append((kinds[type(m)], name.split(".")[-1], list(output.shape[2:]), output.shape[1]))
            if isinstance(m, nn.Conv2d):
                macs[part] += output[0].numel() * m.weight[0].numel()
            if isinstance(m, nn.ConvTranspose2d):
                macs[part] += inputs[0][0].numel() * m.weight[0].numel()

        module.register_forward_hook(record)

    for path, module in model.decoder.named_modules():
        watch(path, module, path.split(".")[0].replace("ups", "deconvolutions"))
    for path, module in backbone.named_modules():
        watch(path, module, "backbone")
    with torch.no_grad():
        features = backbone(torch.rand(1, 3, *size) * 255)
        scores = model.decoder(features)

    steps = [(s["op"], s["name"], s["size"], s["channels"]) for s in told["steps"]]
    assert [step for step in steps if step[0] != "add"] == seen
    assert [(s["op"], s["name"], s["size"]) for s in told["steps"] if s["op"] == "add"] == [
        ("add", level, list(features[level].shape[2:])) for level in model.decoder.levels[1:]
    ]
    assert told["steps"][-1]["size"] == list(scores.shape[2:])
    stages = {stage["name"]: stage for stage in told["stages"]}
    assert list(stages) == (["conv1"] if name == "efficientnet_lite0" else []) + list(backbone.channels)
    for level, maps in features.items():
        assert (stages[level]["channels"], stages[level]["size"]) == (maps.shape[1], list(maps.shape[2:]))
        assert stages[level]["stride"] == backbone.strides[level]
    assert told["macs"] == {part: macs[part] for part in ("backbone", "heads", "refinements", "deconvolutions")}
    assert told["parameters"] == {
        "backbone": sum(w.numel() for w in backbone.parameters()),
        "heads": sum(w.numel() for w in model.decoder.heads.parameters()),
        "refinements": sum(w.numel() for w in model.decoder.refinements.parameters()),
        "deconvolutions": sum(w.numel() for w in model.decoder.ups.parameters()),
    }
    for level, chains in told["heads"].items():
        shapes = [(c["in"], c["out"], tuple(c["kernel"])) for chain in chains for c in chain]
        assert shapes == network.head_at(level, variant).shapes(backbone.channels[level], 5)
    assert (told["refinement"] is None) is not variant.refine


def test_describing_needs_no_weights_and_draws_nothing() -> None:
    """A network whose file is not there is described as well, and the generator's state stays."""
    before = torch.get_rng_state()
    missing = Network("resnet", ("res5",), freeze(RESNET | {"depth": 50, "weights": "/no/such/file.pth"}))
    told = anatomy.describe(Variant(dense(1)), missing, 2, (64, 64))
    assert told["parameters"] == {"backbone": 23_508_032, "heads": 4096, "refinements": 0, "deconvolutions": 5 * 34}
    assert torch.equal(torch.get_rng_state(), before)


# Table 11


@pytest.mark.slow
def test_table_11_gives_expected_sizes_and_multiply_adds() -> None:
    """The paper prints 3700 million for both; no reading gives that."""
    told = anatomy.table11()
    sides = {"conv1": 112, "res-2": 56, "res-3": 28, "res-4": 14, "res-5": 7, "head": 1}
    assert all(network["sides"] == sides for network in told.values())
    assert {name: network["macs"] for name, network in told.items()} == {
        "ResNet50": 4_087_136_256,
        "ResNet50, stride first": 3_855_925_248,
        "ResNet50-GCN sum": 3_666_528_880,
        "ResNet50-GCN sum, stride first": 3_589_458_544,
        "ResNet50-GCN concat": 3_807_423_088,
        "ResNet50-GCN concat, stride first": 3_730_352_752,
    }
    assert {name: network["parameters"] for name, network in told.items() if "first" not in name} == {
        "ResNet50": 25_557_032, "ResNet50-GCN sum": 22_545_780, "ResNet50-GCN concat": 23_854_452,
    }  # fmt: skip
    for network in told.values():
        assert sum(network["macs_by_part"].values()) == network["macs"]


@pytest.mark.slow
def test_table_11_multiply_adds_follow_from_its_kernels() -> None:
    """Written out row by row: the 1x1 projection of each component, and a stride in the first convolution."""

    def component(blocks: int, inputs: int, middle: list[int], outputs: int, side: int) -> int:
        """``middle``: weights of a block but for those that read its input, then those that do, by input channel."""
        rest, reading = middle
        return side**2 * ((inputs * (reading + outputs)) + (blocks - 1) * outputs * reading + blocks * rest)

    def bottleneck(width: int, outputs: int) -> list[int]:
        return [9 * width**2 + width * outputs, width]

    def branches(k: int, width: int, outputs: int, joined: int) -> list[int]:
        return [2 * k * width**2 + joined * outputs, 2 * k * width]

    start = {
        "conv1": 112**2 * 3 * 64 * 49,
        "res-2": component(3, 64, bottleneck(64, 256), 256, 56),
        "res-3": component(4, 256, bottleneck(128, 512), 512, 28),
    }
    told = anatomy.table11()
    for name, joined in (("ResNet50-GCN sum", 1), ("ResNet50-GCN concat", 2)):
        assert told[f"{name}, stride first"]["macs_by_part"] == start | {
            "res-4": component(6, 512, branches(5, 85, 1024, joined * 85), 1024, 14),
            "res-5": component(3, 1024, branches(7, 128, 2048, joined * 128), 2048, 7),
        }
    assert told["ResNet50, stride first"]["macs_by_part"] == start | {
        "res-4": component(6, 512, bottleneck(256, 1024), 1024, 14),
        "res-5": component(3, 1024, bottleneck(512, 2048), 2048, 7),
    }


# Fig. 5


@pytest.mark.parametrize("join", ["sum", "concat"])
def test_described_fig_5_blocks_match_their_execution(join: str) -> None:
    """Convolutions, normalisations and ReLUs in the order in which a pass runs them, without the one after the sum."""
    told = anatomy.blocks(join)
    with torch.device("meta"):
        built = [TorchvisionResNet(50, None, True).net.layer3[1], ResNetGCN(join, None, True).net.layer3[1]]
    for block, description in zip(built, told, strict=True):
        ran: list[dict] = []

        def record(module: nn.Module, inputs: tuple, output: torch.Tensor, ran: list[dict] = ran) -> None:
            if isinstance(module, nn.Conv2d):
                kernel = list(module.kernel_size)
                ran.append({"kernel": kernel, "in": module.in_channels, "out": module.out_channels,
                            "norm": False, "relu": False})  # fmt: skip
            ran[-1]["norm"] |= isinstance(module, nn.BatchNorm2d)
            ran[-1]["relu"] |= isinstance(module, nn.ReLU)

        for module in block.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.ReLU):
                module.register_forward_hook(record)
        block.eval()(torch.empty(1, 1024, 4, 4, device="meta"))
        if description is told[0]:
            ran[-1]["relu"] = False  # torchvision's module for it also runs after the sum
        assert [*(conv for branch in description["branches"] for conv in branch), *description["after"]] == ran
        assert description["skip"] == "identity"
    assert [len(branch) for branch in told[0]["branches"]] == [2] and told[0]["join"] is None
    assert [len(branch) for branch in told[1]["branches"]] == [2, 2] and told[1]["join"] == join
    assert [conv["kernel"] for branch in told[1]["branches"] for conv in branch] == [[1, 5], [5, 1], [5, 1], [1, 5]]
    assert told[1]["after"][0]["in"] == (85 if join == "sum" else 170)


def test_a_first_block_has_a_projection() -> None:
    with torch.device("meta"):
        nets = [TorchvisionResNet(50, None, True).net, ResNetGCN("sum", None, True).net]
    for net in nets:
        assert [anatomy.block(block, "")["skip"] for block in net.layer4] == ["projection", "identity", "identity"]


# receptive fields


@pytest.mark.parametrize(
    ("depth", "res4", "res5"), [(50, 267, 427), (101, 811, 971), (152, 1291, 1451)]
)  # fmt: skip
def test_receptive_fields_of_resnets_follow_from_their_blocks(depth: int, res4: int, res5: int) -> None:
    """7x7 at stride 1, pooling of 3 at 2, then 3x3s: the first of a component stands before its stride.

    Published values for ResNets with the stride in the first 1x1 (483, 1027, 1507) are 56 px larger at res-5.
    """
    told = anatomy.receptive_fields(_network(depth))
    numbers = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
    field, stride, expected = 1 + 6 + 2 * 2, 4, {}
    for level, number in zip(LEVELS, numbers, strict=True):
        widened = 1 if level != "res2" else 0
        field += 2 * stride * widened
        stride *= 2**widened
        field += 2 * stride * (number - widened)
        expected[level] = {"px": field, "stride": stride}
    assert told == expected
    assert (told["res4"]["px"], told["res5"]["px"]) == (res4, res5)


def _seen(backbone: nn.Module, level: str, side: int) -> tuple[int, int]:
    """Height and width of the pixels that one middle cell depends on, by gradients of an all-positive copy."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / math.prod(module.weight.shape[1:]))
    images = torch.full((1, 3, side, side), 255.0, dtype=torch.double, requires_grad=True)
    maps = backbone.double().eval()(images)[level]
    maps[0, 0, maps.shape[2] // 2, maps.shape[3] // 2].backward()
    touched = images.grad[0].abs().amax(0) > 0
    return int(touched.any(1).sum()), int(touched.any(0).sum())


FIELDS = {
    "shapes": (Network("shallow", (), freeze({"widths": (4, 4, 4), "strides": (2, 4, 4)})), ("res2", "res4")),
    "smoke": (Network("shallow", (), freeze(SHALLOW)), LEVELS),
    "gcn": (
        Network("shallow_gcn", (), freeze(SHALLOW | {"gcn": {"res4": (5, 6), "res5": (7, 3)}, "join": "concat"})),
        LEVELS,
    ),
    "lite": (NETWORKS["efficientnet_lite0"], ("res2", "res3")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
def test_receptive_fields_are_those_that_gradients_show(name: str) -> None:
    network, levels = FIELDS[name]
    told = anatomy.receptive_fields(network)
    for level in levels:
        assert _seen(build_backbone(network), level, 160) == (told[level]["px"],) * 2


def test_fig_5b_blocks_grow_fields_by_one_kernel() -> None:
    """res-4 of ResNet50-GCN: six blocks of k = 5, the first with its longer convolution behind the stride."""
    network = Network("resnet_gcn", LEVELS, freeze(RESNET | {"join": "sum"}))
    told = anatomy.receptive_fields(network)
    res3 = anatomy.receptive_fields(_network(50))["res3"]["px"]
    assert told["res3"]["px"] == res3
    assert told["res4"] == {"px": res3 + 6 * 4 * 16, "stride": 16}
    assert told["res5"] == {"px": res3 + 6 * 4 * 16 + 3 * 6 * 32, "stride": 32}
