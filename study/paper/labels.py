"""The names of a variant in tables, plots, the Optuna study and MLflow."""

from __future__ import annotations

from study.paper.tables import COUNTED_CHANNELS, COUNTED_CLASSES
from study.spec.documents.plan import Labels
from study.spec.heads import Variant, share_of

CLASSIFIER: Labels = {"label": "classifier", "head": "classifier", "kernel_size": 1, "refine": False, "width": None}


def labels(variant: Variant | None) -> Labels:
    """The names of a variant in tables, plots, the study and the tracker; None is the classification head."""
    if variant is None:
        return CLASSIFIER.copy()
    head = variant.head
    return {
        "label": variant.label,
        "head": head.family,
        "kernel_size": head.kernel_size,
        "refine": bool(variant.refine),
        "width": share_of(head.width, COUNTED_CHANNELS, COUNTED_CLASSES),
    }
