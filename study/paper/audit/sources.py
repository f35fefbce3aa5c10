"""Sources of the audit: the printed numbers, facts about the built networks, and the rules that compare them.

Scores are exact per cent (``Fraction``) here, so that 74.5 - 69.0 is 5.5. Standard library only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from study.paper.quotes import Quote
from study.spec.cells import COUNTED, Cell, Table
from study.spec.errors import InputError

AGREES, TRUNCATED = "agrees", "agrees, truncated"
DIFFERS, CONTRADICTS, UNCHECKED = "differs", "contradicts", "cannot be checked"
NOTHING = "nothing"  # where the paper prints no such number


class Line(NamedTuple):
    """One check, as text: ``printed`` in the paper at ``where``, ``recomputed`` here."""

    what: str
    where: str
    printed: str
    recomputed: str
    verdict: str
    note: str = ""


def equal(printed: Any, recomputed: Any) -> str:
    """Verdict on a number, or on several in order."""
    return AGREES if printed == recomputed else DIFFERS


def holds(claim: bool) -> str:
    """Verdict on a claim."""
    return AGREES if claim else CONTRADICTS


def to_unit(printed: Fraction | int, exact: Fraction | int, unit: int) -> str:
    """Verdict on a number printed in multiples of ``unit``: whether it is ``exact`` rounded (half up), or truncated."""
    if printed == (2 * exact + unit) // (2 * unit) * unit:
        return AGREES
    return TRUNCATED if printed == exact // unit * unit else DIFFERS


def printed(tables: Mapping[str, Table], address: str) -> Fraction:
    """The number that the paper prints in a cell: per cent for scores and errors, otherwise unchanged.

    Raises InputError if no cell with a printed number has this address.
    """
    table = tables.get(address.split("/", 1)[0])
    for cell in table.cells if table else ():
        if cell.address == address and cell.paper is not None:
            return value(cell)
    raise InputError(f"an address must name a printed number such as T1/score/3, got {address!r}; look it up")


def value(cell: Cell) -> Fraction:
    """The printed number of a cell that has one, in the unit in which it is printed."""
    # Convert the decimal as it was typed: 0.745 has no exact binary form.
    return Fraction(str(cell.paper)) * (1 if cell.metric in COUNTED else 100)


class Evidence:
    """The paper's ``tables`` and ``quotes``, and ``facts`` that study.models.anatomy gives about networks (may be
    empty)."""

    def __init__(self, tables: Mapping[str, Table], facts: Mapping[str, object], quotes: Mapping[str, Quote]) -> None:
        self.tables, self.facts, self.quotes = tables, facts, quotes

    def cell(self, address: str) -> Fraction:
        return printed(self.tables, address)

    def cells(self, table: str, row: str | None = None) -> list[Cell]:
        """Cells with a printed number, in the paper's order; none if the table is missing."""
        found = self.tables[table].cells if table in self.tables else ()
        return [cell for cell in found if cell.paper is not None and row in (None, cell.row)]

    def has(self, *tables: str) -> bool:
        return all(table in self.tables for table in tables)

    def numbers(self, quote: str) -> tuple[Fraction, ...]:
        return tuple(Fraction(str(number)) for number in self.quotes[quote].numbers)

    def whole(self, quote: str) -> tuple[int, ...]:
        """The numbers of a quote that counts something."""
        return tuple(int(number) for number in self.numbers(quote))

    def where(self, *places: str) -> str:
        """The places in the paper of tables such as T1 and of quotes by id, each place once."""
        found = []
        for place in places:
            named = self.tables[place] if place in self.tables else self.quotes[place]
            text = named.place if isinstance(named, Quote) else f"Table {place[1:]}"
            found.append(text + (f" (p. {named.page})" if named.page else ""))
        return "; ".join(dict.fromkeys(found))

    def fact(self, *path: str) -> Any | None:
        """A fact about a built network, None if it is missing."""
        found: Any = self.facts
        for name in path:
            if not isinstance(found, Mapping) or name not in found:
                return None
            found = found[name]
        return found


def points(number: Fraction, sign: bool = False) -> str:
    """Per cent, or points of it, with as many decimals as needed (at least one)."""
    decimals = 1 if (number * 10).denominator == 1 else 2
    return f"{float(number):{'+' if sign else ''}.{decimals}f}"


def listed(numbers: Iterable[Fraction], sign: bool = False) -> str:
    return ", ".join(points(number, sign) for number in numbers)


def steps(numbers: list[Fraction]) -> list[Fraction]:
    """Each number less the one before it."""
    return [after - before for before, after in itertools.pairwise(numbers)]
