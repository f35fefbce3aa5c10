"""bf16: CPUs with and without bf16 products compute the same numbers, and weights stay in fp32."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from study.config import tiers
from study.models.build import build
from study.spec.heads import Variant, gcn, stack
from study.training.loop import Batch, fit, start
from study.training.precision import Rounded, precision
from tests.conftest import ROOT

SMOKE = tiers.load(tiers.read(ROOT / "params.yaml"), "smoke").main


def gradients(native: bool, variant: Variant, monkeypatch: pytest.MonkeyPatch, name: str = "bf16") -> torch.Tensor:
    """All gradients of the first step, one after another."""
    monkeypatch.setattr("study.training.precision.multiplies_bf16", lambda: native)
    recipe = dataclasses.replace(SMOKE.recipe, precision=name, steps=1)
    model = build(variant, SMOKE.network, 7, 0).to(memory_format=torch.channels_last)
    torch.manual_seed(0)
    images, labels = 255 * torch.rand(4, 3, 64, 64), torch.randint(0, 7, (4, 64, 64))
    next(fit(start(model, recipe), lambda step: Batch(images, labels), recipe))
    found = [weights.grad for weights in model.parameters() if weights.grad is not None]
    assert all(gradient.dtype == torch.float32 for gradient in found)
    return torch.cat([gradient.flatten() for gradient in found])


@pytest.mark.parametrize("variant", [Variant(gcn(5), refine=True), Variant(stack(5))], ids=["GCN + BR", "stack"])
def test_bf16_emulation_matches_native_bf16(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closer to native bf16 than to fp32: the rest is the order of sums, and sums that only autocast keeps in bf16."""
    native, rounded = (gradients(native, variant, monkeypatch) for native in (True, False))
    exact = gradients(True, variant, monkeypatch, "fp32")
    size = exact.norm()
    assert (native - rounded).norm() < 0.02 * size
    assert 0 < (rounded - exact).norm() < 0.05 * size


def test_forward_and_backward_products_use_rounded_numbers() -> None:
    """Forward and backward; only convolutions and linear layers are rounded."""
    maps = torch.full((1, 1, 1, 1), 1 + 2**-12, requires_grad=True)
    weight = torch.full((1, 1, 1, 1), 3.0, requires_grad=True)
    with Rounded():
        found = functional.conv2d(maps, weight)
        assert torch.equal(functional.relu(maps), maps)
    assert found.item() == 3 and found.dtype == torch.float32
    found.backward(torch.full_like(found, 1 + 2**-12))
    assert maps.grad is not None and maps.grad.item() == 3 and weight.grad is not None and weight.grad.item() == 1


@pytest.mark.parametrize("native", [True, False])
def test_fp32_is_left_alone(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.training.precision.multiplies_bf16", lambda: native)
    with precision("fp32", torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")
        assert functional.conv2d(torch.full((1, 1, 1, 1), 1 + 2**-12), torch.ones(1, 1, 1, 1)).item() == 1 + 2**-12
