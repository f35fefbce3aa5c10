"""weights/: an exported model's metadata, and the index of models."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from study.spec.documents.plan import PlannedRecipe
from study.spec.typed import Json, closed


@closed
class HeadlineModel(TypedDict):
    """A model of a report: its cell and training, and the digests of its file and of its card."""

    label: str
    seed: int
    data: str
    cell: str
    training: str
    sha256: str
    card: str


@closed
class ModelConvolution(TypedDict):
    """spec.heads.Conv as JSON; ``width`` as in params.yaml, such as 1/2 or 10K."""

    kernel: list[int]
    width: str | None
    activated: NotRequired[bool]


@closed
class ModelHead(TypedDict):
    """spec.heads.Head as JSON."""

    chains: list[list[ModelConvolution]]
    family: str
    kernel_size: int


@closed
class ModelVariant(TypedDict):
    """spec.heads.Variant as JSON."""

    head: ModelHead
    refine: bool | list[str]
    at: dict[str, ModelHead]


@closed
class ModelNetwork(TypedDict):
    """spec.training.Network as JSON. ``mean`` and ``std`` of its pixels are in 0..255, by channel."""

    backbone: str
    levels: list[str]
    options: dict[str, Json]
    frozen: bool
    output_stride: int
    fixed: dict[str, ModelHead]
    deconvolution: str
    mean: list[float]
    std: list[float]


@closed
class ModelData(TypedDict):
    """A model's training data and how images are prepared for it.

    Images with a longer side than ``longest`` px are scaled down to it, then padded to ``size`` (height, width) px;
    grey images of more than 8 bits are scaled from ``range``. ``images`` are the numbers of images by split.
    """

    name: str
    fingerprint: str
    images: dict[str, int]
    size: list[int]
    longest: int | None
    range: list[int] | None


@closed
class ModelScore(TypedDict):
    """A metric on val: ``value`` of this network, mean and 95 % interval over the ``seeds`` of its cell (fractions)."""

    metric: str
    value: float
    mean: float
    low: float | None
    high: float | None
    seeds: int


@closed
class ModelOrigin(TypedDict):
    """Where a model comes from: tier, setting, cell, training (a key) and the commit and torch that trained it."""

    paper: str
    licence: str
    tier: str
    title: str
    judges: str
    meaningless: bool
    scale: str
    cell: str
    label: str
    setting: str
    training: str
    seed: int
    commit: str
    torch: str
    recipe: PlannedRecipe
    scores: list[ModelScore]


@closed
class ModelFile(ModelOrigin):
    """All of a model except its tensors (D140). ``colours`` are red, green and blue by class; ``parameters`` counts the
    weights, including those of a frozen backbone; ``sha256`` is the digest of everything."""

    version: Literal[1]
    project: Literal["large-kernel-study"]
    variant: ModelVariant
    network: ModelNetwork
    classes: list[str]
    colours: list[list[int]]
    void: int
    data: ModelData
    parameters: int
    sha256: str
