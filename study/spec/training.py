"""Trainings as frozen values: data, network, recipe and inference method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from study.spec.heads import Head, Variant

Options = tuple[tuple[str, Any], ...]


class Frozen(tuple[tuple[str, Any], ...]):
    """A mapping as sorted pairs; the type tells it from a list of pairs."""

    __slots__ = ()


DECONVOLUTIONS = ("learned", "bilinear")  # bilinear: they keep their initial weights (D09)


@dataclass(frozen=True)
class Data:
    """A data set: the module ``study.data.sets.<name>`` and its options, as sorted pairs."""

    name: str
    options: Options = ()


@dataclass(frozen=True)
class Network:
    """The backbone and the levels that have heads (Fig. 2A). Deconvolution ends at ``output_stride``.

    ``fixed`` are heads that their levels have whatever the variant (D02); ``deconvolution`` is one of DECONVOLUTIONS.
    """

    backbone: str
    levels: tuple[str, ...]
    options: Options = ()
    frozen: bool = False
    output_stride: int = 1
    fixed: tuple[tuple[str, Head], ...] = ()
    deconvolution: str = "learned"

    def head_at(self, level: str, variant: Variant) -> Head:
        """The head at a level, the first of: the variant's head for that level, the network's fixed head, the variant's
        head."""
        return dict(self.fixed + variant.at).get(level, variant.head)


@dataclass(frozen=True)
class Recipe:
    """How to train. Every value is in params.yaml with a decision (the paper leaves most of them open).

    ``precision`` is fp32, bf16 (automatic mixed precision), or auto until a probe has chosen one of them (D58).
    ``crop`` is the (height, width) of random training crops, None for whole images. ``class_weights`` weights the
    classes in the loss: (name, weight) pairs for some classes, "inverse" (D124), or None for equal weights.
    ``head_rate`` multiplies the rate of everything but the backbone (D154). ``fused`` runs the optimizer in few kernels
    that round differently, and ``deterministic`` makes a GPU repeat its numbers bit for bit (D153).
    """

    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    schedule: str
    warmup: float
    steps: int
    batch: int
    flip: bool
    precision: str
    validations: int
    crop: tuple[int, int] | None = None
    class_weights: Options | str | None = None
    head_rate: float = 1.0
    fused: bool = False
    deterministic: bool = True


@dataclass(frozen=True)
class Crf:
    """A dense CRF with Gaussian edge potentials (Krähenbühl and Koltun, cited by the paper without parameters).

    Standard deviations are in pixels (``_px``) and grey levels of 0..255 (``_rgb``); weights are without unit.
    """

    iterations: int
    smooth_px: float
    smooth_weight: float
    bilateral_px: float
    bilateral_rgb: float
    bilateral_weight: float


@dataclass(frozen=True)
class Inference:
    """How to predict with a trained network (Sec. 4.2, 4.3). Needs no training of its own.

    Class probabilities are averaged over the ``scales`` of the input and, with ``flip``, their mirror images. ``crop``
    is the (height, width) of overlapping crops, ``crops`` their number (down, across), spread evenly from edge to edge;
    scores are fused where crops overlap. ``crf`` refines the result.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    crop: tuple[int, int] | None = None
    crops: tuple[int, int] = (1, 1)
    crf: Crf | None = None


@dataclass(frozen=True)
class Training:
    """One training, the unit of work and of sharing. Equal trainings are one run.

    ``variant`` None means the classification head of Table 11 (global average pooling and one linear layer).
    ``init`` is the training whose weights this one starts from: all weights, or after a classification the backbone's.
    """

    variant: Variant | None
    data: Data
    network: Network
    recipe: Recipe
    seed: int
    band_px: int
    init: Training | None = None


def freeze(options: Mapping[str, object]) -> Options:
    """A mapping from params.yaml as sorted pairs of hashable values. Numeric keys become text."""

    def frozen(value: Any) -> Any:
        if isinstance(value, dict):
            return freeze(value)
        return tuple(frozen(item) for item in value) if isinstance(value, list | tuple) else value

    pairs = ((str(name), frozen(value)) for name, value in options.items())
    return Frozen(sorted(pairs, key=lambda pair: pair[0]))


def thawed(options: Options) -> dict[str, object]:
    """The inverse of ``freeze``, with tuples for lists."""

    def thaw(value: Any) -> Any:
        if isinstance(value, Frozen):
            return thawed(value)
        return tuple(map(thaw, value)) if isinstance(value, tuple) else value

    return {name: thaw(value) for name, value in options}
