"""Forward processes: how data becomes noise, for any matrix of noise, and the flow that leads back.

``dx = −β_t x dt + G_t dW`` with ``D_t = G_t G_tᵀ / 2`` takes a clean point x0 to ``p(x | x0, t) = N(α_t x0, S_t)``, where
``α_t = exp(−∫ β)`` and ``dS/dt = −2 β_t S + 2 D_t``. The probability flow ``ẋ = −β_t x − D_t s(x, t)``, followed from t = T
down to t = ε, has the same marginals (Song et al., ICLR 2021; Vastola, ICLR 2025, arXiv 2504.12532, section 2). D_t may be
anisotropic: a number, a diagonal or a full matrix. Throughout, t is float64 of any shape (...) and x is (..., d).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.variance.noise_matrix import NoiseMatrix

BETA_MIN, BETA_D = 0.1, 19.9


class Process(ABC):
    """A forward process, used between the times ε and T.

    Args:
        epsilon: ε, the time at which the flow stops, ≥ 0. At 0 scores are infinite; denoisers have their limit there.
        horizon: T, the time at which it starts, > ε.

    Raises:
        UserError: no such range.
    """

    name: str = "process"

    def __init__(self, epsilon: float, horizon: float) -> None:
        if not (math.isfinite(horizon) and 0 <= epsilon < horizon):
            raise UserError(f"times run from ε ≥ 0 to a larger, finite T, found ε = {epsilon:g} and T = {horizon:g}")
        self.epsilon = float(epsilon)
        self.horizon = float(horizon)

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """α_t, what is left of the data, (...)."""

    @abstractmethod
    def beta(self, t: Tensor) -> Tensor:
        """β_t, the rate at which it shrinks, (...)."""

    @abstractmethod
    def diffusion(self, t: Tensor) -> NoiseMatrix:
        """D_t."""

    @abstractmethod
    def covariance(self, t: Tensor) -> NoiseMatrix:
        """S_t, of x given x0."""

    def times(self, steps: int) -> Tensor:
        """Times of the flow from T down to ε, (steps + 1,), equally spaced unless the process says otherwise.

        Raises:
            UserError: fewer than one step.
        """
        if steps < 1:
            raise UserError(f"the flow takes at least one step, found {steps}")
        return torch.linspace(self.horizon, self.epsilon, steps + 1, dtype=torch.float64)

    def drift(self, x: Tensor, t: Tensor, score: Tensor) -> Tensor:
        """``−β_t x − D_t s``, the velocity of the flow in t, (..., d)."""
        return -self.beta(t)[..., None] * x - self.diffusion(t).times(score)

    def forward(self, clean: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        """Draws from ``p(x | x0, t)``: clean (..., d) at t (...) -> (..., d)."""
        noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        return self.alpha(t)[..., None] * clean + self.covariance(t).power(0.5).times(noise)

    def start(self, count: int, dimension: int, generator: torch.Generator) -> Tensor:
        """Points from which the flow starts, ``N(0, S_T)``, (count, d)."""
        noise = torch.randn(count, dimension, generator=generator, dtype=torch.float64)
        return self.covariance(_time(self.horizon)).power(0.5).times(noise)

    def mean_variance(self, t: Tensor, dimension: int) -> Tensor:
        """``tr S_t / d``, (...)."""
        return self.covariance(t).trace(dimension) / dimension


class VariancePreserving(Process):
    """The VP process ``α_t = exp(−(β_min t + β_d t²/2))``, ``S_t = (1 − α_t²) M``, ``D_t = β_t M``.

    This β multiplies x itself: it is half of what Song et al. call β with the same numbers.

    Args:
        epsilon: as `Process`.
        horizon: as `Process`.
        beta_min: β at t = 0.
        beta_d: its slope.
        shape: M: 1 for plain noise, a diagonal (d,), or a full matrix (d, d).
    """

    name = "vp"

    def __init__(
        self,
        epsilon: float = 1e-3,
        horizon: float = 1.0,
        *,
        beta_min: float = BETA_MIN,
        beta_d: float = BETA_D,
        shape: float | Tensor = 1.0,
    ) -> None:
        super().__init__(epsilon, horizon)
        if beta_min < 0 or beta_d < 0 or beta_min + beta_d == 0:
            raise UserError(f"β = β_min + β_d t must be positive, found β_min = {beta_min:g}, β_d = {beta_d:g}")
        self.beta_min, self.beta_d = beta_min, beta_d
        self.shape = NoiseMatrix.of(shape)

    def alpha(self, t: Tensor) -> Tensor:
        """See `Process.alpha`."""
        return torch.exp(self._log_alpha(t))

    def beta(self, t: Tensor) -> Tensor:
        """See `Process.beta`."""
        return self.beta_min + self.beta_d * _checked(t)

    def diffusion(self, t: Tensor) -> NoiseMatrix:
        """See `Process.diffusion`."""
        return self.shape.scaled(self.beta(t))

    def covariance(self, t: Tensor) -> NoiseMatrix:
        """See `Process.covariance`."""
        return self.shape.scaled(-torch.expm1(2 * self._log_alpha(t)))

    def _log_alpha(self, t: Tensor) -> Tensor:
        t = _checked(t)
        return -(self.beta_min * t + self.beta_d * t**2 / 2)


class VarianceExploding(Process):
    """The process of EDM (Karras et al., NeurIPS 2022): ``α_t = 1``, ``S_t = t² M``, ``D_t = t M``; t is the noise level.

    Args:
        epsilon: as `Process`.
        horizon: as `Process`.
        rho: the times of the flow are equally spaced in ``t^{1/ρ}``.
        shape: M, as for `VariancePreserving`.
    """

    name = "edm"

    def __init__(
        self, epsilon: float = 0.002, horizon: float = 80.0, *, rho: float = 7.0, shape: float | Tensor = 1.0
    ) -> None:
        super().__init__(epsilon, horizon)
        self.rho = rho
        self.shape = NoiseMatrix.of(shape)

    def alpha(self, t: Tensor) -> Tensor:
        """See `Process.alpha`."""
        return torch.ones_like(_checked(t))

    def beta(self, t: Tensor) -> Tensor:
        """See `Process.beta`."""
        return torch.zeros_like(_checked(t))

    def diffusion(self, t: Tensor) -> NoiseMatrix:
        """See `Process.diffusion`."""
        return self.shape.scaled(_checked(t))

    def covariance(self, t: Tensor) -> NoiseMatrix:
        """See `Process.covariance`."""
        return self.shape.scaled(_checked(t) ** 2)

    def times(self, steps: int) -> Tensor:
        """See `Process.times`; equally spaced in ``t^{1/ρ}``."""
        share = (super().times(steps) - self.epsilon) / (self.horizon - self.epsilon)
        low, high = self.epsilon ** (1 / self.rho), self.horizon ** (1 / self.rho)
        times: Tensor = (low + share * (high - low)) ** self.rho
        return times


class LinearSignal(Process):
    """``α_t² = 1 − t``, ``S_t = t M``, ``β_t M = D_t = M / 2(1 − t)``: the noise of the paper's figure 1; T < 1.

    Args:
        epsilon: as `Process`.
        horizon: as `Process`; at t = 1 nothing is left of the data and β is infinite.
        shape: M, as for `VariancePreserving`.
    """

    name = "linear-signal"

    def __init__(self, epsilon: float = 1e-3, horizon: float = 0.999, *, shape: float | Tensor = 1.0) -> None:
        super().__init__(epsilon, horizon)
        if horizon >= 1:
            raise UserError(
                f"with α² = 1 − t nothing is left of the data at t = 1: T must lie below, found {horizon:g}"
            )
        self.shape = NoiseMatrix.of(shape)

    def alpha(self, t: Tensor) -> Tensor:
        """See `Process.alpha`."""
        return torch.sqrt(1 - _checked(t))

    def beta(self, t: Tensor) -> Tensor:
        """See `Process.beta`."""
        return 0.5 / (1 - _checked(t))

    def diffusion(self, t: Tensor) -> NoiseMatrix:
        """See `Process.diffusion`."""
        return self.shape.scaled(self.beta(t))

    def covariance(self, t: Tensor) -> NoiseMatrix:
        """See `Process.covariance`."""
        return self.shape.scaled(_checked(t))


class CustomProcess(Process):
    """Any schedule: β_t and D_t as functions, α_t and S_t by Gauss-Legendre quadrature of their equations.

    ``α_t = exp(−∫_0^t β)`` and ``S_t = ∫_0^t 2 D_u (α_t / α_u)² du``. The matrices D_t of different times need not share
    their eigenvectors. For functions that are smooth on [0, t] the quadrature is exact to rounding.

    Args:
        beta: (...) -> (...).
        diffusion: t (...) -> D_t as numbers (..., 1), diagonals (..., d) or full matrices (..., d, d).
        full: whether `diffusion` gives full matrices.
        epsilon: as `Process`.
        horizon: as `Process`.
        nodes: of the quadrature.
    """

    name = "custom"

    def __init__(
        self,
        beta: Callable[[Tensor], Tensor],
        diffusion: Callable[[Tensor], Tensor],
        epsilon: float,
        horizon: float,
        *,
        full: bool = False,
        nodes: int = 48,
    ) -> None:
        super().__init__(epsilon, horizon)
        self._beta, self._diffusion, self.full = beta, diffusion, full
        places, weights = np.polynomial.legendre.leggauss(nodes)
        self._places, self._weights = torch.from_numpy((places + 1) / 2), torch.from_numpy(weights / 2)

    def alpha(self, t: Tensor) -> Tensor:
        """See `Process.alpha`."""
        return torch.exp(-self._integrated_beta(t))

    def beta(self, t: Tensor) -> Tensor:
        """See `Process.beta`."""
        return self._beta(_checked(t))

    def diffusion(self, t: Tensor) -> NoiseMatrix:
        """See `Process.diffusion`."""
        return self._matrix(self._diffusion(_checked(t)))

    def covariance(self, t: Tensor) -> NoiseMatrix:
        """See `Process.covariance`."""
        t = _checked(t)
        earlier = t[..., None] * self._places
        fading = torch.exp(2 * (self._integrated_beta(earlier) - self._integrated_beta(t)[..., None]))
        shares = 2 * t[..., None] * self._weights * fading
        matrices = self._diffusion(earlier)
        if self.full:
            return self._matrix((shares[..., None, None] * matrices).sum(-3))
        return self._matrix((shares[..., None] * matrices).sum(-2))

    def _integrated_beta(self, t: Tensor) -> Tensor:
        return t * (self._weights * self._beta(t[..., None] * self._places)).sum(-1)

    def _matrix(self, given: Tensor) -> NoiseMatrix:
        values, vectors = torch.linalg.eigh(given) if self.full else (given, None)
        if bool((values < -1e-12 * values.abs().amax().clamp(min=1e-300)).any()):
            raise UserError(f"D_t has the negative eigenvalue {float(values.min()):g}: it must be G Gᵀ / 2 for some G")
        return NoiseMatrix(values.clamp(min=0.0), vectors)


def _time(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _checked(t: Tensor) -> Tensor:
    if t.dtype != torch.float64:
        t = t.double()
    if not bool((t >= 0).all()):
        raise UserError(f"times must be ≥ 0, found {float(t.min()):g}")
    return t
