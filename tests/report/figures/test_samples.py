"""Images, predictions and truth (Fig. 6 and 7)."""

from __future__ import annotations

import numpy as np

from study.data import display
from study.data.prepare import PAD_COLOUR
from study.report.figures import samples
from study.spec.constants import VOID


def test_samples_are_cropped_and_coloured_by_class(source):
    images, labels, predictions, facts = samples.samples(source.folder, source.plan, ("T5/GCN/overall",))
    assert facts["classes"] == [f"class {index}" for index in range(3)]
    images, labels = images.copy(), labels.copy()
    images[0, 20:], labels[0, 20:] = PAD_COLOUR, VOID
    facts = facts | {"colours": {"class 0": [1, 2, 3], "class 2": [250, 120, 0]}}
    figure = samples.qualitative(images, labels, predictions, facts)
    image, predicted, truth = (np.asarray(ax.images[0].get_array()) for ax in figure.axes[:3])
    times = 384 // labels.shape[2]
    assert image.shape == predicted.shape == truth.shape == (20 * times, 32 * times, 3), "the first image is cut"
    assert np.asarray(figure.axes[3].images[0].get_array()).shape[0] == 24 * times, "the second is whole"
    assert np.array_equal(image[::times, ::times], images[0, :20])
    table = display.colours_of(facts)
    assert table[[0, 2]].tolist() == [[1, 2, 3], [250, 120, 0]]
    assert np.array_equal(truth[::times, ::times], table[labels[0, :20]])
    assert tuple(truth[0, 0]) == display.VOID_COLOUR
    told = {text.get_text(): patch.get_facecolor()[:3] for text, patch in
            zip(figure.legends[0].get_texts(), figure.legends[0].get_patches(), strict=True)}  # fmt: skip
    assert told.keys() == {"class 0", "class 1", "class 2", "void"}
    for number, name in enumerate(facts["classes"]):
        assert np.allclose(np.array(told[name]) * 255, table[number])
    assert [ax.get_title(loc="center") for ax in figure.axes[:3]] == ["image", *predictions, "truth"]


def test_paper_figures_need_their_cells_predictions(source, nothing):
    assert samples.drawn_for("F6")(source) is not None
    assert samples.drawn_for("F7")(source) is None, "Table 9 is not among the tables"
    assert samples.drawn_for("F6")(nothing) is None
