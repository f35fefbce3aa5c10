"""ONNX files: equal classes in another runtime, all facts in the file, and a refusal where classes differ."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from study.commands import export
from study.inference import onnx_file
from study.inference.exported import Model, load
from study.spec.errors import InputError
from tests.inference.test_exported import FROZEN, Made

pytestmark = pytest.mark.slow


def test_an_onnx_file_reproduces_predictions_and_facts(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, said = made.in_the_run()
    Image.fromarray(images[0]).save(tmp_path / "image.png")
    file = tmp_path / "model.onnx"
    assert export.main(made.file, (str(tmp_path / "image.png"),), file) == 0
    assert "the same classes on random pixels and the upper left window of 1 image" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    theirs = [session.run(None, {onnx_file.PIXELS: image[None]})[0][0].argmax(0) for image in images]
    assert len(np.unique(said)) > 1 and (np.stack(theirs) != said).mean() < 1e-3
    facts = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert json.loads(facts["classes"]) == made.about["classes"] and facts["sha256"] == made.about["sha256"]


def test_a_frozen_backbone_exports_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    made = Made(tmp_path / "elsewhere", FROZEN)
    monkeypatch.chdir(tmp_path)
    assert export.main(made.file, (), None) == 0
    assert (tmp_path / "model.onnx").is_file()


def test_a_file_whose_classes_differ_is_not_written(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of a network with other heads."""
    other = load(made.file)
    with torch.no_grad():
        for head in other.network.model.decoder.heads.parameters():
            head.copy_(head.flip(0))
    content = onnx_file._exported(other)
    monkeypatch.setattr(onnx_file, "_exported", lambda model: content)
    with pytest.raises(InputError, match="must give the same classes as the network"):
        onnx_file.write(load(made.file), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_an_operation_that_onnx_lacks_is_one_error(model: Model, tmp_path: Path) -> None:
    class Odd(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(images).real

    odd = load_like(model, Odd())
    with pytest.raises(InputError, match=r"operations that ONNX has, got GCN k=5 .*use the \.safetensors file"):
        onnx_file.write(odd, tmp_path / "model.onnx")


def load_like(model: Model, network: torch.nn.Module) -> Model:
    return Model(model.about, network, model.stride, model.device)  # type: ignore[arg-type]


def test_another_ending_is_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a file that ends in \.onnx"):
        export.main(made.file, (), tmp_path / "model.pb")
