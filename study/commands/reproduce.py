"""`study repro`, `retry`, `force` and `explore`: choose a tier in params.yaml, then let DVC make its report."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from study.config import git_state, tiers
from study.spec.documents.plan import PlanFile
from study.spec.documents.reading import read
from study.spec.errors import InputError
from study.store import stage
from study.store.runs import Store

PARAMS = Path("params.yaml")
TRIALS = 60


def repro(tier: str | None, tune: str | None = None) -> int:
    """Train, evaluate and report; returns 1 if a stage or a training failed."""
    choose(tier, tune)
    return _dvc() or _where()


def explore(tier: str | None, trials: int | None, anew: bool = False) -> int:
    """Search for better networks, then report. ``trials`` is saved in params.yaml; None means the number there, or 60.
    ``anew`` discards the existing study."""
    choose(tier, trials=trials if trials is not None else tiers.read().get("explore", 0) or TRIALS)
    from study.ablation import explore, explore_study  # optuna
    from study.plan import exploration

    chosen = tiers.load(tiers.read())
    if chosen.explore is not None and trials != 0:
        explore_study.check(chosen.explore, exploration.levels(chosen))
    if anew:
        explore.discard(chosen.name)
    return _dvc() or _where()


def retry(tier: str | None) -> int:
    """Train again the trainings that failed, then report."""
    choose(tier)
    _forget_failures(tiers.load(tiers.read()).name)
    return _dvc("--force", "--single-item", "ablate") or _dvc("--force", "--single-item", "tune") or repro(None)


def _forget_failures(tier: str) -> None:
    """Delete the failures of a tier with looks. There, a failed run counts as drawn until it is retried (D149)."""
    path, store = stage.folder(tier) / "plan.json", Store()
    plan = read(path, PlanFile) if path.is_file() else None
    if plan is not None and "sequence" in plan:
        for key in (*plan["trainings"], *plan["evaluations"]):
            store.run(key).path("failed.json").unlink(missing_ok=True)


def force(tier: str | None) -> int:
    """Run the trainings of a tier that the store lacks, even if nothing else changed, then report."""
    choose(tier)
    return _dvc("--force", "--single-item", "ablate") or repro(None)


def _dvc(*arguments: str) -> int:
    """Run `dvc repro`. On Ctrl-C its stages end by themselves, and this process waits for them."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # the stages call `python`
    command = [sys.executable, "-m", "dvc", "repro", *arguments]
    running = subprocess.Popen(command, env=os.environ | {"PATH": path})
    while True:
        try:
            return min(1, abs(running.wait()))
        except KeyboardInterrupt:
            continue


def _where() -> int:
    print(stage.folder(tiers.load(tiers.read()).name) / "report.pdf")
    return 0


def choose(tier: str | None, tune: str | None = None, trials: int | None = None) -> None:
    """Set the keys ``tier:``, ``tune:`` and ``explore:`` of params.yaml, and leave the rest of the file unchanged."""
    params = tiers.read(PARAMS)
    git_state.tell_dvc()
    chosen = tiers.load(params, tier)
    wanted = {"tier": chosen.name}
    if tune:
        wanted[tiers.TUNE] = {"yes": "true", "no": "false"}[tune]
        if tune == "yes" and chosen.tuning is None:
            raise InputError(
                f"tiers.{chosen.name}.tuning must define the search for --tune yes, got none; write it as in the tier "
                "shapes"
            )
    if trials is not None:
        wanted[tiers.EXPLORE] = str(trials)
        if trials and chosen.explore is None:
            raise InputError(
                f"tiers.{chosen.name}.explore must define the exploration, got none; write it as in docs/exploring.md"
            )
    before = text = PARAMS.read_text(encoding="utf-8")
    for key, value in wanted.items():
        if str(params.get(key, False)).lower() != value:
            line = f"{key}: {value}"
            # Replace only the value, so that the comment after it stays.
            text, found = re.subn(rf"(?m)^{key}:[ \t]*[^\s#]*", line, text, count=1)
            text = text if found else f"{line}\n{text}"
    if text != before:
        PARAMS.write_text(text, encoding="utf-8")
