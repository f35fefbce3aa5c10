"""Which trainings Fig. 3 shows: their keys, how they are probed, and the key of the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from study.config.schema import Receptive
from study.paper.tables import FIGURES
from study.store.keys import key_of_look


def looks(
    wanted: Receptive | None, seeds: Iterable[int], manifest: dict[str, Any]
) -> Iterator[tuple[dict[str, str], dict[str, Any], str]]:
    """For each seed of a plan the trainings {label: key} of Fig. 3, how they are probed, and the key of its run."""
    cells = {cell["address"]: cell for cell in manifest["cells"]}
    drawn = [cells[address] for address in FIGURES["F3"].cells if address in cells]
    if wanted is None:
        return
    probe = {name: getattr(wanted, name) for name in ("occluder_px", "stride_px", "share", "mass")}
    probe["times"] = wanted.enlarge
    for seed in map(str, seeds):
        keys = {cell["label"]: cell["runs"][seed] for cell in drawn if seed in cell["runs"]}
        if keys:
            yield keys, probe, key_of_look(keys, probe, wanted.images)
