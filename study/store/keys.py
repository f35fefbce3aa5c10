"""What makes a training, an evaluation or a look the one it is. Its name, the key, is the sha256 of its identity."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from study.spec.checks import Json
from study.spec.digest import canonical, digest
from study.spec.documents.plan import Probe
from study.spec.training import Inference, Network, Training
from study.store import code_digest
from study.store.runs import weights_digest

# What cached features are made by.
FEATURE_CODE = (
    ("study.training.batches", "features_of"),
    ("study.training.batches", "channel_moments"),
    ("study.training.batches", "frozen_backbone"),
)
# What an evaluation reaches, and a look at receptive fields.
EVALUATION_CODE = (
    ("study.inference.predict", "predict"),
    ("study.training.count", "image_counts"),
    ("study.training.count", "counts_of_original"),
    ("study.data.boundaries", "boundary_band"),
)
# What the weights of classes are made by, where a recipe has them.
WEIGHTING_CODE = (("study.training.class_weights", "weights_of"),)
CONFUSION_CODE = (("study.training.count", "confusion"),)
LOOK_CODE = (("study.inference.receptive_field", "figure3"), ("study.inference.worker", "with_objects"))
TORCH = version("torch")  # once: reading a package's metadata takes longer than a key


def training_roots(network: Network) -> tuple[code_digest.Symbol, ...]:
    """What a training reaches in the code, beside the data (which is known by its content)."""
    roots = (
        ("study.training.loop", "start"),
        ("study.training.loop", "fit"),
        ("study.training.count", "measure"),
        ("study.training.batches", "Source"),
        ("study.data.boundaries", "boundary_band"),
        ("study.training.worker", "settle"),
        ("study.models.build", "build"),
        code_digest.entry("study.models.backbones", "BACKBONES", network.backbone),
    )
    return roots + FEATURE_CODE if network.frozen else roots


def identity(training: Training, fingerprint: str, device: str, init: str | None = None) -> dict[str, Json]:
    """What makes a training the one it is: its spec with the key ``init`` of the training whose weights it starts from,
    its data's fingerprint, its pretrained weights, its code, the torch version and the device."""
    roots = training_roots(training.network) + WEIGHTING_CODE * (training.recipe.class_weights is not None)
    return {
        "training": canonical(training) | {"init": init},
        "data": fingerprint,
        "weights": weights_digest(training.network),
        "code": code_digest.code_digest(*roots),
        "torch": TORCH,
        "device": device,
    }


def identity_of_evaluation(training: str, inference: Inference) -> dict[str, Json]:
    """What makes an evaluation: its training, how it is asked, the code and the CRF library that it reaches."""
    reached = code_digest.code_digest(*EVALUATION_CODE)
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


def key_of_look(trainings: dict[str, str], probe: Probe, images: int) -> str:
    """The name of the receptive fields (Fig. 3) of ``trainings`` {label: key}."""
    reached = code_digest.code_digest(*LOOK_CODE)
    return digest({"look": trainings, "probe": probe, "images": images, "code": reached})


def key_of_confusion(training: str) -> str:
    """The name of the confusions of a training's classes (D132)."""
    return digest({"confusion": training, "code": code_digest.code_digest(*CONFUSION_CODE)})
