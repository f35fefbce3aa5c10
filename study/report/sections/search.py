"""The report's section on the search for each variant's best values. It chooses and formats, and computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from study.report.figures import importances, search_values
from study.report.figures.families import styles
from study.report.figures.plate import saved
from study.spec.constants import MAIN
from study.spec.documents.plan import PlanFile
from study.spec.documents.reading import read
from study.spec.documents.search import SearchFile, Trial
from study.spec.words import interval
from study.statistics import at_best


def words(folder: Path, plan: PlanFile) -> dict[str, Any] | None:
    """The section as text; None if no search was run. Reads tuning/search.json and the tables of the score stage."""
    trials = _trials(folder) if _searched(folder) else []
    if not trials:
        return None
    compared = pd.read_csv(folder / "tables" / "tuned.csv")
    compared = compared[compared["metric"] == plan.get("judged_by", "miou")].set_index("address")
    chosen, shared = at_best.chosen(trials), _numbers(plan)
    values = list(trials[0]["values"])
    labels: dict[str, str] = {}
    for cell in plan["cells"]:
        if cell["address"] in compared.index and cell["data"] == MAIN and (MAIN, cell["label"]) in chosen:
            labels.setdefault(cell["label"], cell["address"])
    rows = []
    for label, address in labels.items():
        row, own = compared.loc[address], chosen[MAIN, label]
        rows.append({
            "label": label, "values": [f"{own[name]:g}" for name in values],
            "moved": any(own[name] != shared[name] for name in values),
            "shared": f"{row.shared * 100:.1f}", "tuned": f"{row.tuned * 100:.1f}",
            "difference": (
                f"{row.difference * 100:+z.1f}" if pd.isna(row.low)
                else interval(row.difference * 100, row.low * 100, row.high * 100)
            ),
        })  # fmt: skip
    return {
        "rows": rows, "values": values, "shared": [f"{shared[name]:g}" for name in values],
        "grid": {name: [f"{v:g}" for v in sorted({t["values"][name] for t in trials})] for name in values},
        "candidates": len(trials), "variants": len({(t["setting"], t["label"]) for t in trials}),
        "dropped": sum(t["dropped"] is not None for t in trials), "failed": sum(bool(t["failed"]) for t in trials),
        "edge": [label for label in labels if _at_edge(chosen[MAIN, label], trials)],
    }  # fmt: skip


def draw(folder: Path, plan: PlanFile) -> list[dict[str, str]]:
    """Draw the section's figures. Returns their names and words."""
    tables = folder / "tables"
    if not _searched(folder) or not (tables / "search.csv").is_file():
        return []
    # No label may be read as a missing value.
    trials = pd.read_csv(tables / "search.csv", keep_default_na=False, na_values={"dropped": "", "width": ""})
    drawn = []
    main = trials[trials["setting"] == MAIN]
    ended = main[main["step"] == main["step"].max()]
    recipe = _numbers(plan)
    values = [name for name in main.columns if name in recipe and name != "steps"]
    for value in values:
        figure = search_values.scores(ended, value, recipe[value], styles(plan))
        title = search_values.TITLE.format(value=value.replace("_", " "))
        drawn.append(saved(figure, folder, f"search_{value}", title, search_values.CAPTION))
    shares = pd.read_csv(tables / "importances.csv")
    if len(shares):
        sizes = ", ".join(map(str, _factorial(_trials(folder))))
        caption = importances.CAPTION.format(factorial=sizes)
        drawn.append(saved(importances.importances(shares), folder, "importances", importances.TITLE, caption))
    return drawn


def _trials(folder: Path) -> list[Trial]:
    found = read(folder / "tuning" / "search.json", SearchFile)
    return found["trials"] if found["on"] else []


def _numbers(plan: PlanFile) -> dict[str, float]:
    """The numbers of the main setting's recipe, by name."""
    recipe: Mapping[str, object] = plan["settings"][MAIN]["recipe"]
    return {name: value for name, value in recipe.items() if isinstance(value, int | float)}


def _factorial(trials: list[Trial]) -> list[int]:
    """The kernel sizes of the candidates that were all trained to the end."""
    return sorted({trial["kernel_size"] for trial in trials if trial["whole"]})


def _searched(folder: Path) -> bool:
    return (folder / "tuning" / "plan.json").is_file()


def _at_edge(own: dict[str, float], trials: list[Trial]) -> bool:
    """Whether a best value is the smallest or the largest that was tried, so that a better one may lie beyond."""
    grid = {name: [trial["values"][name] for trial in trials] for name in own}
    return any(value in (min(grid[name]), max(grid[name])) for name, value in own.items())
