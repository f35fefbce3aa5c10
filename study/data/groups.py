"""Groups of images that belong together, such as the frames of a drive: neighbours look alike, so they are dependent.

A group is a name that images share. This module chooses the images of the tune split, and reports on the groups of a
data set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from study.seeds import number
from study.spec.documents.data import Groups
from study.spec.errors import InputError

SHOWN = 3  # groups that a note names


class Apart(NamedTuple):
    """Names of the tune split's images, names of images left out of training next to them, and notes for the user."""

    tune: set[str]
    left: set[str]
    notes: tuple[str, ...]


def apart(pool: list[str], others: list[str], groups: Mapping[str, str], tune: int, gap: int | None) -> Apart:
    """Choose at least ``tune`` images of ``pool`` as whole groups or, with a ``gap``, exactly ``tune`` images as one
    block.

    ``groups`` {image: group} need not contain images that stand alone. Images of ``others`` are trained on too, but are
    not candidates for the tune split. If a group is chosen, its images in ``others`` are left out too.
    """
    return _whole(pool, others, groups, tune) if gap is None else _block(pool, groups, tune, gap)


def _whole(pool: list[str], others: list[str], groups: Mapping[str, str], tune: int) -> Apart:
    """Take groups in the order of the digests of their names until they hold ``tune`` images."""
    sizes = Counter(groups.get(name, name) for name in pool)
    chosen: dict[str, int] = {}
    images = 0
    for group in sorted(sizes, key=lambda group: number("tune", group)):
        if images >= tune:
            break
        chosen[group] = sizes[group]
        images += sizes[group]
    if len(chosen) == len(sizes):
        raise InputError(
            f"tune must leave a group to train on (a group is kept apart as a whole, as its images look alike), got "
            f"{tune} of {len(pool)} images of {len(sizes)} group{'s' * (len(sizes) > 1)}; ask for fewer images, or set "
            "gap to take a part of one group"
        )
    taken = {name for name in pool if groups.get(name, name) in chosen}
    left = {name for name in others if groups.get(name, name) in chosen} - taken
    if max(sizes.values()) == 1:  # every image is a group of its own
        return Apart(taken, left, ())
    named = _named({group: f"{n} image{'s' * (n > 1)}" for group, n in chosen.items()})
    note = f"tune has whole groups, of which no image is trained on: {named}; {tune} were asked for"
    return Apart(taken, left, (note,))


def _block(pool: list[str], groups: Mapping[str, str], tune: int, gap: int) -> Apart:
    """Choose a block of one group, in the order of ``pool``: the block whose first image has the smallest digest.

    So every block is equally likely. Without groups, all images form one group.
    """
    rows: dict[str, list[str]] = {}
    for name in dict.fromkeys(pool):
        rows.setdefault(groups.get(name, name) if groups else "", []).append(name)
    found = []
    for group, names in rows.items():
        for start in range(len(names) - tune + 1):
            first, last = max(0, start - gap), min(start + tune + gap, len(names))  # another group is another scene
            if last - first < len(pool):
                found.append((number("tune", names[start]), group, start, first, last))
    if not found:
        raise InputError(
            f"gap must leave images to train on besides tune ({tune} in a row of one group) and the gap on either "
            f"side, got {gap} and groups of at most {max(map(len, rows.values()))} images; use a smaller gap or tune"
        )
    _, group, start, first, last = min(found)
    names, end = rows[group], start + tune
    inside, beside = names[start:end], names[first:start] + names[end:last]
    note = (
        f"tune is a block of {tune} images{f' of {group}' if groups else ''}, {inside[0]} to {inside[-1]}; "
        f"{len(beside)} beside it are left out of training (gap {gap})"
    )
    return Apart(set(inside), set(beside), (note,))


def told(named: Mapping[str, list[str]]) -> dict[str, Groups] | None:
    """{split: group of each image} -> {split: {"names": groups in order of appearance, "of": each image's index into
    names}}; None if no two images share a group."""
    if max(Counter(group for groups in named.values() for group in groups).values(), default=1) == 1:
        return None
    found: dict[str, Groups] = {}
    for split, groups in named.items():
        numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
        found[split] = {"names": list(numbers), "of": [numbers[group] for group in groups]}
    return found


def notes(facts: Mapping[str, Groups] | None) -> list[str]:
    """Notes on unusual groups (see ``told``): groups that are both trained on and scored, and a val split with one
    group."""
    if facts is None:
        return []
    trained, measured = (Counter(facts[split]["names"][i] for i in facts[split]["of"]) for split in ("train", "val"))
    found = []
    if shared := [group for group in measured if group in trained]:
        named = _named({group: f"{trained[group]} of {trained.total()}" for group in shared})
        found.append(
            f"{sum(measured[group] for group in shared)} of {measured.total()} images of val belong to groups that "
            f"are trained on too: {named}"
        )
    if len(measured) == 1 < measured.total():
        found.append(
            f"val has only one group, {next(iter(measured))}: its {measured.total()} images look alike and say little "
            "about others"
        )
    return found


def _named(groups: Mapping[str, str]) -> str:
    more = f" and {len(groups) - SHOWN} more" if len(groups) > SHOWN else ""
    return ", ".join(f"{group} ({said})" for group, said in list(groups.items())[:SHOWN]) + more
