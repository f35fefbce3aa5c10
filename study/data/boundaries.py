"""Object boundaries of a label map: the band around them (Table 5, Sec. 4.1.2; D12) and coarse annotation."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from study.spec.constants import VOID


def boundary_band(labels: np.ndarray, band_px: int) -> np.ndarray:
    """labels (H, W) -> bool (H, W): pixels within ``band_px`` of an object boundary, Euclidean.

    A boundary runs between two pixels with different labels; void counts as a label (VOC draws a void ring around every
    object). The pixels on either side of it are at distance 1.
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


def coarse(labels: np.ndarray, margin_px: int) -> np.ndarray:
    """labels uint8 (H, W) as if annotated coarsely: pixels within ``margin_px`` of an object boundary become void.

    The coarse masks of Cityscapes (Table 9, Stage-1) look like this: a polygon inside each object, its border
    unlabelled. A margin of 0 changes nothing.
    """
    return np.where(boundary_band(labels, margin_px), np.uint8(VOID), labels)
