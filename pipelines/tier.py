"""Stage tier: write the tier in full, with what it takes from another tier, as tier.json. The other stages depend on
this file, not on params.yaml, so they also rerun if the other tier changes."""

from __future__ import annotations

import sys

from study.config import kept_outputs, tiers
from study.spec.documents.tier import TierFile
from study.store import stage
from study.store.runs import write_json


def main() -> None:
    chosen = tiers.load(tiers.read())
    kept_outputs.note(chosen.name)
    found: TierFile = {"version": 1, "tier": chosen.name, "block": chosen.block}
    write_json(stage.folder(chosen.name) / "tier.json", found)


if __name__ == "__main__":
    sys.exit(stage.run(main))
