"""Heads and variants as frozen values.

Every head of Fig. 4 is *a sum of chains of linear convolutions*: 1x1 and kxk are one chain of one convolution, the
stack is one chain of n, GCN is two chains of two. So heads are data, parameter counts are arithmetic, and
``stack(3) == dense(3)`` holds by plain equality (the paper prints 69.8 for both). The head of a plain FCN, for
comparison, has a nonlinearity. Uses the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from study.spec.errors import InputError


@dataclass(frozen=True)
class PerClass:
    """A width of ``times`` channels per class: Table 4's 210 is ten times the paper's 21 classes (D116)."""

    times: int

    def __str__(self) -> str:
        return f"{self.times}K"


Width = Fraction | PerClass


@dataclass(frozen=True)
class Conv:
    """One convolution without bias: ``kernel`` is (height, width) in cells of its map.

    ``width`` is the number of output channels: a share of the head's input channels, a number per class, or None for
    one per class. ``activated``: batch normalisation and a ReLU follow. Raises InputError for an even or non-positive
    kernel (Sec. 3.1: odd only, or maps lose their alignment).
    """

    kernel: tuple[int, int]
    width: Width | None = None
    activated: bool = False

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
        """Output channels on a level with ``in_channels``, at least 1."""
        if isinstance(self.width, PerClass):
            return self.width.times * classes
        return classes if self.width is None else max(1, round(self.width * in_channels))


@dataclass(frozen=True)
class Head:
    """A sum of chains of convolutions (Fig. 4). ``family`` and ``kernel_size`` are labels: equality ignores
    them."""

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
        """Width of a stack's inner maps; None for other heads."""
        inner = (conv.width for chain in self.chains for conv in chain if not conv.activated)
        return next((width for width in inner if width is not None), None)


def share_of(width: Width | None, in_channels: int, classes: int) -> float | None:
    """A width as a share of ``in_channels``, for plots and parameters that take numbers; None stays None."""
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


def fcn(k: int) -> Head:
    """The head of the plain FCN of public benchmarks, which is not the paper's: a kxk convolution to a quarter of the
    channels, batch normalisation, ReLU, and a 1x1 convolution (D156)."""
    return Head(((Conv((k, k), Fraction(1, 4), activated=True), Conv((1, 1))),), "FCN", k)


HEADS = {"dense": dense, "stack": stack, "gcn": gcn, "fcn": fcn}
# Places of boundary refinement in Fig. 2A: after a head, after a sum, after a deconvolution above the finest level.
PLACES = ("head", "sum", "up")
AFTER = {"head": "after heads", "sum": "after sums", "up": "after upsampling"}  # in words


@dataclass(frozen=True)
class Variant:
    """What the ablations vary: the head, boundary refinement (BR), and heads that differ at named levels.

    ``refine`` is True for BR in all places (as in the paper), False for none, or a tuple of the PLACES that have it.
    Raises InputError for an unknown place.
    """

    head: Head
    refine: bool | tuple[str, ...] = False
    at: tuple[tuple[str, Head], ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.refine, bool):
            return
        for place in self.refine:
            if place not in PLACES:
                raise InputError(f"refine must name places among {', '.join(PLACES)}, got {place!r}; rename it")
        named = tuple(place for place in PLACES if place in self.refine)
        # One value for each network, so that equal networks compare equal.
        object.__setattr__(self, "refine", bool(named) if named in ((), PLACES) else named)

    def refines(self, place: str) -> bool:
        """Whether BR is used in this one of PLACES."""
        return self.refine if isinstance(self.refine, bool) else place in self.refine

    @property
    def label(self) -> str:
        """Name for tables and plots, such as ``GCN k=15 + BR``."""
        head = self.head
        text = head.family if head.family == "1x1" else f"{head.family} k={head.kernel_size}"
        if head.width not in (None, 1):
            text += f" m={head.width}"
        text += "".join(f" ({level} {other.family} k={other.kernel_size})" for level, other in self.at)
        if not self.refine:
            return text
        return f"{text} + BR" + ("" if isinstance(self.refine, bool) else f" ({', '.join(self.refine)})")
