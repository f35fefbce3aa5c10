"""The headline weights: of the networks that the paper compares last, with the first seed. They are the only weights
that leave the run store, for those who have a report and no store."""

from __future__ import annotations

import shutil
from pathlib import Path

from study.spec.documents import PlanFile
from study.store.runs import Store, file_digest, write_json

# Chosen by what they are, before any score is known; what a tier does not train is left out.
HEADLINE = (
    "T5/baseline/overall", "T5/GCN/overall", "T5/GCN+BR/overall", "T7/Stage-3/GCN + BR", "T9/Stage-2/GCN + BR",
)  # fmt: skip
INDEX = "index.json"


def trainings(plan: PlanFile) -> dict[str, str]:
    """Address of a headline cell -> key of the training that it is made of, with the first seed."""
    cells = {cell["address"]: cell for cell in plan["cells"]}
    runs = {address: next(iter(cells[address]["runs"].values()), "") for address in HEADLINE if address in cells}
    asked = plan["evaluations"]
    return {address: asked[key]["training"] if key in asked else key for address, key in runs.items() if key}


def collect(plan: PlanFile, store: Store, target: Path) -> None:
    """Copy the headline weights of done trainings to ``target``, with an index: file -> what it is, and its sha256."""
    shutil.rmtree(target, ignore_errors=True)
    index = {}
    for address, key in trainings(plan).items():
        run, name = store.run(key), address.replace("/", "-").replace(" ", "") + ".pt"
        if run.path("DONE").is_file():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.path("weights.pt"), target / name)
            told = {part: plan["trainings"][key][part] for part in ("label", "seed", "data")}
            index[name] = told | {"cell": address, "training": key, "sha256": file_digest(target / name)}
    write_json(target / INDEX, index)
