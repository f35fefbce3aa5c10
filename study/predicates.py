"""Predicates over the addresses of cells: evaluated here on exact numbers, in study.trials on measured counts.

Every predicate is *a conjunction of parts*, and every part says between which bounds a linear contrast of cells lies:
above is one contrast above zero, a trend one fitted rise, equivalence one difference within a margin. So predicates
are data, and one short function tests them all. Bounds are in the unit in which the paper prints: points (of per cent)
for scores and errors, the number itself for what is counted. Standard library only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from study.spec import InputError

Terms = tuple[tuple[Fraction, str], ...]  # (weight, address of a cell)
Pair = tuple[str, str]  # addresses: the first less the second


@dataclass(frozen=True)
class Part:
    """The contrast ``terms`` lies strictly between ``low`` and ``high`` (None: open).

    ``slack`` is by how many of the tier's margins both bounds are moved apart. Of exact numbers each contrast of
    ``steps`` must lie there (none: that of ``terms``): a trend rises at every step. ``name`` is a label.
    """

    name: str = field(compare=False)
    terms: Terms
    low: Fraction | None = None
    high: Fraction | None = None
    slack: int = 0
    steps: tuple[Terms, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(address for terms in (*self.steps, self.terms) for _, address in terms))

    def bounds(self, margin: Fraction) -> tuple[Fraction | None, Fraction | None]:
        """The bounds at a tier whose margin is ``margin`` points."""
        wider = self.slack * margin
        return None if self.low is None else self.low - wider, None if self.high is None else self.high + wider

    def holds(self, numbers: Callable[[str], Fraction], margin: Fraction) -> bool:
        """Whether it holds of exact numbers by address, in the unit in which the paper prints them."""
        low, high = self.bounds(margin)
        values = [value_of(terms, numbers) for terms in self.steps or (self.terms,)]
        return all((low is None or low < value) and (high is None or value < high) for value in values)


@dataclass(frozen=True)
class Predicate:
    """All of its parts hold."""

    parts: tuple[Part, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """The cells that it needs, each once."""
        return tuple(dict.fromkeys(address for part in self.parts for address in part.addresses))

    def sign(self) -> Predicate:
        """What is left of it where numbers mean nothing: a gain of some size becomes a gain of any size."""
        return Predicate(tuple(_sign(part) for part in self.parts))

    def failing(self, numbers: Callable[[str], Fraction], margin: Fraction) -> tuple[str, ...]:
        """Names of the parts that do not hold of exact numbers; none where the predicate holds."""
        return tuple(part.name for part in self.parts if not part.holds(numbers, margin))


def above(a: str, b: str) -> Predicate:
    """a > b."""
    return Predicate((Part(f"{a} above {b}", _less(a, b), low=Fraction()),))


def gain(a: str, b: str, points: Fraction, within: Fraction) -> Predicate:
    """a is above b by ``points``, give or take ``within`` points (less than ``points``)."""
    if not 0 < within < points:
        raise InputError(
            f"a gain's tolerance must be positive and below the gain (its sign is a part of it), got {within} for "
            f"{points} points; name a smaller one"
        )
    name = f"{a} above {b} by {float(points):g}"
    return Predicate((Part(name, _less(a, b), points - within, points + within),))


def no_better(a: str, b: str) -> Predicate:
    """a exceeds b by less than the tier's margin."""
    return Predicate((Part(f"{a} no better than {b}", _less(a, b), high=Fraction(), slack=1),))


def equal_within(a: str, b: str, margin: Fraction | None = None) -> Predicate:
    """a and b differ by less than ``margin`` in the printed unit; None stands for the tier's margin in points."""
    name, terms = f"{a} equal to {b}", _less(a, b)
    if margin is None:
        return Predicate((Part(name, terms, Fraction(), Fraction(), slack=1),))
    return Predicate((Part(name, terms, -margin, margin),))


def increasing(cells: tuple[str, ...]) -> Predicate:
    """The cells rise in their order: each printed number above the one before; of measured ones the fitted rise."""
    return Predicate((_trend("rises", tuple(((Fraction(1), cell),) for cell in cells), low=Fraction()),))


def decreasing(cells: tuple[str, ...]) -> Predicate:
    """The cells fall in their order, as ``increasing`` has them rise."""
    return Predicate((_trend("falls", tuple(((Fraction(1), cell),) for cell in cells), high=Fraction()),))


def widening(pairs: tuple[Pair, ...]) -> Predicate:
    """The differences (first less second of each pair) rise in their order, as the cells of ``increasing`` do."""
    return Predicate((_trend("widens", tuple(_less(*pair) for pair in pairs), low=Fraction()),))


def every(*predicates: Predicate) -> Predicate:
    """All of the predicates hold."""
    return Predicate(tuple(part for predicate in predicates for part in predicate.parts))


def value_of(terms: Terms, numbers: Callable[[str], Fraction]) -> Fraction:
    """A contrast of exact numbers."""
    return sum((weight * numbers(address) for weight, address in terms), Fraction())


def _less(a: str, b: str) -> Terms:
    return ((Fraction(1), a), (Fraction(-1), b))


def _sign(part: Part) -> Part:
    sized = part.low is not None and part.low > 0 and part.high is not None
    return replace(part, low=Fraction(), high=None) if sized else part


def _trend(verb: str, items: tuple[Terms, ...], low: Fraction | None = None, high: Fraction | None = None) -> Part:
    """The rise from the first to the last of ``items`` on a line fitted through all of them, evenly spaced."""
    n = len(items)
    if n < 2:
        raise InputError(f"a trend must have at least two cells, got {n}; name them in their order")
    ranks = [Fraction(2 * place - n + 1, 2) for place in range(n)]
    scale = Fraction(n - 1) / sum(rank**2 for rank in ranks)
    terms = [(rank * scale * w, cell) for rank, item in zip(ranks, items, strict=True) for w, cell in item if rank]
    steps = [tuple((-w, cell) for w, cell in before) + after for before, after in itertools.pairwise(items)]
    first, last = items[0][0][1], items[-1][0][1]
    return Part(f"{verb} from {first} to {last}", tuple(terms), low, high, steps=tuple(steps))
