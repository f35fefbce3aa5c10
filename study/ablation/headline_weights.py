"""The headline weights: the only weights that leave the run store, for those who have a report and no store."""

from __future__ import annotations

import shutil
from pathlib import Path

from study.paper.headline import file_name, trainings
from study.spec.documents import PlanFile
from study.store.runs import Store, file_digest, write_json

INDEX = "index.json"


def collect(plan: PlanFile, store: Store, target: Path) -> None:
    """Copy the headline weights of done trainings to ``target``, with an index: file -> what it is, and its sha256."""
    shutil.rmtree(target, ignore_errors=True)
    index = {}
    for address, key in trainings(plan).items():
        run, name = store.run(key), f"{file_name(address)}.pt"
        if run.path("DONE").is_file():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.path("weights.pt"), target / name)
            told = {part: plan["trainings"][key][part] for part in ("label", "seed", "data")}
            index[name] = told | {"cell": address, "training": key, "sha256": file_digest(target / name)}
    write_json(target / INDEX, index)
