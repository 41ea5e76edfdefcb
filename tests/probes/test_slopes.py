"""Slopes of PSNR curves: straight lines, independent fits, and intervals that cover what they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scorescope.foundation import UserError
from scorescope.probes.slopes import fit_slope, optimal_slope


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_straight_line_is_found_within_the_range_alone() -> None:
    x = np.linspace(0, 40, 21)
    y = np.where((x >= 10) & (x <= 30), 7 + 0.6 * x, 100.0)
    found = fit_slope(x, np.stack([y, y + 3], axis=1), 10, 30, seeded())
    assert found.value == pytest.approx(0.6, abs=1e-12)
    assert found.intercept == pytest.approx(8.5, abs=1e-10)
    assert found.interval == pytest.approx((0.6, 0.6), abs=1e-12)
    assert (found.levels, found.images, found.fitted) == (11, 2, (10.0, 30.0))
    assert found.residual == pytest.approx(0, abs=1e-10)
    assert found.line([0, 10]) == pytest.approx([8.5, 14.5])


def test_the_slope_and_its_residual_are_those_of_numpy_on_the_mean() -> None:
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(5, 25, 9))  # uneven levels, in any order
    x = rng.permutation(x)
    y = 0.7 * x[:, None] + rng.normal(size=(9, 30))
    found = fit_slope(x, y, 0, 50, seeded())
    slope, intercept = np.polyfit(x, y.mean(1), 1)
    assert found.value == pytest.approx(slope, abs=1e-12)
    assert found.intercept == pytest.approx(intercept, abs=1e-10)
    off = y.mean(1) - intercept - slope * x
    assert found.residual == pytest.approx(np.sqrt((off**2).mean()), abs=1e-10)


def test_the_interval_covers_the_true_slope_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    x = np.linspace(10, 30, 6)
    covered = 0
    for trial in range(200):
        slopes = 0.5 + 0.1 * rng.standard_normal(40)
        found = fit_slope(x, x[:, None] * slopes, 0, 40, seeded(trial), confidence=0.9, draws=400)
        covered += found.interval[0] <= 0.5 <= found.interval[1]
        spread = slopes.std() / np.sqrt(40)
        assert found.interval[1] - found.interval[0] == pytest.approx(2 * 1.645 * spread, rel=0.3)
    assert 0.83 < covered / 200 < 0.96


def test_errors_falling_as_a_power_give_the_optimal_slope() -> None:
    sigma = np.geomspace(0.02, 0.5, 12)
    for alpha, expected in ((1, 1 / 2), (2, 2 / 3), (5, 5 / 6)):
        mse = 0.3 * sigma ** (2 * alpha / (alpha + 1))
        out = np.repeat(10 * np.log10(4 / mse)[:, None], 2, axis=1)
        found = fit_slope(20 * np.log10(2 / sigma), out, 0, 60, seeded())
        assert found.value == pytest.approx(expected, abs=1e-12)
        assert optimal_slope(alpha) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("x", "shape", "low", "high", "match"),
    [
        ([1, 2, 3, 4], (3, 2), 0, 9, "found"),
        ([1, 2, 3, 4], (4, 1), 0, 9, "2 images"),
        ([1, 2, 3, 4], (4, 2), 1.5, 3.5, "3 levels between 1.5 and 3.5"),
        ([2, 2, 2], (3, 2), 0, 9, "levels that differ"),
    ],
)
def test_what_has_no_slope_is_refused(
    x: list[float], shape: tuple[int, int], low: float, high: float, match: str
) -> None:
    with pytest.raises(UserError, match=match):
        fit_slope(x, np.zeros(shape), low, high, seeded())


def test_an_infinite_psnr_is_refused() -> None:
    y = np.zeros((4, 2))
    y[1, 1] = np.inf
    with pytest.raises(UserError, match="finite"):
        fit_slope([1, 2, 3, 4], y, 0, 9, seeded())
