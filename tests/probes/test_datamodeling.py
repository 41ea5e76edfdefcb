"""Linear datamodeling scores on simulated networks whose answer is known."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from scorescope.probes.datamodeling import datamodeling_score, predicted, rank_correlation


def simulated(seed, correlation, networks=64, points=24):
    """Predictions and losses whose ranks correlate as those of two normal variables do."""
    random = np.random.default_rng(seed)
    expected = random.standard_normal((networks, points))
    noise = random.standard_normal((networks, points))
    return expected, -(correlation * expected + math.sqrt(1 - correlation**2) * noise)


def test_rank_correlation_is_scipys_with_ties():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 6, (40, 5)), random.standard_normal((40, 5))
    expected = [spearmanr(first[:, k], second[:, k]).statistic for k in range(5)]
    np.testing.assert_allclose(rank_correlation(first, second), expected, atol=1e-12)
    assert rank_correlation(np.ones((9, 1)), np.arange(9.0)[:, None]) == 0


def test_sums_over_subsets():
    subsets = np.array([[True, False, True], [False, True, True]])
    np.testing.assert_array_equal(predicted([[1.0, 2.0, 4.0]], subsets), [[5.0], [6.0]])


@pytest.mark.slow
def test_known_score_lies_within_the_intervals():
    correlation, networks = 0.6, 64
    # of so many pairs of normal variables, on average (Moran, Biometrika 1948)
    whole, half = math.asin(correlation), math.asin(correlation / 2)
    truth = 6 / (math.pi * (networks + 1)) * (whole + (networks - 2) * half)
    found = [
        datamodeling_score(*simulated(seed, correlation, networks), seed=seed, resamples=150) for seed in range(50)
    ]
    assert np.mean([one.value for one in found]) == pytest.approx(truth, abs=0.01)
    assert np.mean([one.over_points[0] <= truth <= one.over_points[1] for one in found]) >= 0.8
    assert np.mean([one.over_networks[0] <= truth <= one.over_networks[1] for one in found]) >= 0.8


def test_a_loss_that_falls_as_predicted_scores_one_and_chance_about_zero():
    expected, _ = simulated(0, 0.5)
    assert datamodeling_score(expected, -(expected**3), resamples=10).value == pytest.approx(1)
    nothing = datamodeling_score(*simulated(1, 0.0), resamples=200)
    assert nothing.over_networks[0] < 0 < nothing.over_networks[1]


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(ValueError, match="networks"):
        datamodeling_score(np.zeros((2, 3)), np.zeros((2, 3)))
