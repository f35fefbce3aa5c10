"""Numbers, lists and errors in words."""

from __future__ import annotations

DAY_S = 86_400


def duration(seconds: float) -> str:
    """A duration, such as ``45 s``, ``3 min``, ``2 h 10 min``, ``12 days``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes >= 14_400:
        return f"{round(minutes / 1440):,} days"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as ``1 training``, ``2,000 trainings``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the error's type if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def interval(estimate: float, low: float, high: float, digits: int = 1) -> str:
    """An estimate with its interval, such as ``+1.2 [-0.3, +2.1]``."""
    return f"{estimate:+z.{digits}f} [{low:+z.{digits}f}, {high:+z.{digits}f}]"
