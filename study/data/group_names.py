"""Groups of images as the user declares them: by a pattern, or by a list of stems and groups."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from study.data.image_mask_pairs import rows
from study.data.stems import stem_in
from study.spec.checks import Text, checked, shown
from study.spec.errors import InputError

LISTED = ".csv"  # suffix of a list of groups; any other text is a pattern
COLUMNS = ("stem", "group")  # of such a list


def groups_of(base: Path, named: str | None, stems: list[str]) -> dict[str, str]:
    """The group of each stem, by a pattern or by a list; {} if neither is given.

    Raises InputError for a stem in which the pattern finds no group, or that the list does not contain exactly once.
    """
    if named is None:
        return {}
    if named.endswith(LISTED):
        return _listed(base / named, stems)
    found = {stem: re.search(named, stem) for stem in stems}
    if without := [stem for stem, match in found.items() if match is None or not match[1]]:
        raise InputError(
            f"groups of folder must find a group in every stem, got none by {named!r} in {without[0]} and "
            f"{len(without) - 1} more; write another pattern, or a list of groups"
        )
    return {stem: match[1] for stem, match in found.items() if match}


def _listed(path: Path, stems: list[str]) -> dict[str, str]:
    table = csv.DictReader(rows(path), skipinitialspace=True, strict=True)
    found: dict[str, str] = {}
    try:
        if lacking := [column for column in COLUMNS if column not in (table.fieldnames or ())]:
            raise InputError(
                f"a list of groups must have the columns {' and '.join(COLUMNS)}, got no {lacking[0]!r} in {path}; "
                f"write {','.join(COLUMNS)} as its first line"
            )
        for row in table:
            if not row["stem"] or not row["group"]:
                raise InputError(
                    f"a row of a list of groups must have a stem and a group, got {shown(list(row.values()))} in "
                    f"{path}; complete it"
                )
            stem = stem_in(row["stem"].strip())
            if stem in found:
                raise InputError(f"a list of groups must have each stem once, got {stem} twice in {path}; remove a row")
            found[stem] = checked(Text, row["group"].strip(), f"a group in {path}")
    except csv.Error as error:
        raise InputError(f"a list of groups must be a CSV file, got {path} ({error}); write it again") from error
    if without := [stem for stem in stems if stem not in found]:
        raise InputError(
            f"a list of groups must have the stem of every image, but {without[0]} and {len(without) - 1} more are "
            f"missing in {path}; add a row for each"
        )
    return found
