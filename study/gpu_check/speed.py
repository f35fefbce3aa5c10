"""Training and inference steps of the tiers' networks, against a plain FCN and against the device's own peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional

from study.gpu_check.cases import OURS, Case
from study.gpu_check.endurance import step_seconds, wait
from study.gpu_check.promises import Line, Results
from study.models.anatomy import multiply_adds, outline
from study.models.resnet_gcn_block import subsample
from study.models.work import work
from study.spec.constants import VOID
from study.spec.documents.gpu_check import CheckedStep
from study.spec.heads import Variant, stack
from study.training.loop import fit, start
from study.training.precision import precision

GIB = 2**30
FITS = 24 * 0.92  # GiB that a training may take of a GPU with 24
STEPS = {"cpu": 2, "cuda": 15}
PEAK_SIDE = {"cpu": 512, "cuda": 8192}
HEAVIEST = Variant(stack(15))  # the variant with the most multiply-adds


class PlainFCN(nn.Module):
    """torchvision's FCN on a ResNet: images (N, 3, H, W) in 0..1 -> scores (N, K, H, W)."""

    def __init__(self, depth: int, classes: int) -> None:
        super().__init__()
        import torchvision
        from torchvision.models._utils import IntermediateLayerGetter
        from torchvision.models.segmentation.fcn import FCN, FCNHead

        resnet = getattr(torchvision.models, f"resnet{depth}")(replace_stride_with_dilation=[False, True, True])
        subsample(resnet)  # torch 2.14 may crash on a CPU without it; the function stays the same
        self.fcn = FCN(IntermediateLayerGetter(resnet, {"layer4": "out"}), FCNHead(2048, classes))

    def train(self, mode: bool = True) -> PlainFCN:
        super().train(mode)
        self.fcn.backbone.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fcn(images)["out"]


def peak(device: str) -> float:
    """FLOP/s of a large product of matrices in bf16."""
    side = PEAK_SIDE[device]
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b, device)


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Seconds of a call, over several in a row."""
    for _ in range(2):
        work()
    wait(device)
    began = time.perf_counter()
    for _ in range(STEPS[device]):
        work()
    wait(device)
    return (time.perf_counter() - began) / STEPS[device]


def multiply_adds_of(case: Case) -> int:
    """Multiply-adds of a forward pass of our network on one image."""
    with outline():
        model = case.model(OURS, "meta").eval()
        return multiply_adds(model, torch.empty(1, 3, *case.size))[0]


def fcn_step(case: Case, device: str) -> float:
    """Seconds of a training step of the plain FCN, by the usual loop in the same precision."""
    depth = int(dict(case.network.options)["depth"])
    model = PlainFCN(depth, case.classes).to(device).to(memory_format=torch.channels_last).train()
    recipe, batch = case.recipe, case.batches(device, 1)(0)
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with precision(recipe.precision, torch.device(device)):
            scores = model(batch.inputs / 255)  # type: ignore[operator]
        functional.cross_entropy(scores.float(), batch.labels.long(), ignore_index=VOID).backward()
        optimizer.step()

    return _freely(step, device)


def _freely(work: Callable[[], object], device: str) -> float:
    """Seconds of work that need not repeat its numbers: the plain FCN's loss cannot, and its upsampling gets slow."""
    torch.use_deterministic_algorithms(False)
    try:
        return seconds_of(work, device)
    finally:
        torch.use_deterministic_algorithms(True)


def inference(model: nn.Module, images: torch.Tensor, device: str) -> float:
    """Seconds of the classes of a batch, in fp32 as every evaluation."""
    model.eval()

    def classes() -> torch.Tensor:
        with torch.inference_mode():
            return model(images).argmax(1)

    return _freely(classes, device)


def steps(cases: dict[str, Case], device: str, results: Results) -> Iterator[Line]:
    """Steps of all cases, which ``results`` keeps for forecasts."""
    top = peak(device)
    yield Line("peak of bf16 products", "", f"{top / 1e12:.1f} TFLOP/s", None)
    for name, case in cases.items():
        ours = step_seconds(case, device, STEPS[device])
        flops = 6 * case.recipe.batch * multiply_adds_of(case)  # three passes, two operations each
        images = case.batches(device, 1)(0).inputs
        assert isinstance(images, torch.Tensor)
        depth = int(dict(case.network.options)["depth"])
        plain = PlainFCN(depth, case.classes).to(device).to(memory_format=torch.channels_last)
        asked = inference(case.model(OURS, device), images, device)
        results.steps[name] = _known(case, ours, asked, flops)
        theirs, other = fcn_step(case, device), inference(plain, images / 255, device)
        promise = "no slower than a plain FCN" if device != "cpu" else ""
        found = (
            f"{1e3 * ours:,.1f} ms, FCN {1e3 * theirs:,.1f} ms: {ours / theirs:.2f}; "
            f"{flops / ours / 1e12:.1f} TFLOP/s, {100 * flops / ours / top:.0f} % of the peak"
        )
        yield Line(f"training step, {name}", promise, found, ours <= theirs if device != "cpu" else None)
        told = f"{1e3 * asked:,.1f} ms, FCN {1e3 * other:,.1f} ms: {asked / other:.2f}"
        yield Line(f"inference, {name}", promise, told, asked <= other if device != "cpu" else None)


def _known(case: Case, train_s: float, infer_s: float, flops: int) -> CheckedStep:
    counted = 3 * case.recipe.batch * work(OURS, case.network, case.classes, case.size).macs
    return {
        "train_s": train_s, "infer_s": infer_s, "batch": case.recipe.batch, "size": list(case.size),
        "precision": case.recipe.precision, "flop_per_s": flops / train_s, "work_per_s": counted / train_s,
    }  # fmt: skip


def fits(case: Case, device: str) -> Iterator[Line]:
    """Whether the heaviest variant of ``voc_weekend`` trains on a GPU of 24 GB."""
    if device == "cpu":
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    state = start(case.model(HEAVIEST, device), case.recipe)
    for step, _ in fit(state, case.batches(device), case.recipe, capture=True):
        if step == 6:
            break
    took = torch.cuda.max_memory_reserved() / GIB
    yield Line("memory of voc_weekend", f"{HEAVIEST.label} in at most {FITS:.0f} GiB", f"{took:.1f} GiB", took <= FITS)
