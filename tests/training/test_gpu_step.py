"""What keeps a GPU from waiting changes no number: seldom looks at the loss, recorded passes, counts on the device. The
same code runs here on the CPU."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from study.models.build import build
from study.spec.constants import VOID
from study.spec.heads import Variant, gcn
from study.spec.jobs import GpuStep
from study.spec.training import Network, Recipe, freeze
from study.store.runs import Store
from study.training.captured import EAGER, Captured
from study.training.count import count, counts_on_device, image_counts
from study.training.loop import Batch, TrainingFailed, fit, labelled, loss_of, repeatable_loss, start
from study.training.observers import Attempt, Checkpoints, Curve
from study.training.worker import train
from tests.conftest import ROOT
from tests.training.test_resume import job

RECIPE = Recipe(
    optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=0.0005, schedule="poly", warmup=0.1, steps=8, batch=2,
    flip=False, precision="fp32", validations=1,
)  # fmt: skip
NETWORK = Network("shallow", ("res2", "res3"), freeze({"widths": [8, 12], "strides": [2, 4]}), output_stride=2)


def batches(steps: int) -> list[Batch]:
    found = []
    for _ in range(steps):
        labels = torch.randint(0, 5, (2, 16, 16), dtype=torch.uint8)
        labels[:, :2] = VOID
        found.append(Batch(255 * torch.rand(2, 3, 32, 32), labels))
    return found


def trained(given: list[Batch], recipe: Recipe, **how: bool) -> tuple[list[float | None], dict[str, torch.Tensor]]:
    state = start(build(Variant(gcn(5), refine=True), NETWORK, 5, 0), recipe)
    losses = [loss for _, loss in fit(state, given.__getitem__, recipe, **how)]
    return [None if loss is None else float(loss) for loss in losses], state.model.state_dict()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("fused", [True, False])
def test_recorded_passes_train_the_same_network(optimizer: str, fused: bool) -> None:
    """Losses, weights and statistics, with a batch in between that teaches nothing."""
    recipe, given = dataclasses.replace(RECIPE, optimizer=optimizer, fused=fused), batches(RECIPE.steps)
    empty = torch.full((2, 16, 16), VOID, dtype=torch.uint8)
    given[EAGER + 2] = Batch(given[0].inputs, empty, labelled(empty))
    losses, weights = trained(given, recipe)
    again, same = trained(given, recipe, capture=True)
    assert losses == again and losses[EAGER + 2] is None and losses.count(None) == 1
    assert all(torch.equal(value, same[name]) for name, value in weights.items())


def test_each_recorded_step_returns_its_own_loss() -> None:
    """Not the place that the next step overwrites."""
    layer = nn.Conv2d(3, 5, 1)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)

    def passes(inputs, labels):
        loss = loss_of(layer(inputs), labels)
        loss.backward()
        return loss.detach()

    captured, losses = Captured(passes, optimizer), []
    for one in batches(EAGER + 3):
        losses.append(captured(one.inputs[:, :, ::2, ::2], one.labels))
        optimizer.step()
    assert len({float(loss) for loss in losses}) == EAGER + 3 and not captured.refused


@pytest.mark.parametrize("weighted", [False, True])
def test_the_repeatable_loss_is_the_usual_one(weighted: bool) -> None:
    scores = torch.randn(2, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 5, (2, 6, 7), dtype=torch.uint8)
    labels[0, :3] = VOID
    weights = torch.tensor([1, 4, 0.5, 2, 1], dtype=torch.float64) if weighted else None
    ours, theirs = repeatable_loss(scores, labels, weights), loss_of(scores, labels, weights)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, scores)[0] for loss in (ours, theirs)))


def test_counts_on_the_device_are_those_of_each_image() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, (3, 9, 11), np.uint8)
    labels[draw.random(labels.shape) < 0.2] = VOID
    band, said = draw.random(labels.shape) < 0.3, draw.integers(0, 4, labels.shape)
    expected = np.stack([image_counts(*one, 4) for one in zip(labels, said, band, strict=True)])
    found = counts_on_device(torch.from_numpy(said), labels, band, 4)
    assert found.dtype == expected.dtype and np.array_equal(found, expected) and expected.sum() > 0


def test_a_source_is_counted_alike_on_the_device(tmp_path: Path) -> None:
    order = job(tmp_path, "one", steps=1)
    train(order)
    from study.training.worker import _open

    attempt = _open(order, Store(order.context.store).run("one"))
    counts = [count(attempt.state.model, attempt.source, "tune", on_device=where) for where in (False, True)]
    assert np.array_equal(*counts) and counts[0].sum() > 0


def attempt(tmp_path: Path, look_every: int, steps: int = 100) -> Attempt:
    model = nn.Conv2d(1, 1, 1)
    state = SimpleNamespace(dump=dict, step=0, model=model)
    made = Attempt(
        Store(tmp_path).run("a" * 64), dataclasses.replace(RECIPE, steps=steps), None, state, GpuStep(look_every)
    )
    made.score = lambda images=None: math.nan
    return made


@pytest.mark.parametrize("look_every", [1, 7, 20, 1000])
def test_the_curve_does_not_depend_on_looks(tmp_path: Path, look_every: int) -> None:
    seldom = attempt(tmp_path, look_every)
    observe = Curve(seldom)
    losses = torch.rand(100)
    for step in range(1, 101):
        observe(step, None if step % 9 == 0 else losses[step - 1])
    means = [(step, np.mean([float(losses[s - 1]) for s in (step - 1, step) if s % 9])) for step in range(2, 101, 2)]
    assert seldom.curve["losses"] == []
    assert seldom.curve["loss"] == [(step, pytest.approx(mean)) for step, mean in means]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_late_look_names_the_step_that_failed(tmp_path: Path, value: float) -> None:
    seldom = attempt(tmp_path, 20, steps=5000)  # a point of the curve every 100 steps
    observe = Curve(seldom)
    for step in range(1, 20):
        observe(step, torch.tensor(value if step >= 13 else 0.5))
    with pytest.raises(TrainingFailed, match=rf"got {value} at step 13 of 5000"):
        observe(20, torch.tensor(math.nan))


def test_no_checkpoint_holds_a_training_that_failed(tmp_path: Path) -> None:
    """A look comes before each one."""
    seldom = attempt(tmp_path, 1000, steps=5000)
    observe, save = Curve(seldom), Checkpoints(seldom, 0)
    observe(1, torch.tensor(0.5))
    save(1, None)
    before = seldom.run.path("checkpoint.pt").read_bytes()
    observe(2, torch.tensor(math.nan))
    with pytest.raises(TrainingFailed, match="at step 2"):
        save(2, None)
    assert seldom.run.path("checkpoint.pt").read_bytes() == before


def test_the_head_has_a_rate_of_its_own() -> None:
    """Everything but the backbone moves by ``head_rate`` times the rate."""
    moved = {}
    for rate in (1.0, 10.0):
        recipe = dataclasses.replace(RECIPE, steps=1, momentum=0.0, weight_decay=0.0, head_rate=rate, warmup=0.0)
        torch.manual_seed(0)
        state = start(build(Variant(gcn(5)), NETWORK, 5, 0), recipe)
        before = {name: weight.detach().clone() for name, weight in state.model.named_parameters()}
        torch.manual_seed(1)
        list(fit(state, batches(1).__getitem__, recipe))
        moved[rate] = {name: weight.detach() - before[name] for name, weight in state.model.named_parameters()}
    for name, change in moved[1.0].items():
        torch.testing.assert_close(moved[10.0][name], change if name.startswith("backbone.") else 10 * change)
        assert name.startswith("backbone.") or change.any()


READS = """
import os
from torch.utils.data import DataLoader
from study.training.prefetch import _begin
if __name__ == "__main__":
    reading = DataLoader(range(10**6), num_workers=2, multiprocessing_context="forkserver", worker_init_fn=_begin)
    ready = iter(reading)
    next(ready)
    print(*(worker.pid for worker in ready._workers), flush=True)
    os._exit(70)
"""


@pytest.mark.slow
def test_loaders_end_with_a_process_that_is_gone(tmp_path: Path) -> None:
    """Even with one that ended without a word, as a process does whose GPU failed."""
    script = tmp_path / "reads.py"
    script.write_text(READS)
    ended = subprocess.run(
        [sys.executable, str(script)], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert ended.returncode == 70, ended.stderr
    pids = [int(pid) for pid in ended.stdout.split()]
    assert len(pids) == 2
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=20)
    assert alive == []
