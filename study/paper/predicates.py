"""Predicates over the addresses of cells: evaluated on exact numbers here, and on measured ones in
study.statistics.claim_tests.

Every predicate is *a conjunction of parts*. A part says between which bounds a linear contrast of cells lies: "above"
is one contrast above zero, "equal" one difference within a margin. A trend also says that no later cell is below an
earlier one. So predicates are data, and one short function tests them all. Standard library only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from study.spec.errors import InputError

Number = Fraction | float
Terms = tuple[tuple[Fraction, str], ...]  # (weight, address of a cell)
Pair = tuple[str, str]  # addresses: the first less the second

# What a part contrasts. SCORES: the cells' own numbers in the unit in which the paper prints them, points (of per cent)
# or counts. ERRORS: natural logarithms of the errors, 100 less the score, so that a difference is a ratio of errors
# (D113). LOSSES: the training loss at the end of the cells' trainings, in nats, which no paper prints.
SCORES, ERRORS, LOSSES = "scores", "errors", "losses"


@dataclass(frozen=True)
class Margins:
    """A tier's margins of no difference: ``points`` of a score, and a ``ratio`` of errors above 1."""

    points: Fraction
    ratio: float

    def of(self, measure: str) -> Number:
        """The margin in the unit of a measure's contrasts."""
        margins: dict[str, Number] = {SCORES: self.points, ERRORS: math.log(self.ratio), LOSSES: Fraction()}
        return margins[measure]


@dataclass(frozen=True)
class Part:
    """The contrast ``terms`` of a ``measure`` lies strictly between ``low`` and ``high`` (None: open).

    ``slack`` is the number of the tier's margins by which both bounds move apart (below 0: together). The items of
    ``order`` rise: of exact numbers, each is above the one before and ``terms`` does not matter; of measured numbers,
    none is below one before it. ``name`` is a label.
    """

    name: str = field(compare=False)
    terms: Terms
    low: Fraction | None = None
    high: Fraction | None = None
    slack: int = 0
    measure: str = SCORES
    order: tuple[Terms, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(address for terms in (*self.order, self.terms) for _, address in terms))

    def bounds(self, margins: Margins) -> tuple[Number | None, Number | None]:
        """The bounds with a tier's margins."""
        wider = self.slack * margins.of(self.measure)
        return None if self.low is None else self.low - wider, None if self.high is None else self.high + wider

    def holds(self, numbers: Callable[[str], Fraction], margins: Margins) -> bool:
        """Whether it holds for exact numbers by address, in the unit in which the paper prints them."""
        if self.order:
            values = [value_of(item, numbers, self.measure) for item in self.order]
            return all(before < after for before, after in itertools.pairwise(values))
        low, high = self.bounds(margins)
        value = value_of(self.terms, numbers, self.measure)
        return (low is None or low < value) and (high is None or value < high)


@dataclass(frozen=True)
class Predicate:
    """All of its parts must hold."""

    parts: tuple[Part, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """The cells that it needs, each once."""
        return tuple(dict.fromkeys(address for part in self.parts for address in part.addresses))

    def sign(self) -> Predicate:
        """What is left of it where sizes mean nothing: a gain of some size becomes a gain of any size."""
        return Predicate(tuple(_sign(part) for part in self.parts))

    def failing(self, numbers: Callable[[str], Fraction], margins: Margins) -> tuple[str, ...]:
        """Names of the parts that do not hold for exact numbers; empty if the predicate holds."""
        return tuple(part.name for part in self.parts if not part.holds(numbers, margins))


def above(a: str, b: str, measure: str = SCORES) -> Predicate:
    """a > b."""
    return Predicate((Part(f"{_called(measure)}{a} above {b}", _less(a, b), low=Fraction(), measure=measure),))


def gain(a: str, b: str, points: Fraction, within: Fraction) -> Predicate:
    """a is above b by ``points``, give or take ``within`` points (less than ``points``)."""
    if not 0 < within < points:
        raise InputError(
            f"a gain's tolerance must be positive and below the gain (its sign is part of it), got {within} for "
            f"{points} points; name a smaller one"
        )
    name = f"{a} above {b} by {float(points):g}"
    return Predicate((Part(name, _less(a, b), points - within, points + within),))


def equal_within(a: str, b: str, margin: Fraction | None = None, measure: str = SCORES) -> Predicate:
    """a and b differ by less than ``margin`` in the printed unit; None means the tier's margin for the measure."""
    name, terms = f"{_called(measure)}{a} equal to {b}", _less(a, b)
    if margin is None:
        return Predicate((Part(name, terms, Fraction(), high=Fraction(), slack=1, measure=measure),))
    return Predicate((Part(name, terms, -margin, margin, measure=measure),))


def fewer_errors(better: Pair, than: Pair | None = None) -> Predicate:
    """The first of ``better`` makes fewer errors than its second; with ``than``, the ratio of their errors is smaller
    than that pair's by more than the tier's margin."""
    if than is None:
        a, b = better
        return Predicate((Part(f"errors of {a} below {b}", _less(a, b), high=Fraction(), measure=ERRORS),))
    terms = (*_less(*better), *((-weight, address) for weight, address in _less(*than)))
    name = f"more errors removed from {better[1]} to {better[0]} than from {than[1]} to {than[0]}"
    return Predicate((Part(name, terms, high=Fraction(), slack=-1, measure=ERRORS),))


def increasing(cells: tuple[str, ...], apart: int = 0) -> Predicate:
    """The cells rise in their order: the line fitted through them rises, and none is below one before it (D112).

    The first ``apart`` cells are not part of the line; the cell after them must be above the last of them. A step from
    another kind, such as a 1x1 head, is not part of the trend.
    """
    steps = [above(cells[place], cells[place - 1]) for place in range(1, apart + 1)]
    items = tuple(((Fraction(1), cell),) for cell in cells)
    return every(*steps, Predicate((_trend("rises", items, items[apart:]),)))


def decreasing(cells: tuple[str, ...]) -> Predicate:
    """The cells fall in their order, as those of ``increasing`` rise."""
    items = tuple(((Fraction(-1), cell),) for cell in cells)
    return Predicate((_trend("falls", items, items),))


def widening(pairs: tuple[Pair, ...]) -> Predicate:
    """The differences (first less second of each pair) rise in their order, as the cells of ``increasing`` do."""
    items = tuple(_less(*pair) for pair in pairs)
    return Predicate((_trend("widens", items, items),))


def every(*predicates: Predicate) -> Predicate:
    """All of the predicates hold."""
    return Predicate(tuple(part for predicate in predicates for part in predicate.parts))


def value_of(terms: Terms, numbers: Callable[[str], Fraction], measure: str = SCORES) -> Number:
    """The value of a contrast of exact numbers."""
    if measure == ERRORS:
        return sum(float(weight) * math.log(100 - numbers(address)) for weight, address in terms)
    return sum((weight * numbers(address) for weight, address in terms), Fraction())


def _called(measure: str) -> str:
    return {SCORES: "", ERRORS: "errors of ", LOSSES: "training loss of "}[measure]


def _less(a: str, b: str) -> Terms:
    return ((Fraction(1), a), (Fraction(-1), b))


def _sign(part: Part) -> Part:
    if part.low is None or part.low <= 0 or part.high is None:
        return part
    (_, a), (_, b) = part.terms
    return replace(part, name=f"{a} above {b}", low=Fraction(), high=None)


def _trend(verb: str, order: tuple[Terms, ...], fitted: tuple[Terms, ...]) -> Part:
    """The rise from the first to the last of ``fitted`` on a line through all of them, evenly spaced."""
    n = len(fitted)
    if n < 2:
        raise InputError(f"a trend must have at least two cells, got {n}; name them in their order")
    ranks = [Fraction(2 * place - n + 1, 2) for place in range(n)]
    scale = Fraction(n - 1) / sum(rank**2 for rank in ranks)
    terms = [(rank * scale * w, cell) for rank, item in zip(ranks, fitted, strict=True) for w, cell in item if rank]
    first, last = fitted[0][0][1], fitted[-1][0][1]
    return Part(f"{verb} from {first} to {last}", tuple(terms), low=Fraction(), order=order)
