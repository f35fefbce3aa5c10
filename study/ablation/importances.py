"""How much each factor of the search matters: its share in the variance of the scores."""

from __future__ import annotations

import pandas as pd

from study.spec.constants import MAIN
from study.spec.documents.search import Trial


def importances(rows: list[Trial]) -> pd.DataFrame:
    """The share of kernel size, BR and each searched value in the variance of the factorial's last tune scores. All its
    candidates were trained to their end. Empty if fewer than two have a score."""
    from study.ablation import optuna_study  # imports optuna: only if there was a search

    scored = []
    for row in rows:
        if row["whole"] and not row["failed"] and row["setting"] == MAIN:
            factors = {"kernel size": row["kernel_size"], "BR": row["refine"]}
            scored.append((factors | row["values"], row["scores"][max(row["scores"], key=int)]))
    found = optuna_study.importances(scored)
    return pd.DataFrame({"parameter": list(found), "importance": list(found.values())})
