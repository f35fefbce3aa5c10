"""Stage score: counts -> scores.csv, a CSV per table, verdicts, metrics and plots for DVC, and the provenance."""

from __future__ import annotations

import sys

from study.ablation import score
from study.config import kept_outputs, tiers
from study.config.mlflow_address import place
from study.spec.documents.gpu_check import FILE
from study.statistics import per_class
from study.store import stage
from study.store.runs import Store
from study.tracking import mlflow_access


def main() -> None:
    params = tiers.read()
    chosen = tiers.load(params)
    kept_outputs.note(chosen.name)
    folder = stage.folder(chosen.name)
    plan = stage.drawn_plan(folder)
    frame, summary = score.write(folder, plan)
    at, links, at_best = place(params, Store()), score.Links(), score.Links()
    with mlflow_access.kept(at, chosen.name), mlflow_access.writing(at, chosen.name, Store().root) as tracker:
        tracker.cells(plan, frame, summary, per_class.confused(folder, plan))
        links = tracker.links()
        if stage.tuned_plan(folder) is not None:
            at_best = mlflow_access.opened(at, f"{chosen.name} tuned").links()
    score.provenance(folder, plan, links, at_best, Store().root / FILE)


if __name__ == "__main__":
    sys.exit(stage.run(main))
