"""The cells of the paper's tables, and its figures."""

from __future__ import annotations

from dataclasses import dataclass

from study.spec.heads import Variant


@dataclass(frozen=True)
class Cell:
    """One printed number: ``paper`` is a fraction (scores) or a count, None where the paper has none.

    ``setting`` and ``inference`` name the tier's setting of its training and the tier's inference method. The empty
    inference is one pass over the whole image. ``variant`` is None for a classification head (see Training), and for a
    number without a training.
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
        """False for numbers that need no training: arithmetic, or scores from a benchmark's server."""
        return self.metric not in COUNTED and self.metric not in SERVED


# Metrics that are arithmetic on the code.
COUNTED = ("parameters", "map_size", "mflops", "network_parameters")


# Metrics that only a benchmark's server can give.
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
    """A figure of the paper. ``cells`` are the addresses of the cells whose trainings it shows; a figure without cells
    is drawn from the specification of the networks alone."""

    id: str
    title: str
    cells: tuple[str, ...] = ()
