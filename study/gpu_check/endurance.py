"""Whether trainings survive: resuming to the bit, missing memory, a device shared by two."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch

from study.gpu_check.cases import OURS, Case
from study.gpu_check.promises import Line
from study.training import gpu
from study.training.captured import EAGER
from study.training.device import settle
from study.training.loop import Batch, State, fit, start

STEPS, STOPPED = 10, 5
SHARED = 2.2  # times as long as one training alone, for two at once
SHARED_STEPS = {"cpu": 3, "cuda": 60}
SHARED_S = 120  # for a training beside another
WARM = EAGER + 3  # steps before the timed ones


def state_of(case: Case, device: str) -> State:
    return start(case.model(OURS, device), case.recipe)


def train(state: State, case: Case, device: str, until: int) -> None:
    """Train up to step ``until`` as workers do."""
    batches = case.batches(device)
    for step, _ in fit(state, batches, case.changed(steps=STEPS).recipe, capture=device != "cpu"):
        if step == until:
            return


def _weights(state: State) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu() for name, value in state.model.state_dict().items()}


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def resume(case: Case, device: str) -> Iterator[Line]:
    """A training, the same again, and one that is resumed from a checkpoint halfway; then what determinism costs."""
    settle(device, deterministic=True)
    found = []
    for _ in range(2):
        state = state_of(case, device)
        train(state, case, device, STEPS)
        found.append(_weights(state))
    yield Line("training twice", "equal to the bit", _said(_equal(*found)), _equal(*found))
    stopped = state_of(case, device)
    train(stopped, case, device, STOPPED)
    file = io.BytesIO()
    torch.save(stopped.dump(), file)
    file.seek(0)
    resumed = state_of(case, device)
    resumed.restore(torch.load(file, map_location=device, weights_only=True))
    train(resumed, case, device, STEPS)
    same = _equal(found[0], _weights(resumed))
    yield Line("training resumed halfway", "equal to the bit", _said(same), same)
    if device != "cpu":
        seconds = {}
        for deterministic in (True, False):
            settle(device, deterministic)
            seconds[deterministic] = step_seconds(case, device)
        settle(device)
        ratio = seconds[True] / seconds[False]
        yield Line("cost of determinism", "", f"a step takes {ratio:.2f} times as long", None)


def _said(same: bool) -> str:
    return "equal" if same else "different"


def step_seconds(
    case: Case,
    device: str,
    steps: int = 20,
    *,
    batches: Callable[[int], Batch] | None = None,
    capture: bool = True,
    look_every: int = 0,
) -> float:
    """Seconds of a step, over several steps in a row. ``batches`` feeds them (None: batches that are on the device),
    and ``look_every`` steps the loss is read (0: never)."""
    state = state_of(case, device)
    loop = fit(state, batches or case.batches(device), case.recipe, capture=capture and device != "cpu")
    for _ in range(WARM):
        next(loop)
    wait(device)
    began = time.perf_counter()
    for number in range(steps):
        _, loss = next(loop)
        if look_every and loss is not None and number % look_every == 0:
            loss.item()
    wait(device)
    if state.refused:
        raise RuntimeError(f"a step must be recorded as a graph, got {state.refused}")
    return (time.perf_counter() - began) / steps


def wait(device: str) -> None:
    """Wait for the device to finish its work."""
    if device != "cpu":
        torch.cuda.synchronize()


def memory(case: Case, device: str) -> Iterator[Line]:
    """A training that is too large ends as OutOfMemory, and the next one runs."""
    kind = ""
    try:
        _exhaust(case, device)
    except (RuntimeError, MemoryError) as error:
        told = gpu.out_of_memory(error)
        kind = type(told or error).__name__
    yield Line("a step without enough memory", "OutOfMemory", kind or "no error", kind == "OutOfMemory")
    if device != "cpu":
        torch.cuda.empty_cache()
    state = state_of(case, device)
    train(state, case, device, STOPPED)
    yield Line("the training after it", "runs", f"{state.step} steps", state.step == STOPPED)


def _exhaust(case: Case, device: str) -> None:
    """Double a batch until its step no longer fits."""
    if device == "cpu":  # do not fill a user's memory: more than any machine has is refused at once
        torch.empty(2**56)
    batch = 2 * case.recipe.batch
    while True:
        larger = case.changed(batch=batch)
        state = start(larger.model(OURS, device), larger.recipe)
        (height, width), stride = case.size, case.network.output_stride
        images = torch.zeros(batch, 3, height, width, device=device).contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(batch, height // stride, width // stride, dtype=torch.uint8, device=device)
        scores = state.model(images)
        scores.logsumexp(1).masked_fill(labels != 0, 0).sum().backward()
        batch *= 2


def share(case: Case, device: str) -> Iterator[Line]:
    """Two trainings at once, against one alone, each in its own process."""
    alone, together = _processes(1, device), _processes(2, device)
    ratio = max(together) / alone[0]
    promised = f"both end, in at most {SHARED} times the time of one" if device != "cpu" else "both end"
    kept = ratio <= SHARED if device != "cpu" else True
    yield Line("two trainings on the device", promised, f"{ratio:.2f} times", kept)


def _processes(number: int, device: str) -> list[float]:
    command = [sys.executable, "-m", "study.gpu_check", "--device", device, "--only-train"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
    try:
        ended = [(process.communicate(timeout=SHARED_S)[0], process.returncode) for process in running]
    finally:
        for process in running:
            process.kill()
    if failed := [code for _, code in ended if code]:
        raise RuntimeError(f"a training beside another must end well, got status {failed[0]}")
    return [float(said.split()[-1]) for said, _ in ended]


def only_train(case: Case, device: str) -> float:
    """Seconds of a step, for ``share``."""
    settle(device)
    return step_seconds(case, device, SHARED_STEPS[device])
