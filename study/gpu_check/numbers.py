"""Whether a device gives the CPU's numbers: every head, boundary refinement, decoder and loss, with all gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from study.gpu_check.cases import OURS, SEED, Case
from study.gpu_check.promises import Line
from study.models.boundary_refinement import BoundaryRefinement
from study.models.decoder import Deconvolution, deconvolution
from study.models.heads import ConvHead
from study.seeds import generator
from study.spec.constants import VOID
from study.spec.heads import Variant, dense, fcn, gcn, stack
from study.training.count import counts_on_device, image_counts
from study.training.loop import loss_of
from study.training.precision import precision

HEADS = {"1x1": dense(1), "kxk k=9": dense(9), "stack k=7": stack(7), "GCN k=15": gcn(15), "FCN k=3": fcn(3)}
TOLERANCE = {"fp32": 1e-4, "bf16": 0.05}  # of the distance between two vectors, as a share of the CPU's length
CHANNELS, CLASSES, SIDE = 64, 21, 24


def _noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(generator(SEED, "numbers", *shape).standard_normal(shape).astype(np.float32))


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """How far a vector is from the CPU's, as a share of its length."""
    ours, theirs = ours.detach().double().cpu(), theirs.detach().double().cpu()
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))


def _values(module: torch.nn.Module, maps: torch.Tensor, device: str, name: str) -> torch.Tensor:
    """Output and all gradients of a module, one after another."""
    module = module.to(device).train()
    if isinstance(module, Deconvolution):
        name = "fp32"  # as in the decoder
    given = maps.to(device).contiguous(memory_format=torch.channels_last).requires_grad_()
    module.zero_grad(set_to_none=True)
    with precision(name, torch.device(device)):
        output = module(given).float()
    weights = [p for p in module.parameters() if p.requires_grad]
    gradients = torch.autograd.grad((output * output.detach().roll(1)).sum(), [given, *weights])
    return torch.cat([part.detach().float().flatten().cpu() for part in (output, *gradients)])


def modules(device: str) -> Iterator[Line]:
    """Heads, boundary refinement and deconvolution, one by one."""
    parts = {name: ConvHead(head, CHANNELS, CLASSES) for name, head in HEADS.items()}
    given = {name: _noise(2, CHANNELS, SIDE, SIDE) for name in parts}
    refinement, up = BoundaryRefinement(CLASSES), deconvolution(CLASSES)
    with torch.no_grad():
        refinement.second.weight.copy_(0.1 * _noise(*refinement.second.weight.shape))  # it starts as zero
    for name, part in (("BR", refinement), ("deconvolution", up)):
        parts[name], given[name] = part, _noise(2, CLASSES, SIDE, SIDE)  # type: ignore[assignment]
    for name, module in parts.items():
        known = _values(module, given[name], "cpu", "fp32")
        found = {kind: distance(_values(module, given[name], device, kind), known) for kind in TOLERANCE}
        yield _judged(name, found)


def network(case: Case, device: str) -> Iterator[Line]:
    """A whole network with its loss: scores, loss and gradients of one step, without deviations of its statistics."""
    batch = case.batches("cpu", 1)(0)
    labels = batch.labels.clone()
    labels[:, :3] = VOID

    def values(where: str, name: str, variant: Variant) -> tuple[torch.Tensor, torch.Tensor]:
        model = case.model(variant, where).eval()
        with precision(name, torch.device(where)):
            scores = model(batch.inputs.to(where))  # type: ignore[union-attr]
        loss = loss_of(scores.float(), labels.to(where))
        loss.backward()
        gradients = [p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None]
        return torch.cat([scores.detach().float().flatten().cpu(), loss.detach().flatten().cpu()]), torch.cat(gradients)

    for label, variant in {"1x1": Variant(dense(1)), OURS.label: OURS}.items():
        known = values("cpu", "fp32", variant)
        for what, index in (("scores and loss", 0), ("gradients", 1)):
            found = {name: distance(values(device, name, variant)[index], known[index]) for name in TOLERANCE}
            yield _judged(f"{label}, {what}", found)


def _judged(name: str, found: dict[str, float]) -> Line:
    promise = ", ".join(f"{kind} within {most:g}" for kind, most in TOLERANCE.items())
    told = ", ".join(f"{kind} {value:.1e}" for kind, value in found.items())
    return Line(f"numbers: {name}", promise, told, all(found[kind] <= most for kind, most in TOLERANCE.items()))


def counts(device: str) -> Iterator[Line]:
    """Counts of predictions on the device, which must equal the CPU's."""
    draw = generator(SEED, "counts")
    labels = draw.integers(0, CLASSES, (4, 256, 256)).astype(np.uint8)
    labels[draw.random(labels.shape) < 0.1] = VOID
    band, said = draw.random(labels.shape) < 0.2, draw.integers(0, CLASSES, labels.shape)
    known = np.stack([image_counts(*one, CLASSES) for one in zip(labels, said, band, strict=True)])
    found = counts_on_device(torch.from_numpy(said).to(device), labels, band, CLASSES)
    yield Line("counts of predictions", "equal to the CPU's", f"{known.sum():,} pixels", bool((known == found).all()))
