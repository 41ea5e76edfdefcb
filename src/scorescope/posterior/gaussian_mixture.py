"""Mixtures of Gaussians: fitted to clean vectors, and the posterior of a clean vector given a noisy one.

For clean x from ``Σ_k π_k N(μ_k, C_k)`` and ``y = x + σ n`` the posterior is again a mixture: component k has the weight
``r_k ∝ π_k N(y; μ_k, C_k + σ² I)`` and the mean ``μ_k + C_k (C_k + σ² I)⁻¹ (y − μ_k)``, a linear filter of its own. A mean over
training vectors can only give back what was there; linear filters go on between and beyond (Zoran & Weiss, ICCV 2011).

*Fitting.* Expectation-maximization where vectors differ most, in their leading principal directions, from k-means of a few
rounds; then means and covariances of all entries from the responsibilities. A covariance of few vectors says little in many
directions, so that of component k, with n_k vectors, is drawn towards the pooled one within components:
``C_k = (n_k S_k + ν S) / (n_k + ν)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.posterior.processes import from_first

# Variance that every entry has besides: that of rounding to bytes is 5e-6 in units of [-1, 1].
LEAST_VARIANCE = 1e-6
# Components are told apart as if there were so much noise, so that directions without spread do not decide.
_TELLING_APART = 0.1
_KMEANS_ROUNDS, _EM_ROUNDS = 8, 3
# A component has at least so many vectors, on average; and in the search for components they are drawn to the pool by so many.
_VECTORS_EACH, _SEARCH_POOL = 40, 10.0
# Responsibilities below this do not count for moments.
_LEAST_SHARE = 1e-3
# Vectors whitened for all components at once.
MOST_AT_ONCE = 1024


@dataclass(frozen=True)
class Posterior:
    """What a mixture says of B noisy vectors.

    Attributes:
        mean: posterior means, (B, m).
        shares: responsibilities of the components, (B, K), each row summing to one.
    """

    mean: Tensor
    shares: Tensor


@dataclass(frozen=True)
class GaussianMixture:
    """K Gaussians in m dimensions, float64 but for `single`.

    Attributes:
        log_weights: ``ln π``, (K,).
        means: (K, m).
        covariances: (K, m, m), positive definite.
    """

    log_weights: Tensor
    means: Tensor
    covariances: Tensor

    def posterior(
        self, noisy: Tensor, sigma: float, *, log_prior: Tensor | None = None, temperature: float = 1.0
    ) -> Posterior:
        """The posterior of the clean vectors.

        Args:
            noisy: (B, m), of the precision of the mixture.
            sigma: noise level.
            log_prior: what is known of each vector's component from elsewhere, (B, K), in the place of `log_weights`.
            temperature: divides the evidence of the noisy vector, not the prior: above 1 it says less.
        """
        prior = self.log_weights.expand(len(noisy), -1) if log_prior is None else log_prior
        roots = self._roots(sigma)
        pieces = zip(torch.split(noisy, MOST_AT_ONCE), torch.split(prior, MOST_AT_ONCE), strict=True)
        found = [self._posterior(*part, roots, sigma, temperature) for part in pieces]
        return Posterior(torch.cat([one.mean for one in found]), torch.cat([one.shares for one in found]))

    def shares(self, noisy: Tensor, sigma: float, temperature: float = 1.0) -> Tensor:
        """Responsibilities alone, (B, K), of noisy vectors (B, m); `temperature` as in `posterior`."""
        roots = self._roots(sigma)
        evidence = [self._whitened(roots, part)[1] for part in torch.split(noisy, MOST_AT_ONCE)]
        return torch.cat([torch.softmax(self.log_weights + one / temperature, 1) for one in evidence])

    def to(self, device: torch.device) -> GaussianMixture:
        """The same on a device."""
        return GaussianMixture(*(part.to(device) for part in (self.log_weights, self.means, self.covariances)))

    def single(self) -> GaussianMixture:
        """The same in float32, enough where components are only told apart."""
        return GaussianMixture(*(part.float() for part in (self.log_weights, self.means, self.covariances)))

    def same_everywhere(self) -> GaussianMixture:
        """Process 0's: what processors of another make fit may round differently."""
        return GaussianMixture(*(from_first(part) for part in (self.log_weights, self.means, self.covariances)))

    def _posterior(self, noisy: Tensor, prior: Tensor, roots: Tensor, sigma: float, temperature: float) -> Posterior:
        whitened, evidence = self._whitened(roots, noisy)
        shares = torch.softmax(prior + evidence / temperature, 1)
        weighted = whitened * shares.mT[:, None]
        solved = roots.flatten(0, 1).mT @ weighted.flatten(0, 1)  # Σ r (C + σ²)⁻¹ (y − μ), (m, B)
        return Posterior(noisy - sigma**2 * solved.mT, shares)

    def _roots(self, sigma: float) -> Tensor:
        """The inverses R of the Cholesky factors of ``C + σ² I``, so that ``RᵀR = (C + σ² I)⁻¹``, (K, m, m)."""
        blurred = self.covariances.clone()
        blurred.diagonal(dim1=1, dim2=2).add_(sigma**2)
        one = torch.eye(blurred.shape[1], dtype=blurred.dtype, device=blurred.device).expand_as(blurred)
        roots: Tensor = torch.linalg.solve_triangular(torch.linalg.cholesky(blurred), one, upper=False)
        return roots

    def _whitened(self, roots: Tensor, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """``R (y − μ)``, (K, m, B), by one product for all components, and ``ln N(y; μ, C + σ² I)`` + constant, (B, K)."""
        count, size, _ = roots.shape
        whitened = (roots.flatten(0, 1) @ noisy.mT).reshape(count, size, len(noisy))
        whitened -= roots @ self.means[:, :, None]
        volume = roots.diagonal(dim1=1, dim2=2).log().sum(1)
        return whitened, (volume[:, None] - 0.5 * whitened.square().sum(1)).mT


def fitted(
    vectors: Tensor, components: int, *, directions: int = 24, pool: float = 30.0, seed: int = 0
) -> tuple[GaussianMixture, Tensor]:
    """A mixture fitted to clean vectors, and the responsibilities of its components for them.

    Args:
        vectors: (N, m), any float.
        components: at most so many; fewer where there are fewer than 40 vectors for each.
        directions: leading principal directions in which components are searched.
        pool: ν, as how many vectors the covariance within all components counts.
        seed: of the vectors that the search begins at.

    Returns:
        The mixture, float64, the same in all processes, and responsibilities (N, K), float32.
    """
    count = max(1, min(components, len(vectors) // _VECTORS_EACH))
    values = vectors.float()
    scores = values - values.mean(0)
    _, axes = torch.linalg.eigh((scores.mT @ scores).double() / len(values))
    scores = scores @ axes[:, -directions:].float()
    shares = _clustered(scores, count, seed)
    for _ in range(_EM_ROUNDS):
        shares = _moments(scores, shares, _SEARCH_POOL).single().shares(scores, _TELLING_APART)
    shares = from_first(shares)
    return _moments(values, shares, pool).same_everywhere(), shares


def _clustered(vectors: Tensor, count: int, seed: int) -> Tensor:
    """k-means: which of `count` clusters each vector is in, as responsibilities (N, K)."""
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))
    centres, nearest = vectors[order[:count]].clone(), order
    for _ in range(_KMEANS_ROUNDS):
        nearest = (2 * vectors @ centres.mT - centres.square().sum(1)).argmax(1)
        size = torch.bincount(nearest, minlength=count)
        sums = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        alive = size > 0
        centres[alive] = sums[alive] / size[alive, None]
    return torch.nn.functional.one_hot(nearest, count).to(vectors.dtype)


def _moments(vectors: Tensor, shares: Tensor, pool: float) -> GaussianMixture:
    """Weights, means and covariances, (K, …), of vectors (N, m) with responsibilities (N, K)."""
    size = shares.sum(0).double()
    known = size.clamp(min=math.ulp(1.0))
    means = (shares.mT @ vectors).double() / known[:, None]
    scatter = torch.empty(len(size), vectors.shape[1], vectors.shape[1], dtype=torch.float64)
    for component, mean in enumerate(means.float()):
        own = shares[:, component]
        chosen = own > _LEAST_SHARE
        deviations = (vectors[chosen] - mean) * own[chosen, None].sqrt()
        scatter[component] = (deviations.mT @ deviations).double()
    pooled = scatter.sum(0) / len(vectors)
    covariances = (scatter + pool * pooled) / (known + pool)[:, None, None]
    covariances.diagonal(dim1=1, dim2=2).add_(LEAST_VARIANCE)
    # A component that no vector belongs to keeps a weight that is none.
    return GaussianMixture((known / known.sum()).log(), means, covariances)
