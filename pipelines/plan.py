"""Stage plan: bind the paper's cells to trainings and write the manifest plan.json."""

from __future__ import annotations

import sys

from study.ablation import planned_cost
from study.config import kept_outputs, tiers
from study.config.execution import execution_of
from study.plan import planner
from study.spec.documents.data import Facts
from study.spec.documents.reading import read
from study.spec.words import counted
from study.store import stage
from study.store.runs import write_json


def main() -> None:
    params = tiers.read()
    chosen = tiers.load(params)
    kept_outputs.note(chosen.name)
    folder = stage.folder(chosen.name)
    planned = planner.build(chosen, read(folder / "data.json", dict[str, Facts]), execution_of(params).device)
    manifest = planned.manifest(planned_cost.of_plan(planned))
    write_json(folder / "plan.json", manifest)
    cells, trainings = manifest["cells"], manifest["trainings"]
    told = (counted(len(cells), "cell"), counted(len(trainings), "training"))
    asked, seeds = counted(len(manifest["evaluations"]), "evaluation"), counted(len(chosen.seeds), "seed")
    by_need = f"; {len(chosen.first_seeds)} at first, the others only while claims are open" if chosen.by_need else ""
    print(f"{chosen.name}: {', '.join(told)} and {asked}, with {seeds}{by_need}")


if __name__ == "__main__":
    sys.exit(stage.run(main))
