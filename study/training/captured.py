"""Records the passes of a training step once, as a CUDA graph, and replays them (D152).

A step on a GPU launches thousands of kernels. For small maps, launching takes longer than the kernels do; a graph
launches all of them at once. They are the same kernels, so the numbers stay the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from study.models.build import Inputs

EAGER = 3  # steps before recording: by then libraries have chosen kernels and allocated their workspaces
Passes = Callable[[Inputs, torch.Tensor], torch.Tensor]


class Captured:
    """``passes(inputs, labels)`` -> loss, with gradients in the weights of ``optimizer``; replayed after EAGER calls.

    All calls must have inputs of the same shape. A step that cannot be recorded (memory for it is missing, or a layer
    waits for the device) keeps running as before; ``refused`` says why. On a CPU, for tests, nothing is recorded, but
    inputs go through the same buffers.
    """

    def __init__(self, passes: Passes, optimizer: torch.optim.Optimizer) -> None:
        self.passes, self.optimizer = passes, optimizer
        self.calls, self.refused = 0, ""
        self._replay: Callable[[], object] | None = None
        self._side: torch.cuda.Stream | None = None
        self._inputs: Inputs = {}
        self._labels = self._loss = torch.empty(0)

    def __call__(self, inputs: Inputs, labels: torch.Tensor) -> torch.Tensor:
        """The loss of one step, as a tensor of its own."""
        self.calls += 1
        if self._replay is None and self.calls > EAGER and not self.refused:
            self._record(inputs, labels)
        if self._replay is None:
            self.optimizer.zero_grad(set_to_none=True)
            return self._on_the_side(inputs, labels)
        _copy(inputs, self._inputs)
        self._labels.copy_(labels)
        self._replay()
        return self._loss.clone()

    def _on_the_side(self, inputs: Inputs, labels: torch.Tensor) -> torch.Tensor:
        """Run the passes in a stream of their own, as recording needs them to have run."""
        if labels.device.type != "cuda":
            return self.passes(inputs, labels)
        self._side = side = self._side or torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            loss = self.passes(inputs, labels)
        torch.cuda.current_stream().wait_stream(side)
        loss.record_stream(torch.cuda.current_stream())
        return loss

    def _record(self, inputs: Inputs, labels: torch.Tensor) -> None:
        self._inputs, self._labels = _cloned(inputs), labels.clone()
        self.optimizer.zero_grad(set_to_none=True)  # gradients get fixed places in the graph's memory
        if labels.device.type != "cuda":

            def again() -> None:
                self.optimizer.zero_grad(set_to_none=True)
                self._loss = self.passes(self._inputs, self._labels)

            self._replay = again
            return
        graph = torch.cuda.CUDAGraph()
        try:
            # A failed recording may leave its own stream behind. Other threads may pin memory for batches meanwhile.
            with (
                torch.cuda.stream(torch.cuda.current_stream()),
                torch.cuda.graph(graph, capture_error_mode="thread_local"),
            ):
                self._loss = self.passes(self._inputs, self._labels)
        except RuntimeError as error:
            cause = error.__context__ or error  # the end of a failed recording raises an error of its own
            self.refused = str(cause).splitlines()[0]
        else:
            self._replay = graph.replay
            return
        self.optimizer.zero_grad(set_to_none=True)
        self._inputs, self._labels = {}, torch.empty(0)
        torch.cuda.empty_cache()


def _cloned(inputs: Inputs) -> Inputs:
    if isinstance(inputs, torch.Tensor):
        return inputs.clone()
    return {level: maps.clone() for level, maps in inputs.items()}


def _copy(source: Inputs, target: Inputs) -> None:
    if isinstance(source, torch.Tensor):
        assert isinstance(target, torch.Tensor)
        target.copy_(source)
        return
    assert isinstance(target, dict)
    for level, maps in source.items():
        target[level].copy_(maps)
