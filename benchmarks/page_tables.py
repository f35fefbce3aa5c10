"""Tables and sentences of the pages that repeat shipped numbers: ``python -m benchmarks.page_tables``.

A table is between ``<!-- table: NAME -->`` and ``<!-- end -->``, the answer between ``<!-- answer -->`` and ``<!-- end
-->``. A test compares the pages with ``tables()``.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import ship
from study.report.sections import answer, explored
from study.report.sections.verdicts import SHOWN
from study.store import stage

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "docs" / "example"
SHIPPED = {"shapes": "Synthetic scenes", "camvid": "Street scenes", "voc_subset": "VOC images"}
PHOTOGRAPHS = {"camvid": "miou_frequent", "voc_subset": "miou_frequent"}  # tier -> its leading metric
BY_KERNEL = {"1x1, GCN": "T1/score", "kxk": "T2/conv", "stack": "T3/stack"}
KERNELS = ("base", *range(3, 17, 2))
OTHERS = ("T4/", "T5/", "T7/", "T9/")


def the_answer() -> str:
    """The headline of each shipped report."""
    told = [
        f"- **{name}** (`{tier}`): {answer.headline(verdicts_of('' if tier == 'shapes' else tier))}"
        for tier, name in SHIPPED.items()
    ]
    return "\n".join(told)


def photographs() -> list[list[str]]:
    """The verdicts of both tiers of photographs on these images, with all variants at one rate and, if it was searched,
    with each at its best, for claims on which one of them has an effect."""
    columns: dict[str, list[dict[str, Any]]] = {}
    for tier in PHOTOGRAPHS:
        columns[tier] = judged(tier)
        if (best := verdicts_of(tier)["tuned"]) is not None:
            columns[f"{tier}, each at its best"] = best
    found = [["the paper claims", *columns]]
    for rows in zip(*columns.values(), strict=True):
        told = [f"{shown(row)}, {effect(row)}" if effect(row) else "untested" for row in rows]
        if any(map(effect, rows)):
            found.append([rows[0]["says"], *told])
    return found


def by_kernel() -> list[list[str]]:
    """Mean scores of Tables 1 to 3, in per cent."""
    rows = [
        [tier, head, *(found.get(f"{row}/{k}", "") for k in KERNELS)]
        for tier, found in means().items() for head, row in BY_KERNEL.items()
    ]  # fmt: skip
    return [["tier", "head", "1x1", *map(str, KERNELS[1:])], *rows]


def others() -> list[list[str]]:
    """Mean scores of the other tables, in per cent."""
    found = means()
    cells = sorted(cell for cell in set().union(*found.values()) if cell.startswith(OTHERS))
    return [
        ["cell of `scores.csv`", *found],
        *([cell, *(tier.get(cell, "") for tier in found.values())] for cell in cells),
    ]


def networks() -> list[list[str]]:
    """The networks that the shipped explorations found, retrained with new seeds."""
    rows = [
        [f"`{tier}`", row["label"], row["macs"], row["search"], row["tune"], row["val"],
         f"{row['difference']} ({row['rival']})" if row["difference"] else "no rival"]
        for tier, found in explorations().items() for row in found["rows"]
    ]  # fmt: skip
    return [["tier", "network", "G multiply-adds", "search", "tune", "val", "minus the paper's"], *rows]


def kernel_controls() -> list[list[str]]:
    """The best network of each shipped exploration with other kernel sizes."""
    rows = []
    for tier, found in explorations().items():
        controls = found["controls"]
        if controls is None:
            continue
        rows.append([f"`{tier}`", f"the best: {controls['sizes']}", controls["val"], ""])
        for row in controls["rows"]:
            told = f"**{row['difference']}**" if row["decided"] else row["difference"]
            rows.append([f"`{tier}`", row["what"], row["val"], told])
    return [["tier", "what changes", "val", "minus the best"], *rows]


@cache
def explorations() -> dict[str, dict[str, Any]]:
    """tier -> the section of its report on the exploration, for the tiers that shipped one."""
    found = {}
    for tier, name in ship.SHIPPED.items():
        if not (EXAMPLE / name / ship.EXPLORED).is_file():
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for archive, below in ((ship.COUNTS, folder), (ship.EXPLORED, folder / "explored")):
                with zipfile.ZipFile(EXAMPLE / name / archive) as opened:
                    opened.extractall(below)
            words = explored.words(folder, stage.drawn_plan(folder))
            assert words is not None, "explored.zip has an exploration"
            found[tier] = words
    return found


TABLES: dict[str, tuple[str, Callable[[], list[list[str]]]]] = {
    "photographs": ("docs/photographs.md", photographs),
    "scores by kernel size": ("docs/photographs.md", by_kernel),
    "other scores": ("docs/photographs.md", others),
    "explored networks": ("docs/exploring.md", networks),
    "kernel controls": ("docs/exploring.md", kernel_controls),
}


def judged(folder: str) -> list[dict[str, Any]]:
    """The rows of a shipped verdicts.json."""
    rows: list[dict[str, Any]] = verdicts_of(folder)["rows"]
    return rows


def verdicts_of(folder: str) -> Any:
    """A shipped verdicts.json."""
    return json.loads((EXAMPLE / folder / "verdicts.json").read_text(encoding="utf-8"))


def shown(answer: dict[str, Any]) -> str:
    """The name of a verdict in a tier that judges mechanisms."""
    return SHOWN.get(answer["verdict"], answer["verdict"])


def effect(row: dict[str, Any]) -> str:
    """Such as ``+2.7 [+2.3, +3.1]``, with its unit unless it is points; empty if the row has none."""
    if row["low"] is None:
        return ""
    unit = "" if row["unit"] == "points" else f" {row['unit']}"
    digits = 2 if row["unit"] == "nats" else 1
    shown_ = [f"{row[name]:+.{digits}f}" for name in ("estimate", "low", "high")]
    return f"{shown_[0]} [{shown_[1]}, {shown_[2]}]{unit}"


def means() -> dict[str, dict[str, str]]:
    """tier -> address -> mean over the seeds of its leading metric."""
    found = {}
    for tier, metric in PHOTOGRAPHS.items():
        scores = pd.read_csv(EXAMPLE / tier / "scores.csv").dropna(subset="value")
        values = scores[scores["metric"] == metric].groupby("address")["value"].mean()
        found[tier] = {address: f"{100 * value:.1f}" for address, value in values.items()}
    return found


def tables() -> dict[str, str]:
    """page -> its text with every table as it should be, and the README with its answer. Raises KeyError if a page
    lacks a marker."""
    texts = {page: (ROOT / page).read_text(encoding="utf-8") for page, _ in TABLES.values()}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, marker, rest = readme.partition("<!-- answer -->\n")
    texts["README.md"] = before + marker + "\n" + the_answer() + "\n\n<!-- end -->" + rest.partition("<!-- end -->")[2]
    for name, (page, made) in TABLES.items():
        head, *rows = made()
        lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
        lines.insert(1, "|" + "---|" * len(head))
        before, marker, rest = texts[page].partition(f"<!-- table: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise KeyError(f"{page} has no place for the table {name!r}")
        texts[page] = before + marker + "\n" + "\n".join(lines) + "\n\n" + end + after
    return texts


def main() -> None:
    for page, text in tables().items():
        (ROOT / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
