"""The trainings that Fig. 3 shows: their keys, how they are probed, and the key of the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from study.config.schema import Receptive
from study.paper.tables import FIGURES
from study.spec.documents.plan import PlanFile, Probe
from study.store.keys import key_of_look


def looks(
    wanted: Receptive | None, seeds: Iterable[int], manifest: PlanFile
) -> Iterator[tuple[dict[str, str], Probe, str]]:
    """For each seed of a plan, yield the trainings {label: key} of Fig. 3, how they are probed, and the run's key."""
    cells = {cell["address"]: cell for cell in manifest["cells"]}
    drawn = [cells[address] for address in FIGURES["F3"].cells if address in cells]
    if wanted is None:
        return
    probe: Probe = {
        "occluder_px": wanted.occluder_px,
        "stride_px": wanted.stride_px,
        "share": wanted.share,
        "mass": wanted.mass,
        "times": wanted.enlarge,
    }
    for seed in map(str, seeds):
        keys = {cell["label"]: cell["runs"][seed] for cell in drawn if seed in cell["runs"]}
        if keys:
            yield keys, probe, key_of_look(keys, probe, wanted.images)
