"""`study new-tier`: prints a tier's block for a folder of images and masks, or appends it to params.yaml (D125)."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

from study.commands.reproduce import PARAMS
from study.config import tiers
from study.config.schema import TierName
from study.data.prepare import open_data
from study.data.survey import Survey, survey
from study.spec.checks import checked
from study.spec.documents.tier import Params
from study.spec.errors import InputError

LIKE = "camvid"  # for photographs, as in the guide: a frozen backbone, three levels, batches of 8
TABLES = ["T1", "T2", "T5"]


def main(folder: str, name: str | None, write: bool, whole: bool) -> None:
    """Survey the folder, then print the block or, with ``write``, append it. Raises InputError for a folder that no
    data set can read, a name that is taken, and a params.yaml that cannot be changed."""
    params = tiers.read(PARAMS)
    place = Path(folder).expanduser()
    name = name or re.sub("[^A-Za-z0-9_-]+", "-", place.absolute().name).strip("-_") or "mine"
    name = name if name[0].isalpha() else f"t{name}"
    checked(TierName, name, lambda _: "the new tier's name")
    if name in params["tiers"]:
        raise InputError(
            f"params.yaml already has a tier named {name}; choose another name with --name, or remove that tier"
        )
    if write and not os.access(PARAMS, os.W_OK):
        raise InputError(
            f"params.yaml must be writable for --write, got {PARAMS.absolute()}; fix its permissions, or print only"
        )
    found = survey(place, whole=whole)
    block = tiers.text({name: _block(found, place)}, compact=True)
    changed = _appended(PARAMS.read_text(encoding="utf-8"), block, params, name)
    _try(changed, name)
    for line in found.said:
        print(f"note: {line}", file=sys.stderr)
    if not write:
        sys.stdout.write(_indented(block))
        return
    try:
        PARAMS.write_text(changed, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"params.yaml must be writable for --write, got {error}; fix its permissions, or print only"
        ) from error
    print(f"params.yaml now has the tier {name}: check it, then run `make preview TIER={name}`")


def _block(found: Survey, folder: Path) -> dict[str, object]:
    data: dict[str, object] = {**found.data}
    if isinstance(labels := data.get("labels"), dict):  # keys may be numbers in YAML, but not in JSON
        data["labels"] = {int(label): meaning for label, meaning in labels.items()}
    official = data["name"] == "voc" and "classes" not in data
    root = found.root.absolute()
    home = Path.home()
    shown = f"~/{root.relative_to(home).as_posix()}" if root != home and root.is_relative_to(home) else str(root)
    return {
        "like": "voc_subset" if official else LIKE,
        "title": folder.absolute().name,
        "tables": TABLES,
        "data": {"name": data["name"], "root": shown} | data,
    } | ({} if found.band_px is None else {"band_px": found.band_px})


def _indented(block: str) -> str:
    return "".join(f"  {line}" for line in block.splitlines(keepends=True))


def _appended(text: str, block: str, params: Params, name: str) -> str:
    """params.yaml with the block below its other tiers, otherwise unchanged. Raises InputError if the tiers are not
    written as a block of lines."""
    lines = text.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if re.match(r"tiers:\s*(#.*)?$", line)]
    if starts:
        rest = range(starts[0] + 1, len(lines))
        end = next((i for i in rest if re.match(r"[^\s#]", lines[i])), len(lines))
        first = next((lines[i] for i in rest if re.match(r" +[^\s#]", lines[i])), "  ")
        indent = first[: len(first) - len(first.lstrip(" "))]
        head = "".join(lines[:end])
        new = "".join(f"{indent}{line}" for line in block.splitlines(keepends=True))
        changed = f"{head}{'' if head.endswith(chr(10)) else chr(10)}\n{new}" + "".join(
            ["\n"] * (end < len(lines)) + lines[end:]
        )
        content = tiers.content(changed)
        if [*content["tiers"]] == [*params["tiers"], name]:
            return changed
    raise InputError(
        "params.yaml must have its tiers in lines below `tiers:` for one to be appended, got another layout in "
        f"{PARAMS.absolute()}; add the printed block by hand"
    )


def _try(text: str, name: str) -> None:
    """Raises InputError if the schema of params.yaml or the data set refuses the new block."""
    main = tiers.load(tiers.check(tiers.content(text)), name).main
    with tempfile.TemporaryDirectory() as cache:
        open_data(main.data, main.root, Path(cache))
