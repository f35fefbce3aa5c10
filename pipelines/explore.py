"""Stage explore: let Optuna choose networks on the tune split, and try the best again with new seeds; off unless
`explore:` in params.yaml says how many trials.

Writes explored.json and, where it is on, the plan of the winners with their results.
"""

from __future__ import annotations

import shutil
import sys

from study.config import kept_outputs, tiers
from study.spec.documents.explored import ExploredFile
from study.store import stage
from study.store.runs import write_json


def main() -> None:
    params = tiers.read()
    chosen = tiers.load(params)
    kept_outputs.note(chosen.name)
    target = stage.folder(chosen.name) / "explored"
    shutil.rmtree(target, ignore_errors=True)
    if number := params.get("explore", 0):
        from study.ablation import explore  # what trains is read only where something is trained

        explore.run(params, target, number)
    else:
        none: ExploredFile = {"version": 1, "on": False}
        write_json(target / "explored.json", none)


if __name__ == "__main__":
    sys.exit(stage.run(main))
