"""Stage report: the tier's tables and plots as report.pdf."""

from __future__ import annotations

import sys

from study.config import kept_outputs, tiers
from study.report import deviations, digests, document
from study.store import stage


def main() -> None:
    params = tiers.read()
    chosen = tiers.load(params)
    kept_outputs.note(chosen.name)
    folder, block = stage.folder(chosen.name), params["tiers"][chosen.name]
    (folder / digests.NAME).unlink(missing_ok=True)  # it is valid for a complete report only
    document.build(folder, block, deviations.rows(chosen))
    digests.record(folder, block)


if __name__ == "__main__":
    sys.exit(stage.run(main))
