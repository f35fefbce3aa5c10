"""Exported models: ``load`` one, and predict the classes of any image (D140, D141).

model = load("reports/shapes/weights/T5-GCN+BR-overall.safetensors")
classes = model.predict("photograph.jpg")  # uint8 (H, W), at the image's size
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional

from study.data.display import colours_of
from study.data.originals import Original
from study.data.pixels import picture, smaller, smaller_size
from study.data.prepare import padded
from study.inference import model_file
from study.inference.model_file import Tensors
from study.inference.predict import probabilities
from study.inference.worker import network_of
from study.models import described
from study.models.backbones import BACKBONES, Backbone, transfer
from study.models.build import Segmenter, build, build_backbone, untrained
from study.spec.constants import VOID
from study.spec.documents.models import ModelFile, ModelOrigin
from study.spec.errors import InputError
from study.spec.jobs import Context, Subject
from study.spec.training import Inference, Network, thawed
from study.training.batches import WholeNetwork
from study.training.count import enlarged

NETWORK, FROZEN, MOMENTS = "network.", "frozen.", "moments."  # prefixes of the names of tensors
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # suffixes of the names of statistics
OVERLAP = 0.25  # of a window: the least overlap of neighbouring windows in a larger image (D141)
EIGHT_BITS = ("1", "L", "P", "RGB")  # Pillow's modes
Anything = str | Path | Image.Image | np.ndarray


class Model:
    """A trained network with everything that it needs. ``about`` is its metadata, ``names`` are the classes from label
    0 up, ``colours`` uint8 (K, 3) their display colours, ``size`` the (height, width) of the window that it sees at
    once."""

    def __init__(self, about: ModelFile, network: WholeNetwork, stride: int, device: torch.device) -> None:
        self.about, self.network, self.stride, self.device = about, network, stride, device
        self.names = tuple(about["classes"])
        self.colours = np.array(about["colours"], np.uint8)
        height, width = about["data"]["size"]
        self.size = (height, width)

    def predict(self, image: Anything, longest: int | None = None) -> np.ndarray:
        """Classes uint8 (H, W) of an image, at its own size.

        ``image`` is a file's path, a Pillow image, or pixels uint8 (H, W, 3). If its longest side is above ``longest``
        px, it is made smaller first (None: as in training). An image smaller than ``size`` is padded; a larger one is
        covered by overlapping windows, which are averaged. Raises InputError for anything else.
        """
        pixels = self._pixels(image)
        found, seen = self._probabilities(pixels, longest)
        if seen == pixels.shape[:2]:
            return found[:, : seen[0], : seen[1]].argmax(0).to(torch.uint8).numpy()
        return enlarged(found, _sized(pixels, seen))

    def scores(self, image: Anything, longest: int | None = None) -> np.ndarray:
        """Probabilities float32 (K, H, W) of the classes, at the image's own size. Arguments as in ``predict``."""
        pixels = self._pixels(image)
        found, (height, width) = self._probabilities(pixels, longest)
        cut = found[None, :, :height, :width]
        if (height, width) != pixels.shape[:2]:
            cut = functional.interpolate(cut, pixels.shape[:2], mode="bilinear", align_corners=False)
        return cut[0].float().numpy()

    def read(self, path: Path) -> np.ndarray:
        """Pixels uint8 (H, W, 3) of a file, read like the training images. Raises InputError as pixels.picture does."""
        if not path.is_file():
            raise InputError(f"an image must be a file, got no file {path}; name one")
        scale = self.about["data"]["range"]
        return picture(path, scale=None if scale is None else (scale[0], scale[1]))

    def _pixels(self, image: Anything) -> np.ndarray:
        if isinstance(image, str | Path):
            return self.read(Path(image))
        if isinstance(image, Image.Image):
            if image.mode not in EIGHT_BITS:
                raise InputError(
                    f"a picture must have 8 bits per channel and be opaque, got one of mode {image.mode}; convert it "
                    "to RGB, or give the path of its file"
                )
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
            got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise InputError(
                f"an image must be a path, a Pillow image or pixels uint8 (H, W, 3) in red, green and blue, got "
                f"{got}; convert it"
            )
        if not image.size:
            raise InputError(f"an image must have pixels, got none in {image.shape}; give one that has")
        return image

    def _probabilities(self, pixels: np.ndarray, longest: int | None) -> tuple[torch.Tensor, tuple[int, int]]:
        """Probabilities float64 (K, h, w) of the image as the network sees it, padded at the right and bottom, and its
        (height, width) without the padding."""
        if longest is None:
            longest = self.about["data"]["longest"]
        elif longest < 1:
            raise InputError(f"longest must be a number of px from 1 up, got {longest}; write e.g. 512")
        seen = (pixels.shape[0], pixels.shape[1])
        if longest is not None:
            seen, pixels = smaller_size(seen, longest), smaller(pixels, longest)
        whole = (max(seen[0], self.size[0]), max(seen[1], self.size[1]))
        image, _ = padded(pixels, 0, whole)
        down, across = (windows(side, window) for side, window in zip(whole, self.size, strict=True))
        asked = Inference(crop=self.size, crops=(down, across))
        tensor = torch.from_numpy(image)[None].permute(0, 3, 1, 2).to(self.device, torch.float32)
        with torch.inference_mode():
            return probabilities(self.network, tensor, asked, self.stride)[0].cpu(), seen


def windows(side: int, window: int) -> int:
    """How many windows, spread evenly, cover ``side`` px with OVERLAP between neighbours."""
    return 1 + max(0, math.ceil((side - window) / max(1, math.floor((1 - OVERLAP) * window))))


def _sized(pixels: np.ndarray, seen: tuple[int, int]) -> Original:
    """What ``enlarged`` needs of an image without labels: its size, and that of the smaller one."""
    none = np.empty(pixels.shape[:2], np.uint8)
    return Original(none, none, seen)


def load(path: str | Path, device: str = "cpu") -> Model:
    """Load a model from its file, in evaluation mode. Reads nothing else, and unpickles nothing.

    Raises InputError for a file that is missing, damaged, from other software or of another version, for a backbone
    that this code does not have, and for tensors that do not fit.
    """
    about, tensors = model_file.read(Path(path))
    network = described.network_of(about["network"])
    if network.backbone not in BACKBONES:
        raise InputError(
            f"a model must have a backbone that this code has ({', '.join(sorted(BACKBONES))}), got "
            f"{network.backbone!r} in {path}; add its class to study/models/backbones.py"
        )
    network = dataclasses.replace(network, options=untrained(network))
    frozen: Backbone | None = None
    with torch.random.fork_rng(devices=[]):  # keeps the caller's random state
        model = build(described.variant_of(about["variant"]), network, len(about["classes"]), about["seed"])
        if network.frozen:
            frozen = build_backbone(network)
    of_backbone = frozen if frozen is not None else cast(Segmenter, model).backbone
    transfer(model, _part(tensors, NETWORK), f"those of the network in {path}")
    if frozen is not None:
        transfer(frozen, _part(tensors, FROZEN), f"those of the backbone in {path}")
    moments = _part(tensors, MOMENTS)
    if lacking := [level for level in network.levels if frozen is not None and level not in moments]:
        raise InputError(f"a model must have the moments of each level, got none for {lacking[0]} in {path}; copy it")
    backbone = cast(Backbone, of_backbone)
    for name in ("mean", "std"):  # the values of its training, whatever a library says today
        getattr(backbone, name).copy_(torch.tensor(about["network"][name]).view(1, -1, 1, 1))  # type: ignore[literal-required]
    whole = WholeNetwork(model, frozen, moments, rounded=True).to(device).to(memory_format=torch.channels_last).eval()
    return Model(about, whole, max(backbone.strides[level] for level in network.levels), torch.device(device))


def export(path: Path, subject: Subject, context: Context, origin: ModelOrigin) -> ModelFile:
    """Write the model of a finished training. Returns its metadata.

    Raises InputError if the weights of its backbone cannot be read, TrainingFailed if it is not done, and
    FileNotFoundError if the moments of its features are no longer cached.
    """
    training, facts, network = subject.training, subject.facts, network_of(subject, context)
    if training.variant is None:
        raise InputError(f"a model must be of a segmentation, got the classifier {origin['label']}; name another cell")
    backbone = cast(Backbone, network.model.backbone if network.backbone is None else network.backbone)
    mean, std = (pixels.flatten().tolist() for pixels in (backbone.mean, backbone.std))
    scale = cast(tuple[int, int] | None, thawed(training.data.options).get("range"))
    tensors = _tensors_of(network)
    about: ModelFile = {
        **origin,
        "version": 1,
        "project": "large-kernel-study",
        "variant": described.of_variant(training.variant),
        "network": described.of_network(_shared(training.network), mean, std),
        "classes": facts["classes"],
        "colours": colours_of(facts)[: len(facts["classes"])].tolist(),
        "void": VOID,
        "data": {
            "name": training.data.name,
            "fingerprint": facts["fingerprint"],
            "images": facts["splits"],
            "size": facts["size"],
            "longest": facts.get("longest"),
            "range": None if scale is None else list(scale),
        },
        "parameters": sum(
            tensor.numel()
            for name, tensor in tensors.items()
            if not (name.startswith(MOMENTS) or name.endswith(STATISTICS))
        ),
        "sha256": "",
    }
    return model_file.write(path, about, tensors)


def _tensors_of(network: WholeNetwork) -> Tensors:
    """All tensors of a network, by the names under which ``load`` looks for them."""
    found = {NETWORK + name: value for name, value in network.model.state_dict().items()}
    if network.backbone is not None:
        found |= {FROZEN + name: value for name, value in network.backbone.state_dict().items()}
    return found | {MOMENTS + level: pair.flatten(1) for level, pair in network.moments.items()}


def _shared(network: Network) -> Network:
    """A network without the folder of its weights, which is private to the user."""
    options = (
        (name, Path(value).name if name == "weights" and isinstance(value, str) else value)
        for name, value in network.options
    )
    return dataclasses.replace(network, options=tuple(options))


def _load_pyfunc(path: str) -> Model:
    """What MLflow calls for `mlflow.pyfunc.load_model`."""
    return load(path)


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
