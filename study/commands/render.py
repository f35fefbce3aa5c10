"""`make report`: the report of an unfinished run, from the results so far, with its holes marked.

Writes only reports/<tier>/partial, and counts of networks into the store's cache. A claim whose look is incomplete gets
no verdict: judging it early would be an extra look that the error rate does not cover (D149).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from study.ablation import score, train
from study.commands.trainings import called_for
from study.config import tiers
from study.config.execution import execution_of
from study.plan import networks, planner
from study.report import deviations, document
from study.spec.documents.gpu_check import FILE
from study.spec.documents.plan import DrawnFile, PlanFile
from study.spec.documents.reading import read
from study.spec.errors import InputError
from study.spec.words import counted
from study.store import stage
from study.store.runs import EVALUATED, Run, Store, read_json_or_none, write_json
from study.tracking.background import COLLECTED, FAILED

PARTIAL = "partial"


def render(tier: str | None) -> Path:
    """Write the report of a tier from its results so far; returns the PDF's path. Raises InputError without a plan."""
    params = tiers.read()
    chosen, execution, store = tiers.load(params, tier), execution_of(params), Store()
    source = Path("reports") / chosen.name / "plan.json"
    if not source.is_file():
        raise InputError(
            f"a report needs a plan, but {source} is missing; `make repro TIER={chosen.name}` writes it before training"
        )
    plan = read(source, PlanFile)
    called = called_for(plan, store)
    folder = source.parent / PARTIAL
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("results", "examined"):
        (folder / name).mkdir(parents=True)
    shutil.copyfile(source, folder / "plan.json")
    drawn: DrawnFile = {"version": 1, "keys": sorted(called["trainings"].keys() | called["evaluations"].keys())}
    write_json(folder / "results" / stage.DRAWN, drawn)
    retry = f"make retry TIER={chosen.name}"
    trained = {key for key in called["trainings"] if _collect(store.run(key), folder / "results", COLLECTED, retry)}
    asked = {
        key
        for key in called["evaluations"]
        if _collect(store.run(key, EVALUATED), folder / "examined", EVALUATED, retry)
    }
    described = networks.remembered(planner.build(chosen, plan["data"], execution.device), plan, store)
    write_json(folder / "examined" / "anatomy.json", described["anatomy"])
    write_json(folder / "examined" / "costs.json", described["costs"])
    executed = read_json_or_none(store.ablated(chosen.name)) or train.facts(execution, 0.0, 0)
    write_json(folder / "results" / "ablate.json", executed)
    score.write(folder, called, (trained | asked).__contains__)
    score.provenance(folder, called, {}, {}, store.root / FILE)
    return document.build(
        folder, params["tiers"][chosen.name], deviations.rows(chosen), _words(called, len(trained), len(asked))
    )


def _collect(run: Run, target: Path, names: tuple[str, ...], retry: str) -> bool:
    """Copy the small results of a run, or its failure, below ``target``; returns whether the run has ended."""
    if run.path("DONE").is_file():
        run.copy_products(target / run.key, names)
        return True
    failure = run.failure()
    if failure is not None:
        write_json(target / run.key / FAILED, failure | {"retry": retry})
    return failure is not None


def _words(plan: PlanFile, trained: int, asked: int) -> str:
    """The progress of the run, in words."""
    text = f"{trained:,} of {counted(len(plan['trainings']), 'training')}"
    if plan["evaluations"]:
        text += f" and {asked:,} of {counted(len(plan['evaluations']), 'evaluation')}"
    return f"{text} called for so far have ended. A claim gets a verdict once all seeds of its look have ended."
