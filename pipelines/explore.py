"""Stage explore: let Optuna search networks on the tune split, and retrain the best with new seeds. Off unless
`explore:` in params.yaml gives a number of trials.

Writes explored.json and, if it is on, the plan and the results of the winners.
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
        from study.ablation import explore  # imported only if something is trained

        explore.run(params, target, number)
    else:
        none: ExploredFile = {"version": 1, "on": False}
        write_json(target / "explored.json", none)


if __name__ == "__main__":
    sys.exit(stage.run(main))
