"""The result of a check: lines with a promise each, as a table and as JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from study.spec.documents.gpu_check import CheckedStep
from study.spec.words import first_line

SKIPPED = "skipped: no time left"
KEPT = {True: "kept", False: "BROKEN", None: "-"}


@dataclass
class Line:
    """What a check found. ``kept`` is None if nothing is promised here, such as speed on a CPU."""

    check: str
    promise: str
    found: str
    kept: bool | None
    seconds: float = 0.0


@dataclass
class Results:
    """All lines, and the seconds of a training and of an inference step by case."""

    device: dict[str, Any]
    lines: list[Line] = field(default_factory=list)
    steps: dict[str, CheckedStep] = field(default_factory=dict)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {"version": 1, **asdict(self)}

    @property
    def skipped(self) -> int:
        return sum(line.found == SKIPPED for line in self.lines)

    @property
    def broken(self) -> list[Line]:
        return [line for line in self.lines if line.kept is False]


def run(results: Results, name: str, check: Callable[[], Iterator[Line]], left_s: float) -> None:
    """Add the lines of a check. One that fails by an error is a broken promise; one without time left is skipped."""
    began = time.monotonic()
    if left_s <= 0:
        results.lines.append(Line(name, "", SKIPPED, None))
        return
    try:
        for line in check():
            now = time.monotonic()
            line.seconds, began = round(now - began, 2), now
            results.lines.append(line)
            print(shown(line), flush=True)
    except Exception as error:  # whatever goes wrong on a new device is a result
        line = Line(name, "ends without an error", f"{type(error).__name__}: {first_line(error)}", False)
        results.lines.append(line)
        print(shown(line), flush=True)


def shown(line: Line) -> str:
    """A line of the table."""
    return f"{KEPT[line.kept]:7} {line.check:34} {line.found}" + (f"   (promised: {line.promise})" * bool(line.promise))
