"""Compare reports side by side: the verdicts and scores of several tiers, or of one tier at several states, in one PDF
and HTML page.

This module chooses and formats; the numbers are those of each report's own files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from study.report import document
from study.report.sections import answer
from study.spec.documents.plan import PlanFile, PlannedCell, restricted
from study.spec.documents.provenance import ProvenanceFile
from study.spec.documents.reading import read
from study.spec.documents.verdicts import VerdictsFile
from study.spec.errors import InputError
from study.statistics import results

READ = ("plan.json", "scores.csv", "verdicts.json", "provenance.json")  # needed of each report


def build(reports: dict[str, Path], target: Path) -> Path:
    """Write ``target``/comparison.pdf and .html of ``reports`` (name -> folder with READ). Returns the PDF's path.

    Raises InputError for fewer than two reports, or one with missing files.
    """
    if len(reports) < 2:
        raise InputError(f"a comparison needs two reports or more, got {', '.join(reports) or 'none'}; name another")
    found = {name: _read(name, folder) for name, folder in reports.items()}
    target.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_content(found), indent=1, ensure_ascii=False)
    (target / "comparison.json").write_text(text, encoding="utf-8")
    return document.typeset(target, "comparison")


class _Report(NamedTuple):
    """The parts of a report that are compared. ``scores`` are rows of results.summary by address and metric."""

    plan: PlanFile
    judged: VerdictsFile
    provenance: ProvenanceFile
    scores: dict[tuple[str, str], Any]


def _read(name: str, folder: Path) -> _Report:
    if missing := [file for file in READ if not (folder / file).is_file()]:
        raise InputError(f"a report to compare must be complete, got no {missing[0]} of {name} in {folder}; run it")
    frame = results.read(folder / "scores.csv")
    rows = {(row.address, row.metric): row for row in results.summary(frame).itertuples()}
    provenance = read(folder / "provenance.json", ProvenanceFile)
    return _Report(
        restricted(read(folder / "plan.json", PlanFile), provenance["runs"]),
        read(folder / "verdicts.json", VerdictsFile),
        provenance,
        rows,
    )


def _content(reports: dict[str, _Report]) -> dict[str, Any]:
    """comparison.json: what each report is, one row per claim and one per cell, with a text for each report."""
    here = {name: answer.asked_here(one.judged) for name, one in reports.items()}
    reach = max(answer.reach_of(here[name], one.plan["verdicts"]) for name, one in reports.items())
    claims: dict[str, dict[str, Any]] = {}
    every = {row["claim"]: row["says"] for one in reports.values() for row in one.judged["rows"]}
    cells: dict[str, dict[str, Any]] = {}
    for name, one in reports.items():
        for row in here[name]:
            if row["on"] != "arithmetic":  # counted, so the same in all reports
                line = answer.line(row, one.judged["scale"], one.plan["verdicts"], reach)
                entry = claims.setdefault(row["claim"], {"says": line["says"], "paper": "", "found": {}})
                entry["paper"] = entry["paper"] or (line["paper"] if row["unit"] == answer.POINTS else "")
                entry["found"][name] = line
        for cell in (cell for cell in one.plan["cells"] if cell["runs"]):
            paper = "" if cell["paper"] is None else f"{cell['paper'] * 100:.1f}"
            what = {name: cell[name] for name in ("table", "row", "column")} | {"paper": paper, "found": {}}
            cells.setdefault(_place(cell), what)["found"][name] = _score(one.scores[cell["address"], cell["metric"]])
    about = [
        {"name": name, "tier": one.plan["tier"], "title": one.plan["title"], "scale": one.judged["scale"]}
        | {"seeds": len({training["seed"] for training in one.plan["trainings"].values()})}
        | {"commit": one.provenance["commit"][:12] or "unknown", "meaningless": one.plan["meaningless"]}
        | {"claims": one.judged["wording"][:12], "settings": _settings(one.plan)}
        | {"headline": answer.headline(one.judged)}
        for name, one in reports.items()
    ]
    return {
        "reports": about, "claims": [claims[claim] for claim in every if claim in claims],
        "unasked": [says for claim, says in every.items() if claim not in claims],
        "reach": reach, "cells": list(cells.values()), "differ": _differ(about),
    }  # fmt: skip


def _place(cell: PlannedCell) -> str:
    """What identifies a cell across reports: its address in the paper's tables. The numbers of other tables differ
    between tiers, so there it is what the cell measures."""
    if cell["table"].startswith("T"):
        return cell["address"]
    return "/".join(str(cell[name]) for name in ("data", "label", "inference", "metric"))  # type: ignore[literal-required]


def _score(row: Any) -> str:
    """A mean in per cent with half the width of its interval over seeds; a dash if no seed has a score."""
    if pd.isna(row.mean):
        return "\u2013"
    return f"{row.mean * 100:.1f}" + (f" ± {(row.high - row.mean) * 100:.1f}" if row.seeds > 1 else "")


def _settings(plan: PlanFile) -> dict[str, str]:
    """The main setting's values by dotted name."""
    found: dict[str, str] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                walk(part, f"{name}.{key}" if name else key)
        else:
            found[name] = json.dumps(value) if isinstance(value, list) else str(value)

    walk(plan["settings"]["main"], "")
    return found


def _differ(about: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Values of the main setting that differ between reports. Takes the settings out of ``about``."""
    settings = {one["name"]: one.pop("settings") for one in about}
    names = dict.fromkeys(name for values in settings.values() for name in values)
    rows = [
        {"what": name, "found": {one: values.get(name, "\u2013") for one, values in settings.items()}} for name in names
    ]
    return [row for row in rows if len(set(row["found"].values())) > 1]
