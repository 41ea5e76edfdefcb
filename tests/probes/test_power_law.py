"""The power law of times: least squares where nothing is censored, and a known law where half is."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import linregress, norm
from scipy.stats import t as t_distribution

from scorescope.probes.power_law import Reached, first_reach, power_law

SIZES = np.array([16, 16, 32, 32, 64, 64, 128, 128, 256, 256], dtype=float)


def times(random, exponent=1.0, spread=0.2):
    return 20 * SIZES**exponent * np.exp(spread * random.standard_normal(len(SIZES)))


def ended(drawn, last, first=0.0):
    return [
        Reached(last, "later") if one > last else Reached(first, "earlier") if one < first else Reached(one, "observed")
        for one in drawn
    ]


def test_without_censoring_it_is_least_squares():
    drawn = times(np.random.default_rng(0))
    found = power_law(SIZES, ended(drawn, math.inf))
    wanted = linregress(np.log(SIZES), np.log(drawn))
    half = t_distribution.ppf(0.975, len(SIZES) - 2) * wanted.stderr
    assert found.exponent.value == pytest.approx(wanted.slope, abs=1e-5)
    assert found.exponent.low == pytest.approx(wanted.slope - half, abs=1e-5)
    assert found.exponent.high == pytest.approx(wanted.slope + half, abs=1e-5)
    assert found.time_at_one == pytest.approx(math.exp(wanted.intercept), rel=1e-4)
    assert (found.observed, found.runs) == (10, 10)


def test_censored_runs_enter_by_their_probability():
    """Against a general minimizer of the likelihood written down as it is."""
    reached = ended(times(np.random.default_rng(1)), 2000.0, 350.0)
    assert {one.state for one in reached} == {"observed", "later", "earlier"}
    x, y = np.log(SIZES), np.log([one.time for one in reached])

    def minus(parameters):
        a, b, log_spread = parameters
        z = (y - a - b * x) / math.exp(log_spread)
        terms = {"observed": norm.logpdf(z) - log_spread, "later": norm.logsf(z), "earlier": norm.logcdf(z)}
        return -sum(terms[one.state][i] for i, one in enumerate(reached))

    wanted = minimize(
        minus, [3.0, 1.0, -1.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000}
    )
    found = power_law(SIZES, reached)
    assert found.exponent.value == pytest.approx(wanted.x[1], abs=1e-3)
    assert found.spread == pytest.approx(math.exp(wanted.x[2]), rel=1e-2)


@pytest.mark.slow
def test_the_interval_covers_and_leaving_censored_runs_out_would_not():
    random = np.random.default_rng(2)
    covered = naive = 0
    draws = 40
    for _ in range(draws):
        reached = ended(times(random, spread=0.3), 1500.0)
        law = power_law(SIZES, reached)
        covered += law.exponent.low <= 1 <= law.exponent.high
        kept = [(size, one) for size, one in zip(SIZES, reached, strict=True) if one.state == "observed"]
        naive += power_law(*zip(*kept, strict=True)).exponent.value < 1
    assert covered >= 0.88 * draws
    assert naive > 0.6 * draws


def test_times_that_say_nothing_of_an_exponent():
    assert power_law([16, 32], [Reached(3.0, "observed"), Reached(5.0, "observed")]) is None
    assert power_law([16] * 4, [Reached(3.0 + i, "observed") for i in range(4)]) is None
    open_end = power_law(
        [16, 16, 16.01, 16.01, 256],
        [*(Reached(float(t), "observed") for t in (90, 110, 95, 120)), Reached(4000.0, "later")],
    )
    assert open_end.exponent.low > 0.5
    assert open_end.exponent.high == math.inf


def test_when_a_level_is_reached():
    steps = [10, 100, 1000]
    assert first_reach(steps, [0.0, 1.0, 3.0], 2.0, rising=True) == Reached(pytest.approx(10**2.5), "observed")
    assert first_reach(steps, [4.0, 2.0, 1.0], 3.0, rising=False) == Reached(pytest.approx(10**1.5), "observed")
    assert first_reach(steps, [0.0, 1.0, 1.5], 2.0, rising=True) == Reached(pytest.approx(1000), "later")
    assert first_reach(steps, [2.0, 1.0, 1.5], 2.0, rising=True) == Reached(pytest.approx(10), "earlier")
    assert first_reach(steps, [math.nan, 1.0, 3.0], 2.0, rising=True).state == "observed"
    with pytest.raises(ValueError, match="no look"):
        first_reach(steps, [math.nan] * 3, 1.0, rising=True)
