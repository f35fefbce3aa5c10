"""The confusion figure draws the counts: which class is taken for which."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from study.report.figures import confusion, style
from study.report.figures.plate import Source


def words(figure: Figure) -> dict[tuple[int, int], str]:
    """The text in each square (row, column)."""
    found = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    return {(int(row), int(column)): told for (column, row), told in found.items()}


def names(figure: Figure) -> tuple[list[str], list[str]]:
    ax = figure.axes[0]
    return [t.get_text() for t in ax.get_yticklabels()], [t.get_text() for t in ax.get_xticklabels()]


def test_rows_are_true_classes_in_percent() -> None:
    matrix = np.array([[90, 10, 0], [1, 1, 2], [0, 0, 0]])
    figure = confusion.confusion(matrix, ["ground", "roof", "tree$"])
    assert words(figure) == {(0, 0): "90", (0, 1): "10", (1, 0): "25", (1, 1): "25", (1, 2): "50", (2, 0): "not in val"}
    shares = np.asarray(figure.axes[0].images[0].get_array().filled(np.nan))
    assert np.allclose(shares[:2], [[90, 10, 0], [25, 25, 50]]) and np.isnan(shares[2]).all()
    assert names(figure) == (["ground", "roof", r"tree\$"],) * 2
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("predicted", "true")


def test_rare_classes_are_merged_without_losing_a_pixel() -> None:
    draw = np.random.default_rng(0)
    matrix, pixels = draw.integers(0, 9, (150, 150)), draw.permutation(150)
    added, kept = confusion.most_frequent(matrix, [f"class {label}" for label in range(150)], pixels.tolist())
    assert added.shape == (30, 30) and added.sum() == matrix.sum() and kept[-1] == confusion.OTHERS
    often = sorted(np.argsort(-pixels)[:29].tolist())
    assert kept[:-1] == [f"class {label}" for label in often], "in the order of the data set"
    assert np.array_equal(added[:-1, :-1], matrix[np.ix_(often, often)])
    assert added[-1, -1] == matrix.sum() - matrix[often].sum() - matrix[:, often].sum() + added[:-1, :-1].sum()


@pytest.mark.parametrize("number", [2, 8, 21, 24, 30])
def test_no_words_overlap_or_leave_the_figure(number: int) -> None:
    figure = confusion.confusion(np.full((number, number), 7) + 400 * np.eye(number, dtype=int), ["w" * 30] * number)
    figure.draw_without_rendering()
    ax = figure.axes[0]
    assert figure.get_size_inches()[0] == style.WIDTH_IN and figure.get_size_inches()[1] < 8.5
    assert bool(ax.texts) == (number <= confusion.NUMBERED)
    labels = ax.get_yticklabels()
    boxes = [label.get_window_extent() for label in labels]
    assert all(not one.overlaps(other) for one, other in itertools.pairwise(boxes))
    inside = [*boxes, *(label.get_window_extent() for label in ax.get_xticklabels())]
    assert all(figure.bbox.x0 <= box.x0 and box.y1 <= figure.bbox.y1 and figure.bbox.y0 <= box.y0 for box in inside)
    side = ax.get_window_extent().width / number
    assert all(text.get_window_extent().width < side for text in ax.texts)


def test_the_figure_needs_counted_confusions(source: Source, nothing: Source, tmp_path: Path) -> None:
    draw = confusion.drawn_for("T5/GCN/overall")
    assert draw(nothing) is None
    (tmp_path / "examined" / "confusion").mkdir(parents=True)
    matrix = np.diag([3, 2, 1])
    np.savez(tmp_path / "examined" / "confusion" / "T5-GCN-overall.npz", confusion=matrix)
    here = replace(source, folder=tmp_path)
    figure = draw(here)
    assert figure is not None and words(figure) == {(label, label): "100" for label in range(3)}
    assert names(figure)[0] == source.plan["data"]["main"]["classes"]
    assert confusion.drawn_for("T9/Stage-2/GCN + BR")(here) is None, "Table 9 is not among the tables"
    assert len({plate.name for plate in confusion.PLATES}) == len(confusion.PLATES)
