"""Whether a training settled, judged from its loss and its score on the tune split alone, never from reported scores.

The rule is in params.yaml before anything is trained (D114). A training that did not settle is no fair opponent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.statistics.intervals import binomial

LATE = 0.1  # share of the steps that make up the last loss


@dataclass(frozen=True)
class Settling:
    """``peak``: after the warm-up, the loss may not exceed this many times that of a guess (ln of the number of
    classes). ``end``: its mean over the last tenth of the steps must be below this many times that. ``fall``: the share
    of its best tune score that a training may have lost at its end."""

    peak: float
    end: float
    fall: float


def trouble(
    curve: Mapping[str, Sequence[Sequence[float]]], steps: int, warmup: float, classes: int, rule: Settling
) -> str:
    """Why a training did not settle, empty if it did. ``curve`` has [step, value] points of ``loss`` and, on the tune
    split, of ``score``; ``warmup`` is a share of the ``steps``."""
    guess = math.log(classes)
    loss = [(step, value) for step, value in curve["loss"]]
    if not loss or not all(math.isfinite(value) for _, value in loss):
        return "its loss is not finite"
    highest = max((value for step, value in loss if step > warmup * steps), default=0.0)
    if highest > rule.peak * guess:
        return f"its loss rose to {highest:.3g}, against {guess:.3g} for a guess"
    last = last_loss(curve, steps)
    if last >= rule.end * guess:
        return f"its loss ended at {last:.3g}, against {guess:.3g} for a guess"
    scores = [value for _, value in curve["score"]]
    if scores and scores[-1] < (1 - rule.fall) * max(scores):
        return f"its tune score fell from {100 * max(scores):.1f} to {100 * scores[-1]:.1f} %"
    return ""


def last_loss(curve: Mapping[str, Sequence[Sequence[float]]], steps: int) -> float:
    """Mean loss of the last tenth of the steps, in nats; nan where there is none."""
    late = [value for step, value in curve["loss"] if step > (1 - LATE) * steps]
    return sum(late) / len(late) if late else math.nan


def most_failures(settled: int, seeds: int, alpha: float) -> float:
    """The highest rate of seeds that fail or do not settle: the exact one-sided 1 - alpha bound (0 of 3: up to 63
    %)."""
    return binomial(seeds - settled, seeds, alpha)
