"""params.yaml as it is read, and tier.json."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from study.spec.typed import Json, closed

TierBlock = dict[str, Json]


@closed
class Params(TypedDict):
    """The checked content of params.yaml, with every tier in full."""

    tier: str
    tune: NotRequired[bool]
    explore: NotRequired[int]
    execution: dict[str, Json]
    tracking: NotRequired[dict[str, Json] | None]
    tiers: dict[str, TierBlock]


@closed
class TierFile(TypedDict):
    """A tier in full: its block of params.yaml, with what it inherits from another tier."""

    version: Literal[1]
    tier: str
    block: TierBlock
