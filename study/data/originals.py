"""Labels of tune and val at the size of their files, where images are made smaller to be read (D123).

A split has one file, a zip as numpy writes it: masks compress to a hundredth, and each has a size of its own.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np


class Original(NamedTuple):
    """Labels uint8 (H, W) of an image at the size of its file with their boundary band (H, W), and the (height, width)
    of the smaller image that a network sees, in the upper left corner of a padded one."""

    labels: np.ndarray
    band: np.ndarray
    seen: tuple[int, int]


class Writer:
    """Takes the images of a split one by one, in order; to be used in a ``with`` block."""

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
