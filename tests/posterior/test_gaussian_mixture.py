"""Mixtures of Gaussians: posteriors against densities written out, and fits of mixtures that are known."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from scorescope.posterior.gaussian_mixture import LEAST_VARIANCE, GaussianMixture, fitted

ANGLE = np.pi / 6
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])
WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[0.0, 0.0], [4.0, 1.0], [-3.0, 4.0]])
COVARIANCES = np.stack([TURN @ np.diag(spread) @ TURN.T for spread in ([1.0, 0.1], [0.2, 0.6], [0.3, 0.3])])
KNOWN = GaussianMixture(*map(torch.from_numpy, (np.log(WEIGHTS), MEANS, COVARIANCES)))


def draws(count, seed=0):
    rng = np.random.default_rng(seed)
    kinds = rng.choice(3, count, p=WEIGHTS)
    roots = np.linalg.cholesky(COVARIANCES)
    return MEANS[kinds] + np.einsum("nij,nj->ni", roots[kinds], rng.standard_normal((count, 2))), kinds


def by_hand(noisy, sigma, prior, temperature=1.0):
    """One noisy vector: shares and mean from densities and inverses."""
    blurred = [covariance + sigma**2 * np.eye(2) for covariance in COVARIANCES]
    density = np.array([multivariate_normal(m, c).pdf(noisy) for m, c in zip(MEANS, blurred, strict=True)])
    shares = prior * density ** (1 / temperature)
    shares /= shares.sum()
    means = [
        mean + covariance @ np.linalg.inv(total) @ (noisy - mean)
        for mean, covariance, total in zip(MEANS, COVARIANCES, blurred, strict=True)
    ]
    return shares, shares @ np.array(means)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 3.0])
def test_posterior_is_its_definition(sigma):
    noisy = draws(6)[0] + sigma * np.random.default_rng(1).standard_normal((6, 2))
    found = KNOWN.posterior(torch.from_numpy(noisy), sigma)
    for row, vector in enumerate(noisy):
        shares, mean = by_hand(vector, sigma, WEIGHTS)
        assert found.shares[row].numpy() == pytest.approx(shares, rel=1e-9, abs=1e-13)
        assert found.mean[row].numpy() == pytest.approx(mean, rel=1e-9, abs=1e-11)
    torch.testing.assert_close(KNOWN.shares(torch.from_numpy(noisy), sigma), found.shares)


def test_another_prior_and_a_temperature():
    noisy, priors = draws(4)[0], np.random.default_rng(2).dirichlet(np.ones(3), 4)
    log_prior = torch.from_numpy(np.log(priors))
    found = KNOWN.posterior(torch.from_numpy(noisy), 0.8, log_prior=log_prior, temperature=2.5)
    for row, vector in enumerate(noisy):
        shares, mean = by_hand(vector, 0.8, priors[row], 2.5)
        assert found.shares[row].numpy() == pytest.approx(shares, rel=1e-9)
        assert found.mean[row].numpy() == pytest.approx(mean, rel=1e-9)


def test_posterior_mean_is_the_best_estimate():
    clean, _ = draws(40_000, seed=3)
    noisy = clean + 0.7 * np.random.default_rng(4).standard_normal(clean.shape)
    mean = KNOWN.posterior(torch.from_numpy(noisy), 0.7).mean.numpy()
    error = ((mean - clean) ** 2).mean()
    for other in (noisy, 1.02 * mean, mean + 0.05):
        assert error < ((other - clean) ** 2).mean()
    assert ((mean - clean) * mean).mean() == pytest.approx(0, abs=0.01)  # the error is orthogonal to the estimate


def test_a_known_mixture_is_found():
    vectors, kinds = draws(6000)
    found, shares = fitted(torch.from_numpy(vectors), 3, pool=1.0)
    order = [int((found.means - torch.from_numpy(mean)).square().sum(1).argmin()) for mean in MEANS]
    assert sorted(order) == [0, 1, 2]
    assert found.log_weights.exp()[order].numpy() == pytest.approx(WEIGHTS, abs=0.02)
    assert found.means[order].numpy() == pytest.approx(MEANS, abs=0.06)
    assert found.covariances[order].numpy() == pytest.approx(COVARIANCES, abs=0.06)
    assert (shares[:, order].argmax(1).numpy() == kinds).mean() > 0.97


def test_one_component_has_the_moments_of_all():
    vectors, _ = draws(500)
    found, shares = fitted(torch.from_numpy(vectors), 1)
    assert found.means[0].numpy() == pytest.approx(vectors.mean(0), abs=1e-5)
    assert found.covariances[0].numpy() == pytest.approx(
        np.cov(vectors.T, bias=True) + LEAST_VARIANCE * np.eye(2), rel=1e-4
    )
    assert shares.shape == (500, 1)


def test_covariances_are_drawn_to_the_pool():
    vectors, _ = draws(3000)
    loose, tight = (fitted(torch.from_numpy(vectors), 3, pool=pool)[0].covariances for pool in (1e-3, 1e7))
    spread = [(each - each.mean(0)).norm() for each in (loose, tight)]
    assert spread[1] < 1e-3 * spread[0]


@pytest.mark.parametrize("count", [1, 2, 45])
def test_few_vectors_have_few_components(count):
    found, shares = fitted(torch.from_numpy(draws(count)[0]), 30)
    assert len(found.means) == 1
    assert bool(torch.isfinite(found.covariances).all())
    assert shares.sum(1).numpy() == pytest.approx(np.ones(count))


def test_the_same_seed_is_the_same_mixture():
    vectors = torch.from_numpy(draws(400)[0])
    one, other = fitted(vectors, 5, seed=3)[0], fitted(vectors, 5, seed=3)[0]
    assert torch.equal(one.covariances, other.covariances)
