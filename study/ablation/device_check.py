"""Checks the device of trainings before the first one starts: its driver, its memory, and shared memory for loaders."""

from __future__ import annotations

import dataclasses
import multiprocessing
import shutil
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from study.ablation.workload import Workload
from study.models.work import step_bytes
from study.spec.documents.data import Facts, size_of
from study.spec.errors import InputError
from study.spec.training import Training
from study.spec.words import counted
from study.training import gpu, memory_probe
from study.training.prefetch import AHEAD

SHARED = Path("/dev/shm")  # where processes of Linux share memory
GIB = 2**30
PIXEL = 4  # bytes of a training pixel: its colours and its label


def check(workload: Workload, todo: Collection[str]) -> None:
    """Raises InputError if loaders have too little shared memory for the trainings ``todo``, or if a GPU of this
    machine does not work or cannot hold the largest of them (if any is known). Machines of a cluster check their own
    GPUs."""
    execution = workload.execution
    if execution.address:
        return
    shared_memory(workload, todo)
    if execution.device != "cuda":
        return
    share = min(1.0, execution.gpus_per_training or 1.0)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:  # the driver keeps off the GPU
        try:
            if todo:
                for key in probed(workload, todo):
                    training, facts = workload.planned.trainings[key], _data(workload, key)
                    # Several processes share the batch of a training.
                    recipe = dataclasses.replace(training.recipe, batch=training.recipe.batch // execution.processes)
                    part, longest = dataclasses.replace(training, recipe=recipe), facts.get("longest")
                    size, classes = size_of(facts), len(facts["classes"])
                    probe = process.submit(fault_of, part, classes, size, share=share, longest=longest)
                    if fault := probe.result():
                        break
            else:
                fault = process.submit(gpu.fault_of_gpu).result()
        except BrokenProcessPool:
            fault = "a GPU must survive one training step, got a process that died; run `nvidia-smi` and see its log"
    if fault:
        raise InputError(fault)


def shared_memory(workload: Workload, todo: Collection[str], where: Path = SHARED) -> None:
    """Raises InputError if the batches that loaders read ahead do not fit into shared memory."""
    execution, needed = workload.execution, 0
    for key in todo:
        training, size, _ = _facts(workload, key)
        if _data(workload, key)["streamed"]:
            height, width = size
            needed = max(needed, PIXEL * training.recipe.batch * height * width)
    needed *= AHEAD * execution.loaders * execution.workers
    if not needed or not where.is_dir():
        return
    if (free := shutil.disk_usage(where).free) < needed:
        fitting = int(execution.loaders * free / needed)
        raise InputError(
            f"{where} must have room for the batches that {counted(execution.loaders, 'loader')} of "
            f"{counted(execution.workers, 'training')} read ahead ({needed / GIB:.1f} GiB), got {free / GIB:.1f} GiB; "
            f"enlarge it (docker run --shm-size={needed // GIB + 1}g), or set execution.loaders to at most {fitting}"
        )


def largest(workload: Workload, todo: Collection[str]) -> str:
    """The key in ``todo`` whose training step has the most numbers to hold."""

    def held(key: str) -> int:
        training, size, classes = _facts(workload, key)
        return step_bytes(training.variant, training.network, classes, size, training.recipe.batch)

    return max(sorted(todo), key=held)


def probed(workload: Workload, todo: Collection[str]) -> list[str]:
    """The keys in ``todo`` whose memory is probed: that with the largest step, and if images of another are larger,
    that with the largest maps of scores."""

    def scores(key: str) -> int:
        facts = _data(workload, key)
        height, width = size_of(facts)
        return height * width * len(facts["classes"])

    step, whole = largest(workload, todo), max(sorted(todo), key=scores)
    return [step, whole] if scores(whole) > scores(step) else [step]


def _data(workload: Workload, key: str) -> Facts:
    return workload.planned.facts[workload.planned.data_of[key]]


def _facts(workload: Workload, key: str) -> tuple[Training, tuple[int, int], int]:
    """A training, the (height, width) of its training images, and its number of classes."""
    training, facts = workload.planned.trainings[key], _data(workload, key)
    return training, training.recipe.crop or size_of(facts), len(facts["classes"])


def fault_of(
    training: Training,
    classes: int,
    size: tuple[int, int],
    device: str = "cuda",
    share: float = 1.0,
    *,
    longest: int | None = None,
) -> str:
    """Why ``device`` cannot do a step of a training, and evaluate whole images of ``size`` (height, width), made
    smaller to ``longest`` px if given, with a ``share`` of its memory; empty if it can."""
    name, memory = "this machine", ""
    if device == "cuda":
        if fault := gpu.fault_of_gpu():
            return fault
        torch.cuda.set_per_process_memory_fraction(share)
        name = torch.cuda.get_device_name()
        memory = f" with {share * torch.cuda.get_device_properties(0).total_memory / GIB:.1f} GiB for each training"
    held = list[str]()
    try:
        for part in memory_probe.fill(training, classes, size, device, longest):
            held.append(part)
    except (RuntimeError, MemoryError) as error:
        if gpu.out_of_memory(error) is None:  # the training itself will say what is wrong with it
            return gpu.explained(str(error)) if device != "cpu" and gpu.is_broken(error) else ""
        label = training.variant.label if training.variant else "the classifier"
        height, width = training.recipe.crop or size
        images = counted(training.recipe.batch, "image")
        needed = f"a training step of {label} ({images} of {height}x{width} px)"
        remedy = "lower recipe.batch or recipe.crop, or "
        if held:
            needed, remedy = f"the evaluation of {label} on images of {size[0]}x{size[1]} px beside its training", ""
        remedy += (
            "give each training more of a GPU (execution.gpus_per_training)" if share < 1
            else "use a GPU with more memory"
        )  # fmt: skip
        return f"a GPU must have room for {needed}, got out of memory on {name}{memory}; {remedy}"
    return ""
