"""Stage tune: search each variant's best values on the tune split, then train with them. Off unless `tune: true`.

Writes search.json and, if it is on, its own plan (tuning/plan.json) and the results of its trainings.
"""

from __future__ import annotations

import shutil
import sys

from study.config import kept_outputs, tiers
from study.spec.documents.search import SearchFile
from study.store import stage
from study.store.runs import write_json


def main() -> None:
    params = tiers.read()
    chosen = tiers.load(params)
    kept_outputs.note(chosen.name)
    target = stage.folder(chosen.name) / "tuning"
    shutil.rmtree(target, ignore_errors=True)
    if params.get(tiers.TUNE, False):
        from study.ablation import search  # imported only if something is trained

        search.search_and_train(params, target)
    else:
        none: SearchFile = {"version": 1, "on": False, "trials": []}
        write_json(target / "search.json", none)


if __name__ == "__main__":
    sys.exit(stage.run(main))
