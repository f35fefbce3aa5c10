"""Copy a tier's report, its scores and the counts behind its verdicts to docs/example: ``python -m benchmarks.ship``.

    python -m benchmarks.ship shapes            # docs/example itself, with the PDF
    python -m benchmarks.ship camvid camvid     # docs/example/camvid: scores, costs, verdicts and counts
    python -m benchmarks.ship --compare         # docs/example/comparison.pdf, of what is shipped, and its first page

``counts.zip`` has everything that verdicts are made from: the plan, and for each training and evaluation its counts,
its curve and the questions that it recorded. ``tuned.zip`` has the same for each variant at its best, and
``explored.zip`` for the networks of an exploration, if the report has them. A test judges them again.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from study.report import side_by_side

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE, COUNTS = ROOT / "docs" / "example", "counts.zip"
TUNED = "tuned.zip"  # the same of the trainings with each variant at its best
EXPLORED = "explored.zip"  # the trials of an exploration, and the same of the trainings of the networks that it found
JUDGED = ("counts.npz", "curve.json", "training.json", "tune.npz")  # of a run, if it has them
MOST_BYTES = 5_000_000  # of the counts of a tier
SCORES = ("scores.csv", "verdicts.json", "costs.csv", "provenance.json")
FIRST = (*SCORES, "report.pdf")
SHIPPED = {"shapes": "", "camvid": "camvid", "voc_subset": "voc_subset"}  # tier -> folder below docs/example


def counts(report: Path, target: Path) -> None:
    """Write ``target``, a zip of everything that the verdicts of a report folder are made from. Equal inputs give equal
    bytes."""
    names = ("plan.json", "examined/anatomy.json", "examined/costs.json", "results/drawn.json", "explored.json")
    paths = [report / name for name in names]
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
    """The arrays of a file, uncompressed: compressing twice does not make them smaller."""
    found = io.BytesIO()
    with np.load(path) as arrays:
        np.savez(found, **dict(arrays))
    return found.getvalue()


def compare() -> None:
    """Write the comparison of the shipped tiers, and a picture of its first page."""
    with tempfile.TemporaryDirectory() as temporary:
        folders = {}
        for tier, name in SHIPPED.items():
            if not (EXAMPLE / name / COUNTS).is_file():
                continue
            folders[tier] = Path(temporary) / tier
            folders[tier].mkdir()
            for file in SCORES:
                shutil.copyfile(EXAMPLE / name / file, folders[tier] / file)
            with zipfile.ZipFile(EXAMPLE / name / COUNTS) as archive:
                archive.extract("plan.json", folders[tier])
        made = side_by_side.build(folders, Path(temporary) / "comparison")
        shutil.copyfile(made, EXAMPLE / made.name)
    picture(EXAMPLE / "comparison.pdf", 110)


def picture(file: Path, dpi: int) -> None:
    """Write the first page of a PDF as a PNG next to it."""
    page = ["pdftoppm", "-r", str(dpi), "-png", "-singlefile", "-f", "1", str(file), str(file.with_suffix(""))]
    subprocess.run(page, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ship", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("tier", nargs="?", help="the tier whose report in reports/<tier>/ is copied")
    parser.add_argument("folder", nargs="?", default="", help="below docs/example (default: docs/example itself)")
    parser.add_argument("--compare", action="store_true", help="compare what is shipped")
    arguments = parser.parse_args()
    if arguments.compare:
        return compare()
    if arguments.tier is None:
        parser.error("name a tier, or --compare")
    report, target = ROOT / "reports" / arguments.tier, EXAMPLE / arguments.folder
    target.mkdir(parents=True, exist_ok=True)
    for name in SCORES if arguments.folder else FIRST:
        shutil.copyfile(report / name, target / name)
    counts(report, target / COUNTS)
    for name, below in ((TUNED, "tuning"), (EXPLORED, "explored")):
        (target / name).unlink(missing_ok=True)  # the last report may have had one
        if (report / below / "plan.json").is_file():
            counts(report / below, target / name)


if __name__ == "__main__":
    main()
