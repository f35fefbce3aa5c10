"""The audit of scores: sums and differences within the tables, and what the text says about them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from study.paper.audit.sources import AGREES, NOTHING, UNCHECKED, Evidence, Line, equal, holds, listed, points, steps
from study.paper.audit.sources import value as number_of
from study.spec.cells import COUNTED, Cell


def shared(paper: Evidence) -> Iterator[Line]:
    """Numbers printed more than once: same network, same setting, same metric."""
    groups: dict[Any, list[Cell]] = {}
    for table in paper.tables:
        for cell in paper.cells(table):
            if cell.variant is not None:
                groups.setdefault((cell.variant, cell.metric, cell.setting, cell.inference), []).append(cell)
    for cells in groups.values():
        if len(cells) > 1:
            numbers = [number_of(cell) for cell in cells]
            # One head may have two names: a stack with k = 3 is one 3x3 convolution.
            names = dict.fromkeys(cell.variant.label for cell in cells if cell.variant)
            thousands = cells[0].metric in COUNTED
            texts = [f"{number / 1000}K" if thousands else points(number) for number in numbers]
            yield Line(
                f"{' = '.join(names)}: {'weights' if thousands else 'score'} in {len(cells)} places",
                paper.where(*(cell.table for cell in cells)),
                ", ".join(texts), "one network, one number", equal(numbers, numbers[:1] * len(numbers)),
            )  # fmt: skip


def kernel_sizes(paper: Evidence) -> Iterator[Line]:
    """Tables 1 to 4: what a larger kernel gains, head by head."""
    if not paper.has("T1", "T2", "T3", "T4"):
        return
    scores = [number_of(cell) for cell in paper.cells("T1")]
    gains = steps(scores)
    yield Line(
        "A larger k scores higher, GCN", paper.where("T1", "title"), listed(scores), listed(gains, sign=True),
        verdict=holds(min(gains) > 0), note=f"{sum(gain > 0 for gain in gains)} of {len(gains)} steps rise",
    )  # fmt: skip
    for table, row, name in (("T2", "conv", "trivial convolution"), ("T3", "stack", "stack")):
        cells, gcn = paper.cells(table, row), [number_of(cell) for cell in paper.cells(table, "GCN")]
        scores = [number_of(cell) for cell in cells]
        best = cells[scores.index(max(scores))].column
        kind = "rises throughout" if min(steps(scores)) > 0 else f"is best at k = {best}"
        yield Line(
            f"A larger k, {name}",
            paper.where(table),
            listed(scores),
            listed(steps(scores), sign=True),
            verdict=UNCHECKED,
            note=f"it {kind}; GCN {'rises throughout' if min(steps(gcn)) > 0 else 'does not rise throughout'}",
        )
        yield Line(
            f"GCN less {name}, k = {', '.join(cell.column for cell in cells)}", paper.where(table), NOTHING,
            listed((a - b for a, b in zip(gcn, scores, strict=True)), sign=True), UNCHECKED,
        )  # fmt: skip
    stacks = paper.cells("T4", "score")[:-1]
    scores = [number_of(cell) for cell in stacks]
    falling = max(steps(scores)) < 0
    yield Line(
        f"A narrower stack, m = {', '.join(cell.column for cell in stacks)}", paper.where("T4"), listed(scores),
        listed(steps(scores), sign=True), verdict=UNCHECKED,
        note="fewer weights, lower score at every step" if falling else "fewer weights do not always score lower",
    )  # fmt: skip


def regions(paper: Evidence) -> Iterator[Line]:
    """Table 5: where GCN and boundary refinement gain."""
    if not paper.has("T5"):
        return
    columns = paper.tables["T5"].columns
    rows: list[list[Any]] = [
        [number_of(cell) for cell in paper.cells("T5", row)] for row in ("baseline", "GCN", "GCN+BR")
    ]
    gcn, refined = ([a - b for a, b in zip(after, before, strict=True)] for before, after in itertools.pairwise(rows))
    names = ", ".join(columns)
    yield Line(f"Gain of GCN: {names}", paper.where("T5"), NOTHING, listed(gcn, sign=True), UNCHECKED)
    yield Line(
        f"BR gains most at boundaries: {names}", paper.where("T5", "abstract_refinement"), "sharper borders",
        listed(refined, sign=True), holds(refined[0] > max(0, refined[1])),
    )  # fmt: skip


def backbones(paper: Evidence) -> Iterator[Line]:
    """Table 6: ResNet50-GCN less ResNet50."""
    for row in paper.tables["T6"].rows if paper.has("T6") else ():
        plain, gcn = (number_of(cell) for cell in paper.cells("T6", row))
        yield Line(
            f"ResNet50-GCN less ResNet50: {row}", paper.where("T6"), listed((plain, gcn)), points(gcn - plain, True),
            UNCHECKED,
        )  # fmt: skip


def stages(paper: Evidence) -> Iterator[Line]:
    """Tables 7 and 9: what each stage gains."""
    for table in ("T7", "T9"):
        for column in paper.tables[table].columns if paper.has(table) else ():
            cells = [cell for cell in paper.cells(table) if cell.column == column]
            scores = [number_of(cell) for cell in cells]
            gains = steps(scores)
            rising = "every step gains" if min(gains) > 0 else "not every step gains"
            yield Line(
                f"{column}, {cells[0].row} to {cells[-1].row}",
                paper.where(table),
                listed(scores),
                f"{listed(gains, sign=True)}; in all {points(sum(gains, Fraction()), True)}",
                verdict=UNCHECKED,
                note=rising,
            )
    if paper.has("T5", "T7"):
        refined = {"T5": paper.cell("T5/GCN+BR/overall") - paper.cell("T5/GCN/overall")} | {
            row: paper.cell(f"T7/{row}/GCN + BR") - paper.cell(f"T7/{row}/GCN")
            for row in ("Stage-1", "Stage-2", "Stage-3")
        }
        yield Line(
            "Gain of BR in mean IoU: Table 5, then Stage-1 to Stage-3", paper.where("T5", "T7"), NOTHING,
            listed(refined.values(), sign=True), UNCHECKED,
        )  # fmt: skip
        global_ = {
            row: paper.cell(f"T7/{row}/GCN") - paper.cell(f"T7/{row}/baseline")
            for row in ("Stage-1", "Stage-2", "Stage-3")
        }
        yield Line("Gain of GCN: Stage-1 to Stage-3", paper.where("T7"), NOTHING,
                   listed(global_.values(), sign=True), UNCHECKED)  # fmt: skip


def tests(paper: Evidence) -> Iterator[Line]:
    """Tables 8 and 10: the distance to other methods, and to the best score on val."""
    for table, best, name, quote in (
        ("T8", "T7/Stage-3-MS-CRF/GCN + BR", "VOC 2012", "abstract_voc"),
        ("T10", "T9/Stage-2-MS-CRF/GCN + BR", "Cityscapes", "abstract_cityscapes"),
    ):
        if paper.has(table):
            *others, ours = paper.cells(table)
            second = max(others, key=number_of)
            pair = [number_of(ours), number_of(second)]
            yield Line(
                f"{name} test: ours, the best other and the distance", paper.where(quote, table),
                listed(paper.numbers(quote)), f"{listed(pair)}: {points(pair[0] - pair[1], True)}",
                verdict=equal(list(paper.numbers(quote)), pair), note=f"the best other is {second.row}",
            )  # fmt: skip
        if paper.has(table, best.split("/")[0]):
            yield Line(
                f"{name}: test less the best on val", paper.where(best.split("/")[0], table),
                listed((paper.cell(best), number_of(ours))), points(number_of(ours) - paper.cell(best), True),
                UNCHECKED,
            )  # fmt: skip


def gains(paper: Evidence) -> Iterator[Line]:
    """The two gains of 5.5 that the text mentions."""
    (named,), cells = paper.numbers("gain_k"), paper.cells("T1")
    if cells:
        top = number_of(cells[-1])
        for first, name in ((cells[0], "the 1x1 head"), (cells[1], "the smallest kernel of GCN")):
            gain, k = top - number_of(first), first.variant.head.kernel_size if first.variant else 0
            verdict = equal(named, gain)
            yield Line(
                f"k = {cells[-1].column} against the smallest, read as {name} (k = {k})", paper.where("gain_k", "T1"),
                points(named, True), f"{points(top)} - {points(number_of(first))} = {points(gain)}", verdict=verdict,
                note="" if verdict == AGREES else f"the printed gain is not the one over k = {k}",
            )  # fmt: skip
    if paper.has("T6"):
        (named,), row = paper.numbers("gain_resnet_gcn"), "seg, baseline (1x1 head)"
        plain, gcn = paper.cell(f"T6/{row}/ResNet50"), paper.cell(f"T6/{row}/ResNet50-GCN")
        yield Line(
            "ResNet50-GCN over ResNet50, 1x1 head", paper.where("gain_resnet_gcn", "T6"), points(named, True),
            f"{points(gcn)} - {points(plain)} = {points(gcn - plain)}", equal(named, gcn - plain),
        )  # fmt: skip


def large_kernels(paper: Evidence) -> Iterator[Line]:
    """GCN against the stack (Table 3): the sentence without a bound, and the caption with one."""
    if not paper.has("T3"):
        return
    ahead = {
        int(gcn.column): number_of(gcn) - number_of(other)
        for gcn, other in zip(paper.cells("T3", "GCN"), paper.cells("T3", "stack"), strict=True)
    }
    lost = [k for k, gain in ahead.items() if gain <= 0]
    yield Line(
        "GCN beats the stack at every k of the table", paper.where("any_large", "T3"), '"for any large kernel sizes"',
        "; ".join(f"k = {k}: {points(gain, True)}" for k, gain in ahead.items()), verdict=holds(not lost),
        note=f"the stack wins at k = {', '.join(map(str, lost))}; the text gives no bound" if lost else "",
    )  # fmt: skip
    (bound,) = paper.whole("caption_large")
    above = {k: gain for k, gain in ahead.items() if k > bound}
    from_here = min((k for k in ahead if all(gain > 0 for size, gain in ahead.items() if size >= k)), default=None)
    yield Line(
        "GCN beats the stack for all k above the caption's bound", paper.where("caption_large"), f"k > {bound}",
        "; ".join(f"k = {k}: {points(gain, True)}" for k, gain in above.items()),
        verdict=holds(bool(above) and all(gain > 0 for gain in above.values())),
        note="" if from_here is None else f"in the table it does so for all k from {from_here} on",
    )  # fmt: skip
