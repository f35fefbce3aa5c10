"""The figures of a tier's report, in order: one file each in ``figures/`` and ``schematics/``."""

from __future__ import annotations

from study.report.figures import boundary, confusion, control, kernel_size, parameters, receptive_fields, samples
from study.report.figures.plate import Plate, Source, saved
from study.report.schematics import bottlenecks, heads, localisation, network

PLATES: tuple[Plate, ...] = (
    kernel_size.PLATE,
    parameters.PLATE,
    boundary.PLATE,
    control.PLATE,
    receptive_fields.PLATE,
    *samples.PLATES,
    *confusion.PLATES,
    localisation.PLATE,
    network.PLATES[0],
    heads.PLATE,
    bottlenecks.PLATE,
    network.PLATES[1],
)


def draw(source: Source) -> list[dict[str, str]]:
    """Draw into figures/ what the results allow. Returns each figure's name and words."""
    drawn = [(plate, plate.draw(source)) for plate in PLATES]
    return [saved(figure, source.folder, plate.name, plate.title, plate.caption) for plate, figure in drawn if figure]
