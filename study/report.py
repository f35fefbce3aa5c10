"""Results of one tier -> figures and report.json -> report.typ -> report.pdf.

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

import numpy as np
import pandas as pd
import typst

from study import figures, results

TEMPLATE = Path(__file__).with_name("report.typ")
MAX_COLUMNS, MAX_HEADER, MAX_SAMPLES, MAX_REASON = 8, 70, 6, 400


def build(folder: Path, tier: dict[str, Any]) -> Path:
    """Write ``folder``/report.pdf (and report.json, report.typ, figures/*.svg) from its plan.json, scores.csv,
    provenance.json and results/. ``tier`` is the tier's block of params.yaml. Equal inputs give equal bytes."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    texts = dict.fromkeys(("address", "table", "row", "column", "metric", "run", "status"), str)
    # No text of the frame may be read as a missing value; a variant may well be called "null".
    frame = pd.read_csv(folder / "scores.csv", dtype=texts, keep_default_na=False,
                        na_values=dict.fromkeys(("seed", "value", "paper"), ""))  # fmt: skip
    summary = results.summary(frame)
    failed = _failures(plan, folder / "results")
    shutil.rmtree(folder / "figures", ignore_errors=True)
    (folder / "figures").mkdir()
    content = {
        "tier": tier,
        "tables": [_table(table, plan, summary, failed) for table in plan["tables"]],
        "figures": _figures(folder, plan, frame, summary),
        "learning": _learning(folder, plan),
        "holes": _holes(failed.values()),
    }
    text = json.dumps(content, indent=1, ensure_ascii=False, default=str)
    (folder / "report.json").write_text(text, encoding="utf-8")
    shutil.copyfile(TEMPLATE, folder / "report.typ")
    # Embedded fonts only: the page must not depend on what a machine has installed.
    pdf = typst.compile(folder / "report.typ", root=folder, format="pdf", ignore_system_fonts=True)
    (folder / "report.pdf").write_bytes(pdf)
    return folder / "report.pdf"


def _failures(plan: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """By key, why a planned training has no result and how to try again."""
    found = {}
    for key, training in plan["trainings"].items():
        state = results.status(folder / key)
        if state == results.DONE:
            continue
        told = {"kind": "missing", "reason": "no result was collected", "retry": "dvc repro"}
        if state == results.FAILED:
            told = json.loads((folder / key / "failed.json").read_text(encoding="utf-8"))
        reason = " ".join(str(told["reason"]).split()).rstrip(".")
        reason = reason if len(reason) <= MAX_REASON else reason[:MAX_REASON] + " ..."
        what = training["label"] + ("" if training["data"] == "main" else f" on {training['data']}")
        found[key] = {"what": what, "seed": training["seed"]}
        found[key] |= {"reason": f"{told['kind']}: {reason}", "retry": told["retry"]}
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
    if row is None:
        return {"kind": "none"}
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
            {"kind": "none"} if p is None else {"kind": "paper", "main": f"{p * 100:.1f}", "side": "", "partial": False}
            for p in papers
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
        "holes": _holes(failed[key] for key in keys),
    }  # fmt: skip


def _figures(folder: Path, plan: dict[str, Any], frame: pd.DataFrame, summary: pd.DataFrame) -> list[str]:
    """Draw what the results allow; the names of the figures, whose titles and captions are the template's."""
    frame, summary = figures.described(frame, plan), figures.described(summary, plan)
    look, drawn = figures.styles(plan), {}
    order = [name for name in ("miou_frequent", "miou") if name in plan["metrics"]]
    names = {name: "mean IoU" if len(order) == 1 else plan["metrics"][name] for name in order}
    scored = summary[summary["mean"].notna()]
    main = scored[(scored["data"] == "main") & (scored["metric"] == order[0])]
    if len(main):
        drawn["kernel_size"] = figures.kernel_size(frame, summary, look, names)
        weights = _weights(folder / "results", plan, main)
        drawn["parameters"] = figures.parameters(weights, _paper_weights(plan), look, names[order[0]])
    if len(scored[(scored["table"] == "T5") & (scored["metric"] == "boundary_accuracy")]):
        drawn["boundary"] = figures.boundary(summary, look)
    scored = scored[scored["metric"] == "miou"]
    if len(main) and len(scored[scored["data"] != "main"]):
        titles = {name: f"{name}: {data['name']}" for name, data in plan["data"].items()}
        drawn["control"] = figures.control(scored, look, titles)
    samples = _samples(folder / "results", plan)
    if samples is not None:
        drawn["qualitative"] = figures.qualitative(*samples, plan["data"]["main"]["classes"])
    for name, figure in drawn.items():
        figures.save(figure, folder / "figures" / f"{name}.svg")
    return list(drawn)


def _weights(folder: Path, plan: dict[str, Any], means: pd.DataFrame) -> pd.DataFrame:
    """One row a variant of ``means`` with the head parameters its trainings report."""
    counts = {}
    for key, training in plan["trainings"].items():
        path = folder / key / "result.json"
        if training["data"] == "main" and training["label"] not in counts and path.is_file():
            counts[training["label"]] = json.loads(path.read_text(encoding="utf-8"))["head_parameters"]
    points = means.drop_duplicates("label")
    return points.assign(head_parameters=points["label"].map(counts)).dropna(subset="head_parameters")


def _paper_weights(plan: dict[str, Any]) -> pd.DataFrame:
    """One row a variant for which the paper prints both a score and a parameter count."""
    cells = [cell for cell in plan["cells"] if cell["paper"] is not None]
    counts = {cell["label"]: cell["paper"] for cell in cells if cell["metric"] == "parameters"}
    scored = {cell["label"]: cell for cell in cells if cell["metric"] == "miou" and cell["label"] in counts}
    rows = [
        {name: cell[name] for name in figures.VARIANT_COLUMNS}
        | {"head_parameters": counts[label], "mean": cell["paper"], "high": math.nan}
        for label, cell in scored.items()
    ]
    return pd.DataFrame(rows, columns=[*figures.VARIANT_COLUMNS, "head_parameters", "mean", "high"])


def _samples(folder: Path, plan: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]] | None:
    """Images, labels and predictions of Table 5's variants (any three of the main set without it), at the first seed
    that has them all; None where no seed has."""
    main = [cell for cell in plan["cells"] if cell["data"] == "main" and cell["runs"]]
    chosen = {cell["label"]: cell["runs"] for cell in main if cell["table"] == "T5"}
    chosen = chosen or dict(list({cell["label"]: cell["runs"] for cell in main}.items())[:3])
    for seed in sorted({training["seed"] for training in plan["trainings"].values()}):
        paths = {label: folder / runs[str(seed)] / "samples.npz" for label, runs in chosen.items() if str(seed) in runs}
        found = {label: np.load(path) for label, path in paths.items() if path.is_file()}
        if found and len(found) == len(chosen):
            first = next(iter(found.values()))
            predictions = {label: archive["predictions"][:MAX_SAMPLES] for label, archive in found.items()}
            return first["images"][:MAX_SAMPLES], first["labels"][:MAX_SAMPLES], predictions
    return None


def _learning(folder: Path, plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The learning-curve pages, one a data set: the drawn curves, the last slopes and the rule they were judged by."""
    curves, look, pages = results.curves(plan, folder / "results"), figures.styles(plan), []
    if curves.empty:
        return []
    for name, table in results.last_slopes(curves).groupby("data", sort=False):
        drawn = figures.learning_curves(curves[curves["data"] == name], look)
        figures.save(drawn, folder / "figures" / f"curves_{name}.svg")
        rows = [
            {"improving": bool(row.improving), "cells": [
                row.label, f"{row.steps:,}", _signed(row.last * 100, ".1f"), _signed(row.slope, "+.2f"),
                f"{_signed(row.least, '+.2f')} to {_signed(row.greatest, '+.2f')}", _signed(row.loss_change, "+.1%"),
                "yes" if row.improving else "no",
            ]}
            for row in table.sort_values("slope", ascending=False, kind="stable").itertuples()
        ]  # fmt: skip
        pages.append({
            "data": name, "rows": rows, "unknown": int(table["slope"].isna().sum()),
            "limits": sorted({f"{value:.2g}" for value in table["threshold"]}),
            "points": str(results.IMPROVING_POINTS), "share": f"{results.IMPROVING_SHARE:.0%}",
        })  # fmt: skip
    return pages


def _signed(value: float, form: str) -> str:
    """A number with a true minus sign, a dash where there is none."""
    return "–" if math.isnan(value) else format(value, form).replace("-", "−")  # noqa: RUF001
