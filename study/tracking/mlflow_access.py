"""Open the MLflow view of the run store, at the configured address. MLflow never blocks a result: stages keep their
results even if MLflow fails, and `make replay` catches up."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from study.config.mlflow_address import Place, Unreachable
from study.spec.documents.models import HeadlineModel
from study.spec.documents.plan import PlanFile
from study.spec.documents.reading import read
from study.statistics import results
from study.store.runs import Store
from study.tracking.mlflow_runs import Tracker, refusals


def opened(place: Place, tier: str) -> Tracker:
    """Open the tier's experiment at ``place``. Raises Unreachable, at once, if it cannot be written."""
    place.reach()
    try:
        with FileLock(Store().tracking_lock):  # processes that first touch one sqlite file together corrupt it
            return Tracker(place.uri, place.artifacts, place.experiment(tier))
    except ImportError as error:
        raise place.refusal(
            f"{error} (install the driver into .venv: psycopg[binary] for postgresql, pymysql for mysql+pymysql)"
        ) from None
    except refusals() as error:
        raise place.refusal(told(error)) from None


def told(error: Exception) -> str:
    """The error's message without the SQL statement."""
    return str(error).partition("[SQL:")[0].partition("(Background on this error")[0].strip()


@contextmanager
def kept(place: Place, tier: str) -> Iterator[None]:
    """A block that writes to MLflow: if MLflow fails, print that it is behind and go on with the stage."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, (Unreachable, *refusals())):
            raise
        print(
            f"warning: MLflow at {place.shown} is behind, because it failed ({place.hidden(told(error))}); all "
            f"results are kept and the report does not need it; `make replay TIER={tier.split()[0]}` catches up",
            file=sys.stderr,
            flush=True,
        )


def turn(place: Place, tier: str, store: Path) -> Path:
    """The lock for writing to the tier's experiment: two writers would log a training twice."""
    return store / "mlflow" / f"{place.experiment(tier)}.lock"


@contextmanager
def writing(place: Place, tier: str, store: Path) -> Iterator[Tracker]:
    """Open the tier's experiment once no other driver that shares ``store`` writes to it. Raises Unreachable."""
    lock = turn(place, tier, store)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield opened(place, tier)


def training(key: str, plan: PlanFile, collected: Path, tracker: Tracker) -> None:
    """Log a training of ``plan`` from its results in ``collected``."""
    labels, scores, by_class = plan["trainings"][key], dict[str, float](), list[float]()
    facts = plan["data"][labels["data"]]
    if results.status(collected / key) == results.DONE:
        scores = results.scores(collected / key, facts["frequent"])
        by_class = results.class_scores(collected / key) if facts["task"] == "segment" else []
    tracker.training(key, labels, collected / key, scores, facts=facts, by_class=by_class)


def trainings(plan: PlanFile, collected: Path, tracker: Tracker) -> None:
    """Log every training of ``plan`` from the results in ``collected``."""
    for key in plan["trainings"]:
        training(key, plan, collected, tracker)


def models(weights: Path, tracker: Tracker) -> None:
    """Log the headline models of a tier from its folder of ``weights``, if it has one."""
    index = weights / "index.json"
    if index.is_file():
        tracker.models(weights, read(index, dict[str, HeadlineModel]))


def checked(place: Place, tier: str, todo: Any) -> None:
    """Check that a configured MLflow can be opened, before hours are spent on ``todo``. Raises Unreachable."""
    if todo and place.named:
        opened(place, tier)
