"""Results of one tier -> figures and report.json -> report.typ -> report.pdf and report.html.

Chooses and formats; every number comes from ``results`` or ``figures``, the words are report.typ's. Text reaches Typst
as data only, never as markup.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import typst

from study.report import chosen_figures, cost_section, learning_section, search_section
from study.report.digests import LOOK, TEMPLATE
from study.report.figures import forest
from study.report.figures.plate import Source
from study.spec.cells import COUNTED, SERVED
from study.spec.words import interval
from study.statistics import results

# What a verdict is called where a tier speaks of the mechanism: not what the paper's numbers would be called.
SHOWN = {"supported": "shows here", "contradicted": "does not show here"}
MAX_COLUMNS, MAX_HEADER, MAX_REASON = 8, 70, 400


def build(folder: Path, tier: dict[str, Any], deviations: list[dict[str, Any]]) -> Path:
    """Write ``folder``/report.pdf and report.html (and report.json, figures/*.svg) from its plan.json, scores.csv,
    costs.csv, matched.csv, lengths.csv, provenance.json and results/. ``tier`` is the tier's block of params.yaml,
    ``deviations`` the rows of study.report.deviations. Equal inputs give equal bytes."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    frame = results.read(folder / "scores.csv")
    summary = results.summary(frame)
    shutil.rmtree(folder / "figures", ignore_errors=True)
    (folder / "figures").mkdir()
    content = {"tier": tier, "deviations": deviations, "verdicts": _verdicts(folder, plan)}
    content |= words(folder, plan, summary) | {
        "figures": chosen_figures.draw(Source.of(folder, plan, frame, summary)),
        "costs": cost_section.draw(folder, plan),
        "learning": learning_section.words(folder, plan),
        "search_figures": search_section.draw(folder, plan),
    }  # fmt: skip
    text = json.dumps(content, indent=1, ensure_ascii=False, default=str)
    (folder / "report.json").write_text(text, encoding="utf-8")
    return typeset(folder, TEMPLATE)


def typeset(folder: Path, template: Path) -> Path:
    """Make ``template``'s PDF and page for browsers in ``folder``, from what it reads there; returns the PDF's path."""
    for source in (template, *(template.with_name(name) for name in LOOK)):
        shutil.copyfile(source, folder / source.name)
    for form in ("pdf", "html"):
        # Embedded fonts only: the page must not depend on what a machine has installed.
        made = typst.compile(folder / template.name, root=folder, format=form, ignore_system_fonts=True)
        (folder / template.name).with_suffix(f".{form}").write_bytes(made)
    return (folder / template.name).with_suffix(".pdf")


def _verdicts(folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The verdicts as text, and the forest plot of those with an interval in points."""
    judged = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))
    names = SHOWN if judged["scale"] == "mechanism" else {}
    shown = [row for row in judged["rows"] if row["low"] is not None and row["unit"] == "points"]
    drawn = None
    if shown:
        drawn = chosen_figures.saved(forest.forest(shown, names), folder, "forest", forest.TITLE, forest.CAPTION)
    rows = [_judged(row, names if row["on"] != "arithmetic" else {}) for row in judged["rows"]]
    for row, again in zip(rows, judged["tuned"] or [], strict=False):
        row["tuned"] = _judged(again, names if again["on"] != "arithmetic" else {})
    kinds: dict[str, int] = {}
    for row in rows:
        if not row["exploratory"]:
            kinds[row["called"]] = kinds.get(row["called"], 0) + 1
    return {
        "rows": rows, "forest": drawn, "kinds": kinds, "searched": judged["tuned"] is not None,
        "changed": sum(row["called"] != row["tuned"]["called"] for row in rows if _both(row)),
        "scale": judged["scale"], "rules": plan["verdicts"], "family": len(judged["family"]),
        "exploratory": sum(bool(row["exploratory"]) for row in rows),
        "replanned": sum(judged["questions"][name] != digest for name, digest in plan["questions"].items()),
        "trains": [_trains(row) for row in judged["trains"] if row["reasons"]],
        "trained": sum(not row["reasons"] for row in judged["trains"]),
        "bound": max((row["most_failures"] for row in judged["trains"] if not row["reasons"]), default=0.0),
    }  # fmt: skip


def _trains(row: dict[str, Any]) -> dict[str, Any]:
    """A variant of which not all trainings settled, as text."""
    where = "" if row["data"] == "main" else f" on {row['data']}"
    return {
        "what": row["label"] + where, "settled": f"{row['settled']} of {row['seeds']}",
        "most": f"{100 * row['most_failures']:.0f} %", "reason": "; ".join(dict.fromkeys(row["reasons"])),
    }  # fmt: skip


def _judged(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """One verdict as text: the answer on this benchmark, that beyond it, and that on the question as it was asked
    before. ``names`` are those of verdicts."""
    named = {name: row[name] for name in ("claim", "says", "where", "printed", "wording", "exploratory")}
    if names and row["says"] in row["wording"]:
        named["wording"] = ""  # what was looked for is the claim itself; the page's head says of what it speaks
    former = None if row["former"] is None else _answer(row["former"], row["parts"], names)
    return named | _answer(row, row["parts"], names) | {
        "beyond": _answer(row["beyond"], row["parts"], names), "former": former,
    }  # fmt: skip


def _answer(row: dict[str, Any], parts: int, names: dict[str, str]) -> dict[str, Any]:
    """An answer as text; effects with their interval and unit, what is counted as it is."""
    effect, digits = "", 2 if row["unit"] == "nats" else 1
    if row["low"] is not None:
        effect = interval(row["estimate"], row["low"], row["high"], digits)
    elif row["estimate"] is not None:
        effect = f"{row['estimate']:+z.{digits}f}" if row["unit"] else f"{row['estimate']:+,.0f}"
    unit = "" if row["unit"] == "points" else row["unit"]
    if row["points"] is not None:
        unit += f", {row['points']:+z.1f} points"
    bounds = "" if row["low"] is None else effect.split(" ", 1)[1]
    p = "" if row["adjusted"] is None else "< 0.001" if row["adjusted"] < 0.001 else f"{row['adjusted']:.3f}"
    weakest = row["part"] if parts > 1 and row["verdict"] != "contradicted" and effect else ""
    least = "" if row["mde"] is None else f"{row['mde']:.{digits}f}"
    called = names.get(row["verdict"], row["verdict"])
    found = {"verdict": row["verdict"], "called": called, "reason": row["reason"], "weakest": weakest}
    return found | {"effect": effect, "interval": bounds, "unit": unit, "p": p, "least": least}


def _both(row: dict[str, Any]) -> bool:
    """Whether a claim was tested at the shared setting and with each variant at its best."""
    return "tuned" in row and "untested" not in (row["called"], row["tuned"]["called"])


def words(folder: Path, plan: dict[str, Any], summary: pd.DataFrame) -> dict[str, Any]:
    """The report's tables, audit and holes as text: every number of it but those in figures and learning curves."""
    failed = _failures(plan, folder)
    return {
        "tables": [_table(table, plan, summary, failed) for table in plan["tables"]],
        "audit": json.loads((folder / "audit.json").read_text(encoding="utf-8")),
        "matched": cost_section.words(folder),
        "not_applicable": _reasons(plan),
        "holes": _holes(failed.values()),
        "search": search_section.words(folder, plan),
    }


def _failures(plan: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """By key, why a planned training or evaluation has no result and how to try again."""
    found = {}
    places = {key: folder / "results" / key for key in plan["trainings"]}
    places |= {key: folder / "examined" / key for key in plan["evaluations"]}
    for key, planned in (plan["trainings"] | plan["evaluations"]).items():
        state = results.status(places[key])
        if state == results.DONE:
            continue
        told = {"kind": "missing", "reason": "no result was collected", "retry": "make repro"}
        if state == results.FAILED:
            told = json.loads((places[key] / "failed.json").read_text(encoding="utf-8"))
        reason = " ".join(str(told["reason"]).split()).rstrip(".")
        reason = reason if len(reason) <= MAX_REASON else reason[:MAX_REASON] + " ..."
        what = planned["label"] + ("" if planned["data"] == "main" else f" on {planned['data']}")
        what += f" ({planned['inference']})" if "inference" in planned else ""
        found[key] = {"what": what, "seed": planned["seed"]}
        found[key] |= {"reason": f"{told['kind']}: {reason}", "retry": told["retry"]}
    return found


def _reasons(plan: dict[str, Any]) -> list[dict[str, str]]:
    """Why cells are not applicable here; cells with one reason share an entry, whole tables are named as such."""
    cells: dict[tuple[str, str], list[str]] = {}
    for cell in plan["cells"]:
        if cell["not_applicable"]:
            cells.setdefault((cell["table"], cell["not_applicable"]), []).append(f"{cell['row']}, {cell['column']}")
    found = []
    for (table, reason), names in cells.items():
        every = [c for c in plan["cells"] if c["table"] == table]
        where = "" if len(names) == len(every) else ": " + "; ".join(names)
        found.append({"what": f"Table {table.removeprefix('T')}{where}", "reason": reason})
    return found


def _holes(failures: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """Failures for the reader: seeds of one variant that failed alike share an entry."""
    seeds: dict[tuple[str, str, str], list[int]] = {}
    for item in failures:
        seeds.setdefault((item["what"], item["reason"], item["retry"]), []).append(item["seed"])
    return [
        {"what": f"{what}, {'seed' if len(s) == 1 else 'seeds'} {', '.join(map(str, sorted(s)))}"}
        | {"reason": reason, "retry": retry}
        for (what, reason, retry), s in seeds.items()
    ]


def _value(row: Any | None) -> dict[str, Any]:
    """One of our scores as text in per cent: mean, half-width, and whether some seeds are missing from it."""
    if row is None or row.status == results.PRINTED:
        return {"kind": "none"}
    if row.status in (results.NOT_APPLICABLE, results.NOT_SUBMITTED):
        return {"kind": "absent", "main": "n/a" if row.status == results.NOT_APPLICABLE else row.status}
    if row.status == results.COUNTED:
        return {"kind": "whole", "main": f"{row.mean:,.0f}"}
    if math.isnan(row.mean):
        return {"kind": "hole", "main": "no result"}
    alone = "1 seed" if row.failed else ""
    side = f"± {(row.high - row.mean) * 100:.1f}" if row.seeds > 1 else alone
    return {"kind": "ours", "main": f"{row.mean * 100:.1f}", "side": side, "partial": row.failed > 0}


def _lines(cells: list[dict[str, Any] | None], found: dict[Any, Any], frequent: bool) -> list[Any]:
    """The lines of one table row: ours (twice where frequent classes are told apart), then the paper's."""
    if any(cell and cell["metric"] == "parameters" for cell in cells):
        texts = [
            {"kind": "count", "main": f"{c['parameters']:,}", "side": f"{c['paper'] // 1000}K" if c["paper"] else ""}
            if c else {"kind": "none"} for c in cells
        ]  # fmt: skip
        return [{"source": "ours, paper's", "cells": texts}]
    own = [_value(found.get((c["address"], c["metric"])) if c else None) for c in cells]
    lines = [{"source": "ours", "cells": own}]
    if frequent:
        often = [_value(found.get((c["address"], "miou_frequent")) if c else None) for c in cells]
        if any(value["kind"] != "none" for value in often):
            lines = [{"source": "ours, frequent", "cells": often}, {"source": "ours, all", "cells": own}]
    papers = [c["paper"] if c else None for c in cells]
    if any(paper is not None for paper in papers):
        printed: list[dict[str, Any]] = [
            {"kind": "none"} if p is None else
            {"kind": "whole", "main": f"{p:,.0f}"} if c and c["metric"] in COUNTED else
            {"kind": "paper", "main": f"{p * 100:.1f}", "side": "", "partial": False}
            for c, p in zip(cells, papers, strict=True)
        ]  # fmt: skip
        lines.append({"source": "paper", "cells": printed})
    return lines


def _table(table: dict[str, Any], plan: dict[str, Any], summary: pd.DataFrame, failed: dict[str, Any]) -> dict:
    """One table as text. A single row too wide for the page is turned on its side."""
    found = {(row.address, row.metric): row for row in summary.itertuples()}
    cells = {(c["row"], c["column"]): c for c in plan["cells"] if c["table"] == table["id"]}
    rows, columns = list(table["rows"]), list(table["columns"])
    turned = len(columns) > MAX_COLUMNS or sum(map(len, columns)) > MAX_HEADER
    if turned:
        rows, columns = columns, rows
        cells = {(column, row): cell for (row, column), cell in cells.items()}
    keys = dict.fromkeys(key for cell in cells.values() for key in cell["runs"].values() if key in failed)
    named = f"Table {table['id'].removeprefix('T')}"
    frequent = "miou_frequent" in plan["metrics"]
    return {
        "heading": f"{named}. {table['title']}", "columns": columns, "tall": turned,
        "rows": [
            {"name": row, "lines": _lines([cells.get((row, column)) for column in columns], found, frequent)}
            for row in rows
        ],
        "note": table["note"], "page": table["page"], "data": table["data"],
        "served": all(cell["metric"] in SERVED for cell in cells.values()), "submitted": table["submitted"],
        "holes": _holes(failed[key] for key in keys),
    }  # fmt: skip
