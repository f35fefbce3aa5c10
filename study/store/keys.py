"""Identities of trainings, evaluations and receptive fields. The key, a run's name, is the sha256 of its identity."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from study.spec.digest import canonical, digest
from study.spec.documents.plan import Probe
from study.spec.training import Inference, Network, Training
from study.spec.typed import Json
from study.store import code_digest
from study.store.runs import weights_digest

# The code that makes cached features.
FEATURE_CODE = (
    ("study.training.batches", "features_of"),
    ("study.training.batches", "channel_moments"),
    ("study.training.batches", "frozen_backbone"),
)
# The code that an evaluation reaches.
EVALUATION_CODE = (
    ("study.inference.predict", "predict"),
    ("study.training.count", "image_counts"),
    ("study.training.count", "counts_of_original"),
    ("study.data.boundaries", "boundary_band"),
)
# The code that makes class weights, for recipes that have them.
WEIGHTING_CODE = (("study.training.class_weights", "weights_of"),)
CONFUSION_CODE = (("study.training.count", "confusion"),)
LOOK_CODE = (("study.inference.receptive_field", "figure3"), ("study.inference.worker", "with_objects"))
TORCH = version("torch")  # read once: reading a package's metadata takes longer than computing a key


def training_roots(network: Network) -> tuple[code_digest.Symbol, ...]:
    """The code that a training reaches, without the data sets' code (the data's fingerprint covers that)."""
    roots = (
        ("study.training.loop", "start"),
        ("study.training.loop", "fit"),
        ("study.training.count", "measure"),
        ("study.training.batches", "Source"),
        ("study.data.boundaries", "boundary_band"),
        ("study.training.device", "settle"),
        ("study.models.build", "build"),
        code_digest.entry("study.models.backbones", "BACKBONES", network.backbone),
    )
    return roots + FEATURE_CODE if network.frozen else roots


def identity(training: Training, fingerprint: str, device: str, init: str | None = None) -> dict[str, Json]:
    """The identity of a training: its spec with the key ``init`` of the training whose weights it starts from, the
    fingerprint of its data, its pretrained weights, its code, the torch version and the device."""
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
    """The identity of an evaluation: its training, its inference method, its code and, with a CRF, the CRF library."""
    reached = code_digest.code_digest(*EVALUATION_CODE)
    library = None
    if inference.crf is not None:
        try:
            library = version("pydensecrf2")
        except PackageNotFoundError:  # the data stage reports it, with the remedy
            library = "missing"
    return {"of": training, "inference": canonical(inference), "code": reached, "library": library}


def key_of_evaluation(training: str, inference: Inference) -> str:
    """The key of an evaluation: the sha256 of its identity."""
    return digest(identity_of_evaluation(training, inference))


def key_of_look(trainings: dict[str, str], probe: Probe, images: int) -> str:
    """The key of the receptive fields (Fig. 3) of ``trainings`` {label: key}."""
    reached = code_digest.code_digest(*LOOK_CODE)
    return digest({"look": trainings, "probe": probe, "images": images, "code": reached})


def key_of_confusion(training: str) -> str:
    """The key of a training's confusion matrix (D132)."""
    return digest({"confusion": training, "code": code_digest.code_digest(*CONFUSION_CODE)})
