"""`make compare`: reports of several tiers, or of `dvc exp` experiments, side by side in one PDF and page."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from study.config import tiers
from study.report import side_by_side
from study.spec.documents.tier import Params
from study.spec.errors import InputError

TARGET = Path("reports") / "comparison"


def compare(params: Params, names: list[str]) -> Path:
    """Write the comparison; returns the PDF's path. ``names`` are tiers, or ``tier@revision`` with an experiment,
    branch, tag or commit whose outputs are in DVC's cache. Raises InputError for a name without a report."""
    with tempfile.TemporaryDirectory() as temporary:
        reports = {}
        for number, name in enumerate(dict.fromkeys(names)):
            known, _, revision = name.partition("@")
            if known not in params["tiers"]:
                raise InputError(
                    f"a report to compare must be a tier or tier@revision, got {name!r}; take one of "
                    f"{', '.join(params['tiers'])}"
                )
            folder = Path("reports") / known
            reports[name] = _fetched(folder, revision, Path(temporary) / str(number)) if revision else folder
        return side_by_side.build(reports, TARGET)


def _fetched(folder: Path, revision: str, target: Path) -> Path:
    """Copy the files of a report at a revision of this repository from DVC's cache to ``target``."""
    target.mkdir()
    for name in side_by_side.READ:
        command = [str(Path(sys.executable).with_name("dvc")), "get", "-q", ".", str(folder / name)]
        ended = subprocess.run(
            [*command, "--rev", revision, "-o", str(target / name)], capture_output=True, text=True
        )  # fmt: skip
        if ended.returncode:
            reason = " ".join(ended.stderr.split()) or "dvc get failed"
            raise InputError(
                f"{folder / name} of {revision} must be in DVC's cache ({reason}); run the experiment here, or name "
                "another (`dvc exp show` lists them)"
            )
    return target


def main(names: list[str]) -> None:
    """Compare the reports and print the path of the result."""
    print(compare(tiers.read(), names))
