"""The paper recomputed without training: weights, multiply-adds, map sizes, receptive fields, data counts, and sums.

Every number comes from the heads' specification, from the printed tables and quotes, from ``facts`` about the networks
as built (study.models.anatomy), or from a formula in a docstring. No verdict is set by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from study.paper.audit import maps, scores, weights
from study.paper.audit.sources import Evidence, Line
from study.paper.audit.weights import BUILT
from study.paper.quotes import QUOTES, Quote
from study.spec.cells import Table
from study.spec.documents.networks import Reading
from study.spec.documents.tables import AuditRow

Check = Callable[[Evidence], Iterator[Line]]
GROUPS: dict[str, tuple[Check, ...]] = {
    "Parameters": (
        weights.weights, weights.stacks, weights.totals, weights.cost, weights.blocks,
    ),
    "FLOPs": (weights.head_cost, weights.table11, weights.whole),
    "Map sizes": (
        maps.figure2, maps.as_built, maps.table11, maps.last_maps, maps.crops,
    ),
    "Receptive fields": (maps.connected, weights.reach, maps.levels, maps.band),
    "Data": (maps.voc, maps.cityscapes, maps.listed, maps.recipe),
    "Sums and differences": (
        scores.shared, scores.kernel_sizes, scores.regions, scores.backbones,
        scores.stages, scores.tests,
    ),
    "Text against tables": (scores.gains, scores.large_kernels),
}  # fmt: skip


def rows(
    tables: Mapping[str, Table], facts: Mapping[str, object], quotes: Mapping[str, Quote] = QUOTES
) -> list[AuditRow]:
    """Every check as {group, what, where, printed, recomputed, verdict, note}, in the order of GROUPS.

    ``facts`` is {"paper": anatomy.describe of the paper's network, "table11": anatomy.table11(), "receptive":
    anatomy.receptive_fields(), "listed": the counts of the data stage}. Checks whose facts or tables are missing are
    left out.
    """
    evidence = Evidence(tables, facts, quotes)
    return [
        _row(group, line) for group, checks in GROUPS.items() for check in checks
        for line in check(evidence)
    ]  # fmt: skip


def _row(group: str, line: Line) -> AuditRow:
    return {"group": group, "what": line.what, "where": line.where, "printed": line.printed,
            "recomputed": line.recomputed, "verdict": line.verdict, "note": line.note}  # fmt: skip


def counts(table11: Mapping[str, Reading]) -> dict[str, float]:
    """Our numbers for the cells of Table 11 by address: sides of maps, millions of multiply-adds, weights."""
    found: dict[str, float] = {}
    for column, reading in BUILT.items():
        network = table11.get(reading)
        if network:
            found |= {f"T11/{part}/{column}": side for part, side in network["sides"].items()}
            found |= {f"T11/MFlops (conv)/{column}": network["macs"] / 1e6}
            found |= {f"T11/parameters/{column}": network["parameters"]}
    return found
