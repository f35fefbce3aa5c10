"""Labels of tune and val at full size, for data sets whose images are made smaller on reading (D123).

Each split has one file, a zip as numpy writes it: masks compress to a hundredth, and their sizes differ.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np


class Original(NamedTuple):
    """Full-size labels uint8 (H, W) of an image, their boundary ``band`` (H, W), and the (height, width) ``seen`` of
    the smaller image that a network sees, in the upper left corner of a padded one."""

    labels: np.ndarray
    band: np.ndarray
    seen: tuple[int, int]


class Writer:
    """Writes the images of a split one by one, in order. Use it in a ``with`` block."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def add(self, index: int, labels: np.ndarray, band: np.ndarray) -> None:
        for name, array in (("labels", labels), ("band", band)):
            with self._zip.open(f"{name}{index}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def read(path: Path, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and band (H, W) of an image."""
    with np.load(path) as archive:
        return archive[f"labels{index}"], archive[f"band{index}"]
