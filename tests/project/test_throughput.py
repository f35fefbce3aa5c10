"""The throughput benchmark prints what it promises; times are not judged here."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch

from benchmarks import throughput
from benchmarks.throughput import Measured
from study.store.code_digest import ROOT

NUMBER, COUNT = r"\d+\.\d+", r"(\d+|-)"


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.throughput", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)


@pytest.mark.long
@pytest.mark.slow
def test_it_prints_seconds_ratios_memory_and_the_promise() -> None:
    ran = _run("--depths", "50", "--size", "64", "--rounds", "1", "--device", "cpu")
    assert ran.returncode == 0, ran.stderr
    title, head, *lines, promise = [line for line in ran.stdout.splitlines() if line]
    assert re.fullmatch(r"batch 1, 64x64, CPU with 1 thread\(s\), medians of 1 rounds in turn", title)
    assert re.sub(" +", " ", head) == "network phase precision ours s FCN s ours/FCN ours MB FCN MB"
    for line, phase, precision in zip(
        lines[:4], ("train", "train", "infer", "infer"), ("fp32", "bf16") * 2, strict=True
    ):
        assert re.fullmatch(rf"ResNet-50 +{phase} +{precision}( +{NUMBER}){{3}}( +{COUNT}){{2}}", line)
        ours, fcn, ratio, *peaks = line.split()[3:]
        assert abs(float(ratio) - float(ours) / float(fcn)) < 0.05
        assert all(peak == "-" or int(peak) > 100 for peak in peaks)  # the weights alone need more
    assert lines[4].split() == ["fp32/bf16", "ours", "FCN"]
    assert [line.split()[:2] for line in lines[5:]] == [["ResNet-50", "train"], ["ResNet-50", "infer"]]
    assert re.fullmatch(
        r"promised: a training step in bf16 at least 1\.5 times as fast if the CPU has bf16 instructions; "
        rf"(ResNet-50 {NUMBER} \((met|missed)\)|no bf16 instructions: not judged)",
        promise,
    )
    told = ["warming up", "round 1 of 1", "memory of ResNet-50 fp32", "memory of ResNet-50 bf16"]
    assert [line for line in ran.stderr.splitlines() if line in told] == told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--size", "60"), r"--size must be a multiple of 32 px .*, got 60; take"),
        (("--rounds", "0"), r"--rounds must be a whole number from 1 up, got 0; "),
        (("--device", "tpu"), r"--device must be one of auto, cpu, cuda, got 'tpu'; "),
        (("--depths", "34", "--size", "64"), r"depth of a ResNet must be 50, 101 or 152 .*, got 34; "),
    ],
)
def test_wrong_options_end_in_one_line(monkeypatch, capsys, options: tuple[str, ...], told: str) -> None:
    monkeypatch.setattr(sys, "argv", ["throughput", *options])
    monkeypatch.setattr(throughput, "settle", lambda device: None)
    assert throughput.stage.run(throughput.main) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert re.match(rf"error: .*{told}", last)


def _measured(fp32: list[float], bf16: list[float]) -> list[Measured]:
    times = {"fp32": fp32, "bf16": bf16}
    return [Measured(50, "train", name, {"ours": times[name], "FCN": times[name]}) for name in times]


@pytest.mark.parametrize(
    ("has", "bf16", "said"),
    [
        ({"avx2": True, "avx512_bf16": True}, [2.0, 2.0, 2.0], "ResNet-50 1.50 (met)"),
        ({"amx_bf16": True}, [3.0, 2.5, 1.0], "ResNet-50 1.20 (missed)"),
        ({"avx2": True, "avx512_bf16": False}, [1.0, 1.0, 1.0], "no bf16 instructions: not judged"),
    ],
)
def test_the_median_ratio_decides_given_bf16_instructions(monkeypatch, has, bf16, said) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    found = _measured([3.0, 3.0, 3.0], bf16)
    assert throughput.promise(found, "cpu").endswith(f"; {said}")
    assert throughput.promise(found, "cuda").endswith("; no CPU: not judged")


@pytest.mark.slow
def test_plain_fcn_has_stride_8_and_frozen_statistics() -> None:
    model = throughput.PlainFCN(50, throughput.CLASSES).train()
    with torch.device("meta"):
        maps = throughput.PlainFCN(50, throughput.CLASSES).eval().fcn.backbone(torch.empty(1, 3, 64, 64))["out"]
    assert maps.shape == (1, 2048, 8, 8)
    assert not any(module.training for module in model.fcn.backbone.modules())
    assert model.fcn.classifier.training
