"""Headline models in MLflow are loaded without pickle, written once and removed with their cells."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from study.store.runs import write_json
from study.tracking import mlflow_access
from study.tracking.mlflow_runs import Tracker
from tests.inference.test_exported import Made


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")  # of mlflow.pyfunc's own modules
def test_mlflow_models_load_and_vanish_with_their_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, weights = Made(tmp_path), tmp_path / "weights"
    weights.mkdir()
    (weights / "T5-GCN-overall.safetensors").write_bytes(made.file.read_bytes())
    (weights / "T5-GCN-overall.md").write_text("# The card")
    told = {
        "label": "GCN",
        "seed": 0,
        "data": "main",
        "cell": "T5/GCN/overall",
        "training": "k",
        "sha256": "1",
        "card": "",
    }
    write_json(weights / "index.json", {"T5-GCN-overall.safetensors": told})
    database = tmp_path / "mlflow" / "mlflow.db"
    tracker = Tracker(database, tmp_path / "mlflow" / "artifacts", "smoke")
    client = MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("smoke")
    assert experiment is not None

    def models() -> list[mlflow.entities.LoggedModel]:
        return list(client.search_logged_models([experiment.experiment_id]))

    mlflow_access.models(weights, tracker)
    (model,) = models()
    assert model.status == "READY" and "# The card" in model.tags["mlflow.note.content"]
    files = {path.name for path in (tmp_path / "mlflow" / "artifacts").rglob("*") if path.is_file()}
    assert files == {"MLmodel", "T5-GCN-overall.safetensors", "T5-GCN-overall.md"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    said = mlflow.pyfunc.load_model(f"models:/{model.model_id}").predict(image)
    assert said.shape == (64, 64) and said.dtype == np.uint8

    mlflow_access.models(weights, tracker)
    assert [found.model_id for found in models()] == [model.model_id], "nothing changed"
    write_json(weights / "index.json", {"T5-GCN-overall.safetensors": told | {"sha256": "2"}})
    mlflow_access.models(weights, tracker)
    (again,) = models()
    assert again.model_id != model.model_id
    (weights / "index.json").write_text(json.dumps({}))
    mlflow_access.models(weights, tracker)
    assert models() == []
