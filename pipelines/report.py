"""Stage report: the tier's tables and plots as report.pdf."""

from __future__ import annotations

import sys

from study import deviations, kept, outputs, report, stage, tier


def main() -> None:
    params = tier.read()
    chosen = tier.load(params)
    kept.note(chosen.name)
    folder, block = stage.folder(chosen.name), params["tiers"][chosen.name]
    (folder / outputs.NAME).unlink(missing_ok=True)  # it vouches for a whole report only
    report.build(folder, block, deviations.rows(chosen))
    outputs.record(folder, block)


if __name__ == "__main__":
    sys.exit(stage.run(main))
