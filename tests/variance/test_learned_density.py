"""Densities on grids and distances between them: counts, invariants, error bars that cover."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from scorescope.foundation import UserError
from scorescope.variance.learned_density import Density, Grid, compare, kl_divergence, total_variation


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dimension", [1, 2])
def test_shares_against_numpys_histogram(dimension):
    points = torch.randn(3, 2000, dimension, generator=generator(), dtype=torch.float64)
    grid = Grid(-1.5, 1.5, 7, dimension)
    density = Density.of(points, grid)
    for row, run in zip(density.shares, points.numpy(), strict=True):
        counts, _ = np.histogramdd(run, bins=[np.linspace(-1.5, 1.5, 8)] * dimension)
        np.testing.assert_allclose(row[:-1].numpy(), counts.ravel() / 2000)
    torch.testing.assert_close(density.shares.sum(1), torch.ones(3, dtype=torch.float64))
    assert float(density.average.sum()) * grid.width**dimension == pytest.approx(density.inside)
    assert density.average.shape == (7,) * dimension
    assert grid.points.shape == (*(7,) * dimension, dimension)


def test_distances_of_known_normal_densities():
    edges = np.linspace(-8, 8, 4001)
    first, second = (torch.from_numpy(np.diff(norm.cdf(edges, m, 1))) for m in (0.0, 1.0))
    assert float(total_variation(first, second)) == pytest.approx(2 * norm.cdf(0.5) - 1, abs=1e-4)
    assert float(kl_divergence(first, second, 1e12)) == pytest.approx(0.5, abs=1e-4)
    assert float(total_variation(first, first)) == 0
    assert float(kl_divergence(first, first, 10)) == pytest.approx(0, abs=1e-12)


def runs(count, shift, seed, size=400):
    """Runs that differ from each other, as models do: normal samples around a mean that varies."""
    g = generator(seed)
    means = shift + 0.3 * torch.randn(count, 1, 1, generator=g, dtype=torch.float64)
    return Density.of(means + torch.randn(count, size, 1, generator=g, dtype=torch.float64), Grid(-4, 4, 16))


@pytest.mark.parametrize(("measure", "within"), [("tv", 0.3), ("kl", 0.6)])  # rare cells make KL more than quadratic
def test_equal_densities_are_as_far_apart_as_the_floor_says(measure, within):
    found = [
        compare(runs(30, 0.0, 2 * k), runs(60, 0.0, 2 * k + 1), generator(), measure=measure, resamples=20)
        for k in range(25)
    ]
    ratio = sum(one.value for one in found) / sum(one.floor for one in found)
    assert ratio == pytest.approx(1, abs=within)


def test_intervals_cover_the_true_distance():
    exact = Density.of(torch.randn(200, 4000, 1, generator=generator(), dtype=torch.float64), Grid(-4, 4, 16))
    spread = math.sqrt(1 + 0.3**2)
    edges = np.linspace(-4, 4, 17)
    shifted = np.append(np.diff(norm.cdf(edges, 1.0, spread)), 0)
    shifted[-1] = 1 - shifted.sum()
    true = float(total_variation(exact.shares.mean(0), torch.from_numpy(shifted)))
    found = [compare(runs(40, 1.0, k), exact, generator(k), resamples=100) for k in range(20)]
    covered = sum(one.low <= true <= one.high for one in found)
    assert covered >= 16
    assert all(one.value > 5 * one.floor for one in found)


def test_a_single_run_has_no_floor_of_its_own():
    one = Density.of(torch.randn(1, 500, 1, generator=generator(), dtype=torch.float64), Grid())
    assert compare(one, one, generator()).floor == 0


def test_refusals():
    with pytest.raises(UserError, match="runs, n, 1"):
        Density.of(torch.zeros(3, 5, 2), Grid())
    with pytest.raises(UserError, match="cells on a range"):
        Grid(1.0, 1.0)
    first, second = runs(3, 0.0, 0), Density.of(torch.zeros(2, 5, 1, dtype=torch.float64), Grid())
    with pytest.raises(UserError, match="different grids"):
        compare(first, second, generator())
    with pytest.raises(UserError, match="tv or kl"):
        compare(first, first, generator(), measure="l2")
