"""examined/anatomy.json and examined/costs.json: the structure and the costs of networks."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from study.spec.typed import closed

# A convolution: kernel, channels in and out; in blocks also whether normalisation and ReLU follow.
Convolution = TypedDict(
    "Convolution",
    {"kernel": list[int], "in": int, "out": int, "norm": NotRequired[bool], "relu": NotRequired[bool]},
)


@closed
class BackboneStage(TypedDict):
    """A level of a backbone: its map's channels, size (height, width) and stride."""

    name: str
    channels: int
    size: list[int]
    stride: int


@closed
class DecoderStep(TypedDict):
    """An operation of the decoder (head, refine, add, up) and its output map."""

    op: str
    name: str
    level: str | None
    size: list[int]
    channels: int


@closed
class Deconvolution(TypedDict):
    """Kernel, stride and channels of the deconvolutions."""

    kernel: int
    stride: int
    channels: int


@closed
class Description(TypedDict):
    """A segmentation network on one image (models.anatomy.describe); ``heads`` are chains of convolutions by level."""

    input: list[int]
    classes: int
    stages: list[BackboneStage]
    levels: list[str]
    steps: list[DecoderStep]
    heads: dict[str, list[list[Convolution]]]
    refinement: list[Convolution] | None
    deconvolution: Deconvolution | None
    parameters: dict[str, int]
    macs: dict[str, int]


@closed
class ResidualBlock(TypedDict):
    """A block of Fig. 5: the convolutions of its branches, how the branches are joined, and the convolutions after."""

    title: str
    branches: list[list[Convolution]]
    join: str | None
    after: list[Convolution]
    skip: str
    relu: bool


@closed
class Reading(TypedDict):
    """One reading of a network of Table 11: sides of maps (px), multiply-adds, weights."""

    sides: dict[str, int]
    macs: int
    macs_by_part: dict[str, int]
    parameters: int


@closed
class Field(TypedDict):
    """Theoretical receptive field and stride of a level, in px."""

    px: int
    stride: int


@closed
class AnatomyFile(TypedDict):
    """The structure of the networks: the paper's, with and without GCN, and the tier's own."""

    paper: Description
    paper_local: Description
    tier: Description
    receptive: dict[str, Field]
    blocks: list[ResidualBlock]
    table11: dict[str, Reading]


@closed
class Costs(TypedDict):
    """Weights of a network and of its heads, and their multiply-adds on one image (D97)."""

    parameters: int
    macs: int
    head_parameters: int
    head_macs: int


CostsFile = dict[str, dict[str, Costs]]  # setting -> label -> costs


@closed
class NetworksFile(TypedDict):
    """Both files, as the store keeps them."""

    anatomy: AnatomyFile
    costs: CostsFile
