"""V-kernels: how much, and how alike at any two points, the learned velocity differs between training runs.

A score learned from finitely many noisy targets is random. Keeping two cumulants of it, the distribution sampled on average
over training runs is that of

    ẋ = −β_t x − D_t s_avg(x, t) + ξ(x, t),    E[ξ(a) ξ(b)ᵀ] = V(a; b) = D Cov[ŝ(a), ŝ(b)] D

(Vastola, ICLR 2025, arXiv 2504.12532, proposition 3.1). ξ is a random *field*: it is drawn once for a training run, and
nearby points of a trajectory share it. A kernel here is the pair of s_avg and V. Two kinds exist: `SmoothKernel`, whose V is
an ordinary function, and `WhiteKernel`, whose V is ``v(x, t) δ(t − t')``, so that ξ is white noise along a trajectory.

Positions are (..., K, d) and times (..., K), so that one call gives V between all pairs of K and L points.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.variance.formulations import proxy_score
from scorescope.variance.processes import Process
from scorescope.variance.proxy import PointProxy

# Added to the diagonal of a covariance, as a share of its mean diagonal, so that it has a Cholesky factor in float64.
JITTER = 1e-10


class VKernel(ABC):
    """The average learned score, and the variance around it.

    Args:
        process: the forward process.
        dimension: d.
    """

    name: str = "kernel"

    def __init__(self, process: Process, dimension: int) -> None:
        self.process, self.dimension = process, dimension

    @abstractmethod
    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """s_avg: x (..., d), t (...) -> (..., d)."""

    @abstractmethod
    def trace(self, x: Tensor, t: Tensor) -> Tensor:
        """``tr V(x, t; x, t)``, or ``tr v(x, t)`` of a white kernel: x (..., d), t (...) -> (...)."""

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """``−β_t x − D_t s_avg``, (..., d)."""
        return self.process.drift(x, t, self.score(x, t))


class SmoothKernel(VKernel):
    """A kernel whose V is an ordinary function of two points."""

    @abstractmethod
    def covariance(self, x: Tensor, t: Tensor, other_x: Tensor, other_t: Tensor) -> Tensor:
        """V between all pairs of points.

        Args:
            x: (..., K, d).
            t: (..., K).
            other_x: (..., L, d), the leading dimensions those of x.
            other_t: (..., L).

        Returns:
            V, (..., K, L, d, d).
        """

    def trace(self, x: Tensor, t: Tensor) -> Tensor:
        """See `VKernel.trace`."""
        alone = x[..., None, :], torch.as_tensor(t, dtype=torch.float64).expand(x.shape[:-1])[..., None]
        return self.covariance(*alone, *alone)[..., 0, 0, :, :].diagonal(dim1=-2, dim2=-1).sum(-1)

    def sample_noise(self, x: Tensor, t: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Draws of ξ at the same K points in each of several training runs.

        Args:
            x: (K, d).
            t: (K,).
            count: number of runs.
            generator: of the draws.

        Returns:
            (count, K, d).
        """
        points, dimension = len(x), self.dimension
        whole = self.covariance(x, t, x, t).transpose(-3, -2).reshape(points * dimension, points * dimension)
        factor = root_of(whole)
        draws = torch.randn(count, points * dimension, generator=generator, dtype=torch.float64)
        return (draws @ factor.T).reshape(count, points, dimension)


class WhiteKernel(VKernel):
    """A kernel ``V(x, t; x', t') = v(x, t) δ(t − t')``: independent noise at every instant of a trajectory."""

    @abstractmethod
    def intensity(self, x: Tensor, t: Tensor) -> Tensor:
        """v, the factor of δ(t − t'): x (..., d), t (...) -> (..., d, d)."""

    def trace(self, x: Tensor, t: Tensor) -> Tensor:
        """See `VKernel.trace`."""
        return self.intensity(x, t).diagonal(dim1=-2, dim2=-1).sum(-1)

    def sample_noise(self, x: Tensor, t: Tensor, step: Tensor, generator: torch.Generator) -> Tensor:
        """``∫ ξ dt`` over short steps of length |step|, independent for every entry: x (..., d), t (...) -> (..., d)."""
        factor = root_of(self.intensity(x, t) * step.abs()[..., None, None])
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        return (factor @ noise[..., None])[..., 0]


class NoVariance(WhiteKernel):
    """The exact score and no noise: memorization."""

    name = "no variance"

    def __init__(self, proxy: PointProxy) -> None:
        super().__init__(proxy.process, proxy.dimension)
        self.proxy = proxy

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """See `VKernel.score`."""
        return self.proxy.score(x, t)

    def intensity(self, x: Tensor, t: Tensor) -> Tensor:
        """See `WhiteKernel.intensity`; zero."""
        return torch.zeros(*x.shape, self.dimension, dtype=torch.float64)

    def sample_noise(self, x: Tensor, t: Tensor, step: Tensor, generator: torch.Generator) -> Tensor:
        """See `WhiteKernel.sample_noise`; zero."""
        return torch.zeros_like(x)


class NaiveKernel(WhiteKernel):
    """The naive estimator: every step of the flow draws one x0 of its own and trusts it (proposition 4.1).

    A step of length Δt uses ``s + sqrt(κ/Δt) (s̃ − s)`` with x0 drawn from p(x0 | x, t), which makes ``V = κ D C D δ(t − t')``.

    Args:
        proxy: the points and the process.
        kappa: κ, in the unit of t; a number ≥ 0, or a function of t (...) -> (...).

    Raises:
        UserError: negative or non-finite κ.
    """

    name = "naive"

    def __init__(self, proxy: PointProxy, kappa: float | Callable[[Tensor], Tensor] = 1.0) -> None:
        super().__init__(proxy.process, proxy.dimension)
        if not callable(kappa) and not 0 <= kappa < float("inf"):
            raise UserError(f"κ must be a number ≥ 0, found {kappa:g}")
        self.proxy, self._kappa = proxy, kappa

    def kappa(self, t: Tensor) -> Tensor:
        """κ at times (...)."""
        return self._kappa(t) if callable(self._kappa) else torch.full_like(t, self._kappa)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """See `VKernel.score`."""
        return self.proxy.score(x, t)

    def intensity(self, x: Tensor, t: Tensor) -> Tensor:
        """See `WhiteKernel.intensity`."""
        t = torch.as_tensor(t, dtype=torch.float64).expand(x.shape[:-1])
        spread = self.process.diffusion(t).on_both_sides(self.proxy.covariance(x, t))
        return self.kappa(t)[..., None, None] * spread

    def draw_noise(self, x: Tensor, t: Tensor, step: Tensor, generator: torch.Generator) -> Tensor:
        """What the estimator itself adds in steps of length |step|: ``sqrt(κ |step|) D (s̃ − s)`` with a drawn x0, (..., d).

        `sample_noise` has the same mean and covariance but is Gaussian; only in the limit of short steps are both the same.
        """
        t = torch.as_tensor(t, dtype=torch.float64).expand(x.shape[:-1])
        clean = self.proxy.draw_clean(x, t, generator)
        away = proxy_score(self.process, clean, x, t) - self.proxy.score(x, t)
        return (self.kappa(t) * step.abs()).sqrt()[..., None] * self.process.diffusion(t).times(away)


def root_of(covariances: Tensor) -> Tensor:
    """A factor L with ``L Lᵀ`` the covariance, for covariances (..., n, n) that may be singular.

    A share of 1e-10 of the mean diagonal is added where the Cholesky factorization needs it.
    """
    size = covariances.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=torch.finfo(torch.float64).tiny)
    added = torch.diag_embed((JITTER * size)[..., None].expand(covariances.shape[:-1]))
    factor: Tensor = torch.linalg.cholesky(covariances + added)
    return factor
