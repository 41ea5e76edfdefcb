"""Means and variances over members, and the random field that has their covariance."""

import pytest
import torch
from scipy import stats

from scorescope.denoisers import OptimalDenoiser
from scorescope.foundation import UserError
from scorescope.variance.ensemble import Ensemble, Profile, profile, together


def members(noisy, sigma):
    """Five linear denoisers of points in the plane: (B, 1, 1, 2) -> (5, B, 1, 1, 2)."""
    matrices = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return torch.einsum("mij,bcdj->mbcdi", matrices * (1 + sigma), noisy)


POINTS = torch.randn(4, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_mean_and_variance_are_those_over_members():
    ensemble = Ensemble(members, 5)
    outputs = members(POINTS, 0.3)[:, :, 0, 0]
    torch.testing.assert_close(ensemble.mean(POINTS, 0.3)[:, 0, 0], outputs.mean(0))
    torch.testing.assert_close(ensemble.variance(POINTS, 0.3), outputs.var(0).sum(1))


def test_the_covariance_is_that_of_the_velocity():
    ensemble = Ensemble(members, 5)
    first, second = members(POINTS, 0.3)[:, :, 0, 0] / 0.3, members(POINTS[:2], 0.7)[:, :, 0, 0] / 0.7
    wanted = torch.stack(
        [
            torch.stack([torch.cat([first[:, b].T, second[:, c].T]).cov()[:2, 2:] for c in range(2)])
            for b in range(4)
        ]
    )  # fmt: skip
    torch.testing.assert_close(ensemble.covariance(POINTS, 0.3, POINTS[:2], 0.7), wanted)


def test_runs_are_draws_with_the_members_mean_and_covariance():
    ensemble, runs = Ensemble(members, 5), 20_000
    denoise = ensemble.run(ensemble.draw_weights(runs, torch.Generator().manual_seed(1)))
    low = denoise(POINTS.expand(runs, -1, -1, -1, -1), 0.3)[:, :, 0, 0]
    high = denoise(POINTS.expand(runs, -1, -1, -1, -1), 0.7)[:, :, 0, 0]
    wanted = ensemble.covariance(POINTS, 0.3, POINTS, 0.7) * 0.3 * 0.7
    found = torch.einsum("rbi,rcj->bcij", low - low.mean(0), high - high.mean(0)) / (runs - 1)
    assert float((found - wanted).abs().max()) < 0.05 * float(wanted.abs().max())
    mean = ensemble.mean(POINTS, 0.3)[:, 0, 0]
    assert float((low.mean(0) - mean).abs().max()) < 5 * float(low.std(0).max()) / runs**0.5


def test_the_profile_holds_both_variances_at_the_same_states(digits):
    networks = [OptimalDenoiser(digits.subset(range(start, start + 20))) for start in (0, 20, 40)]
    ensemble, exact = Ensemble(together(networks), 3), OptimalDenoiser(digits.subset(range(60)))
    states = [(torch.randn(6, 1, 8, 8), sigma) for sigma in (2.0, 0.5)]
    found = profile(ensemble, lambda noisy, sigma: exact.describe(noisy, sigma).covariance_trace, states)
    outputs = torch.stack([network(*states[0]) for network in networks]).double()
    torch.testing.assert_close(found.model[0], outputs.var(0).sum((1, 2, 3)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.left, found.model.mean(1) / found.target.mean(1))
    assert found.target.shape == (2, 6)


def test_rank_correlation_is_spearmans():
    values = torch.rand(2, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    other = values.clone()
    other[1] = torch.rand(40, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = Profile(torch.tensor([1.0, 0.5]), values, other.exp()).rank_correlations()
    assert float(found[0]) == pytest.approx(1)
    assert float(found[1]) == pytest.approx(stats.spearmanr(values[1], other[1]).statistic)
    flat = Profile(torch.tensor([1.0]), values[:1], torch.ones(1, 40, dtype=torch.float64))
    assert bool(flat.rank_correlations().isnan().all())


def test_one_member_has_no_variance():
    with pytest.raises(UserError, match="at least two members"):
        Ensemble(members, 1)
