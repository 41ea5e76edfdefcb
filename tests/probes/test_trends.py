"""Trends over size and training: against scipy on one class, and their coverage where networks differ at random."""

import numpy as np
import pytest
from scipy import stats

from scorescope.foundation import UserError
from scorescope.probes.trends import trends

PARAMETERS, STEPS = [1e5, 3e5, 2e6], [400, 800, 1600]


def test_one_class_agrees_with_scipy():
    values = np.random.default_rng(0).normal(size=(3, 3))
    (trained,), (grown,) = trends(values[None], PARAMETERS, STEPS)
    slopes = [stats.linregress(np.log2(STEPS), row).slope for row in values]
    assert trained.value == pytest.approx(np.mean(slopes))
    between = stats.ttest_1samp(slopes, 0).confidence_interval(0.95)
    assert (trained.low, trained.high) == pytest.approx((between.low, between.high))
    line = stats.linregress(np.log2(PARAMETERS), values.mean(1))
    half = line.stderr * stats.t.ppf(0.975, 1)
    assert (grown.value, grown.low, grown.high) == pytest.approx((line.slope, line.slope - half, line.slope + half))


def test_intervals_hold_the_truth_as_often_as_they_say_though_snapshots_of_a_network_are_alike():
    rng = np.random.default_rng(1)
    truth_size, truth_steps = np.array([0.02, 0.0, -0.01]), np.array([0.05, 0.03, 0.0])
    x, t = np.log2(PARAMETERS), np.log2(STEPS)
    clean = truth_size[:, None, None] * x[:, None] + truth_steps[:, None, None] * t
    inside = []
    for _ in range(400):
        network = 0.02 * rng.normal(size=(3, 3, 1)) + 0.01 * rng.normal(size=(3, 3, 1)) * (t - t.mean())
        trained, grown = trends(clean + network + 0.001 * rng.normal(size=(3, 3, 3)), PARAMETERS, STEPS)
        for found, truth in ((trained, truth_steps), (grown, truth_size)):
            inside.append([one.low <= true <= one.high for one, true in zip(found, truth, strict=True)])
    shares = np.mean(inside, axis=1).reshape(400, 2).mean(0)  # classes of one draw share their scatter
    assert shares == pytest.approx(0.95, abs=0.03)


def test_a_trend_without_scatter_is_exact():
    values = 0.3 + 0.05 * np.log2(STEPS)[None, None] - 0.02 * np.log2(PARAMETERS)[None, :, None]
    (trained,), (grown,) = trends(values, PARAMETERS, STEPS)
    assert (trained.low, trained.value, trained.high) == pytest.approx((0.05, 0.05, 0.05))
    assert (grown.low, grown.value, grown.high) == pytest.approx((-0.02, -0.02, -0.02))


@pytest.mark.parametrize(
    ("values", "steps", "said"),
    [
        (np.zeros((1, 3, 2)), [1, 2], "3 different numbers of steps"),
        (np.zeros((1, 3, 3)), [1, 2, 2], "3 different numbers of steps"),
        (np.zeros((1, 2, 3)), STEPS, "values"),
        (np.full((1, 3, 3), np.nan), STEPS, "finite"),
    ],
)
def test_what_has_no_trend_is_refused(values, steps, said):
    with pytest.raises(UserError, match=said):
        trends(values, PARAMETERS, steps)
