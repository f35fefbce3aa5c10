"""A figure of the report, and the data that the figures of results are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from study.report.figures.families import Style, described, save, styles
from study.spec.documents.networks import AnatomyFile
from study.spec.documents.plan import PlanFile
from study.spec.documents.reading import read


@dataclass(frozen=True)
class Source:
    """A tier's results. ``frame`` and ``summary`` have the columns of each cell's variant (families.described). They
    have no rows of classifiers and of other methods' printed scores, which no plot shows."""

    folder: Path
    plan: PlanFile
    frame: pd.DataFrame
    summary: pd.DataFrame
    looks: dict[str, Style]

    @classmethod
    def of(cls, folder: Path, plan: PlanFile, frame: pd.DataFrame, summary: pd.DataFrame) -> Source:
        """Build from the frames of statistics.results."""
        frame, summary = described(frame, plan), described(summary, plan)
        frame, summary = (rows[rows["head"] != "classifier"] for rows in (frame, summary))
        return cls(folder, plan, frame, summary, styles(plan))

    @property
    def metrics(self) -> dict[str, str]:
        """Metric -> its title, starting with the mean IoU that leads the tier."""
        order = [name for name in ("miou_frequent", "miou") if name in self.plan["metrics"]]
        return {name: "mean IoU" if len(order) == 1 else self.plan["metrics"][name] for name in order}

    @property
    def scored(self) -> pd.DataFrame:
        """Rows of ``summary`` that have a score."""
        return self.summary[self.summary["mean"].notna()]

    @property
    def leading(self) -> pd.DataFrame:
        """Rows of the main set with a score of the leading metric."""
        return self.scored[(self.scored["data"] == "main") & (self.scored["metric"] == next(iter(self.metrics)))]


@dataclass(frozen=True)
class Plate:
    """A figure with its words. ``draw`` returns None if the tier has nothing to show in it."""

    name: str
    title: str
    caption: str
    draw: Callable[[Source], Figure | None]


def anatomy(source: Source) -> AnatomyFile:
    """The networks as the code builds them: examined/anatomy.json."""
    return read(source.folder / "examined" / "anatomy.json", AnatomyFile)


def saved(figure: Figure, folder: Path, name: str, title: str, caption: str) -> dict[str, str]:
    """Save a figure in a report's ``folder``. Returns what the template shows of it."""
    save(figure, folder / "figures" / f"{name}.svg")
    return {"name": name, "title": title, "caption": caption}
