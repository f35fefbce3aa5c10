"""Results of one tier -> figures and report.json -> templates/report.typ -> report.pdf and report.html.

This module chooses and formats. The words come from ``sections``, from the figures and from the templates. Text reaches
Typst only as data, never as markup.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import typst

from study.report import figure_list
from study.report.digests import TEMPLATES
from study.report.figures.plate import Source
from study.report.sections import answer, classes, costs, explored, learning, overview, search, tables, verdicts
from study.spec.documents.plan import PlanFile, restricted
from study.spec.documents.provenance import ProvenanceFile
from study.spec.documents.reading import read
from study.spec.documents.tables import AuditRow, Deviation
from study.spec.documents.tier import TierBlock
from study.spec.documents.verdicts import VerdictsFile
from study.statistics import results


def build(folder: Path, tier: TierBlock, deviations: list[Deviation], partial: str = "") -> Path:
    """Write ``folder``/report.pdf and report.html (and report.json, figures/*.svg) from its plan.json, scores.csv,
    costs.csv, matched.csv, lengths.csv, per_class.csv, provenance.json, results/ and examined/. ``tier`` is the tier's
    block of params.yaml, ``deviations`` are the rows of study.report.deviations, and ``partial`` says how far an
    unfinished run has come. Equal inputs give equal bytes."""
    provenance = read(folder / "provenance.json", ProvenanceFile)
    plan = restricted(read(folder / "plan.json", PlanFile), provenance["runs"])
    frame = results.read(folder / "scores.csv")
    summary = results.summary(frame)
    shutil.rmtree(folder / "figures", ignore_errors=True)
    (folder / "figures").mkdir()
    drawn = figure_list.draw(Source.of(folder, plan, frame, summary))
    judged = read(folder / "verdicts.json", VerdictsFile)
    content: dict[str, object] = {"tier": tier, "deviations": deviations, "partial": partial}
    content |= {"answer": answer.words(judged, plan), "verdicts": verdicts.words(judged, plan)}
    content |= words(folder, plan, summary, drawn, partial=bool(partial)) | {
        "figures": drawn,
        "costs": costs.draw(folder, plan),
        "learning": learning.words(folder, plan),
        "search_figures": search.draw(folder, plan),
        "explored_figures": explored.draw(folder, plan),
    }  # fmt: skip
    text = json.dumps(content, indent=1, ensure_ascii=False, default=str)
    (folder / "report.json").write_text(text, encoding="utf-8")
    return typeset(folder, "report")


def typeset(folder: Path, name: str) -> Path:
    """Make the PDF and the HTML page of the template ``name`` in ``folder``, from the files that it reads there.
    Returns the PDF's path."""
    shutil.rmtree(folder / "typst", ignore_errors=True)
    shutil.copytree(TEMPLATES, folder / "typst")
    for form in ("pdf", "html"):
        # Embedded fonts only: the page must not depend on what a machine has installed.
        made = typst.compile(folder / "typst" / f"{name}.typ", root=folder, format=form, ignore_system_fonts=True)
        (folder / f"{name}.{form}").write_bytes(made)
    return folder / f"{name}.pdf"


def words(
    folder: Path, plan: PlanFile, summary: pd.DataFrame, drawn: list[dict[str, str]], *, partial: bool = False
) -> dict[str, object]:
    """The report as text, except for verdicts, learning curves and figures. ``drawn`` are the figures that it shows;
    ``partial`` marks a run that is under way."""
    provenance = read(folder / "provenance.json", ProvenanceFile)
    failed = tables.failures(plan, folder, partial)
    return {
        "summary": overview.summary(plan, provenance),
        "not_run": overview.not_run(plan, [figure["name"] for figure in drawn]),
        "tables": [tables.table(table, plan, summary, failed) for table in plan["tables"]],
        "audit": read(folder / "audit.json", list[AuditRow]),
        "classes": classes.words(folder, plan),
        "matched": costs.words(folder),
        "holes": tables.holes(failed.values()),
        "search": search.words(folder, plan),
        "explored": explored.words(folder, plan),
    }
