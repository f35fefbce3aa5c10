"""Images, predictions and truth (Fig. 6 and 7)."""

from __future__ import annotations

import numpy as np

from study.report.figures import samples


def test_predictions_on_padding_are_drawn_as_void_and_classes_keep_their_colour(source):
    images, labels, predictions, classes = samples.samples(source.folder, source.plan, ("T5/GCN/overall",))
    assert classes == [f"class {index}" for index in range(3)]
    figure = samples.qualitative(images, labels, predictions, classes)
    image, predicted, truth = (ax.images[0].get_array() for ax in figure.axes[:3])
    height, width, _ = truth.shape
    void = tuple(int(255 * part) for part in samples.VOID_COLOUR)
    assert tuple(predicted[height - 1, width - 1]) == tuple(truth[height - 1, width - 1]) == void
    inside = truth[height // 2, width // 2]
    assert tuple(inside) != void and np.array_equal(predicted[height // 2, width // 2], inside)
    assert np.array_equal(image[0, 0], images[0][0, 0])
    assert [ax.get_title(loc="center") for ax in figure.axes[:3]] == ["image", *predictions, "truth"]


def test_a_figure_of_the_paper_needs_the_predictions_of_its_cells(source, nothing):
    assert samples.drawn_for("F6")(source) is not None
    assert samples.drawn_for("F7")(source) is None, "Table 9 is not among the tables"
    assert samples.drawn_for("F6")(nothing) is None
