"""Collapse and speciation on charts: which axes show them, where, and what is said."""

import math

import numpy as np
import pytest

from scorescope.study import charts
from scorescope.study.landmarks import HEADING, Landmarks, landmarks_of, mark, spread
from scorescope.study.results import Results
from scorescope.study.workspace import open_run

X = np.geomspace(0.05, 50, 9)
OWN = Landmarks(1.6, 8.9)


def chart(x_label=charts.SIGMA, titles=("",), x=X, columns=1):
    panels = [charts.Panel([charts.Series("network", x, x)], "error", title) for title in titles]
    return charts.lines(panels, x_label, x_log=x_label != charts.INPUT_PSNR, columns=columns)


def vertical(axis):
    return [line.get_xdata()[0] for line in axis.lines if len(set(line.get_xdata())) == 1]


def test_an_axis_of_noise_levels_shows_both():
    figure = chart(titles=("above", "below"))
    said = mark(figure, {"": OWN})
    assert [vertical(axis) for axis in figure.axes] == [[1.6, 8.9]] * 2
    assert "collapse (σ = 1.6" in said
    assert "speciation (σ = 8.9" in said
    assert [[text.get_text() for text in axis.texts] for axis in figure.axes] == [["collapse", "speciation"], []]


def test_other_axes_show_nothing():
    assert mark(chart("training images"), {"": OWN}) == ""
    assert mark(chart(), {}) == ""
    assert mark(chart(), {"N = 5": OWN}) == ""


def test_levels_beyond_the_axis_are_left_out_and_widen_nothing():
    figure = chart()
    before = figure.axes[0].get_xlim()
    said = mark(figure, {"": Landmarks(0.3, 400.0)})
    assert vertical(figure.axes[0]) == [0.3]
    assert figure.axes[0].get_xlim() == before
    assert "speciation" not in said
    assert mark(chart(), {"": Landmarks(None, None)}) == ""


def test_decibels_are_noise_levels():
    figure = charts.psnr_in_out(charts.Panel([charts.Series("network", [0.0, 30.0], [5.0, 31.0])], "output PSNR (dB)"))
    mark(figure, {"": Landmarks(0.2, 9.0)})
    assert vertical(figure.axes[0]) == [pytest.approx(20 * math.log10(2 / 0.2))]


def test_a_panel_shows_its_own_training_set():
    figure = chart(titles=("N = 10", "N = 99"), columns=2)
    said = mark(figure, {"N = 10": Landmarks(5.0, None), "": Landmarks(0.5, None, of="N = 99")})
    assert [vertical(axis) for axis in figure.axes] == [[5.0], [0.5]]
    assert "a line for each training set" in said
    assert "of the images of N = 99" in mark(chart(), {"": Landmarks(0.5, None, of="N = 99")})


@pytest.mark.parametrize("centres", [[0.5, 0.51], [0.0, 0.02], [0.97, 1.0], [0.1, 0.9], [0.5]])
def test_words_neither_meet_nor_leave(centres):
    widths = [0.2, 0.3][: len(centres)]
    left = spread(centres, widths)
    ends = [start + width for start, width in zip(left, widths, strict=True)]
    assert min(left) >= -1e-12
    assert max(ends) <= 1 + 1e-12
    assert all(end <= start for end, start in zip(ends, left[1:], strict=False))


def test_results_say_and_keep_them(tmp_path, digits):
    with open_run(tmp_path / "run", "any", {}) as workspace:
        found = landmarks_of(digits.subset(range(50)), workspace)
    assert 0 < found.collapse < found.speciation
    results = Results(study="any", title="Any", landmarks={"": found})
    results.add_chart("sigma", "Errors", "Over noise.", "Section", chart(), alt="A falling line.")
    results.add_chart("size", "Errors", "Over images.", "Section", chart("training images"))
    assert "collapse (σ = " in results.figures[0].caption
    assert results.figures[0].alt.startswith("A falling line. Thin lines")
    assert results.figures[1].caption == "Over images."
    assert "arXiv 2402.18491" in results.methods[HEADING]
    results.save(tmp_path / "kept")
    assert Results.load(tmp_path / "kept").landmarks == results.landmarks
