"""Predictions as pictures: a palette mask in the colours of the classes, and a tinted image with a legend."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LEAST_PX = 256  # the least longest side of an overlay: smaller images are enlarged
OPACITY = 0.5  # of the colours of classes


def mask(classes: np.ndarray, colours: np.ndarray) -> Image.Image:
    """Classes uint8 (H, W) as a palette image: a pixel's index is its label; ``colours`` (K, 3) are by label."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colours)] = colours
    found = Image.fromarray(classes)
    found.putpalette(palette.tobytes())  # turns the grey image into mode P
    return found


def overlay(pixels: np.ndarray, classes: np.ndarray, names: tuple[str, ...], colours: np.ndarray) -> Image.Image:
    """An image uint8 (H, W, 3) tinted by the colours of its classes (H, W), above a legend of the classes in it with
    their shares of the pixels, largest first."""
    tinted = np.rint((1 - OPACITY) * pixels + OPACITY * colours[classes]).astype(np.uint8)
    times = math.ceil(LEAST_PX / max(tinted.shape[:2]))
    image = Image.fromarray(tinted).resize((times * tinted.shape[1], times * tinted.shape[0]), Image.Resampling.NEAREST)
    legend = _legend(image.width, max(image.size), classes, names, colours)
    whole = Image.new("RGB", (max(image.width, legend.width), image.height + legend.height), "white")
    whole.paste(image, (0, 0))
    whole.paste(legend, (0, image.height))
    return whole


def _legend(width: int, longest: int, classes: np.ndarray, names: tuple[str, ...], colours: np.ndarray) -> Image.Image:
    """Entries in as many columns as fit into ``width`` px; letters grow with the ``longest`` side of the image."""
    size = max(12, longest // 50)
    font, line, gap = _font(size), round(1.5 * size), size // 2
    pixels = np.bincount(classes.ravel(), minlength=len(names))
    texts = [
        (label, f"{names[label]} {100 * pixels[label] / classes.size:.1f} %")
        for label in np.argsort(-pixels, kind="stable")
        if pixels[label]
    ]
    broad = max(math.ceil(font.getlength(text)) for _, text in texts) + line + 2 * gap
    across = max(1, width // broad)
    down = math.ceil(len(texts) / across)
    found = Image.new("RGB", (max(width, broad), down * line + 2 * gap), "white")
    draw = ImageDraw.Draw(found)
    for place, (label, text) in enumerate(texts):
        left, top = gap + place // down * broad, gap + place % down * line
        box = (left, top + (line - size) // 2, left + size, top + (line + size) // 2)
        draw.rectangle(box, fill=tuple(int(part) for part in colours[label]), outline="black")
        draw.text((left + line, top + line // 2), text, fill="black", font=font, anchor="lm")
    return found


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Matplotlib's font, which has more than Latin letters. Matplotlib itself is not imported."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return ImageFont.load_default(size)
    return ImageFont.truetype(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf", size)
