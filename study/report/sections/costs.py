"""The report's section "Is it only more parameters?": its words as data, and its figure. It computes no score."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from study.report.figures import costs as figure
from study.report.figures.families import styles
from study.report.figures.plate import saved
from study.spec.documents.plan import PlanFile
from study.spec.words import interval
from study.statistics import equal_cost

TEXTS = dict.fromkeys(
    ("label", "source", "cost", "against", "below", "above", "outcome", "nearest"),
    str,
)
TIMES = "\u00d7"
COUNTED = {"head_parameters": "weights", "head_macs": "multiply-adds"}


def words(folder: Path) -> dict[str, Any]:
    """Matched comparisons and scores by length as text, from a tier's costs.csv, matched.csv and lengths.csv.

    ``same``: the heads' multiply-adds are one multiple of their weights, so equal weights mean equal multiply-adds.
    """
    costs = equal_cost.read_costs(folder / "costs.csv")
    rows, lengths = (_read(folder / f"{name}.csv") for name in ("matched", "lengths"))
    main = costs[(costs["data"] == "main") & (costs["head"] != "classifier")]
    same = bool((main["head_macs"] / main["head_parameters"]).nunique() == 1)
    wanted = equal_cost.EQUAL[:1] if same else equal_cost.EQUAL
    return {
        "same": same,
        "tables": [_table(cost, rows[rows["cost"] == cost]) for cost in wanted],
        "lengths": _lengths(lengths),
    }


def draw(folder: Path, plan: PlanFile) -> list[dict[str, str]]:
    """Draw the main setting's variants into figures/, score against costs; nothing if none has a score."""
    rows = equal_cost.read_costs(folder / "costs.csv")
    if rows.empty:
        return []
    asked = {cell["address"] for cell in plan["cells"] if cell["inference"]}
    kept = (rows["data"] == "main") & (rows["metric"] == "miou") & rows["mean"].notna() & ~rows["address"].isin(asked)
    points = rows[kept].drop_duplicates("label")
    if points.empty:
        return []
    drawn = figure.score_against_costs(points, styles(plan))
    return [saved(drawn, folder, "costs", figure.TITLE, figure.CAPTION)]


def _read(path: Path) -> pd.DataFrame:
    """A table as the score stage wrote it. An empty cell is a missing value only in columns of numbers."""
    names = pd.read_csv(path, nrows=0).columns
    missing = {name: "" for name in names if name not in TEXTS}
    return pd.read_csv(path, dtype=TEXTS, keep_default_na=False, na_values=missing)


def _table(cost: str, rows: pd.DataFrame) -> dict[str, Any]:
    """The comparisons at one equal cost, one block per family, the paper's next to ours."""
    found = []
    for against in rows["against"].unique():
        block = rows[rows["against"] == against]
        ours, papers = (block[block["source"] == source] for source in (equal_cost.HERE, equal_cost.PAPER))
        printed = {row.label: _printed(row) for row in papers.itertuples()}
        here = {row.label: row for row in ours.itertuples()}
        order = block.drop_duplicates("label").sort_values("kernel_size")["label"]
        found.append({
            "against": against, "ours": _counts(ours), "paper": _counts(papers),
            "rows": [_line(label, here.get(label)) | {"paper": printed.get(label, "")} for label in order],
        })  # fmt: skip
    return {"cost": COUNTED[cost], "families": found}


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    names = (equal_cost.BETTER, equal_cost.WORSE, equal_cost.UNDECIDED, equal_cost.OUTSIDE)
    return {name: int((rows["outcome"] == name).sum()) for name in names} | {
        "compared": int((rows["outcome"] != equal_cost.OUTSIDE).sum())
    }


def _line(label: str, row: Any | None) -> dict[str, str]:
    """One comparison of ours; empty if only the paper has it."""
    if row is None:
        return dict.fromkeys(("at", "between", "gain", "outcome", "nearest", "nearest_gain"), "") | {"label": label}
    outside, gain = row.outcome == equal_cost.OUTSIDE, f"{row.mean * 100:+z.1f}"
    if not math.isnan(row.low):
        gain = interval(row.mean * 100, row.low * 100, row.high * 100)
    return {
        "label": label, "at": f"{row.at:,.0f}",
        "between": f"outside the range of {row.below} to {row.above}" if outside else
        row.below if row.below == row.above else f"{row.below} and {row.above} ({TIMES}{row.span:.3g})",
        "gain": "" if outside else gain, "outcome": row.outcome,
        "nearest": f"{row.nearest} ({TIMES}{row.ratio:.2g})", "nearest_gain": f"{row.nearest_mean * 100:+z.1f}",
    }  # fmt: skip


def _printed(row: Any) -> str:
    return equal_cost.OUTSIDE if row.outcome == equal_cost.OUTSIDE else f"{row.mean * 100:+z.1f}"


def _lengths(table: pd.DataFrame) -> dict[str, Any]:
    """One row per variant with its score at each share of the steps, and Kendall's tau for each share."""
    by_share = table.drop_duplicates("share").set_index("share")
    shown = [share for share in equal_cost.SHARES if share in by_share.index]

    def text(value: float, form: str) -> str:
        return "" if math.isnan(value) else format(value, form)

    rows = [
        {"label": label, "scores": [text(then.loc[share, "value"] * 100, ".1f") for share in shown]}
        for label, then in ((label, group.set_index("share")) for label, group in table.groupby("label"))
    ]
    last = equal_cost.SHARES[-1]
    rows.sort(key=lambda row: -table[(table["label"] == row["label"]) & (table["share"] == last)]["value"].iloc[0])
    return {
        "shares": [f"{share:.0%}" for share in shown], "rows": rows,
        "tau": [text(by_share.loc[share, "tau"], "+z.2f") for share in shown],
        "tau_seeds": [text(by_share.loc[share, "tau_seeds"], "+z.2f") for share in shown],
    }  # fmt: skip
