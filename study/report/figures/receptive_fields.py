"""Fig. 3: valid receptive fields, by occlusion and by the gradient."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from study.report.figures.plate import Plate, Source
from study.report.figures.style import INK, RC, RED, WIDTH_IN

TITLE = "Figure 3. Valid receptive fields"
CAPTION = (
    "Lit: the smallest area that holds 95 % of all change of the score at the red dot when the image is hidden "
    "there (occlusion, after Zhou et al.). Below: the square root of the score's gradient with respect to the "
    "image, each map scaled by its own maximum (effective receptive field). Right or wrong class: the prediction at "
    "the dot. One seed, and the first of the images spread evenly over the validation split."
)
INPUTS = ("original", "enlarged")
DARK = 0.28  # brightness outside the valid region
PIXELS = (256, 320)  # drawn bitmaps are wider than half the first and at most as wide as the second
ABREAST = 4  # panels side by side
WIDEST_IN, LABEL_IN, CAPTION_IN, TITLES_IN = 1.9, 0.22, 0.22, 0.47
_OUTLINE: dict[str, Any] = {"color": "white", "linewidth": 0.8}
_SQUARE: dict[str, Any] = {"edgecolor": "white", "facecolor": "none", "linewidth": 0.8, "linestyle": (0, (3, 2))}
_DOT: dict[str, Any] = {"color": RED, "marker": "o", "markersize": 4, "markeredgecolor": "white", "linestyle": "none"}


def draw(source: Source) -> Figure | None:
    """The fields on the first image (others are in examined/receptive.npz). None if no seed has the trainings."""
    path = source.folder / "examined" / "receptive.npz"
    if not path.is_file():
        return None
    with np.load(path) as archive:
        return receptive_fields({n.removeprefix("0/"): archive[n] for n in archive.files if n.startswith("0/")})


@mpl.rc_context(RC)
def receptive_fields(arrays: dict[str, np.ndarray]) -> Figure:
    """Fig. 3: where the score of one pixel comes from. ``arrays`` are those of ``receptive_field.figure3`` for one
    image.

    There is one column per network, for the original and for the enlarged input. Above is the image, darkened outside
    the valid region; below are the gradient (square root, each map scaled by its own maximum) and the square that holds
    ``mass`` of it. The red dot is the pixel, the white line the object. With two networks the inputs are side by side,
    with more they are one below the other.
    """
    names = [str(name) for name in arrays["networks"]]
    beside = len(INPUTS) if len(INPUTS) * len(names) <= ABREAST else 1
    below = len(INPUTS) // beside
    height, width, _ = arrays["original_image"].shape
    panel = min(WIDEST_IN, (WIDTH_IN - beside * LABEL_IN) / (beside * len(names)))
    tall = below * (2 * (panel * height / width + CAPTION_IN) + TITLES_IN) + CAPTION_IN
    figure = Figure(figsize=(WIDTH_IN, tall), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))
    for part, kind in zip(figure.subfigures(below, beside, squeeze=False).flat, INPUTS, strict=True):
        rows, columns, _ = arrays[f"{kind}_image"].shape
        part.suptitle(f"{kind} input, {columns}x{rows} px", fontsize=8)
        axes = part.subplots(2, len(names), squeeze=False)
        found = {key.removeprefix(f"{kind}_"): array for key, array in arrays.items() if key.startswith(f"{kind}_")}
        for column, name in enumerate(names):
            right = found["predicted"][column] == arrays["target"]
            axes[0, column].set_title(f"{name}\n{'right' if right else 'wrong'} class", loc="center", fontsize=7)
            _region(axes[0, column], found, column)
            _gradient(axes[1, column], found, column, float(arrays["mass"]))
        axes[0, 0].set_ylabel("occlusion")
        axes[1, 0].set_ylabel("gradient")
    square = Rectangle((0, 0), 1, 1, **{**_SQUARE, "edgecolor": INK})
    handles: list[Any] = [Line2D([], [], **_DOT), Line2D([], [], **{**_OUTLINE, "color": INK}), square]
    told = ("pixel whose score is watched", "object", f"{100 * arrays['mass']:.0f} % of the gradient")
    figure.legend(handles, told, loc="outside lower center", ncols=len(handles))
    return figure


def _region(ax: Axes, found: dict[str, np.ndarray], column: int) -> None:
    light = np.where(found["region"][column][..., None], 1.0, DARK)
    _show(ax, (found["image"] * light).astype(np.uint8), found)
    ax.set_xlabel(f"{100 * found['covered'][column]:.0f} % of the object")


def _gradient(ax: Axes, found: dict[str, np.ndarray], column: int, mass: float) -> None:
    slope = found["gradient"][column]
    _show(ax, np.sqrt(slope / max(float(slope.max()), 1e-30)), found, cmap="inferno", vmin=0, vmax=1)
    side = int(found["spread_px"][column])
    row, place = found["pixel"]
    ax.add_patch(Rectangle((place - side / 2, row - side / 2), side, side, **_SQUARE))
    ax.set_xlabel(f"{100 * mass:.0f} % within {side} px")


def _show(ax: Axes, bitmap: np.ndarray, found: dict[str, np.ndarray], **options: Any) -> None:
    """A bitmap (H, W, ...) in pixel coordinates, with the dot and the object's outline."""
    height, width = bitmap.shape[:2]
    least, most = PIXELS
    # Viewers smooth what they enlarge, so small bitmaps are enlarged here by whole pixels. Large ones only make large
    # files, so they are reduced.
    times, step = max(1, least // width), -(-width // most)
    tall, wide = height // step, width // step
    blocks = bitmap[: tall * step, : wide * step].reshape(tall, step, wide, step, *bitmap.shape[2:])
    drawn = blocks.mean((1, 3)).astype(bitmap.dtype).repeat(times, 0).repeat(times, 1)
    ax.imshow(drawn, extent=(-0.5, wide * step - 0.5, tall * step - 0.5, -0.5), interpolation="none", **options)
    if not found["mask"].all():  # an object that fills the image has no outline
        ax.contour(found["mask"], [0.5], colors=_OUTLINE["color"], linewidths=_OUTLINE["linewidth"])
    row, column = found["pixel"]
    ax.plot(column, row, **_DOT)
    ax.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ax.spines[:].set_visible(False)


PLATE = Plate("F3", TITLE, CAPTION, draw)
