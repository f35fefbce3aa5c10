"""The figures of a tier's report, in their order: one file each in ``figures/`` and ``schematics/``."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from study.report.figures import boundary, control, families, kernel_size, parameters, receptive_fields, samples
from study.report.figures.plate import Plate, Source
from study.report.schematics import bottlenecks, heads, localisation, network

PLATES: tuple[Plate, ...] = (
    kernel_size.PLATE,
    parameters.PLATE,
    boundary.PLATE,
    control.PLATE,
    receptive_fields.PLATE,
    *samples.PLATES,
    localisation.PLATE,
    network.PLATES[0],
    heads.PLATE,
    bottlenecks.PLATE,
    network.PLATES[1],
)


def draw(source: Source) -> list[dict[str, str]]:
    """Draw what the results allow into figures/; each figure's name and words."""
    drawn = [(plate, plate.draw(source)) for plate in PLATES]
    return [saved(figure, source.folder, plate.name, plate.title, plate.caption) for plate, figure in drawn if figure]


def saved(figure: Figure, folder: Path, name: str, title: str, caption: str) -> dict[str, str]:
    """Save a figure of a report's ``folder``; what the template shows of it."""
    families.save(figure, folder / "figures" / f"{name}.svg")
    return {"name": name, "title": title, "caption": caption}
