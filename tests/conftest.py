"""Fixtures for tests that run the real project in a folder of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("study", "pipelines", "params.yaml", "dvc.yaml", ".dvcignore", ".gitignore")


class Project:
    """A copy of the project with a tiny tier: ``run`` a command in it, ``edit`` its params.yaml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)
        (folder / ".dvc").mkdir()
        shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
        # Neither the user's own store nor the words of the `make` that runs the tests.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("STUDY_", "MAKE", "MFLAGS"))}
        self.environment = kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "OMP_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t",
        }  # fmt: skip
        self.params = yaml.safe_load((folder / "params.yaml").read_text())
        self.params["tier"] = "smoke"
        self.params["execution"] |= {"engine": "inline", "device": "cpu"}
        smoke = self.params["tiers"]["smoke"]
        smoke |= {"tables": ["T5"], "controls": {}}
        smoke["data"] |= {"train": 8, "tune": 2, "val": 4}
        smoke["recipe"] |= {"steps": 4, "batch": 4}
        self.save()

    @property
    def tier(self) -> dict:
        return self.params["tiers"]["smoke"]

    def save(self) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params, sort_keys=False))

    def run(self, *command: str, check: bool = True, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's folder; its output is in the error when it fails."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout_s
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def stage(self, name: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", f"pipelines.{name}", check=check)

    def stages(self, *names: str) -> None:
        for name in names:
            self.stage(name)

    def repository(self) -> None:
        """Make the folder a Git and DVC repository."""
        self.run("git", "init", "-q")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "start")

    @property
    def reports(self) -> Path:
        return self.folder / "reports" / "smoke"

    def runs(self) -> dict[str, float]:
        """Key -> when it was done, of every run that is done."""
        return {path.parent.name: path.stat().st_mtime for path in (self.folder / "runs").glob("*/DONE")}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)
