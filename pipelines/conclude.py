"""Stage conclude: the last line of `dvc repro`. It prints the report's path, and exits with 1 if anything failed."""

from __future__ import annotations

import sys

from study.config import kept_outputs, tiers
from study.spec.documents.provenance import ProvenanceFile
from study.spec.documents.reading import read
from study.store import stage


def main() -> int:
    chosen = tiers.load(tiers.read())
    kept_outputs.note(chosen.name)
    folder = stage.folder(chosen.name)
    provenance = read(folder / "provenance.json", ProvenanceFile)
    counted = {what: provenance[what] for what in ("trainings", "evaluations")}
    print(f"report: {folder / 'report.pdf'}")
    if any(numbers["failed"] for numbers in counted.values()):
        told = [f"{n['failed']} of {n['planned']} {what}" for what, n in counted.items() if n["failed"]]
        print(
            f"error: {' and '.join(told)} failed and are missing from the report; `make status` lists the reasons, "
            f"`make retry TIER={chosen.name}` runs them again",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(stage.run(main))
