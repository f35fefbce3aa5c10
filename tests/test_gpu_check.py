"""The check of a GPU: its networks are the tiers', it runs without the project's other packages, and faults show."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from study.commands import preview
from study.config import tiers
from study.gpu_check import cases, endurance, numbers, promises
from study.models.build import untrained
from study.spec.documents.gpu_check import FILE, GpuCheckFile
from study.spec.documents.reading import read
from study.store.runs import Store
from tests.conftest import ROOT

BLOCKED = ("pydantic", "pandas", "yaml", "scipy", "mlflow", "optuna", "ray", "timm", "click", "dvc", "seaborn")
# As on a machine that has torch, torchvision and numpy only.
ALONE = f"""
import runpy, sys
for name in {BLOCKED!r}:
    sys.modules[name] = None
if __name__ == "__main__":
    sys.argv[1:] = ["--device", "cpu", "--out", sys.argv[1]]
    runpy.run_module("study.gpu_check", run_name="__main__")
"""


@pytest.mark.parametrize("name", cases.CASES)
def test_cases_are_the_tiers_own(name: str) -> None:
    """Network, recipe and image size, except that a probe chooses the precision."""
    tier, case = tiers.load(tiers.read(ROOT / "params.yaml"), name), cases.CASES[name]
    network = dataclasses.replace(tier.main.network, options=untrained(tier.main.network))
    assert case.network == network
    assert case.recipe == dataclasses.replace(tier.main.recipe, precision="bf16")
    assert case.size == (tier.main.recipe.crop or dict(tier.main.data.options)["pad"])
    assert case.classes == (19 if name == "cityscapes" else 21)


@pytest.mark.slow
def test_it_runs_with_torch_torchvision_and_numpy_alone(tmp_path: Path) -> None:
    """On the CPU, where every promise is kept."""
    script, out = tmp_path / "alone.py", tmp_path / FILE
    script.write_text(ALONE)
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(out)], cwd=ROOT, capture_output=True, text=True, timeout=500,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = read(out, GpuCheckFile)
    assert "BROKEN" not in ended.stdout and f"{len(found['lines'])} lines" not in ended.stderr
    names = {line["check"] for line in found["lines"]}
    assert {"numbers: GCN k=15", "numbers: deconvolution", "training resumed halfway", "batches copied ahead"} <= names
    assert {"two trainings on the device", "a step without enough memory", "the training after it"} <= names
    assert found["steps"].keys() == cases.CASES.keys()
    assert all(step["train_s"] > 0 and step["work_per_s"] >= step["flop_per_s"] / 2 for step in found["steps"].values())


def test_a_check_that_fails_breaks_its_promise(capsys: pytest.CaptureFixture[str]) -> None:
    """An error of a check ends neither the others nor the table."""
    results = promises.Results({"kind": "cpu"})

    def wrong() -> Iterator[promises.Line]:
        yield promises.Line("fine", "", "1.0", kept=None)
        raise RuntimeError("no kernel\nmore")

    promises.run(results, "broken", wrong, left_s=1)
    promises.run(results, "late", wrong, left_s=0)
    assert [(line.check, line.kept) for line in results.lines] == [("fine", None), ("broken", False), ("late", None)]
    assert [line.found for line in results.broken] == ["RuntimeError: no kernel"]
    assert "BROKEN  broken" in capsys.readouterr().out


def test_wrong_numbers_of_a_device_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that is off by a tenth of a per cent in fp32."""
    values = numbers._values

    def off(module: torch.nn.Module, maps: torch.Tensor, device: str, name: str) -> torch.Tensor:
        return values(module, maps, "cpu", name) * (1.001 if device == "other" else 1)

    monkeypatch.setattr(numbers, "_values", off)
    assert not any(line.kept for line in numbers.modules("other"))
    assert all(line.kept for line in numbers.modules("cpu"))


@pytest.mark.slow
def test_a_training_that_differs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    case, drawn = cases.cases("cpu")["voc_weekend"], iter(range(9))
    monkeypatch.setattr(endurance, "_weights", lambda state: {"w": torch.full((1,), float(next(drawn)))})
    monkeypatch.setattr(endurance, "train", lambda *given: None)
    assert [line.kept for line in endurance.resume(case, "cpu")] == [False, False]


@pytest.mark.slow
def test_a_preview_uses_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Hours are the plan's cost by the speed that the check measured."""
    monkeypatch.setenv("STUDY_STORE", str(tmp_path))
    monkeypatch.chdir(ROOT)
    step = {"train_s": 1.0, "infer_s": 1.0, "batch": 16, "size": [64, 64], "precision": "bf16", "flop_per_s": 1e12}
    file = {
        "version": 1, "device": {"kind": "cuda", "name": "Fake GPU"}, "lines": [], "seconds": 1.0,
        "steps": {"smoke": step | {"work_per_s": 1e9}},
    }  # fmt: skip
    (Store().root / FILE).write_text(json.dumps(file))
    params = tiers.read()
    preview.preview(params, "smoke")
    said = capsys.readouterr().out
    assert "trainings on one Fake GPU, by its check: " in said
    file["device"]["kind"] = "cpu"
    (Store().root / FILE).write_text(json.dumps(file))
    preview.preview(params, "smoke")
    assert "by its check" not in capsys.readouterr().out
