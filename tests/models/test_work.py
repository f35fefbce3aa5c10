"""What a pass through a network is made of."""

from __future__ import annotations

import pytest

from study.models import costs
from study.models.work import Work, work
from study.spec.heads import Variant, gcn
from study.spec.training import Network, freeze

SIZE = (32, 64)
# Widths of whole blocks, and as many classes as a block has numbers: nothing is rounded.
WHOLE = Network("shallow", ("res2", "res3"), freeze({"widths": [16, 32], "strides": [2, 4]}))
PLAIN, REFINED = Variant(gcn(3)), Variant(gcn(3), refine=True)


@pytest.mark.parametrize("variant", [PLAIN, REFINED, None])
def test_multiply_adds_are_those_that_torch_counts(variant):
    assert work(variant, WHOLE, 16, SIZE).macs == pytest.approx(costs.costs(variant, WHOLE, 16, SIZE)["macs"], rel=0.01)


def test_channels_are_executed_in_blocks():
    """A refinement of 7 classes is two 3x3 convolutions of as many blocks as one of 16."""
    few, many = (work(REFINED, WHOLE, n, SIZE).macs - work(PLAIN, WHOLE, n, SIZE).macs for n in (7, 16))
    cells = sum(SIZE[0] * SIZE[1] // stride**2 for stride in (1, 2, 2, 4))  # where the refinements stand
    assert few == many == 2 * 9 * 16 * 16 * cells


def test_image_size_changes_work_but_not_modules():
    small, large = (work(REFINED, WHOLE, 7, (side, side)) for side in (32, 64))
    assert (large.macs, large.numbers) == (4 * small.macs, 4 * small.numbers)
    assert large.modules == small.modules > 0


def test_a_cached_backbone_takes_no_work():
    whole, above, classifier = (
        work(PLAIN, WHOLE, 7, SIZE),
        work(PLAIN, WHOLE, 7, SIZE, cached=True),
        work(None, WHOLE, 7, SIZE),
    )
    assert whole == above + classifier and above.macs and classifier.macs
    assert Work(1, 2, 3) + Work(10, 20, 30) == Work(11, 22, 33)
