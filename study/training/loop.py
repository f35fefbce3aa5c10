"""The training loop: a generator of steps that knows neither disk nor tracker nor clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from study.models.build import Inputs
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.training import Recipe
from study.training.precision import precision

Batch = tuple[Inputs, torch.Tensor]
Step = tuple[int, torch.Tensor | None]


class TrainingFailed(RuntimeError):
    """This training cannot continue; the others can."""


class OutOfMemory(TrainingFailed):
    """The device, or the machine, ran out of memory for this training."""


@dataclass
class State:
    """Everything that a checkpoint must hold; ``step`` counts the steps done."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0

    def dump(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}

    def restore(self, dumped: dict[str, Any]) -> None:
        self.model.load_state_dict(dumped["model"])
        self.optimizer.load_state_dict(dumped["optimizer"])
        self.step = dumped["step"]


def start(model: nn.Module, recipe: Recipe) -> State:
    """A state at step 0. Raises InputError for an unknown optimizer."""
    optimizer: torch.optim.Optimizer
    weights = [p for p in model.parameters() if p.requires_grad]
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(weights, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    elif recipe.optimizer == "adamw":
        betas = (recipe.momentum, 0.999)
        optimizer = torch.optim.AdamW(weights, recipe.lr, betas, weight_decay=recipe.weight_decay, fused=True)
    else:
        raise InputError(f"optimizer must be sgd or adamw, got {recipe.optimizer!r}; rename it in params.yaml")
    return State(model, optimizer)


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of step ``step`` (from 0): linear warm-up over ``recipe.warmup`` of the steps, then the schedule."""
    warm = round(recipe.warmup * recipe.steps)
    if step < warm:
        return recipe.lr * (step + 1) / warm
    done = (step - warm) / max(1, recipe.steps - warm)
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "cosine":
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * done))
    if recipe.schedule == "poly":
        return recipe.lr * (1 - done) ** 0.9
    raise InputError(f"schedule must be constant, cosine or poly, got {recipe.schedule!r}; rename it in params.yaml")


def loss_of(scores: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Mean cross-entropy over labelled pixels (D11): scores (N, K, h, w), labels (N, h, w) with 255 = void; or over
    images: scores (N, K), labels (N,), where 255 is a class like any other. ``weights`` (K,) are those of the classes:
    the sum of weighted losses is divided by the sum of the weights of the same pixels or images (D124)."""
    nothing = -100  # torch's own default
    ignored = VOID if labels.ndim > 1 else nothing
    return functional.cross_entropy(scores, labels.long(), weight=weights, ignore_index=ignored)


def labelled(labels: torch.Tensor) -> bool:
    """Whether a batch has anything to learn from: one pixel that is not void, or classes of images."""
    return labels.ndim == 1 or bool((labels != VOID).any())


def fit(
    state: State,
    batch: Callable[[int], Batch],
    recipe: Recipe,
    teaches: Callable[[torch.Tensor], bool] = labelled,
    weights: torch.Tensor | None = None,
) -> Iterator[Step]:
    """Train from ``state.step`` to ``recipe.steps``; yields (steps done, loss as a scalar tensor) after each.

    ``batch(step)`` gives the inputs and labels of a step, so a resumed loop sees the same batches. If
    ``teaches(labels)`` is false, the step counts but changes no weight and no optimizer state; its loss is None (D105).
    ``weights`` (K,) of the classes are on the model's device (see loss_of).
    """
    state.model.train()
    device = next(state.model.parameters()).device
    while state.step < recipe.steps:
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, state.step)
        inputs, labels = batch(state.step)
        loss = None
        if teaches(labels):
            state.optimizer.zero_grad(set_to_none=True)
            with precision(recipe.precision, device):
                scores = state.model(inputs)
            loss = loss_of(scores.float(), labels, weights)
            loss.backward()
            state.optimizer.step()
        state.step += 1
        yield state.step, None if loss is None else loss.detach()
