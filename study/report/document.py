"""Results of one tier -> figures and report.json -> report.typ -> report.pdf and report.html.

Chooses and formats: the words come from ``sections``, from the figures and from report.typ. Text reaches Typst as data
only, never as markup.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import typst

from study.report import figure_list
from study.report.digests import LOOK, TEMPLATE
from study.report.figures.plate import Source
from study.report.sections import classes, costs, explored, learning, overview, search, tables, verdicts
from study.spec.documents.plan import PlanFile, restricted
from study.spec.documents.provenance import ProvenanceFile
from study.spec.documents.reading import read
from study.spec.documents.tables import AuditRow, Deviation
from study.spec.documents.tier import TierBlock
from study.statistics import results


def build(folder: Path, tier: TierBlock, deviations: list[Deviation]) -> Path:
    """Write ``folder``/report.pdf and report.html (and report.json, figures/*.svg) from its plan.json, scores.csv,
    costs.csv, matched.csv, lengths.csv, per_class.csv, provenance.json, results/ and examined/. ``tier`` is the tier's
    block of params.yaml, ``deviations`` the rows of study.report.deviations. Equal inputs give equal bytes."""
    provenance = read(folder / "provenance.json", ProvenanceFile)
    plan = restricted(read(folder / "plan.json", PlanFile), provenance["runs"])
    frame = results.read(folder / "scores.csv")
    summary = results.summary(frame)
    shutil.rmtree(folder / "figures", ignore_errors=True)
    (folder / "figures").mkdir()
    drawn = figure_list.draw(Source.of(folder, plan, frame, summary))
    content: dict[str, object] = {"tier": tier, "deviations": deviations, "verdicts": verdicts.words(folder, plan)}
    content |= words(folder, plan, summary, drawn) | {
        "figures": drawn,
        "costs": costs.draw(folder, plan),
        "learning": learning.words(folder, plan),
        "search_figures": search.draw(folder, plan),
        "explored_figures": explored.draw(folder, plan),
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


def words(folder: Path, plan: PlanFile, summary: pd.DataFrame, drawn: list[dict[str, str]]) -> dict[str, object]:
    """The report as text, but for verdicts, learning curves and figures; ``drawn`` are the figures that it shows."""
    provenance = read(folder / "provenance.json", ProvenanceFile)
    failed = tables.failures(plan, folder)
    return {
        "summary": overview.summary(plan, provenance),
        "not_run": overview.not_run(plan, [figure["name"] for figure in drawn]),
        "tables": [tables.table(table, plan, summary, failed) for table in plan["tables"]],
        "audit": read(folder / "audit.json", list[AuditRow]),
        "classes": classes.words(folder, plan),
        "matched": costs.words(folder),
        "holes": tables.holes(failed.values()),
        "search": search.words(folder, plan),
        "explored": explored.words(folder, plan, summary),
    }
