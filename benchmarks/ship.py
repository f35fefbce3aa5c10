"""Copy a tier's report, its scores and the counts behind its verdicts to docs/example: ``python -m benchmarks.ship``.

    python -m benchmarks.ship shapes            # docs/example itself, with the PDF and its first page
    python -m benchmarks.ship camvid camvid     # docs/example/camvid: scores, costs, verdicts and counts

``counts.zip`` has all that verdicts are made of: the plan, and of each training and evaluation its counts, curve and
the questions that it wrote down. A test judges it again.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE, COUNTS = ROOT / "docs" / "example", "counts.zip"
JUDGED = ("counts.npz", "curve.json", "training.json", "tune.npz")  # of a run, as far as it has them
MOST_BYTES = 5_000_000  # of the counts of a tier
SCORES = ("scores.csv", "verdicts.json", "costs.csv")
FIRST = (*SCORES, "report.pdf", "provenance.json")


def counts(report: Path, target: Path) -> None:
    """Write ``target``, a zip of what the verdicts of a report folder are made of; equal inputs give equal bytes."""
    paths = [report / "plan.json", report / "examined" / "anatomy.json", report / "results" / "drawn.json"]
    for place in ("results", "examined"):
        paths += [path for name in JUDGED for path in (report / place).glob(f"*/{name}")]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as archive:
        for path in sorted(path for path in paths if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(report).as_posix())
            entry.compress_type = zipfile.ZIP_LZMA
            archive.writestr(entry, _plain(path) if path.suffix == ".npz" else path.read_bytes())
    if (size := target.stat().st_size) > MOST_BYTES:
        raise SystemExit(f"error: the counts of a tier must have at most {MOST_BYTES:,} bytes, got {size:,}")


def _plain(path: Path) -> bytes:
    """The arrays of a file, uncompressed: what is compressed once does not get smaller."""
    found = io.BytesIO()
    with np.load(path) as arrays:
        np.savez(found, **dict(arrays))
    return found.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ship", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("tier", help="whose report in reports/<tier>/ is copied")
    parser.add_argument("folder", nargs="?", default="", help="below docs/example (default: docs/example itself)")
    arguments = parser.parse_args()
    report, target = ROOT / "reports" / arguments.tier, EXAMPLE / arguments.folder
    target.mkdir(parents=True, exist_ok=True)
    for name in SCORES if arguments.folder else FIRST:
        shutil.copyfile(report / name, target / name)
    if not arguments.folder:
        page = ["pdftoppm", "-r", "80", "-png", "-singlefile", "-f", "1", str(target / "report.pdf")]
        subprocess.run([*page, str(target / "page")], check=True)
    counts(report, target / COUNTS)


if __name__ == "__main__":
    main()
