"""The training loop: a generator of steps that knows neither disk nor tracker nor clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import torch
from torch import nn
from torch.nn import functional

from study.models.build import Inputs
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.training import Recipe
from study.training.captured import Captured
from study.training.precision import precision

Step = tuple[int, torch.Tensor | None]


class Batch(NamedTuple):
    """Inputs and labels on the device. ``labelled`` was found out before the copy: a GPU would have to be waited
    for."""

    inputs: Inputs
    labels: torch.Tensor
    labelled: bool = True


class TrainingFailed(RuntimeError):
    """This training cannot continue; the others can."""


class OutOfMemory(TrainingFailed):
    """The device, or the machine, ran out of memory for this training."""


class Dumped(TypedDict):
    """What State.dump returns."""

    model: dict[str, torch.Tensor]
    optimizer: dict[str, object]
    step: int


@dataclass
class State:
    """Everything that a checkpoint must hold; ``step`` counts the steps done. ``refused`` says why the passes are not
    replayed, although they should be."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    refused: str = ""

    def dump(self) -> Dumped:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}

    def restore(self, dumped: Dumped) -> None:
        self.model.load_state_dict(dumped["model"])
        self.optimizer.load_state_dict(dumped["optimizer"])
        self.step = dumped["step"]


def start(model: nn.Module, recipe: Recipe) -> State:
    """A state at step 0. Raises InputError for an unknown optimizer."""
    optimizer: torch.optim.Optimizer
    weights, fused, decay = _groups(model, recipe), recipe.fused or None, recipe.weight_decay
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(weights, recipe.lr, recipe.momentum, weight_decay=decay, fused=fused)
    elif recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(weights, recipe.lr, (recipe.momentum, 0.999), weight_decay=decay, fused=fused)
    else:
        raise InputError(f"optimizer must be sgd or adamw, got {recipe.optimizer!r}; rename it in params.yaml")
    return State(model, optimizer)


def _groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The weights to train as groups of an optimizer. ``times`` multiplies the rate of a group (D154)."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if recipe.head_rate == 1:
        return [{"params": [p for _, p in named], "times": 1.0}]
    below = [p for name, p in named if name.startswith("backbone.")]
    above = [p for name, p in named if not name.startswith("backbone.")]
    groups = [{"params": below, "times": 1.0}, {"params": above, "times": recipe.head_rate}]
    return [group for group in groups if group["params"]]


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
    if scores.device.type == "cuda" and labels.ndim > 1 and torch.are_deterministic_algorithms_enabled():
        return repeatable_loss(scores, labels, weights)
    nothing = -100  # torch's own default
    ignored = VOID if labels.ndim > 1 else nothing
    return functional.cross_entropy(scores, labels.long(), weight=weights, ignore_index=ignored)


def repeatable_loss(scores: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """The mean cross-entropy over labelled pixels (see loss_of), without the sum in arbitrary order that torch computes
    on a GPU."""
    own = torch.arange(scores.shape[1], device=scores.device)[None, :, None, None]
    picked = (labels[:, None] == own).to(scores.dtype)  # no class matches void
    if weights is not None:
        picked = picked * weights[None, :, None, None]
    return -(functional.log_softmax(scores, 1) * picked).sum() / picked.sum()


def labelled(labels: torch.Tensor) -> bool:
    """Whether a batch has anything to learn from: one pixel that is not void, or classes of images."""
    return labels.ndim == 1 or bool((labels != VOID).any())


def fit(
    state: State,
    batch: Callable[[int], Batch],
    recipe: Recipe,
    teaches: Callable[[Batch], bool] = lambda batch: batch.labelled,
    weights: torch.Tensor | None = None,
    capture: bool = False,
) -> Iterator[Step]:
    """Train from ``state.step`` to ``recipe.steps``; yields (steps done, loss as a scalar tensor) after each. Nothing
    here waits for a GPU.

    ``batch(step)`` gives the batch of a step, so a resumed loop sees the same batches. If ``teaches(batch)`` is false,
    the step counts but changes no weight and no optimizer state; its loss is None (D105). ``weights`` (K,) of the
    classes are on the model's device (see loss_of). ``capture`` records the passes once and replays them (D152).
    """
    state.model.train()
    device = next(state.model.parameters()).device

    def passes(inputs: Inputs, labels: torch.Tensor) -> torch.Tensor:
        """Forward and backward pass: gradients, and the loss."""
        with precision(recipe.precision, device):
            scores = state.model(inputs)
        loss = loss_of(scores.float(), labels, weights)
        loss.backward()
        return loss.detach()

    gradients = Captured(passes, state.optimizer) if capture else None
    while state.step < recipe.steps:
        for group in state.optimizer.param_groups:
            group["lr"] = group["times"] * learning_rate(recipe, state.step)
        given = batch(state.step)
        loss = None
        if teaches(given):
            if gradients is not None:
                loss = gradients(given.inputs, given.labels)
                state.refused = gradients.refused
            else:
                state.optimizer.zero_grad(set_to_none=True)
                loss = passes(given.inputs, given.labels)
            state.optimizer.step()
        state.step += 1
        yield state.step, loss
