"""The MLflow runs of a tier from what its stages collected, for a database that was deleted."""

from __future__ import annotations

from pathlib import Path

from pipelines.evaluate import frames
from study import results, stage
from study.tracking import Tracker


def replay(folder: Path, tracker: Tracker) -> None:
    """Logs what the stages ablate and evaluate logged of reports/<tier> (``folder``); changes nothing that is there."""
    plan = stage.read_json(folder / "plan.json")
    for key, labels in plan["trainings"].items():
        collected, scores = folder / "results" / key, {}
        if results.status(collected) == results.DONE:
            scores = results.scores(collected, plan["data"][labels["data"]]["frequent"])
        tracker.training(key, labels, collected, scores)
    tracker.cells(plan, *frames(folder, plan))
