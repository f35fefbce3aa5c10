"""Synthetic scenes of the default tier: a glyph of bars on clutter, with a class that only its global shape reveals.

A glyph is a spine with two arms. An arm is at one of four sites (left or right of the upper or lower end), and the pair
of sites is the shape: six shapes, each arm in three of them, so no single arm reveals the class. Its texture is one of
six fine patterns. Shape, texture, colour, size and tilt are drawn independently of each other. The cue chooses the
label: shape, texture or colour (which channel is bright and which dark). All cues have the *same images*, so
``texture``, which a few pixels reveal, and ``colour``, which one pixel reveals, are negative controls.

The cue ``both`` makes a classification set of the same images (Tables 6 and 11): one class for the image, the shape and
its texture. Stages of training (Tables 7 and 9) take larger, noisier sets of the same scenes: more of them, some
``mislabelled``, some annotated coarsely. Sets nest by number, and ``tune`` and ``val`` never change.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from study.data.coarse import Coarse
from study.seeds import generator
from study.spec.checks import Broken, choice, number, shown, whole

SPLITS = ("train", "tune", "val")
Images = Annotated[int, whole(0, 10_000_000)]  # a number of them
SITES = {"left-top": (-1, -1), "right-top": (1, -1), "left-bottom": (-1, 1), "right-bottom": (1, 1)}  # (x, y)
# Shares of the image's side: at 64 px the arms' two heights are 29 to 41 px apart, and a bar is 7 to 10 px wide.
SPINE, ARM, BAR = (0.60, 0.75), (0.20, 0.28), (0.11, 0.15)
TILT = 0.25  # rad, to either side
LEVELS = (20, 235)  # of the dark and the bright channel; the third has any value
CHANNELS = ("red", "green", "blue")
COLOURS = tuple(itertools.permutations(CHANNELS, 2))  # (bright, dark)
SHAPES = tuple(itertools.combinations(SITES, 2))
TEXTURES = {  # one period of a two-tone pattern, as rows of pixels
    "horizontal": ((1, 1), (0, 0)),
    "vertical": ((1, 0), (1, 0)),
    "checks": ((1, 0), (0, 1)),
    "wide horizontal": ((1,), (1,), (0,), (0,)),
    "wide vertical": ((1, 1, 0, 0),),
    "wide checks": ((1, 1, 0, 0), (1, 1, 0, 0), (0, 0, 1, 1), (0, 0, 1, 1)),
}


class Options(Coarse):
    cue: Annotated[
        str,
        choice(
            "shape", "texture", "colour", "both",
            must="be shape, texture or colour (what tells the class of a pixel) or both (the class of an image)",
        ),
    ]  # fmt: skip
    size: Annotated[
        int,
        whole(32, 4096, "be a whole number of at least 32 px (its bars get too thin below)", "take 64 or more"),
    ]
    panels: Annotated[int, whole(1, 64)]  # scenes side by side in an image
    train: Images
    tune: Images
    val: Images
    lines: Annotated[int, whole(0, 1000)]  # distractors a scene
    noise: Annotated[float, number(0, 255)]  # standard deviation in grey levels
    mislabelled: Annotated[float, number(0, 1)]  # share of the training scenes
    least: Annotated[float, number(0.1, 1)] = 1.0  # size of the smallest glyphs, as a share of the usual size
    grid: Annotated[int, whole(1, 64)] = 1  # px of the cells that a glyph's outline follows

    def check(self) -> None:
        super().check()
        for key, must in {"panels": 1, "coarse_share": 0}.items() if self.cue == "both" else ():
            if getattr(self, key) != must:
                raise Broken(
                    f"be {must} with the cue both (one class per image, no mask)", shown(getattr(self, key)),
                    f"set it to {must}", key,
                )  # fmt: skip


class Shapes:
    """Scenes by split and index. ``options`` are those of ``open``."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.side = options.size
        self.size = (self.side, self.side * options.panels)
        self.task = "classify" if options.cue == "both" else "segment"
        shapes = ["+".join(pair) for pair in SHAPES]
        if options.cue == "both":
            self.classes = tuple(f"{shape}, {texture}" for shape, texture in itertools.product(shapes, TEXTURES))
        else:
            colours = [f"{bright} without {dark}" for bright, dark in COLOURS]
            self.classes = ("background", *{"shape": shapes, "texture": TEXTURES, "colour": colours}[options.cue])
        self.splits = {"train": options.train, "tune": options.tune, "val": options.val}
        self._rows, self._columns = np.mgrid[: self.side, : self.side].astype(np.float32)

    def files(self) -> list[Path]:
        """No files: scenes are generated, not read."""
        return []

    def name(self, split: str, index: int) -> str:
        return f"{split}-{index:05d}"

    def read(self, split: str, index: int) -> tuple[np.ndarray, Any]:
        """Image uint8 (H, W, 3), and labels uint8 (H, W) or the image's class; they depend only on (options, split,
        index)."""
        addresses = [(split, index, *((panel,) if panel else ())) for panel in range(self.options.panels)]
        scenes = [self._scene(*address) for address in addresses]
        image = np.concatenate([pixels for pixels, *_ in scenes], 1)
        if self.task == "classify":
            told = scenes[0][2]
            label = told["shape"] * len(TEXTURES) + told["texture"]
            return image, self._annotated(label, len(self.classes), addresses[0])
        masks = []
        for address, (_, glyph, told) in zip(addresses, scenes, strict=True):
            label = self._annotated(told[self.options.cue], len(self.classes) - 1, address)
            masks.append(np.where(glyph, 1 + label, 0))
        labels = np.concatenate(masks, 1).astype(np.uint8)
        if split == "train" and generator("shapes", "coarse", split, index).random() < self.options.coarse_share:
            from study.data.boundaries import coarse  # scipy, which only reading needs

            labels = coarse(labels, self.options.coarse_px)
        return image, labels

    def _scene(self, *address: str | int) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
        """Image uint8 (side, side, 3), mask of its glyph (side, side), and its number for each cue."""
        random = generator("shapes", *address)
        shape, texture = random.integers(len(SHAPES)), random.integers(len(TEXTURES))
        image = self._background(random)
        glyph = self._glyph(random, SHAPES[shape])
        paint, colour = self._paint(random, tuple(TEXTURES.values())[texture])
        image[glyph] = paint[glyph]
        for _ in range(self.options.lines):
            image[self._line(random)] = random.uniform(0, 255, 3)
        image += random.normal(0, self.options.noise, image.shape).astype(np.float32)
        told = {"shape": int(shape), "texture": int(texture), "colour": colour}
        return image.clip(0, 255).astype(np.uint8), glyph, told

    def _annotated(self, label: int, among: int, address: tuple[str | int, ...]) -> int:
        """The label or, in a share of the training scenes, another of the ``among`` labels, each equally likely.

        The draw is separate, so that no pixel depends on it. A larger share keeps the mistakes of a smaller one.
        """
        random = generator("shapes", "mislabelled", *address)
        if address[0] != "train" or random.random() >= self.options.mislabelled:
            return label
        return int(label + random.integers(1, among)) % among

    def _background(self, random: np.random.Generator) -> np.ndarray:
        """Grey patches of 8 px, (H, W, 3)."""
        cells = -(-self.side // 8)
        patches = random.uniform(60, 195, (cells, cells)).astype(np.float32)
        grey = patches.repeat(8, 0).repeat(8, 1)[: self.side, : self.side]
        return np.stack([grey] * 3, -1)

    def _paint(self, random: np.random.Generator, texture: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, int]:
        """The texture in two tones of one random colour, at a random phase, (H, W, 3); and the colour's number."""
        colour = random.uniform(0, 255, 3)
        levels, channels = random.permutation(LEVELS), random.permutation(3)[:2]
        colour[channels] = levels  # saturated, so it is not grey
        bright, dark = channels[np.argmax(levels)], channels[np.argmin(levels)]
        tile = np.asarray(texture)
        phase = random.integers(0, 4, 2)
        repeats = [self.side // side + 1 for side in tile.shape]
        pattern = np.roll(np.tile(tile, repeats), phase, (0, 1))[: self.side, : self.side]
        number = COLOURS.index((CHANNELS[bright], CHANNELS[dark]))
        return (colour * (0.5 + 0.5 * pattern[..., None])).astype(np.float32), number

    def _glyph(self, random: np.random.Generator, sites: tuple[str, str]) -> np.ndarray:
        """Mask (H, W) of a glyph of random size, tilt and place that stays in the image."""
        side = float(self.side)
        if self.options.least < 1:
            side *= random.uniform(self.options.least, 1)
        half = random.uniform(*SPINE) * side / 2  # of the spine's length
        arm = random.uniform(*ARM) * side
        bar = random.uniform(*BAR) * side / 2  # half a bar's width
        tilt = random.uniform(-TILT, TILT)
        sin, cos, wide = np.sin(tilt), np.cos(tilt), bar + arm
        room_x = self.side / 2 - (wide * cos + half * abs(sin))
        room_y = self.side / 2 - (wide * abs(sin) + half * cos)
        x = self._columns - (self.side - 1) / 2 - random.uniform(-1, 1) * room_x
        y = self._rows - (self.side - 1) / 2 - random.uniform(-1, 1) * room_y
        across, along = x * cos + y * sin, y * cos - x * sin
        mask = (abs(across) <= bar) & (abs(along) <= half)
        for side, end in (SITES[site] for site in sites):
            mask |= (abs(side * across - wide / 2) <= wide / 2) & (abs(end * along - half + bar) <= bar)
        return self._on_grid(mask)

    def _on_grid(self, mask: np.ndarray) -> np.ndarray:
        """The mask in whole cells of the grid: each cell has the value of its middle."""
        cell = self.options.grid
        if cell == 1:
            return mask
        middles = mask[cell // 2 :: cell, cell // 2 :: cell]
        return middles.repeat(cell, 0).repeat(cell, 1)[: self.side, : self.side]

    def _line(self, random: np.random.Generator) -> np.ndarray:
        """Mask (H, W) of a thin line through the whole image, a distractor."""
        angle = random.uniform(0, np.pi)
        x, y = random.uniform(0, self.side, 2)
        return abs((self._columns - x) * np.cos(angle) + (self._rows - y) * np.sin(angle)) <= 0.7


def open(options: Options, root: Path | None, cache: Path) -> Shapes:
    """Options: cue (shape, texture, colour, both), size (px), panels (scenes side by side in an image), train, tune,
    val (numbers of images), lines (distractors per scene), noise (standard deviation in grey levels); of the training
    split: mislabelled (share of the scenes), coarse_share (of the images), coarse_px; of all scenes: least (size of the
    smallest glyphs as a share of the usual size; sizes are uniform from there to it), grid (px of the cells that a
    glyph's outline follows). Nothing is read from ``root``."""
    return Shapes(options)
