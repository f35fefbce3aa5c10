"""Rebuild a tier's MLflow runs from what its stages collected: for a database that is new, deleted or behind."""

from __future__ import annotations

from pathlib import Path

from study.config.mlflow_address import Place
from study.statistics import per_class, results
from study.statistics.outputs import frames
from study.store import stage
from study.tracking import mlflow_access
from study.tracking.mlflow_runs import Tracker


def replay(folder: Path, tracker: Tracker) -> None:
    """Log what the stages ablate and score log of reports/<tier> (``folder``); runs that are there stay as they are."""
    plan = stage.drawn_plan(folder)
    mlflow_access.trainings(plan, folder / "results", tracker)
    mlflow_access.models(folder / "weights", tracker)
    tracker.cells(plan, *frames(folder, plan), per_class.confused(folder, plan))


def whole(place: Place, tier: str) -> Tracker:
    """Replay a tier, its trainings with each variant at its best values, and its report. Raises Unreachable."""
    folder = stage.folder(tier)
    tracker = mlflow_access.opened(place, tier)
    try:
        tracker.sweep()
        replay(folder, tracker)
        tracker.report(folder / "report.pdf")
        if (tuned := stage.tuned_plan(folder)) is not None:
            at_best = mlflow_access.opened(place, f"{tier} tuned")
            mlflow_access.trainings(tuned, folder / "tuning" / "results", at_best)
            frame = results.frame(tuned, folder / "tuning" / "results")
            at_best.cells(tuned, frame, results.summary(frame))
    except mlflow_access.refusals() as error:
        raise place.refusal(mlflow_access.told(error)) from None
    return tracker
