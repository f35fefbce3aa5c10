"""MLflow's view of the run store, opened where it was named. It never stands in the way of a result: what a stage
found is kept whether MLflow takes it or not, and `make replay` catches up."""

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
    """The tier's experiment at ``place``. Raises Unreachable, at once, where it cannot be written."""
    place.reach()
    try:
        with FileLock(Store().tracking_lock):  # processes that first touch one sqlite file together corrupt it
            return Tracker(place.uri, place.artifacts, place.experiment(tier))
    except ImportError as error:
        raise place.refusal(
            f"{error} (a driver that must be installed into .venv: psycopg[binary] for postgresql, pymysql for "
            "mysql+pymysql)"
        ) from None
    except refusals() as error:
        raise place.refusal(told(error)) from None


def told(error: Exception) -> str:
    """What went wrong, without the statement that the database was asked."""
    return str(error).partition("[SQL:")[0].partition("(Background on this error")[0].strip()


@contextmanager
def kept(place: Place, tier: str) -> Iterator[None]:
    """A block that writes to MLflow: where MLflow fails, a line says that it is behind, and the stage goes on."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, (Unreachable, *refusals())):
            raise
        print(
            f"warning: MLflow at {place.shown} is behind, as it failed ({place.hidden(told(error))}); every "
            f"result is kept, and the report needs no MLflow: `make replay TIER={tier.split()[0]}` catches up",
            file=sys.stderr,
            flush=True,
        )


def turn(place: Place, tier: str, store: Path) -> Path:
    """The lock of whoever writes to the tier's experiment: two writers would log a training twice."""
    return store / "mlflow" / f"{place.experiment(tier)}.lock"


@contextmanager
def writing(place: Place, tier: str, store: Path) -> Iterator[Tracker]:
    """The tier's experiment, once no other driver that shares ``store`` writes to it. Raises Unreachable."""
    lock = turn(place, tier, store)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield opened(place, tier)


def training(key: str, plan: PlanFile, collected: Path, tracker: Tracker) -> None:
    """Logs a training of ``plan`` from its results in ``collected``."""
    labels, scores, by_class = plan["trainings"][key], dict[str, float](), list[float]()
    facts = plan["data"][labels["data"]]
    if results.status(collected / key) == results.DONE:
        scores = results.scores(collected / key, facts["frequent"])
        by_class = results.class_scores(collected / key) if facts["task"] == "segment" else []
    tracker.training(key, labels, collected / key, scores, facts=facts, by_class=by_class)


def trainings(plan: PlanFile, collected: Path, tracker: Tracker) -> None:
    """Logs every training of ``plan`` from the results in ``collected``."""
    for key in plan["trainings"]:
        training(key, plan, collected, tracker)


def models(weights: Path, tracker: Tracker) -> None:
    """Logs the headline models of a tier from its folder of ``weights``, where it has one."""
    index = weights / "index.json"
    if index.is_file():
        tracker.models(weights, read(index, dict[str, HeadlineModel]))


def checked(place: Place, tier: str, todo: Any) -> None:
    """Open a view that was named before hours are spent on ``todo``, if there is any. Raises Unreachable."""
    if todo and place.named:
        opened(place, tier)
