"""The paper as data: every table of arXiv 1703.02719 v1 -> cells -> variants, with the page where it is known.

Scores are fractions, parameter counts are numbers of weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from study.spec import Cell, Head, Table, Variant, dense, gcn, stack

# Table 2 and Table 4 count the weights of the head on res-5 alone: 2048 input channels, 21 classes.
COUNTED_CHANNELS = 2048
COUNTED_CLASSES = 21

BASELINE = Variant(dense(1))


def _scores(table: str, row: str, heads: dict[str, Head], percents: Iterable[float]) -> tuple[Cell, ...]:
    return tuple(
        Cell(table, row, column, Variant(head), "miou", round(percent / 100, 4))
        for (column, head), percent in zip(heads.items(), percents, strict=True)
    )


def _parameters(table: str, row: str, heads: dict[str, Head], thousands: Iterable[int]) -> tuple[Cell, ...]:
    return tuple(
        Cell(table, row, column, Variant(head), "parameters", count * 1000)
        for (column, head), count in zip(heads.items(), thousands, strict=True)
    )


def _heads(make, sizes: Iterable[int]) -> dict[str, Head]:
    return {str(k): make(k) for k in sizes}


_T1 = {"base": dense(1), **_heads(gcn, range(3, 16, 2))}
_T2_GCN, _T2_CONV = _heads(gcn, (3, 5, 7, 9)), _heads(dense, (3, 5, 7, 9))
_T3_GCN, _T3_STACK = _heads(gcn, (3, 5, 7, 9, 11)), _heads(stack, (3, 5, 7, 9, 11))
_T4 = {
    "2048": stack(7),
    "1024": stack(7, Fraction(1, 2)),
    "210": stack(7, Fraction(210, 2048)),
    "2048 (GCN)": gcn(7),
}
_T5 = {"baseline": BASELINE, "GCN": Variant(gcn(15)), "GCN+BR": Variant(gcn(15), refine=True)}
_T5_PERCENTS = {"baseline": (71.3, 93.9, 69.0), "GCN": (71.5, 95.0, 74.5), "GCN+BR": (73.4, 95.1, 74.7)}
_T5_METRICS = {"boundary": "boundary_accuracy", "internal": "internal_accuracy", "overall": "miou"}

TABLES: dict[str, Table] = {
    table.id: table
    for table in (
        Table(
            "T1",
            "Kernel size of the Global Convolutional Network",
            5,
            ("score",),
            tuple(_T1),
            _scores("T1", "score", _T1, (69.0, 70.1, 71.1, 72.8, 73.4, 73.7, 74.0, 74.5)),
            "base is the 1x1 head. VOC 2012 val, ResNet-152, no boundary refinement.",
        ),
        Table(
            "T2",
            "GCN against one trivial kxk convolution",
            None,
            ("GCN", "conv", "GCN params", "conv params"),
            tuple(_T2_GCN),
            _scores("T2", "GCN", _T2_GCN, (70.1, 71.1, 72.8, 73.4))
            + _scores("T2", "conv", _T2_CONV, (69.8, 70.4, 69.6, 68.8))
            + _parameters("T2", "GCN params", _T2_GCN, (260, 434, 608, 782))
            + _parameters("T2", "conv params", _T2_CONV, (387, 1075, 2107, 3484)),
            "Weights of the head on res-5 (2048 channels, 21 classes). The paper's 260K is truncated.",
        ),
        Table(
            "T3",
            "GCN against a stack of 3x3 convolutions with the same equivalent kernel size",
            None,
            ("GCN", "stack"),
            tuple(_T3_GCN),
            _scores("T3", "GCN", _T3_GCN, (70.1, 71.1, 72.8, 73.4, 73.7))
            + _scores("T3", "stack", _T3_STACK, (69.8, 71.8, 71.3, 69.5, 67.5)),
            "A stack with k = 3 is the trivial 3x3 convolution of Table 2.",
        ),
        Table(
            "T4",
            "Width m of the stack's inner maps (k = 7)",
            None,
            ("score", "params"),
            tuple(_T4),
            _scores("T4", "score", _T4, (71.3, 70.4, 68.8, 72.8))
            + _parameters("T4", "params", _T4, (75885, 28505, 4307, 608)),
            "Widths scale with the backbone: 1, 1/2 and 210/2048 of the level's channels.",
        ),
        Table(
            "T5",
            "Accuracy near object boundaries and inside (k = 15)",
            None,
            tuple(_T5),
            tuple(_T5_METRICS),
            tuple(
                Cell("T5", row, column, variant, metric, round(percent / 100, 4))
                for row, variant in _T5.items()
                for (column, metric), percent in zip(_T5_METRICS.items(), _T5_PERCENTS[row], strict=True)
            ),
            "Boundary and internal are per-pixel accuracy, overall is mean IoU.",
        ),
    )
}
