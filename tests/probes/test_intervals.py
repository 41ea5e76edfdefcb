"""Bootstrap intervals against what is known of means."""

import numpy as np
import pytest

from scorescope.probes.intervals import explained_over_images, mean_over_images, redrawn_weights


def test_intervals_of_a_mean_are_as_wide_as_its_standard_error_says():
    values = np.random.default_rng(0).standard_normal((3, 400))
    found = mean_over_images(values)
    assert found.value == pytest.approx(values.mean(1))
    expected = 2 * 1.96 * values.std(1) / np.sqrt(400)
    assert found.high - found.low == pytest.approx(expected, rel=0.15)
    assert ((found.low < found.value) & (found.value < found.high)).all()


def test_what_does_not_vary_is_certain():
    found = mean_over_images(np.full((2, 5), 0.25))
    assert found.low == pytest.approx(found.high)
    assert found.value == pytest.approx([0.25, 0.25])


def test_every_draw_has_as_many_images_as_there_are():
    weights = redrawn_weights(7, draws=50)
    assert weights.sum(1) == pytest.approx(np.ones(50))
    assert np.rint(weights * 7) == pytest.approx(weights * 7)
    assert np.array_equal(weights, redrawn_weights(7, draws=50))


def test_explained_deviation_is_one_minus_the_ratio_of_means_where_there_is_a_gap():
    rng = np.random.default_rng(1)
    to_optimal = np.stack([rng.uniform(1, 2, 30), np.full(30, 1e-9)])
    to_mechanism = np.stack([to_optimal[0] / 4, np.full(30, 1e-9)])
    found = explained_over_images(to_mechanism, to_optimal, 1e-6)
    assert found.value[0] == pytest.approx(0.75)
    assert found.low[0] == pytest.approx(0.75)  # the ratio is the same for every image, so for every draw
    assert np.isnan([found.value[1], found.low[1], found.high[1]]).all()
