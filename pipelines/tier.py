"""Stage tier: the tier in full, as tier.json. What it takes from another tier counts like what stands in its own block:
the other stages depend on this file, and not on params.yaml."""

from __future__ import annotations

import sys

from study.config import kept_outputs, tiers
from study.store import stage
from study.store.runs import write_json


def main() -> None:
    chosen = tiers.load(tiers.read())
    kept_outputs.note(chosen.name)
    write_json(stage.folder(chosen.name) / "tier.json", chosen.block)


if __name__ == "__main__":
    sys.exit(stage.run(main))
