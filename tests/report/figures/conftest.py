"""Results of a small fake tier that every figure is drawn from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from study.paper.tables import TABLES
from study.report.figures.plate import Source
from study.spec.heads import Variant, dense, gcn
from study.statistics import results
from tests.report.test_document import _listing, fake_plan, fake_run

SEEDS, CLASSES = 2, 3


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Tables 1, 2, 3 and 5 and a control set, two seeds each."""
    tables = [TABLES[name] for name in ("T1", "T2", "T3", "T5")]
    tables.append(_listing("C1", "texture", [Variant(dense(1)), Variant(gcn(15))]))
    plan = fake_plan(tables, SEEDS, CLASSES)
    folder = tmp_path_factory.mktemp("figures")
    for key, training in plan["trainings"].items():
        fake_run(folder / "results" / key, training, CLASSES)
    frame = results.frame(plan, folder / "results")
    return Source.of(folder, plan, frame, results.summary(frame))


@pytest.fixture(scope="session")
def nothing(source: Source) -> Source:
    """The same tier before anything was trained."""
    lost = source.summary.assign(mean=np.nan)
    return Source(source.folder / "nowhere", source.plan, source.frame[:0], lost, source.looks)


def points(ax: Axes, marker: str) -> np.ndarray:
    """(n, 2): the points with this marker in the axes, sorted by x."""
    found = [line.get_xydata() for line in ax.lines if line.get_marker() == marker]
    stacked = np.concatenate(found) if found else np.zeros((0, 2))
    return stacked[np.argsort(stacked[:, 0])]


def means_of(source: Source, head: str, metric: str = "miou", data: str = "main") -> pd.Series:
    """Kernel size -> mean score in percent of a plain family."""
    rows = source.summary[(source.summary["metric"] == metric) & (source.summary["data"] == data)]
    rows = rows[(rows["head"] == head) & ~rows["refine"].astype(bool)].drop_duplicates("label")
    return 100 * rows.set_index("kernel_size")["mean"].sort_index()
