"""Fig. 6 and 7: images, predictions and truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from study.data import display
from study.paper.tables import FIGURES
from study.report.figures.families import RC, canvas, literal
from study.report.figures.plate import Plate, Source
from study.report.figures.style import INK, WIDTH_IN
from study.spec.documents.data import Read
from study.spec.documents.plan import PlanFile

MAX_SAMPLES = 6
CAPTION = "Images spread evenly over the validation split, none picked by hand; one seed."


def drawn_for(name: str) -> Callable[[Source], Figure | None]:
    """A function that draws a figure of the paper, or returns None if no seed has the predictions of all of its
    cells."""

    def draw(source: Source) -> Figure | None:
        found = samples(source.folder, source.plan, FIGURES[name].cells)
        return qualitative(*found) if found else None

    return draw


def samples(folder: Path, plan: PlanFile, addresses: tuple[str, ...]) -> tuple[Any, ...] | None:
    """Images, labels and predictions of these cells, with the facts about their data, of the first seed that has them
    all; None if no seed has. Without Table 5, any three variants of the main set stand in for Figure 6's."""
    cells = [cell for cell in plan["cells"] if cell["address"] in addresses and cell["runs"]]
    if not cells and len(addresses) > 1:
        cells = [cell for cell in plan["cells"] if cell["data"] == "main" and cell["runs"]]
    chosen = dict(list({cell["label"]: cell["runs"] for cell in cells}.items())[:3])
    for seed in sorted({training["seed"] for training in plan["trainings"].values()}):
        found = {}
        for label, runs in chosen.items():
            places = [folder / place / runs.get(str(seed), "") / "samples.npz" for place in ("results", "examined")]
            for path in filter(Path.is_file, places):
                found[label] = np.load(path)
        if found and len(found) == len(chosen):
            first = next(iter(found.values()))
            predictions = {label: archive["predictions"][:MAX_SAMPLES] for label, archive in found.items()}
            facts = plan["data"][cells[0]["data"]]
            return first["images"][:MAX_SAMPLES], first["labels"][:MAX_SAMPLES], predictions, facts
    return None


@mpl.rc_context(RC)
def qualitative(images: np.ndarray, labels: np.ndarray, predictions: dict[str, np.ndarray], facts: Read) -> Figure:
    """Fig. 6: one row per sample; the columns are the image, each named prediction, and the truth.

    ``images`` (n, H, W, 3) uint8, ``labels`` and each prediction (n, H, W) uint8 with 255 for void. Padding is cut off,
    and classes have the colours of ``facts`` (D130).
    """
    table, classes = display.colours_of(facts), facts["classes"]
    sizes = [display.true_size(image, label) for image, label in zip(images, labels, strict=True)]
    columns = predictions | {"truth": labels}
    masks = {
        name: [one[:height, :width] for one, (height, width) in zip(maps, sizes, strict=True)]
        for name, maps in columns.items()
    }
    shown = np.unique(np.concatenate([one.ravel() for maps in masks.values() for one in maps]))
    handles = [
        Patch(facecolor=table[label] / 255, edgecolor=INK, linewidth=0.4,
              label=literal(classes[label]) if label < len(classes) else "void")
        for label in shown
    ]  # fmt: skip
    longest = max(len(str(handle.get_label())) for handle in handles)
    abreast = max(1, min(len(handles), int(WIDTH_IN / (0.35 + 0.06 * longest))))  # inches of a legend entry
    lines = -(-len(handles) // abreast)
    side = WIDTH_IN / (len(columns) + 1)
    # A tall image is drawn as high as a square one, so that none takes up a page.
    ratios = [min(1.0, height / width) for height, width in sizes]
    figure, axes = canvas(
        len(images), len(columns) + 1, side * sum(ratios) + 0.4 + 0.15 * lines, gridspec_kw={"height_ratios": ratios}
    )
    # Viewers smooth enlarged bitmaps, which would mix class colours: enlarge here, by whole pixels.
    times = max(1, 384 // images.shape[2])
    cut = [image[:height, :width] for image, (height, width) in zip(images, sizes, strict=True)]
    pictures = {"image": cut, **{name: [table[one] for one in maps] for name, maps in masks.items()}}
    for column, (name, stack) in enumerate(pictures.items()):
        for row, picture in enumerate(stack):
            ax = axes[row, column]
            ax.imshow(picture.repeat(times, 0).repeat(times, 1), interpolation="none")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        axes[0, column].set_title(name, loc="center", fontsize=7)
    figure.legend(handles=handles, loc="outside lower center", ncols=abreast, handlelength=1)
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0))
    return figure


PLATES = (
    Plate("F6", "Figure 6. Samples", CAPTION, drawn_for("F6")),
    Plate("F7", "Figure 7. Samples of Table 9's network", CAPTION, drawn_for("F7")),
)
