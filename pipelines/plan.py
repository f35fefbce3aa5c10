"""Stage plan: bind the paper's cells to trainings and write the manifest plan.json."""

from __future__ import annotations

import sys

from study import kept, plan, stage, tier
from study.execution import execution_of
from study.store import write_json
from study.words import counted


def main() -> None:
    params = tier.read()
    chosen = tier.load(params)
    kept.note(chosen.name)
    folder = stage.folder(chosen.name)
    manifest = plan.build(chosen, stage.read_json(folder / "data.json"), execution_of(params).device).manifest()
    write_json(folder / "plan.json", manifest)
    cells, trainings = manifest["cells"], manifest["trainings"]
    told = (counted(len(cells), "cell"), counted(len(trainings), "training"))
    asked, seeds = counted(len(manifest["evaluations"]), "evaluation"), counted(len(chosen.seeds), "seed")
    print(f"{chosen.name}: {', '.join(told)} and {asked}, with {seeds}")


if __name__ == "__main__":
    sys.exit(stage.run(main))
