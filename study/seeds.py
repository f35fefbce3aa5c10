"""Addressed randomness: every draw is a function of (seed, purpose, step) and never of earlier draws.

So a resumed training needs no sampler state, and all variants of one seed see the same images in the same order.
"""

from __future__ import annotations

import hashlib

import numpy as np


def number(*address: int | str) -> int:
    """A 63-bit number that depends on the address alone."""
    text = "\0".join(str(part) for part in address)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*address: int | str) -> np.random.Generator:
    """A fresh generator for the address, such as ``generator(seed, "order", epoch)``."""
    return np.random.default_rng(number(*address))


def batch_indices(images: int, batch: int, seed: int, step: int) -> list[int]:
    """Indices of the images of training step ``step`` (from 0). Each epoch is a fresh permutation of all images."""
    indices: list[int] = []
    position = step * batch
    while len(indices) < batch:
        epoch, offset = divmod(position, images)
        order = generator(seed, "order", epoch).permutation(images)
        take = order[offset : offset + batch - len(indices)]
        indices += [int(i) for i in take]
        position += len(take)
    return indices
