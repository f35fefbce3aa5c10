"""tuning/search.json: the candidates of the search."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from study.spec.documents.plan import Labels
from study.spec.typed import closed


@closed
class Trial(Labels):
    """A candidate of the search: searched values, keys by seed, scores (fractions, on the tune split) by step, the step
    at which it was dropped, why it failed, whether it is trained to its end (``whole``) and whether it is its variant's
    best."""

    setting: str
    values: dict[str, float]
    keys: dict[str, str]
    scores: dict[str, float]
    dropped: int | None
    failed: str
    whole: bool
    best: bool


@closed
class SearchFile(TypedDict):
    """The result of the stage tune; ``on`` is false without a search."""

    version: Literal[1]
    on: bool
    trials: list[Trial]
