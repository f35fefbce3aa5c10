"""The order of the images: a permutation in each epoch, set by seed and step alone, the same for all variants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from study.config import tiers
from study.data.prepare import prepare
from study.seeds import batch_indices
from study.spec.heads import Variant, dense, gcn
from study.spec.training import Training
from study.training.batches import IMAGES, open_source

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(("images", "batch"), [(10, 4), (7, 7), (3, 8), (64, 1)])
def test_every_epoch_is_a_permutation_of_its_own(images: int, batch: int) -> None:
    drawn = [index for step in range(2 * images) for index in batch_indices(images, batch, 5, step)]
    epochs = [drawn[start : start + images] for start in range(0, len(drawn) - images + 1, images)]
    assert len(epochs) > 1 and all(sorted(epoch) == list(range(images)) for epoch in epochs)
    assert images < 7 or len({tuple(epoch) for epoch in epochs}) > 1


def test_the_order_of_the_images_follows_the_seed() -> None:
    orders = {tuple(batch_indices(50, 50, seed, 0)) for seed in range(4)}
    assert len(orders) == 4
    assert batch_indices(50, 8, 3, 9) == batch_indices(50, 8, 3, 9)


def test_seeds_change_the_images_but_variants_do_not(tmp_path: Path) -> None:
    """Compares the images themselves, through the source that a training reads."""
    params = tiers.read(ROOT / "params.yaml")
    params["tiers"]["smoke"]["data"] |= {"train": 24, "tune": 2, "val": 2}
    smoke = tiers.load(params, "smoke")
    setting = smoke.main
    facts = prepare(setting.data, None, tmp_path, smoke.band_px)

    def batches(variant: Variant, seed: int) -> list[np.ndarray]:
        training = Training(variant, setting.data, setting.network, setting.recipe, seed, smoke.band_px)
        source = open_source(training, facts, tmp_path, torch.device("cpu"))
        return [source.raw_batch(step)[0][IMAGES].numpy() for step in range(3)]

    first, same, other = batches(Variant(dense(1)), 0), batches(Variant(gcn(7)), 0), batches(Variant(dense(1)), 1)
    assert all(np.array_equal(one, another) for one, another in zip(first, same, strict=True))
    assert not any(np.array_equal(one, another) for one, another in zip(first, other, strict=True))
