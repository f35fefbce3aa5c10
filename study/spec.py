"""Vocabulary: frozen values for heads, variants, trainings and the cells of the paper's tables.

Every head of Fig. 4 is *a sum of chains of linear convolutions*: 1x1 and kxk are one chain of one convolution, the
stack is one chain of n, GCN is two chains of two. So heads are data, parameter counts are arithmetic, and
``stack(3) == dense(3)`` holds by plain equality (the paper prints 69.8 for both). Standard library only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

VOID = 255  # the label of pixels that are neither trained on nor scored
LEAST_DRAWS = 100  # a variance of fewer draws of a bootstrap is mostly noise


class InputError(ValueError):
    """Something the user gave breaks a rule. The message says the rule, the value and the remedy."""


@dataclass(frozen=True)
class PerClass:
    """A width of so many channels a class: Table 4's 210 is ten times the paper's 21 classes (D116)."""

    times: int

    def __str__(self) -> str:
        return f"{self.times}K"


Width = Fraction | PerClass


@dataclass(frozen=True)
class Conv:
    """One convolution without bias: ``kernel`` is (height, width) in cells of its map.

    ``width`` is the number of output channels, as a share of the head's input channels or by the number of classes;
    None stands for that number itself. Raises InputError for an even or non-positive kernel (Sec. 3.1: odd only, or
    maps lose their alignment).
    """

    kernel: tuple[int, int]
    width: Width | None = None

    def __post_init__(self) -> None:
        for side in self.kernel:
            if not isinstance(side, int) or isinstance(side, bool) or side < 1 or side % 2 == 0:
                raise InputError(
                    "a kernel size must be a positive odd whole number (Sec. 3.1: an even kernel shifts the map), "
                    f"got {side!r}; take one of 1, 3, 5, 7 ..."
                )
        if self.width is not None and not (self.width.times if isinstance(self.width, PerClass) else self.width) > 0:
            raise InputError(f"the width of a stack must be positive, got {self.width}; take a share such as 1/2")

    def channels(self, in_channels: int, classes: int) -> int:
        """Output channels on a level with ``in_channels``; at least 1."""
        if isinstance(self.width, PerClass):
            return self.width.times * classes
        return classes if self.width is None else max(1, round(self.width * in_channels))


@dataclass(frozen=True)
class Head:
    """A sum of chains of linear convolutions (Fig. 4). ``family`` and ``kernel_size`` are labels, not identity."""

    chains: tuple[tuple[Conv, ...], ...]
    family: str = field(compare=False)
    kernel_size: int = field(compare=False)

    def parameters(self, in_channels: int, classes: int) -> int:
        """Number of weights, as Tables 2 and 4 count them (2048 input channels, 21 classes there)."""
        return sum(i * o * kh * kw for i, o, (kh, kw) in self.shapes(in_channels, classes))

    def shapes(self, in_channels: int, classes: int) -> list[tuple[int, int, tuple[int, int]]]:
        """(input channels, output channels, kernel) of every convolution, chain by chain."""
        found = []
        for chain in self.chains:
            inputs = in_channels
            for conv in chain:
                outputs = conv.channels(in_channels, classes)
                found.append((inputs, outputs, conv.kernel))
                inputs = outputs
        return found

    @property
    def width(self) -> Width | None:
        """Width of a stack's inner maps; None where there is none."""
        return next((conv.width for chain in self.chains for conv in chain if conv.width is not None), None)


def share_of(width: Width | None, in_channels: int, classes: int) -> float | None:
    """A width as a share of so many input channels, for plots and parameters that take numbers; None where there is
    none."""
    if isinstance(width, PerClass):
        return width.times * classes / in_channels
    return None if width is None else float(width)


def dense(k: int) -> Head:
    """One kxk convolution (Fig. 4C); ``dense(1)`` is the paper's baseline (Fig. 4B)."""
    return Head(((Conv((k, k)),),), "1x1" if k == 1 else "kxk", k)


def stack(k: int, width: Width = Fraction(1)) -> Head:
    """(k - 1) / 2 stacked 3x3 convolutions with the equivalent kernel size k (Fig. 4D, Tables 3 and 4)."""
    if not isinstance(k, int) or k < 3 or k % 2 == 0:
        raise InputError(f"the kernel size of a stack must be an odd whole number from 3 up, got {k!r}; take 3, 5 ...")
    inner = (Conv((3, 3), width),) * ((k - 1) // 2 - 1)
    return Head(((*inner, Conv((3, 3))),), "stack", k)


def gcn(k: int) -> Head:
    """The Global Convolutional Network block: kx1 then 1xk, plus 1xk then kx1 (Fig. 2B, Sec. 3.1)."""
    return Head(((Conv((k, 1)), Conv((1, k))), (Conv((1, k)), Conv((k, 1)))), "GCN", k)


HEADS = {"dense": dense, "stack": stack, "gcn": gcn}


@dataclass(frozen=True)
class Variant:
    """What the ablations vary: the head, boundary refinement on or off, and heads that differ at named levels."""

    head: Head
    refine: bool = False
    at: tuple[tuple[str, Head], ...] = ()

    @property
    def label(self) -> str:
        """Name for tables and plots, such as ``GCN k=15 + BR``."""
        head = self.head
        text = head.family if head.family == "1x1" else f"{head.family} k={head.kernel_size}"
        if head.width not in (None, 1):
            text += f" m={head.width}"
        text += "".join(f" ({level} {other.family} k={other.kernel_size})" for level, other in self.at)
        return text + (" + BR" if self.refine else "")


Options = tuple[tuple[str, Any], ...]
DECONVOLUTIONS = ("learned", "bilinear")  # bilinear: as they start, never trained (D09)


@dataclass(frozen=True)
class Data:
    """A data set: the module ``study.data.<name>`` and its options, as sorted pairs."""

    name: str
    options: Options = ()


@dataclass(frozen=True)
class Network:
    """The backbone and the levels at which heads stand (Fig. 2A); ``output_stride`` is where deconvolution ends.

    ``fixed`` are heads that stand at their levels whatever the variant (D02); ``deconvolution`` is one of
    DECONVOLUTIONS.
    """

    backbone: str
    levels: tuple[str, ...]
    options: Options = ()
    frozen: bool = False
    output_stride: int = 1
    fixed: tuple[tuple[str, Head], ...] = ()
    deconvolution: str = "learned"

    def head_at(self, level: str, variant: Variant) -> Head:
        """The head at a level: the variant's own word for that level, the network's, the variant's head."""
        return dict(self.fixed + variant.at).get(level, variant.head)


@dataclass(frozen=True)
class Recipe:
    """How weights are found; every value is in params.yaml with a decision (the paper leaves most of it open).

    ``precision`` is fp32, bf16 (automatic mixed precision), or auto until a probe has chosen one of them (D58).
    ``crop`` is the (height, width) of random crops taken in training, None for whole images.
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
    """How a trained network is asked for its classes (Sec. 4.2, 4.3). Never a training of its own.

    ``scales`` of the input and, with ``flip``, its mirror images: their class probabilities are averaged. ``crop`` is
    the (height, width) of overlapping crops, ``crops`` their number (down, across), spread evenly from edge to edge;
    scores are fused where they overlap. ``crf`` refines the result.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    crop: tuple[int, int] | None = None
    crops: tuple[int, int] = (1, 1)
    crf: Crf | None = None


@dataclass(frozen=True)
class Training:
    """One training, the unit of work and of sharing. Equal trainings are one run.

    ``variant`` None stands for the classification head of Table 11 (global average pooling and one linear layer).
    ``init`` is the training whose weights this one starts from: all of them, or the backbone's after a classification.
    """

    variant: Variant | None
    data: Data
    network: Network
    recipe: Recipe
    seed: int
    band_px: int
    init: Training | None = None


@dataclass(frozen=True)
class Cell:
    """One printed number: ``paper`` is a fraction (scores) or a count, None where the paper has none.

    ``setting`` names what its training is run in and ``inference`` how it is evaluated, both of the tier; the empty
    inference is one pass over the whole image. ``variant`` None: see Training, or a number without a training.
    """

    table: str
    row: str
    column: str
    variant: Variant | None
    metric: str
    paper: float | None
    setting: str = "main"
    inference: str = ""

    @property
    def address(self) -> str:
        return f"{self.table}/{self.row}/{self.column}"

    @property
    def trained(self) -> bool:
        """False for numbers that need no training: arithmetic, or scores that a server gives."""
        return self.metric not in COUNTED and self.metric not in SERVED


MAIN = "main"  # the name of a tier's own setting
PAPER, MECHANISM, NOTHING = "paper", "mechanism", "none"  # the scales of a tier: what it may judge
# Metrics that are arithmetic on the code, and those that only a benchmark's server can give.
COUNTED = ("parameters", "map_size", "mflops", "network_parameters")
SERVED = ("test_miou",)


@dataclass(frozen=True)
class Table:
    """A table as the paper prints it: rows and columns in the paper's order."""

    id: str
    title: str
    page: int | None
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure of the paper. ``cells`` are addresses of the cells whose trainings it shows; none: it is drawn from the
    specification of the networks alone."""

    id: str
    title: str
    cells: tuple[str, ...] = ()


PLAIN = frozenset((str, int, float, bool, type(None)))


def canonical(value: Any) -> Any:
    """The identity of a frozen value as plain JSON types: labels (``compare=False``) are left out."""
    if type(value) in PLAIN:
        return value
    if dataclasses.is_dataclass(value):
        return {f.name: canonical(getattr(value, f.name)) for f in dataclasses.fields(value) if f.compare}
    if isinstance(value, tuple | list):
        return [canonical(item) for item in value]
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    return value


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of a value, in hexadecimal."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def freeze(options: dict[str, Any]) -> Options:
    """A mapping from params.yaml as sorted pairs of hashable values."""

    def frozen(value: Any) -> Any:
        if isinstance(value, dict):
            return freeze(value)
        return tuple(frozen(item) for item in value) if isinstance(value, list | tuple) else value

    return tuple((name, frozen(options[name])) for name in sorted(options))
