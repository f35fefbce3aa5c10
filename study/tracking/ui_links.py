"""Links to pages of the MLflow UI, relative to a server's address, and the notes that connect these pages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import quote

from study.tracking.ui_views import VIEWS

COMPARED = 100  # runs in one comparison at most: their ids are part of its link
NOTE_LENGTH = 20_000  # the most that MLflow takes
BOXES = "for boxes over seeds, choose kernel_size and val/miou under *Box Plot*"
_KIND = "workflowType=machine_learning"  # else the UI shows a run in its pages for language models


def view(experiment: str, key: str, mode: str = "CHART") -> str:
    """The page of VIEWS[``key``]; ``mode`` is CHART or TABLE."""
    return f"#/experiments/{experiment}/runs?viewStateShareKey={key}&compareRunsMode={mode}&{_KIND}"


def run(experiment: str, identifier: str, artifact: str = "") -> str:
    """The page of a run, or of one of its artifacts."""
    return f"#/experiments/{experiment}/runs/{identifier}{artifact and '/artifacts/' + artifact}?{_KIND}"


def comparison(experiment: str, identifiers: list[str]) -> str:
    """The page that compares runs: parallel coordinates, scatter, boxes. Empty for fewer than two runs."""
    asked = f"runs={quote(json.dumps(identifiers[:COMPARED], separators=(',', ':')))}"
    return f"#/compare-runs?{asked}&experiments={quote(json.dumps([experiment]))}&{_KIND}" if identifiers[1:] else ""


def cell_note(seeds: Iterable[tuple[int, str, float, str]], compared: str, report: str) -> str:
    """The note of a cell's run: ``seeds`` are (seed, page of its training, value, status)."""
    beside = f" · [Trainings of this table side by side]({compared}); {BOXES}" if compared else ""
    lines = [f"[Report]({report}){beside}"]  # first: the UI folds a long note
    for number, (seed, page, value, status) in enumerate(seeds):
        lines += ["", "| seed | value | status |", "|---|---|---|"] if number == 0 else []
        lines.append(f"| {f'[{seed}]({page})' if page else seed} | {value:.4f} | {status} |")
    return "\n".join(lines)


def model_note(identifier: str, file: str, card: str) -> str:
    """The note of a model: how MLflow loads it, and its card."""
    loads = f'mlflow.pyfunc.load_model("models:/{identifier}").predict(pixels)'
    return f"`{loads}` where this project is installed; the file is `{file}` under *Artifacts*.\n\n{card}"[:NOTE_LENGTH]


def experiment_note(experiment: str, report: str, compared: dict[str, str]) -> str:
    """The note that the UI shows above the runs, folded to its first line; ``compared`` are comparisons by table."""
    links = {f"**{name}**": view(experiment, key) for key, (name, *_) in VIEWS.items()}
    note = " · ".join(f"[{name}]({link})" for name, link in ({"**Report**": report} | links).items())
    beside = " · ".join(f"[{table}]({link})" for table, link in compared.items() if link)
    whole = f"{note}\n\nTrainings side by side: {beside}; {BOXES}"
    return whole if beside and len(whole) < NOTE_LENGTH else note
