"""Tidy frames, for tables and figures, of the search's trials and of the trainings at each variant's best values."""

from __future__ import annotations

import pandas as pd

from study.spec.documents.plan import labels_of
from study.spec.documents.search import Trial
from study.statistics.intervals import half_width


def trials(rows: list[Trial]) -> pd.DataFrame:
    """One row per candidate and stop from the ``rows`` of search.json: setting, variant, searched values, ``step``,
    ``score`` (a fraction, on the tune split), the step at which it was ``dropped`` (nan: never), and whether it is the
    ``best``."""
    found = []
    for row in rows:
        fixed = {"setting": row["setting"]} | labels_of(row) | row["values"]
        ended = {"dropped": row["dropped"], "best": row["best"]}
        found += [fixed | {"step": int(step), "score": score} | ended for step, score in row["scores"].items()]
    return pd.DataFrame(found)


def compared(shared: pd.DataFrame, tuned: pd.DataFrame) -> pd.DataFrame:
    """One row per cell and metric of the searched variants: the mean at the ``shared`` setting and ``tuned``
    (fractions), and their difference paired by seed with its 95 % t interval (nan with one seed).

    ``shared`` and ``tuned`` are results.frame of the two plans.
    """
    pairs = shared.merge(tuned, on=["address", "metric", "seed"], suffixes=("", "_tuned")).dropna(
        subset=["value", "value_tuned"]
    )
    pairs = pairs[pairs["seed"].notna()]
    found = []
    for (address, metric), group in pairs.groupby(["address", "metric"], sort=False):
        difference = (group["value_tuned"] - group["value"]).to_numpy()
        n, mean, half = len(difference), float(difference.mean()), half_width(difference)
        found.append(
            {"address": address, "metric": metric, "seeds": n, "shared": float(group["value"].mean())}
            | {"tuned": float(group["value_tuned"].mean()), "difference": mean, "low": mean - half, "high": mean + half}
        )
    columns = ["address", "metric", "seeds", "shared", "tuned", "difference", "low", "high"]
    return pd.DataFrame(found, columns=columns)


def chosen(rows: list[Trial]) -> dict[tuple[str, str], dict[str, float]]:
    """The best values of each variant that has any, by (setting, label)."""
    return {(row["setting"], row["label"]): row["values"] for row in rows if row["best"]}
