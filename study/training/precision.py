"""The precision of a training's products: fp32, or bf16 by automatic mixed precision (D58, D145)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def precision(name: str, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass in ``name`` (fp32 or bf16) on a device.

    A CPU without bf16 instructions computes the same numbers in fp32, since autocast would be many times slower there.
    """
    if name == "fp32":
        return nullcontext()
    if device.type == "cpu" and not multiplies_bf16():
        return Rounded()
    return torch.autocast(device.type, torch.bfloat16)


def multiplies_bf16() -> bool:
    """Whether this CPU has instructions for bf16 products (such as avx512_bf16 or AMX)."""
    return any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)


class Rounded(TorchFunctionMode):
    """Rounds inputs, weights and results of convolutions and linear layers to bf16, as autocast does, but multiplies in
    fp32; gradients likewise."""

    PRODUCTS = (functional.conv2d, functional.linear)

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func not in self.PRODUCTS:
            return func(*args, **(kwargs or {}))
        rounded = [_Round.apply(given) if isinstance(given, torch.Tensor) else given for given in args]
        return _Round.apply(func(*rounded, **(kwargs or {})))


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return values.bfloat16().float()

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return outer.bfloat16().float()
