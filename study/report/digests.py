"""outputs.json: the digests of a report's files and of everything they were made from. They show whether a report is
stale or was edited afterwards."""

from __future__ import annotations

import json
from pathlib import Path

from study.spec.digest import digest
from study.spec.documents.tier import TierBlock
from study.store import code_digest
from study.store.runs import file_digest, write_json

NAME = "outputs.json"
READ = ("plan.json", "scores.csv", "costs.csv", "matched.csv", "lengths.csv", "per_class.csv", "audit.json",
        "verdicts.json", "provenance.json", "results/**/*", "examined/**/*", "tuning/**/*",
        "explored/**/*")  # fmt: skip
MADE = ("report.pdf", "report.html", "report.json", "figures/*")
TEMPLATES = Path(__file__).parent / "templates"
# The code that makes a report from numbers, and the paper's content: tables, figures, quotes and, if any, claims.
CODE = {
    "the report's code": (("study.report.document", "build"), ("study.report.deviations", "rows")),
    "the paper's content": (("study.paper.tables", ""), ("study.paper.quotes", "")),
    "the claims": (("study.paper.claims", ""),),
}


def record(folder: Path, tier: TierBlock) -> None:
    """Write ``folder``/outputs.json, after everything else of a report. ``tier`` is the tier's block of params.yaml."""
    write_json(folder / NAME, _found(folder, tier))


def check(folder: Path, tier: TierBlock) -> tuple[list[str], int]:
    """What is wrong with the report's files, one line each, and the number of files checked."""
    try:
        known = json.loads((folder / NAME).read_text(encoding="utf-8"))
        inputs, made, sources = known["inputs"], known["outputs"], known["sources"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{NAME} must exist and be readable ({error}), got no digests of a report"], 0
    found = _found(folder, tier)
    lines = []
    for name in sorted(made.keys() | found["outputs"].keys()):
        was, now = made.get(name), found["outputs"].get(name)
        if was != now:
            told = "none" if now is None else "a file that no report made" if was is None else "an edited one"
            lines.append(f"{name} must be the file that the report stage made, got {told}")
    changed = [
        name for name in sorted(inputs.keys() | found["inputs"].keys()) if inputs.get(name) != found["inputs"].get(name)
    ]
    changed += [name for name in sorted(found["sources"]) if sources.get(name) != found["sources"][name]]
    if changed:
        others = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        lines.append(
            f"report.pdf must be made from the files next to it, got a stale one: {', '.join(changed[:3])}{others} "
            "changed after it was made"
        )
    return lines, len(found["outputs"]) + len(found["inputs"])


def _found(folder: Path, tier: TierBlock) -> dict[str, dict[str, str]]:
    sources = {what: code_digest.code_digest(*roots) for what, roots in CODE.items()}
    sources |= _digests(TEMPLATES, ("*",))
    sources["the tier's block of params.yaml"] = digest(tier)
    return {"inputs": _digests(folder, READ), "outputs": _digests(folder, MADE), "sources": sources}


def _digests(folder: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}
