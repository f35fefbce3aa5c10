"""Boundary band and interior of a label map (Table 5, Sec. 4.1.2; D12)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def boundary_band(labels: np.ndarray, band_px: int) -> np.ndarray:
    """labels (H, W) -> bool (H, W): pixels within ``band_px`` of an object boundary, Euclidean.

    A boundary runs between two pixels of different label, void counted as a label (VOC draws a void ring around every
    object); the pixels on either side of it are at distance 1.
    """
    edge = np.zeros(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    if not edge.any():
        return edge
    return ndimage.distance_transform_edt(~edge) <= band_px - 1
