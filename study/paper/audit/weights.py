"""The audit of weights, reach and multiply-adds: Tables 2, 3, 4 and 11, Figures 2 and 5, and the cost of a GCN.

Each docstring has the formula. Multiply-adds count convolutions only, as Table 11 does.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from study.paper.audit.sources import (
    AGREES,
    DIFFERS,
    NOTHING,
    TRUNCATED,
    UNCHECKED,
    Evidence,
    Line,
    equal,
    to_unit,
    value,
)
from study.paper.tables import COUNTED_CHANNELS, COUNTED_CLASSES, LEVELS
from study.spec.cells import Cell
from study.spec.heads import Conv, Head, dense, gcn, stack

KILO = 1000
MFLOPS_UNIT = 100  # 3700 is rounded to the hundred
# The readings of Table 11 that the code builds and trains (D40), by its column.
BUILT = {"ResNet50": "ResNet50", "ResNet50-GCN": "ResNet50-GCN concat"}


def _counted(paper: Evidence) -> list[tuple[Cell, Head]]:
    cells = [*paper.cells("T2"), *paper.cells("T4")]
    return [(cell, cell.variant.head) for cell in cells if cell.metric == "parameters" and cell.variant]


def _biases(head: Head, channels: int, classes: int) -> int:
    return sum(outputs for _, outputs, _ in head.shapes(channels, classes))


def weights(paper: Evidence) -> Iterator[Line]:
    """Tables 2 and 4: input channels x output channels x kernel area, over all convolutions of a head on res-5."""
    exact = {cell: head.parameters(COUNTED_CHANNELS, COUNTED_CLASSES) for cell, head in _counted(paper)}
    for cell, count in exact.items():
        verdict = to_unit(value(cell), count, KILO)
        head = cell.variant.head if cell.variant else dense(1)
        width = f", m = {cell.column}" if head.width is not None else ""
        yield Line(
            f"Weights of {head.family} k={head.kernel_size}{width}", paper.where(cell.table),
            f"{value(cell) / KILO}K", f"{count:,}", verdict=verdict,
            note=f"rounds to {(count + KILO // 2) // KILO}K" if verdict == TRUNCATED else "",
        )  # fmt: skip
    if not exact:
        return
    total, where = len(exact), paper.where(*dict.fromkeys(cell.table for cell in exact))
    cut = [cell for cell, count in exact.items() if to_unit(value(cell), count, KILO) != AGREES]
    rounded = [cell for cell, count in exact.items() if value(cell) != count // KILO * KILO]
    kept = "; ".join(
        f"{', '.join(f'{value(cell) / KILO}K' for cell in cells)} {name}" for name, cells in
        (("not by rounding", cut), ("not by truncating", rounded)) if cells
    )  # fmt: skip
    yield Line(
        "One rule, rounding or truncating, gives all counts", where, f"{total} counts",
        f"rounding gives {total - len(cut)}, truncating {total - len(rounded)}",
        verdict=equal(0, min(len(cut), len(rounded))), note=kept,
    )  # fmt: skip

    def fitting(channels: int, biased: bool) -> int:
        found = 0
        for cell, head in _counted(paper):
            extra = _biases(head, channels, COUNTED_CLASSES) if biased else 0
            found += to_unit(value(cell), head.parameters(channels, COUNTED_CLASSES) + extra, KILO) != DIFFERS
        return found

    without, biased = fitting(COUNTED_CHANNELS, False), fitting(COUNTED_CHANNELS, True)
    yield Line(
        "Heads have no bias", where, f"{total} counts", f"{without} fit without biases, {biased} with",
        equal(True, without == total > biased),
    )  # fmt: skip
    fits = {level: fitting(paper.whole(level)[1], False) for level in LEVELS}
    yield Line(
        "Counted on res-5 alone", paper.where("counted"), f"res-{paper.whole('counted')[0]}",
        "; ".join(f"{level[:-1]}-{level[-1]}: {count} fit" for level, count in fits.items()),
        equal([f"res{paper.whole('counted')[0]}"], [level for level, count in fits.items() if count == total]),
    )  # fmt: skip


def stacks(paper: Evidence) -> Iterator[Line]:
    """The number n of convolutions in a stack, from Table 4's counts: the only n in 1..12 that gives them."""
    for cell, head in _counted(paper):
        if cell.table == "T4" and len(head.chains) == 1:
            k, width = head.kernel_size, head.width
            deep = {n: Head(((Conv((3, 3), width),) * (n - 1) + (Conv((3, 3)),),), "stack", k) for n in range(1, 13)}
            fits = [
                n for n, head in deep.items()
                if to_unit(value(cell), head.parameters(COUNTED_CHANNELS, COUNTED_CLASSES), KILO) != DIFFERS
            ]  # fmt: skip
            yield Line(
                f"A stack for k = {k} has n = (k - 1) / 2 convolutions, m = {cell.column}", paper.where("T4"),
                f"{value(cell) / KILO}K", f"n = {', '.join(map(str, fits)) or 'none'}", equal([(k - 1) // 2], fits),
            )  # fmt: skip
    pair = [head.parameters(COUNTED_CHANNELS, COUNTED_CLASSES) for head in (stack(3), dense(3))]
    if paper.has("T2", "T3"):
        scores = [paper.cell("T3/stack/3"), paper.cell("T2/conv/3")]
        yield Line(
            "A stack for k = 3 is the trivial 3x3 convolution", paper.where("T3", "T2"),
            ", ".join(f"{float(score):.1f}" for score in scores), f"{pair[0]:,} and {pair[1]:,} weights",
            equal([True, True], [stack(3) == dense(3), scores[0] == scores[1]]),
        )  # fmt: skip


def totals(paper: Evidence) -> Iterator[Line]:
    """Weights of all four heads; BR: blocks x convolutions x kernel area x classes squared."""
    channels, (classes,) = {level: paper.whole(level)[1] for level in LEVELS}, paper.whole("classes")
    built: dict[str, int] = paper.fact("paper", "parameters") or {}
    for k in (paper.whole("global")[0], paper.whole("cityscapes_k")[0]):
        if k % 2:  # heads have odd kernels
            each = {level: gcn(k).parameters(count, classes) for level, count in channels.items()}
            yield Line(
                f"Weights of GCN k = {k} on res-2 to res-5, {classes} classes", paper.where("heads"), NOTHING,
                f"{sum(each.values()):,}", verdict=UNCHECKED, note=f"res-5 alone: {each['res5']:,}",
            )  # fmt: skip
    (blocks,), (convs, side) = paper.whole("refinements"), paper.whole("refinement")
    note = f"the network as built: {built['refinements']:,} with biases" if "refinements" in built else ""
    exact = blocks * convs * side**2 * classes**2
    yield Line(
        f"Weights of {blocks} BR", paper.where("refinement"), NOTHING, f"{exact:,}", verdict=UNCHECKED, note=note
    )


def reach(paper: Evidence) -> Iterator[Line]:
    """Table 3's equivalent kernel sizes: a chain of convolutions reaches 1 + the sum of (kernel - 1) cells."""
    for row in ("GCN", "stack"):
        found = {cell.column: _reach(cell.variant.head) for cell in paper.cells("T3", row) if cell.variant}
        if found:
            yield Line(
                f"Equivalent kernel sizes, {row}", paper.where("T3"), ", ".join(found),
                ", ".join(map(str, found.values())), equal([int(column) for column in found], list(found.values())),
            )  # fmt: skip


def _reach(head: Head) -> int:
    """Side of the window that a head sees, the larger of its height and width."""
    return max(1 + sum(conv.kernel[axis] - 1 for conv in chain) for chain in head.chains for axis in (0, 1))


def cost(paper: Evidence) -> Iterator[Line]:
    """GCN against kxk: 2 (c m k + m m k) / (c m k k) = 2 (1 + m / c) / k for c channels and m classes. It is the same
    for weights and, map by map, for multiply-adds."""
    (factor,) = paper.whole("cost")
    for cell in paper.cells("T1"):
        head = cell.variant.head if cell.variant else dense(1)
        if head.kernel_size > 1:
            k = head.kernel_size
            ours, trivial = (make.parameters(COUNTED_CHANNELS, COUNTED_CLASSES) for make in (head, dense(k)))
            ratio = Fraction(ours, trivial)
            yield Line(
                f"Weights of GCN to kxk, k = {k}", paper.where("cost"), f"{factor}/{k} = {factor / k:.4f}",
                f"{ours:,} / {trivial:,} = {float(ratio):.4f}", verdict=equal(factor, round(ratio * k)),
                note=f"{float(ratio * k):.3f} / k",
            )  # fmt: skip


def head_cost(paper: Evidence) -> Iterator[Line]:
    """Multiply-adds of one head on res-5: weights x cells."""
    (k, side), (factor,) = paper.whole("global"), paper.whole("cost")
    if k % 2:
        ours, trivial = (
            head.parameters(COUNTED_CHANNELS, COUNTED_CLASSES) * side**2 for head in (gcn(k), dense(k))
        )  # fmt: skip
        yield Line(
            f"Multiply-adds of GCN to kxk, k = {k}, {side}x{side} cells", paper.where("cost"),
            f"{factor}/{k} = {factor / k:.4f}", f"{ours / 1e6:,.0f}M / {trivial / 1e6:,.0f}M = {ours / trivial:.4f}",
            equal(factor, round(Fraction(ours, trivial) * k)),
        )  # fmt: skip


def blocks(paper: Evidence) -> Iterator[Line]:
    """Weights of an identity block: c m + 9 m m + m c. ResNet-GCN: 2 (c m' k + m' m' k) + m' c if summed, + 2 m' c if
    concatenated. Also the depth in the network's name."""
    name = paper.tables["T11"].columns[0] if paper.has("T11") else ""
    if name:
        layers, repeats = int(name.removeprefix("ResNet")), paper.whole("bottlenecks")
        yield Line(
            f"Layers of {name}: first convolution, three a block, classifier", paper.where("bottlenecks"), str(layers),
            f"1 + 3 ({' + '.join(map(str, repeats))}) + 1 = {3 * sum(repeats) + 2}",
            equal(layers, 3 * sum(repeats) + 2),
        )  # fmt: skip
    for level in ("res4", "res5"):
        (width, out), (k, narrow, outputs) = paper.whole(f"block_{level}"), paper.whole(f"gcn_{level}")
        plain = 2 * width * out + 9 * width**2
        branches = 2 * (outputs * narrow * k + narrow**2 * k)
        joined = {"concatenated": branches + 2 * narrow * outputs, "summed": branches + narrow * outputs}
        nearest = min(joined, key=lambda name: abs(joined[name] - plain))
        yield Line(
            f"Weights of a block of {level[:-1]}-{level[-1]}", paper.where(f"gcn_{level}"), NOTHING,
            f"ResNet50 {plain:,}; ResNet50-GCN "
            + ", ".join(f"{name} {count:,} ({(count / plain - 1) * 100:+.1f}%)" for name, count in joined.items()),
            verdict=UNCHECKED, note=f"the figure does not say how branches join; {nearest} is nearer",
        )  # fmt: skip


def table11(paper: Evidence) -> Iterator[Line]:
    """Multiply-adds of convolutions at 224 as the networks are built, against Table 11."""
    readings: dict[str, Any] = paper.fact("table11") or {}
    address = "T11/MFlops (conv)/"
    fits: dict[bool, dict[str, list[str]]] = {}
    for name, network in readings.items() if paper.has("T11") else ():
        column = name.split(",")[0].split()[0]
        told, exact = paper.cell(address + column), Fraction(network["macs"], 10**6)
        first = name.endswith("stride first")
        verdict = to_unit(told, exact, MFLOPS_UNIT)
        fits.setdefault(first, {}).setdefault(column, []).extend([name] if verdict != DIFFERS else [])
        yield Line(
            f"MFlops of {name.split(',')[0]}, stride in the {'first' if first else '3x3'} convolution of a bottleneck",
            paper.where("T11"), str(told), f"{network['macs'] / 1e6:,.0f}M", verdict=verdict,
            note=f"{network['parameters']:,} weights with the 1000-class layer",
        )  # fmt: skip
    if fits:
        both = sum(all(columns.values()) for columns in fits.values())
        yield Line(
            "MFlops of both networks, one reading for each", paper.where("T11"),
            ", ".join(str(paper.cell(address + column)) for column in BUILT),
            f"{both} of {len(fits)} places of the stride give both", verdict=equal(True, both > 0),
            note="each taken as rounded to the hundred",
        )  # fmt: skip


def whole(paper: Evidence) -> Iterator[Line]:
    """Multiply-adds of the paper's network as it is built."""
    parts, side = paper.fact("paper", "macs"), paper.fact("paper", "input")
    if parts and side:
        yield Line(
            f"Multiply-adds at {side[0]}x{side[1]}, ResNet-152 with GCN and BR", paper.where("input"), NOTHING,
            f"{sum(parts.values()) / 1e9:.1f}G", verdict=UNCHECKED,
            note=", ".join(f"{part} {count / 1e9:.2f}G" for part, count in parts.items()),
        )  # fmt: skip
