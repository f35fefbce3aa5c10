"""A device that cannot train is found before the first training starts."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from study.ablation import device_check
from study.config.execution import Execution
from study.spec.constants import GPU_FAULT, WORKER
from study.spec.errors import InputError
from study.spec.heads import Variant, dense, gcn
from study.spec.training import Data, Network, Recipe, Training, freeze
from study.store.runs import Store
from study.training import gpu
from study.training.loop import OutOfMemory, TrainingFailed
from tests.conftest import ROOT, Project

RECIPE = Recipe(
    optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.0, schedule="poly", warmup=0.0, steps=4, batch=2, flip=False,
    precision="fp32", validations=1,
)  # fmt: skip
NETWORK = Network("shallow", ("res2", "res3"), freeze({"widths": [8, 12], "strides": [2, 4]}), output_stride=2)


def training(variant: Variant, network: Network = NETWORK) -> Training:
    return Training(variant, Data("random"), network, RECIPE, 0, 1)


def test_processes_that_share_a_training_share_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each needs room for its part only; a classifier is probed too."""
    seen = []

    class Here:
        def __init__(self, *given: object) -> None: ...

        def __enter__(self) -> Here:
            return self

        def __exit__(self, *given: object) -> None: ...

        def submit(self, work, given, classes, size, share, longest) -> SimpleNamespace:
            seen.append((given.recipe.batch, share))
            return SimpleNamespace(result=lambda: "")

    monkeypatch.setattr(device_check, "ProcessPoolExecutor", Here)
    given = workload(
        one=training(Variant(gcn(3))), classifier=dataclasses.replace(training(Variant(gcn(3))), variant=None)
    )
    given.execution = dataclasses.replace(given.execution, device="cuda", gpus_per_training=2, loaders=0)
    device_check.check(given, ["one", "classifier"])
    assert seen == [(1, 1.0)]
    given.execution = dataclasses.replace(given.execution, address="head:6379")
    device_check.check(given, ["one"])
    assert len(seen) == 1


def workload(streamed: bool = True, loaders: int = 2, **trainings: Training) -> SimpleNamespace:
    facts = {"streamed": streamed, "size": [64, 96], "classes": ["a", "b"]}
    planned = SimpleNamespace(trainings=trainings, facts={"main": facts}, data_of=dict.fromkeys(trainings, "main"))
    execution = Execution("inline", None, 3, "cpu", 0, 1, 15, 1, 2, loaders)
    return SimpleNamespace(planned=planned, execution=execution)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver",
            "the NVIDIA driver must support CUDA 13.0 (torch 2.14.1 is built for CUDA 13.0), got driver 470.57.02 for "
            "CUDA 11.4; update the driver, or install a torch that is built for CUDA 11.4",
        ),
        (
            "CUDA error: no kernel image is available for execution on the device",
            "the GPU must be one that torch has kernels for (torch 2.14.1 is built for CUDA 13.0), got CUDA error: no "
            "kernel image is available for execution on the device; install a torch that is built for this GPU",
        ),
        (
            "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported",
            "a GPU must be there and answer (torch 2.14.1 is built for CUDA 13.0, driver 470.57.02), got: CUDA error: "
            "unspecified launch failure; run `nvidia-smi`",
        ),
    ],
)  # fmt: skip
def test_errors_of_a_gpu_name_versions_and_remedy(
    said: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.14.1+cu130")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(gpu, "DRIVER", tmp_path / "version")
    gpu.DRIVER.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57.02  Tue Jul 13 16:14:05 UTC 2021\n")
    assert gpu.explained(said).startswith(told)


def test_a_machine_without_a_gpu_is_told_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(gpu.GpuMissing, match=r"GPU must be there and answer|must be built for CUDA"):
        gpu.check()


@pytest.mark.slow
def test_only_a_workers_process_ends_with_its_gpu(tmp_path: Path) -> None:
    error = RuntimeError("CUDA error: device-side assert triggered")
    with pytest.raises(gpu.GpuMissing, match="device-side assert"):
        gpu.leave(error, Store(tmp_path).run("a"))
    code = (
        "from pathlib import Path; from study.store.runs import Store; from study.training import gpu; "
        f"gpu.leave(RuntimeError({str(error)!r}), Store(Path({str(tmp_path)!r})).run('a'))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {WORKER: "1"}, capture_output=True, text=True
    )
    assert ended.returncode == gpu.ENDED
    assert ended.stderr == f"error: the GPU failed ({error}); another process goes on\n"
    assert Store(tmp_path).run("a").read(GPU_FAULT) == {"reason": f"the GPU failed ({error})"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("CUDA error: out of memory"), "OutOfMemory"),
        (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), "OutOfMemory"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "GpuMissing"),
        (RuntimeError("FIND was unable to find an engine to execute this computation"), "TrainingFailed"),
        (RuntimeError("x_cuda does not have a deterministic implementation, but you set"), "TrainingFailed"),
        (RuntimeError("shapes do not match"), "RuntimeError"),
    ],
)
def test_faults_of_a_gpu_are_told_apart(error: Exception, kind: str, tmp_path: Path) -> None:
    kinds = (OutOfMemory, gpu.GpuMissing, TrainingFailed, RuntimeError)
    with pytest.raises(kinds) as found, gpu.faults("cuda", Store(tmp_path).run("a")):
        raise error
    assert found.type.__name__ == kind


def test_the_step_that_does_not_fit_is_named() -> None:
    """Here by a head of 2 TB, as on a GPU by a batch that is too large."""
    network = dataclasses.replace(NETWORK, options=freeze({"widths": [8, 90_000], "strides": [2, 4]}))
    fault = device_check.fault_of(training(Variant(dense(2001)), network), 2, (64, 96), "cpu")
    assert fault.startswith(
        "a GPU must have room for a training step of kxk k=2001 (2 images of 64x96 px), got out of memory on this "
    )
    assert device_check.fault_of(training(Variant(gcn(3))), 2, (64, 96), "cpu") == ""


def test_an_evaluation_that_does_not_fit_is_named() -> None:
    """Here images of 3 TB, of which a training sees small crops."""
    small = training(Variant(gcn(3)))
    cropped = dataclasses.replace(small, recipe=dataclasses.replace(RECIPE, crop=(64, 96)))
    fault = device_check.fault_of(cropped, 2, (10**6, 10**6), "cpu")
    assert fault.startswith(
        "a GPU must have room for the evaluation of GCN k=3 on images of 1000000x1000000 px beside its training, got "
    )
    assert fault.endswith("use a GPU with more memory")
    assert device_check.fault_of(cropped, 2, (128, 192), "cpu") == ""
    assert device_check.fault_of(cropped, 2, (128, 192), "cpu", longest=128) == ""


def test_the_largest_step_is_probed() -> None:
    small, large = training(Variant(dense(1))), training(Variant(gcn(15), refine=True))
    assert device_check.largest(workload(small=small, large=large), ["small", "large"]) == "large"
    assert device_check.largest(workload(small=small, large=large), ["small"]) == "small"


def test_larger_images_of_other_data_are_probed_too() -> None:
    given = workload(small=training(Variant(dense(1))), large=training(Variant(gcn(15), refine=True)))
    given.planned.facts["wide"] = {"size": [640, 960], "classes": ["a", "b"]}
    assert device_check.probed(given, ["small", "large"]) == ["large"]
    given.planned.trainings["small"] = dataclasses.replace(
        training(Variant(dense(1))), recipe=dataclasses.replace(RECIPE, crop=(32, 32))
    )
    given.planned.data_of["small"] = "wide"
    assert device_check.probed(given, ["small", "large"]) == ["large", "small"]


def test_loaders_need_room_in_shared_memory(tmp_path: Path) -> None:
    given = training(Variant(gcn(3)))
    device_check.shared_memory(workload(one=given), ["one"], tmp_path)
    huge = workload(one=given, loaders=2**40)
    with pytest.raises(
        InputError, match=r"must have room for the batches .* --shm-size=\d+g\), or set execution.loaders"
    ):
        device_check.shared_memory(huge, ["one"], tmp_path)
    device_check.shared_memory(workload(one=given, loaders=2**40, streamed=False), ["one"], tmp_path)


@pytest.mark.slow
def test_a_missing_gpu_ends_the_run_before_any_training(project: Project) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    project.params["execution"] |= {"device": "cuda", "workers": 1}
    project.save()
    project.stages("data", "plan")
    ended = project.stages("ablate", check=False)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert "error: a GPU must be there and answer" in ended.stderr or "must be built for CUDA" in ended.stderr
    plan = json.loads((project.reports / "plan.json").read_text())
    assert not any((project.folder / "runs" / key / "failed.json").exists() for key in plan["trainings"])
