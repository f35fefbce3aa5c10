"""Log the run store to MLflow, a view for people to browse. Only this module imports mlflow.

One process (the driver) writes it, nothing reads from it, and replaying the store rebuilds it. Each training has a run
(tag ``study.kind`` = training). Each cell has one too (= cell), because the UI has no intervals over seeds. Cells are
not parents of trainings: one training serves cells of several tables. Kernel size and BR are numeric params, and a
cell's metrics are logged at step = kernel size. So the UI's line charts draw a score against kernel size, with a line
for each ``series``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from study.spec.cells import SERVED
from study.spec.constants import COSTS
from study.spec.documents.data import Read
from study.spec.documents.explored import ExploredTrial
from study.spec.documents.models import HeadlineModel
from study.spec.documents.plan import PlanFile, PlannedCell, PlannedTraining, trained
from study.spec.documents.provenance import Page
from study.spec.heads import PLACES
from study.tracking import ui_links
from study.tracking.ui_views import class_metrics, experiment_tags, exploration_tags, picture, run_labels

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from pandas import DataFrame
    from PIL import Image

# mlflow reads this when it is imported. Only the Tracker imports it: light commands must not wait for it (2 s).
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")  # gives a restarting server half a minute

LAYOUT = 5  # version of a run's content: raise it, and the next replay rewrites every run
# Tags of cells, and params of trainings to filter by: name in the plan -> name of the param.
PLACE = ("table", "row", "column", "metric")
RECIPE = {"seed": "seed", "data": "data", "steps": "steps", "batch": "batch", "optimizer": "optimizer",
          "lr": "learning_rate", "backbone": "backbone"}  # fmt: skip
BATCH = 800  # metrics in a call; MLflow takes at most 1000 metrics, params and tags together
PAGE = 1000  # runs in a page of a search
ENDED = ("FINISHED", "FAILED")  # a kill may come after a run is written and before it is ended
MODELS = 50  # in a search; more than there are headline cells
LOADER = "study.inference.exported"  # the module that MLflow imports to load a model
FILES = ("curve.json", "result.json", "samples.npz", "failed.json")
EXPLORED = ("exploration", "study")  # kind and key of the run whose children are the trials
REPORT = ("report", "report.pdf")  # kind and key of the one run that is neither a training nor a cell


class _Content(NamedTuple):
    """The content of a run. Metrics are (name, value, milliseconds since 1970, step), the most important first: the
    UI's comparison of runs preselects the first metric, and the first three params by name that differ."""

    name: str
    status: str
    params: dict[str, Any]
    metrics: list[tuple[str, float, float, int]]
    tags: dict[str, str]
    start: float
    end: float
    picture: Image.Image | None = None
    table: Path | None = None


class _Known(NamedTuple):
    """The part of an existing run that is kept in memory: ten thousand whole runs would fill it."""

    id: str
    name: str
    status: str
    digest: str


def _of_trial(row: ExploredTrial) -> dict[str, Any]:
    """The params of a trial's run."""
    sizes = {f"kernel_size_{level}": k for level, k in row["k"].items()}
    places = {f"BR_{place}": int(place in row["refine"]) for place in PLACES}
    return {"head": row["head"], "width": row["width"], **sizes, **places, "learning_rate": row["lr"]}


class Tracker:
    """The MLflow experiment ``experiment`` in ``database`` (a sqlite file, or the address of a database or server),
    with its pictures under ``artifacts`` (a folder or an address; None: where the server puts them).

    Creates both if missing. One writer at a time: processes that first touch one sqlite file together corrupt it.
    """

    def __init__(self, database: Path | str, artifacts: Path | str | None, experiment: str) -> None:
        # It logs every table that it creates, and every error with its stack; the exceptions say enough.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        from mlflow.tracking import MlflowClient

        if isinstance(artifacts, Path):
            artifacts = artifacts.resolve().as_uri()
        if isinstance(database, Path):
            database = f"sqlite:///{database.resolve()}"
        for scheme, uri in (("sqlite:///", database), ("file://", artifacts)):
            if uri is not None and uri.startswith(scheme):
                path = Path(unquote(uri.removeprefix(scheme)))
                (path.parent if uri == database else path).mkdir(parents=True, exist_ok=True)
        _ask(database)
        self._client = MlflowClient(database)
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            made = self._client.create_experiment(experiment, artifacts)
            found = self._client.get_experiment(made)
        elif found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        self._experiment = found.experiment_id
        for tag, value in experiment_tags(found.creation_time or 0).items():
            if found.tags.get(tag) != value:
                self._client.set_experiment_tag(self._experiment, tag, value)
        self._runs: dict[tuple[str, str], list[_Known]] = {}  # (kind, key or address) -> one run, more after a kill
        for run in self._search("tags.`study.kind` != ''"):  # not runs that people made in the UI
            tags, info = run.data.tags, run.info
            known = _Known(info.run_id, info.run_name or "", info.status, tags.get("study.digest", ""))
            self._runs.setdefault((tags["study.kind"], tags["study.key"]), []).append(known)

    def sweep(self) -> int:
        """Set runs that a killed driver left RUNNING to KILLED; return their number. For the driver's start."""
        left = list(self._search("attributes.status = 'RUNNING'"))
        for run in left:
            self._client.set_terminated(run.info.run_id, "KILLED", run.info.start_time)
        return len(left)

    def training(
        self,
        key: str,
        labels: PlannedTraining,
        folder: Path,
        scores: Mapping[str, float],
        facts: Read,
        by_class: Sequence[float] = (),
    ) -> None:
        """Log a training: its ``labels`` as in the plan, its results in ``folder``, its ``scores`` (fractions) on val,
        and ``by_class``, the IoU of each class of ``facts`` (nan if it has none).

        Does nothing if nothing changed since the last call. Otherwise (a retry) the new run replaces the old one.
        """
        files = {path.name: path.read_bytes() for path in (folder / name for name in FILES) if path.exists()}
        shown = {"classes": facts["classes"], "colours": facts.get("colours"), "by_class": list(by_class)}
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        digest = _digest(labels, dict(scores), shown, digests)
        if self._current("training", key, digest):
            return
        name = f"{labels['label']}, seed {labels['seed']}"
        params, tags = run_labels(labels)
        params |= {RECIPE[part]: value for part, value in labels.items() if part in RECIPE}
        if "failed.json" in files:
            failed = json.loads(files["failed.json"])
            end = 1000 * (folder / "failed.json").stat().st_mtime
            tags["study.failed"] = f"{failed['kind']}: {failed['reason']}"
            tags["mlflow.note.content"] = f"**{failed['kind']}**: {failed['reason']}\n\n    {failed['retry']}"
            content = _Content(name, "FAILED", params, metrics=[], tags=tags, start=end, end=end)
        else:
            result, curve = json.loads(files["result.json"]), json.loads(files["curve.json"])
            end = 1000 * (folder / "result.json").stat().st_mtime
            train, evaluate = (1000 * result["seconds"][part] for part in ("train", "evaluate"))
            start, step_ms = end - evaluate - train, train / max(1, result["steps"])
            params["parameters"] = result["parameters"]
            final = {f"val/{metric}": value for metric, value in scores.items()}
            final |= {f"cost/{count}": result[count] for count in ("parameters", "head_parameters")}
            final |= {"cost/train_s": train / 1000} | dict(zip(class_metrics(facts["classes"]), by_class, strict=False))
            metrics = [(metric, value, end, 0) for metric, value in final.items()]
            for metric, points in ((f"tune/{next(iter(scores))}", curve["score"]), ("train/loss", curve["loss"])):
                # The curve has no times: evenly spaced steps are accurate enough for the UI's axis of relative time.
                metrics += [(metric, value, start + step * step_ms, step) for step, value in points]
            mapped = "samples.npz" in files and "miou" in scores  # a classifier has no maps to show
            samples = picture(folder / "samples.npz", facts) if mapped else None
            content = _Content(
                name, "FINISHED", params, metrics=metrics, tags=tags, start=start, end=end, picture=samples
            )
        self._write("training", key, digest, content)

    def cells(
        self, plan: PlanFile, frame: DataFrame, summary: DataFrame, confusions: Mapping[str, Path] | None = None
    ) -> None:
        """Log a run for each cell (``frame`` by seed, ``summary`` over seeds), and delete runs that are no longer in
        the plan. ``confusions`` are files of counts, by address of a headline cell.

        A score is the mean over seeds, ``spread/`` its standard deviation and 95 % interval, ``paper/`` the printed
        value and our difference to it. A cell without any result is FAILED. A cell that this tier cannot have, or that
        only a server can score, has no run.
        """
        rows = {address: group.to_dict("records") for address, group in summary.groupby("address")}
        seeds = {address: group.to_dict("records") for address, group in frame.groupby("address")}
        counted = {a for a, group in rows.items() if any(math.isfinite(row["mean"]) for row in group)}
        counted -= {cell["address"] for cell in plan["cells"] if cell["metric"] in SERVED}
        told = [cell for cell in plan["cells"] if cell["runs"] or cell["address"] in counted]
        compared = self._compared(told, plan)
        for place, cell in enumerate(told):
            address, values, status = cell["address"], {}, "FAILED"
            for row in rows.get(address, []):
                metric, mean = row["metric"], row["mean"]
                values["val/" + metric if cell["runs"] else "cost/" + metric] = mean
                values |= {f"paper/{metric}": row["paper"], f"paper/{metric}_difference": mean - row["paper"]}
                if cell["runs"]:
                    values |= {f"spread/{metric}_{part}": row[part] for part in ("sd", "low", "high")}
                if metric == cell["metric"] and math.isfinite(mean):
                    status = "FINISHED"
            values = {name: float(value) for name, value in values.items() if math.isfinite(value)}
            params, tags = run_labels(cell)
            tags |= {f"study.{part}": str(value) for part, value in cell.items() if part in PLACE}
            tags["study.place"] = f"{place:04}"  # the UI sorts tags as text
            told_of = self._seeds(seeds.get(address, []), cell["metric"], plan)
            tags["mlflow.note.content"] = ui_links.cell_note(
                told_of, compared.get(cell["table"], ""), self._report_page()
            )
            table = (confusions or {}).get(address)
            told_by = hashlib.sha256(table.read_bytes()).hexdigest() if table else ""
            digest = _digest(values, params, tags, status, told_by)
            if not self._current("cell", address, digest):
                now = round(1000 * time.time())
                metrics = [(name, value, float(now), cell["kernel_size"]) for name, value in values.items()]
                self._write(
                    "cell",
                    address,
                    digest,
                    _Content(address, status, params, metrics=metrics, tags=tags, start=now, end=now, table=table),
                )
        planned = {("training", key) for key in plan["trainings"]} | {("cell", c["address"]) for c in told}
        for named in self._runs.keys() - planned - {REPORT}:
            self._delete(self._runs.pop(named))
        note = ui_links.experiment_note(self._experiment, self._report_page(), compared)
        self._client.set_experiment_tag(self._experiment, "mlflow.note.content", note)

    def trials(self, rows: Sequence[ExploredTrial], objective: str) -> None:
        """Log the trials of an exploration as children of one run, and delete runs of trials that it no longer has."""
        now = float(round(1000 * time.time()))
        digest = _digest(objective, len(rows))
        if not self._current(*EXPLORED, digest):
            content = _Content("exploration", "FINISHED", {"objective": objective, "trials": len(rows)}, metrics=[],
                               tags={}, start=now, end=now)  # fmt: skip
            self._write(*EXPLORED, digest, content)
        parent = self._runs[EXPLORED][0].id
        told = set()
        for row in rows:
            number, params = str(row["number"]), _of_trial(row)
            told.add(("trial", number))
            digest = _digest(dict(row), parent)
            if self._current("trial", number, digest):
                continue
            costs: dict[str, float] = {f"cost/{name}": row[name] for name in COSTS}  # type: ignore[literal-required]
            if row["score"] is not None:
                costs["tune/score"] = row["score"]  # the mean that claims are judged by
            metrics = [(name, float(value), now, row["step"]) for name, value in costs.items()]
            tags = {"mlflow.parentRunId": parent, "study.state": row["state"], "study.label": row["label"]}
            if row["reason"]:
                tags["mlflow.note.content"] = row["reason"]
            status = "FAILED" if row["state"] == "FAIL" else "FINISHED"
            content = _Content(f"trial {number}: {row['label']}", status, params, metrics=metrics, tags=tags, start=now,
                               end=now)  # fmt: skip
            self._write("trial", number, digest, content)
        for named in [named for named in self._runs if named[0] == "trial" and named not in told]:
            self._delete(self._runs.pop(named))
        if rows:
            found = self._client.get_experiment(self._experiment)
            for tag, value in exploration_tags(found.creation_time or 0, [n for n in params if n != "width"]).items():
                if found.tags.get(tag) != value:
                    self._client.set_experiment_tag(self._experiment, tag, value)

    def report(self, pdf: Path) -> None:
        """Attach ``pdf``, if it exists, to the report's run, to which the pages of cells link."""
        digest = hashlib.sha256(pdf.read_bytes()).hexdigest() if pdf.is_file() else ""
        if digest and (run := self._report()).digest != digest:
            self._client.log_artifact(run.id, str(pdf))
            self._client.set_tag(run.id, "study.digest", digest)
            self._runs[REPORT] = [run._replace(digest=digest)]

    def models(self, folder: Path, index: Mapping[str, HeadlineModel]) -> None:
        """Log the headline models of ``folder`` by its ``index``, each with its card as its note, and delete others.

        MLflow loads them by study.inference.exported: nothing is pickled, and no code is copied (D143).
        """
        known: dict[str, list[LoggedModel]] = {}
        for model in self._client.search_logged_models([self._experiment], max_results=MODELS):
            if "study.cell" in model.tags:
                known.setdefault(model.tags["study.cell"], []).append(model)
        for name, told in index.items():
            runs = self._runs.get(("training", told["training"]), [])
            source = runs[0].id if runs else None
            digest = _digest(dict(told), source)
            old = known.pop(told["cell"], [])
            if [model.tags.get("study.digest") for model in old] == [digest]:
                continue
            self._log_model(folder / name, told, source, digest)
            for model in old:
                self._client.delete_logged_model(model.model_id)
        for model in (model for models in known.values() for model in models):
            self._client.delete_logged_model(model.model_id)

    def _log_model(self, file: Path, told: HeadlineModel, source: str | None, digest: str) -> None:
        """Write a model, its digest last."""
        import mlflow
        from mlflow.entities import LoggedModelOutput

        card = file.with_suffix(".md")
        params = {name: str(told[name]) for name in ("label", "cell", "data", "seed")}  # type: ignore[literal-required]
        model = self._client.create_logged_model(
            self._experiment, file.stem, source, {"study.cell": told["cell"]}, params, model_type="segmentation"
        )
        loader = {"loader_module": LOADER, "data": file.name, "python_version": platform.python_version()}
        described = {
            "flavors": {"python_function": loader},
            "mlflow_version": mlflow.__version__,
            "model_id": model.model_id,
            "run_id": source,
        }
        with TemporaryDirectory() as folder:
            (Path(folder) / "MLmodel").write_text(json.dumps(described), encoding="utf-8")  # JSON is YAML
            for path in (Path(folder) / "MLmodel", file, card):
                self._client.log_model_artifact(model.model_id, str(path))
        self._client.finalize_logged_model(model.model_id, "READY")
        if source is not None:
            self._client.log_outputs(source, [LoggedModelOutput(model.model_id, step=0)])
        note = ui_links.model_note(model.model_id, file.name, card.read_text(encoding="utf-8"))
        self._client.set_logged_model_tags(model.model_id, {"mlflow.note.content": note, "study.digest": digest})

    def empty(self) -> bool:
        """Whether no cell was ever logged, as after the database was deleted."""
        return all(kind != "cell" for kind, _ in self._runs)

    def url(self, base: str, view: str = "cells", mode: str = "CHART") -> str:
        """The page to open on a server at ``base``: ``view`` is a key of ui_views.VIEWS, ``mode`` CHART or TABLE."""
        return f"{base.rstrip('/')}/{ui_links.view(self._experiment, view, mode)}"

    def links(self) -> dict[str, Page]:
        """key of a training -> the ``name`` of its run, and its page as a ``link`` relative to a server's address."""
        below = f"#/experiments/{self._experiment}/runs/"
        return {
            key: {"name": runs[0].name, "link": below + runs[0].id}
            for (kind, key), runs in self._runs.items()
            if kind == "training"
        }

    def _search(self, condition: str) -> Iterator[Run]:
        token: str | None = None
        while token != "":
            page = self._client.search_runs([self._experiment], condition, max_results=PAGE, page_token=token)
            yield from page
            token = page.token or ""

    def _current(self, kind: str, key: str, digest: str) -> bool:
        """Whether a complete run with this content exists. If so, delete others of the same key, left by a kill."""
        runs = self._runs.get((kind, key), [])
        kept = [run for run in runs if run.digest == digest and run.status in ENDED][:1]
        if kept:
            self._delete(run for run in runs if run not in kept)
            self._runs[kind, key] = kept
        return bool(kept)

    def _delete(self, runs: Iterable[_Known]) -> None:
        for run in runs:
            self._client.delete_run(run.id)

    def _write(self, kind: str, key: str, digest: str, content: _Content) -> None:
        """Write a run, its digest last, then delete those it replaces: a kill in between loses nothing."""
        from mlflow.entities import Metric, Param, RunTag

        tags = content.tags | {"study.kind": kind, "study.key": key}
        run = self._client.create_run(self._experiment, round(content.start), tags, content.name).info.run_id
        if content.picture is not None:
            self._client.log_image(run, content.picture, key="samples", step=0, timestamp=round(content.end))
        if content.table is not None:
            self._client.log_artifact(run, str(content.table), "confusion")
        points = [Metric(name, v, round(at), step) for name, v, at, step in content.metrics if math.isfinite(v)]
        for first in range(0, len(points) - BATCH, BATCH):
            self._client.log_batch(run, points[first : first + BATCH])
        params = [Param(name, str(value)) for name, value in content.params.items() if value is not None]
        rest = points[(len(points) - 1) // BATCH * BATCH :]
        self._client.log_batch(run, rest, params, [RunTag("study.digest", digest)])
        self._client.set_terminated(run, content.status, round(content.end))
        self._delete(self._runs.get((kind, key), []))
        self._runs[kind, key] = [_Known(run, content.name, content.status, digest)]

    def _compared(self, cells: list[PlannedCell], plan: PlanFile) -> dict[str, str]:
        """table -> link to compare its trainings that have results: one without would leave no metric in common."""
        found: dict[str, list[str]] = {}
        for cell in cells:
            for key in cell["runs"].values():
                run = self._runs.get(("training", trained(plan, key)), [])
                found.setdefault(cell["table"], []).extend(r.id for r in run if r.status == "FINISHED")
        return {table: ui_links.comparison(self._experiment, list(dict.fromkeys(ids))) for table, ids in found.items()}

    def _seeds(self, rows: list[dict[str, Any]], metric: str, plan: PlanFile) -> list[tuple[int, str, float, str]]:
        """The rows of ui_links.cell_note, one for each seed of a cell."""
        asked = [row for row in rows if row["metric"] == metric and row["status"] != "counted"]
        runs = [self._runs.get(("training", trained(plan, row["run"]))) for row in asked]
        links = [ui_links.run(self._experiment, run[0].id) if run else "" for run in runs]
        return [(int(r["seed"]), link, r["value"], r["status"]) for r, link in zip(asked, links, strict=True)]

    def _report(self) -> _Known:
        """The run of the report. It is never replaced, because the pages of cells link to it."""
        if REPORT not in self._runs:
            tags = {"study.kind": REPORT[0], "study.key": REPORT[1]}
            made = self._client.create_run(self._experiment, tags=tags, run_name="report").info.run_id
            self._runs[REPORT] = [_Known(made, "report", "RUNNING", "")]
        run = self._runs[REPORT][0]
        if run.status != "FINISHED":
            self._client.set_terminated(run.id)
            self._runs[REPORT] = [run._replace(status="FINISHED")]
        return self._runs[REPORT][0]

    def _report_page(self) -> str:
        return ui_links.run(self._experiment, self._report().id, REPORT[1])


def refusals() -> tuple[type[Exception], ...]:
    """The exceptions of a view that cannot be written: its server is down, or denies access."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


def _ask(database: str) -> None:
    """Connect to a database once: with a wrong password, MLflow itself would try for minutes."""
    if not database.startswith(("http", "sqlite")):
        import sqlalchemy

        engine = sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool)
        engine.connect().close()


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps([LAYOUT, *values], sort_keys=True).encode()).hexdigest()
