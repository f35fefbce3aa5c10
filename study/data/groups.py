"""Images that belong together, such as the frames of one drive: neighbours look alike, so they are no independent ones.

A group is a name that images share. Which are kept apart as the tune split is chosen here, and what a data set's groups
are is told.
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
    """Names of the tune split's images, those left out of training beside them, and what a user should know of it."""

    tune: set[str]
    left: set[str]
    notes: tuple[str, ...]


def apart(pool: list[str], others: list[str], groups: Mapping[str, str], tune: int, gap: int | None) -> Apart:
    """At least ``tune`` of the images ``pool`` as whole groups; with a ``gap``, exactly so many as one block.

    ``groups`` {image: group} may lack images that are alone. Images of ``others`` are trained on too, but are no choice
    for the tune split. A whole group is left out of them as well.
    """
    return _whole(pool, others, groups, tune) if gap is None else _block(pool, groups, tune, gap)


def _whole(pool: list[str], others: list[str], groups: Mapping[str, str], tune: int) -> Apart:
    """Groups in the order of the digests of their names, until so many images are apart."""
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
            f"tune must leave a group to train on (images of a group look alike, so all of them go apart), got {tune} "
            f"of {len(pool)} images of {len(sizes)} group{'s' * (len(sizes) > 1)}; name fewer, or a gap, with which "
            "tune is a part of one group"
        )
    taken = {name for name in pool if groups.get(name, name) in chosen}
    left = {name for name in others if groups.get(name, name) in chosen} - taken
    if max(sizes.values()) == 1:  # each image is its own
        return Apart(taken, left, ())
    named = _named({group: f"{n} image{'s' * (n > 1)}" for group, n in chosen.items()})
    note = f"tune has whole groups, of which no image is trained on: {named}; {tune} were asked for"
    return Apart(taken, left, (note,))


def _block(pool: list[str], groups: Mapping[str, str], tune: int, gap: int) -> Apart:
    """A block of one group, in the order of ``pool``: of all there are the one whose first image has the least digest.

    So every block is as likely as any other. Without groups all images are of one.
    """
    rows: dict[str, list[str]] = {}
    for name in dict.fromkeys(pool):
        rows.setdefault(groups.get(name, name) if groups else "", []).append(name)
    found = []
    for group, names in rows.items():
        for start in range(len(names) - tune + 1):
            first, last = max(0, start - gap), min(start + tune + gap, len(names))  # beyond a group is another street
            if last - first < len(pool):
                found.append((number("tune", names[start]), group, start, first, last))
    if not found:
        raise InputError(
            f"gap must leave images to train on beside tune ({tune} in a row of one group) and so many on either side "
            f"of it, got {gap} and groups of at most {max(map(len, rows.values()))} images; name a smaller gap or tune"
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
    """The group of each image by split -> {split: {"names": groups in the order in which they come up, "of": of each
    image the index into them}}; None where no two images share one."""
    if max(Counter(group for groups in named.values() for group in groups).values(), default=1) == 1:
        return None
    found: dict[str, Groups] = {}
    for split, groups in named.items():
        numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
        found[split] = {"names": list(numbers), "of": [numbers[group] for group in groups]}
    return found


def notes(facts: Mapping[str, Groups] | None) -> list[str]:
    """What is odd about groups, as ``told`` has them: those that are trained on and measured, and a lonely one."""
    if facts is None:
        return []
    trained, measured = (Counter(facts[split]["names"][i] for i in facts[split]["of"]) for split in ("train", "val"))
    found = []
    if shared := [group for group in measured if group in trained]:
        named = _named({group: f"{trained[group]} of {trained.total()}" for group in shared})
        found.append(
            f"{sum(measured[group] for group in shared)} of {measured.total()} images of val are of groups that are "
            f"trained on too: {named}"
        )
    if len(measured) == 1 < measured.total():
        found.append(
            f"val has one group only, {next(iter(measured))}: its {measured.total()} images look alike, and tell "
            "little of others"
        )
    return found


def _named(groups: Mapping[str, str]) -> str:
    more = f" and {len(groups) - SHOWN} more" if len(groups) > SHOWN else ""
    return ", ".join(f"{group} ({said})" for group, said in list(groups.items())[:SHOWN]) + more
