"""The section on an exploration, from the shipped ones."""

from __future__ import annotations

import pytest

from benchmarks import page_tables


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tier", "bounds", "objective"),
    [("shapes", "", "pareto"), ("voc_subset", "at most 2.1 G multiply-adds an image", "score")],
)
def test_objective_and_bounds_are_in_words(tier: str, bounds: str, objective: str) -> None:
    words = page_tables.explorations()[tier]
    assert (words["bounds"], words["objective"], words["against"]) == (bounds, objective, "multiply-adds")


@pytest.mark.slow
def test_refinement_is_compared_among_enough_trials() -> None:
    rows = [row for words in page_tables.explorations().values() for row in words["refined"]]
    numbers = [int(part.split()[0]) for row in rows for part in row["trials"].split(", ")]
    assert rows and min(numbers) >= 3
