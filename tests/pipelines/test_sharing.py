"""A second clone gets the report, the results and the headline weights from a DVC remote, and experiments in DVC's
workspaces find the run store: nothing is trained again."""

from __future__ import annotations

import copy
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, Bucket, Project

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(1500)]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def dvc(project: Project, *words: str) -> str:
    return project.run(sys.executable, "-m", "dvc", *words, timeout_s=900).stdout


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository whose report is committed to a branch and pushed to a folder."""
    project = Project(tmp_path_factory.mktemp("first"))
    project.repository()
    project.stages("tier", "data", "plan", "ablate", "evaluate", "tune", "score", "report", "conclude")
    dvc(project, "commit", "-q", "-f")  # as `dvc repro` would have done, but in one process
    dvc(project, "remote", "add", "-q", "-d", "team", str(tmp_path_factory.mktemp("remote")))
    project.run("git", "checkout", "-qb", "shared")
    project.run("git", "add", "dvc.lock", "tiers", ".dvc/config")
    project.run("git", "commit", "-qm", "shared")
    dvc(project, "push", "-q")
    return project


def _clone(project: Project, folder: Path) -> Project:
    project.run("git", "clone", "-q", "-b", "shared", str(project.folder), str(folder))
    found = copy.copy(project)
    found.folder, found.environment = folder, project.environment | {"PYTHONPATH": str(folder)}
    return found


def test_a_clone_gets_the_report_without_training(first: Project, tmp_path: Path) -> None:
    second = _clone(first, tmp_path / "second")
    dvc(second, "pull", "-q")
    assert "Running stage" not in dvc(second, "repro")
    said = second.python("-m", "study", "verify").stdout
    assert "all match" in said and "3 of 3 runs against the run store: not in" in said
    assert (second.reports / "report.pdf").read_bytes() == (first.reports / "report.pdf").read_bytes()
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)  # loads a model
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    Image.fromarray(image).save(second.folder / "photograph.png")
    told = second.python("-c", block.replace("shapes", "smoke")).stdout
    assert told.startswith("(70, 90) uint8 ") and "background" in told
    assert second.runs() == {}
    weights = second.reports / "weights" / "T5-GCN+BR-overall.safetensors"
    weights.unlink()  # a link into DVC's cache
    weights.write_bytes(b"edited")
    said = second.python("-m", "study", "verify", check=False).stdout
    assert "weights/T5-GCN+BR-overall.safetensors must have the sha256 of its index" in said


def test_an_experiment_in_a_workspace_trains_nothing_again(first: Project) -> None:
    before = first.runs()
    dvc(first, "exp", "run", "--temp", "-n", "renamed", "-S", "tiers.smoke.title=renamed", "ablate")
    assert "renamed" in dvc(first, "exp", "list")
    assert first.runs() == before


def test_an_experiment_in_dvcs_queue_trains_nothing_again(first: Project) -> None:
    before = first.runs()
    dvc(first, "exp", "run", "--queue", "-n", "queued", "-S", "tiers.smoke.title=queued", "ablate")
    dvc(first, "queue", "start")
    end = time.monotonic() + 600
    while "Success" not in (told := dvc(first, "queue", "status")):
        assert "Failed" not in told and time.monotonic() < end, dvc(first, "queue", "logs", "queued")
        time.sleep(2)
    assert "queued" in dvc(first, "exp", "list")
    assert first.runs() == before


def test_a_bucket_works_as_a_remote(first: Project, bucket: Bucket, tmp_path: Path) -> None:
    first.environment |= bucket.variables
    dvc(first, "remote", "add", "-q", "bucket", f"{bucket.address}/reports")
    dvc(first, "remote", "modify", "-q", "bucket", "endpointurl", bucket.endpoint)
    dvc(first, "push", "-q", "-r", "bucket")
    second = _clone(first, tmp_path / "second")
    (second.folder / ".dvc" / "config").write_bytes((first.folder / ".dvc" / "config").read_bytes())
    dvc(second, "pull", "-q", "-r", "bucket")
    assert "Running stage" not in dvc(second, "repro")
    assert (second.reports / "report.pdf").read_bytes() == (first.reports / "report.pdf").read_bytes()
