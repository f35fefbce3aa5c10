"""Stage report: the tier's tables and plots as report.pdf."""

from __future__ import annotations

import sys

from study import report, stage, tier


def main() -> None:
    params = tier.read()
    chosen = tier.load(params)
    report.build(stage.folder(chosen.name), params["tiers"][chosen.name])


if __name__ == "__main__":
    sys.exit(stage.run(main))
