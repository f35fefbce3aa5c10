"""What all pipeline stages share: the folder of a tier, exit statuses, and progress lines for long loops."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from pathlib import Path

from study.spec.documents.plan import DrawnFile, PlanFile, restricted
from study.spec.documents.reading import read
from study.spec.errors import InputError
from study.spec.words import duration
from study.store import machine
from study.store.runs import StoreError
from study.store.stop_signals import Stopped

TICK_S = 5.0
DRAWN = "drawn.json"  # in the folder results/


def folder(tier: str) -> Path:
    """``reports/<tier>``, created if it does not exist."""
    path = Path("reports") / tier
    path.mkdir(parents=True, exist_ok=True)
    return path


def drawn_plan(folder: Path) -> PlanFile:
    """The plan of a tier. For a tier with looks, it is restricted to the runs that its claims called for (D149)."""
    plan = read(folder / "plan.json", PlanFile)
    if "sequence" not in plan:
        return plan
    return restricted(plan, read(folder / "results" / DRAWN, DrawnFile)["keys"])


def tuned_plan(folder: Path) -> PlanFile | None:
    """The plan of the trainings with each variant at its best values; None without a search (see pipelines.tune)."""
    path = folder / "tuning" / "plan.json"
    return read(path, PlanFile) if path.is_file() else None


def run(main: Callable[[], int | None]) -> int:
    """Run a stage; returns its exit status. Wrong input, an unwritable store and a full disk end in one error line."""
    try:
        machine.ready()
        return main() or 0
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)  # messages of YAML and torch have several lines
        return 2
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(
            f"error: the disk is full ({error}); finished trainings are kept in the run store: free some space and run "
            "the same command again",
            file=sys.stderr,
        )
        return 3
    except (KeyboardInterrupt, Stopped):
        print("stopped; finished work is kept, and the same command continues from here", file=sys.stderr)
        return 130


def ticker(what: str, unit: int = 1, name: str = "") -> Callable[[int, int], None]:
    """A callback ``tick(done, all)`` that prints the time left every few seconds. Numbers are shown in ``unit`` (such
    as 2**20) with its ``name``."""
    began = told = time.monotonic()

    def tick(done: int, every: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= TICK_S:
            told = now
            left = (now - began) / done * (every - done)
            numbers = f"{done // unit:,} of {every // unit:,}{name}"
            print(f"{what}: {numbers}, about {duration(left)} left", flush=True)

    return tick
