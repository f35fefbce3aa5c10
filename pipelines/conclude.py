"""Stage conclude: the last line of `dvc repro`. Its exit status is 1 where a training failed."""

from __future__ import annotations

import sys

from study import stage, tier
from study.store import write_json


def main() -> int:
    chosen = tier.load(tier.read())
    folder = stage.folder(chosen.name)
    provenance = stage.read_json(folder / "provenance.json")
    counted = provenance["trainings"]
    print(f"report: {folder / 'report.pdf'}")
    if counted["failed"]:
        print(
            f"error: {counted['failed']} of {counted['planned']} trainings failed and are holes in the report; "
            f"`make status` lists the reasons, `make retry TIER={chosen.name}` runs them again",
            file=sys.stderr,
        )
        return 1
    write_json(folder / "conclusion.json", counted)
    return 0


if __name__ == "__main__":
    sys.exit(stage.run(main))
