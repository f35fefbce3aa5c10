"""verdicts.json."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from study.spec.typed import closed


@closed
class JudgementRow(TypedDict):
    """statistics.verdicts.Judgement as JSON."""

    verdict: str
    reason: str
    part: str
    unit: str
    estimate: float | None
    points: float | None
    low: float | None
    high: float | None
    p: float | None
    adjusted: float | None
    mde: float | None
    needed: int | None


@closed
class VerdictRow(JudgementRow):
    """statistics.verdicts.Verdict as JSON."""

    claim: str
    says: str
    on: str
    where: str
    printed: str
    wording: str
    parts: int
    bounds: list[float | None]
    paper: float | None
    seeds: int
    beyond: JudgementRow
    exploratory: str
    look: int
    left: str
    chance: float | None
    closing: str
    later: str


@closed
class TrainsRow(TypedDict):
    """How many seeds of a variant settled, why the others did not, and an upper bound on the failure rate."""

    data: str
    label: str
    reasons: list[str]
    settled: int
    seeds: int
    most_failures: float


@closed
class SideRow(TypedDict):
    """A mechanism's contrast in one setting: the effect with its interval, None where there is none."""

    data: str
    better: str
    worse: str
    estimate: float | None
    low: float | None
    high: float | None


@closed
class MechanismRow(TypedDict):
    """Whether a contrast appears where the paper predicts it and is absent where the paper predicts none (D146)."""

    name: str
    says: str
    claim: str
    unit: str
    verdict: str
    reason: str
    adjusted: float | None
    needed: int | None
    seeds: int
    beyond: str
    exploratory: str
    look: int
    left: str
    closing: str
    shows: SideRow
    absent: SideRow


@closed
class LookRow(TypedDict):
    """A look at the results: the number of ``seeds``, the claims and mechanisms ``open`` before it, those that ``left``
    at it with the reason, and the tera multiply-adds ``spent`` by then (0 without a planned cost)."""

    seeds: int
    open: list[str]
    left: dict[str, str]
    spent: float


@closed
class VerdictsFile(TypedDict):
    """The verdicts on all claims. ``family`` are the claims that are corrected together; ``tuned`` are the verdicts
    with each variant at its best values (None without a search)."""

    version: Literal[2]
    questions: dict[str, str]
    wording: str
    scale: str
    family: list[str]
    rows: list[VerdictRow]
    mechanisms: NotRequired[list[MechanismRow]]
    looks: list[LookRow]
    trains: list[TrainsRow]
    tuned: list[VerdictRow] | None
