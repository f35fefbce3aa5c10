"""What makes a training, an evaluation or a look the one it is. Its name, the key, is the sha256 of its identity."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from study import code
from study.spec import Inference, Network, Training, canonical, digest
from study.store import weights_digest

# What cached features are made by.
FEATURE_CODE = (
    ("study.source", "features_of"),
    ("study.source", "channel_moments"),
    ("study.source", "frozen_backbone"),
)
TORCH = version("torch")  # once: reading a package's metadata takes longer than a key


def training_roots(network: Network) -> tuple[code.Symbol, ...]:
    """What a training reaches in the code, beside the data (which is known by its content)."""
    roots = (
        ("study.engine", "start"),
        ("study.engine", "fit"),
        ("study.evaluate", "measure"),
        ("study.source", "Source"),
        ("study.regions", "boundary_band"),
        ("study.worker", "settle"),
        ("study.models", "build"),
        code.entry("study.models.backbones", "BACKBONES", network.backbone),
    )
    return roots + FEATURE_CODE if network.frozen else roots


def identity(training: Training, fingerprint: str, device: str, init: str | None = None) -> dict[str, Any]:
    """What makes a training the one it is: its spec with the key ``init`` of the training whose weights it starts from,
    its data's fingerprint, its pretrained weights, its code, the torch version and the device."""
    return {
        "training": canonical(training) | {"init": init},
        "data": fingerprint,
        "weights": weights_digest(training.network),
        "code": code.code_digest(*training_roots(training.network)),
        "torch": TORCH,
        "device": device,
    }


def identity_of_evaluation(training: str, inference: Inference) -> dict[str, Any]:
    """What makes an evaluation: its training, how it is asked, the code and the CRF library that it reaches."""
    reached = code.code_digest(
        ("study.inference", "predict"), ("study.evaluate", "image_counts"), ("study.regions", "boundary_band")
    )
    library = None
    if inference.crf is not None:
        try:
            library = version("pydensecrf2")
        except PackageNotFoundError:  # the data stage says so, with the remedy
            library = "missing"
    return {"of": training, "inference": canonical(inference), "code": reached, "library": library}


def key_of_evaluation(training: str, inference: Inference) -> str:
    """The evaluation's name: the sha256 of its identity."""
    return digest(identity_of_evaluation(training, inference))


def key_of_look(trainings: dict[str, str], probe: dict[str, Any], images: int) -> str:
    """The name of the receptive fields (Fig. 3) of ``trainings`` {label: key}."""
    reached = code.code_digest(("study.receptive", "figure3"), ("study.examiner", "with_objects"))
    return digest({"look": trainings, "probe": probe, "images": images, "code": reached})
