"""A model as one ``.onnx`` file for other runtimes, checked in ONNX Runtime for equal classes (D144).

Input ``pixels`` uint8 (1, H, W, 3), the size of images in training; output ``scores`` float32 (1, K, H, W), class
probabilities. The file's metadata hold names, colours, and everything else in the metadata of the ``.safetensors``
file.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from study.inference.exported import Model
from study.spec.errors import InputError
from study.spec.words import first_line
from study.store import runs

if TYPE_CHECKING:
    import onnxruntime

PIXELS, SCORES = "pixels", "scores"
TIE = 1e-3  # difference of a pixel's two most probable classes up to which rounding may choose either


class _Window(nn.Module):
    """pixels uint8 (1, H, W, 3) -> class probabilities float32 (1, K, H, W): what ``Model`` does with one window."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        scores = self.network(pixels.permute(0, 3, 1, 2).float())
        if scores.shape[-2:] != pixels.shape[1:3]:
            scores = functional.interpolate(scores, pixels.shape[1:3], mode="bilinear", align_corners=False)
        return scores.softmax(1)


def write(model: Model, to: Path, images: Sequence[Path] = ()) -> list[int]:
    """Write a model on the CPU to ``to``. Returns, for each of ``images``, the number of pixels of its upper left
    window at which the runtimes differ; each of these is a tie (TIE).

    Raises InputError, and writes nothing, if the network cannot be exported, an image cannot be read, or the runtimes
    differ elsewhere. Raises StoreError if the disk is full or not writable.
    """
    content = _exported(model)
    runtime = _runtime(content)
    _ties(model, runtime, "random pixels", np.random.default_rng(0).integers(0, 256, (*model.size, 3), np.uint8))
    ties = [_ties(model, runtime, str(path), _first_window(model.read(path), model.size)) for path in images]
    to.parent.mkdir(parents=True, exist_ok=True)
    runs.write(to, lambda file: file.write(content))
    return ties


def _exported(model: Model) -> bytes:
    """The file's bytes. Raises InputError for a network with an operation that ONNX does not have."""
    window = _Window(model.network).eval()
    pixels = torch.zeros(1, *model.size, 3, dtype=torch.uint8)
    said = io.StringIO()
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")  # about the exporter's own internals
            program = torch.onnx.export(window, (pixels,), input_names=[PIXELS], output_names=[SCORES], dynamo=True)
    except torch.onnx.errors.OnnxExporterError as error:
        raise InputError(
            f"a network must use only operations that ONNX has, got {model.about['label']} ({first_line(error)}); "
            "use the .safetensors file"
        ) from error
    finally:
        logger.setLevel(level)
    assert program is not None
    proto = program.model_proto
    proto.producer_name = model.about["project"]
    for key, value in model.about.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return cast(bytes, proto.SerializeToString(deterministic=True))


def _runtime(content: bytes) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _first_window(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The upper left of an image, padded with black to ``size`` (height, width)."""
    cut = image[: size[0], : size[1]]
    return np.pad(cut, [(0, size[0] - cut.shape[0]), (0, size[1] - cut.shape[1]), (0, 0)])


def _ties(model: Model, runtime: onnxruntime.InferenceSession, name: str, window: np.ndarray) -> int:
    """The number of pixels where the runtimes' classes differ. Raises InputError if one of them is not a tie."""
    ours = model.scores(window, max(model.size))  # at this size, even if the model makes images smaller first
    (theirs,) = runtime.run([SCORES], {PIXELS: window[None]})
    different = ours.argmax(0) != theirs[0].argmax(0)
    best = np.sort(ours, axis=0)[-2:]
    wrong = int((different & (best[1] - best[0] > TIE)).sum())
    if wrong:
        raise InputError(
            f"an .onnx file must give the same classes as the network, but {wrong} of {different.size} pixels differ "
            f"in {name}; use the .safetensors file"
        )
    return int(different.sum())
