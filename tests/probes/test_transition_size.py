"""N* on curves whose crossing is known."""

import math

import numpy as np
import pytest

from scorescope.probes.transition_size import crossings, middle, transition_size

SIZES = (1, 10, 100, 1000)


def test_a_line_in_log_n_is_found_where_it_crosses():
    # e(N) = log10(300) − log10(N): straight between all sizes, zero at 300
    excess = math.log10(300) - np.log10(SIZES)
    assert crossings(SIZES, excess) == pytest.approx(300)
    found = transition_size(SIZES, excess, excess + np.linspace(-0.1, 0.1, 41)[:, None])
    assert found.between == (100, 1000)
    assert found.words() == "N* = 300, between 100 and 1,000 (95 % interval 240 to 370)"
    assert found.value_words() == "300"


def test_the_last_of_several_crossings_counts():
    # below zero at 10, above it again at 100
    assert crossings(SIZES, [1, -1, 1, -1]) == pytest.approx(math.sqrt(100 * 1000))


def test_a_curve_that_never_crosses_is_outside():
    assert crossings(SIZES, [[1, 1, 1, 1], [-1, -1, -1, 0], [-1, -1, -1, 1]]).tolist() == [math.inf, 0, math.inf]
    above = transition_size(SIZES, np.ones(4), np.ones((9, 4)))
    assert not above.inside
    assert above.value_words() == above.interval_words() == "above 1,000"
    with pytest.raises(ValueError, match="between no two of them"):
        _ = above.between
    assert above.words() == "N* is above the largest N tried, 1,000"
    assert "below the smallest N tried, 1" in transition_size(SIZES, -np.ones(4), -np.ones((9, 4))).words()


def test_what_is_probably_outside_has_its_interval_said():
    drawn = np.array([[1.0, 0.5, 0.2, level] for level in np.linspace(-0.05, 0.2, 50)])
    found = transition_size(SIZES, [1.0, 0.5, 0.2, 0.01], drawn)
    assert found.words() == "N* is above the largest N tried, 1,000 (95 % interval 660 to above 1,000)"


def test_the_interval_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    true = math.log10(300) - np.log10(SIZES)
    inside = 0
    for _ in range(200):
        measured = true + 0.1 * generator.normal(size=4)
        found = transition_size(SIZES, measured, measured + 0.1 * generator.normal(size=(400, 4)))
        inside += found.low <= 300 <= found.high
    assert inside / 200 == pytest.approx(0.95, abs=0.05)


def test_an_interval_may_leave_the_range():
    drawn = np.array([[1.0, 0.5, 0.2, level] for level in np.linspace(-0.2, 0.02, 50)])
    found = transition_size(SIZES, drawn[20], drawn)
    assert found.inside
    assert found.high == math.inf
    assert found.interval_words().endswith("to above 1,000")
    assert found.low <= found.value
    assert middle(np.array([0.0, 5.0, math.inf])) == (0, math.inf)


def test_curves_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="finite"):
        crossings(SIZES, [1, math.nan, 0, 0])
    with pytest.raises(ValueError, match="increasing"):
        crossings((10, 1), [1, 0])
