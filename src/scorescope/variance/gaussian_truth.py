"""Data that are Gaussian: everything about the noisy target is known, and everything is Gaussian or affine.

For ``x0 ~ N(μ, s² I)`` and noise ``S_t = v I`` the noisy density is ``N(α μ, (α² s² + v) I)``, the score is affine in x, and
given x the clean point is Gaussian with the covariance ``s² v / (α² s² + v) I``, the same for every x. So a lazy network that
is trained on noisy targets is a Gaussian field exactly, and the two cumulants that the theory of vastola2025 keeps are all
there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.variance.processes import Process


class GaussianTruth:
    """A Gaussian distribution under a forward process; it takes the place of a `PointProxy`.

    Args:
        process: one whose noise is a number times the identity.
        mean: μ, (d,).
        deviation: s > 0, the standard deviation of every coordinate.

    Raises:
        UserError: noise of another kind; a deviation that is not positive.
    """

    def __init__(self, process: Process, mean: Tensor, deviation: float) -> None:
        noise = process.diffusion(torch.tensor(process.horizon, dtype=torch.float64))
        if noise.vectors is not None or noise.values.shape[-1] != 1:
            raise UserError("a Gaussian truth takes noise that is the same along every coordinate")
        if not deviation > 0:
            raise UserError(f"the standard deviation of the data must be positive, found {deviation:g}")
        self.process, self.mean, self.deviation = process, mean.double(), deviation
        self.dimension = len(mean)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """``(α μ − x) / (α² s² + v)``, (..., d)."""
        alpha, variance = self._scales(t)
        return (alpha * self.mean - x) / (alpha**2 * self.deviation**2 + variance)

    def covariance(self, x: Tensor, t: Tensor) -> Tensor:
        """``C = (1/v − 1/(α² s² + v)) I``, (..., d, d)."""
        alpha, variance = self._scales(t)
        width = 1 / variance - 1 / (alpha**2 * self.deviation**2 + variance)
        return torch.diag_embed(width.expand(*x.shape[:-1], self.dimension))

    def draw_training(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Clean points (count, d), times uniform in [ε, T] (count,), noisy points (count, d)."""
        noise = torch.randn(count, self.dimension, generator=generator, dtype=torch.float64)
        share = torch.rand(count, generator=generator, dtype=torch.float64)
        clean = self.mean + self.deviation * noise
        t = self.process.epsilon + share * (self.process.horizon - self.process.epsilon)
        return clean, t, self.process.forward(clean, t, generator)

    def divergence_to(self, mean: Tensor, variance: Tensor) -> Tensor:
        """``KL(truth ‖ N(mean, variance I))``, nats: (..., d), (...) -> (...)."""
        ratio = self.deviation**2 / variance
        away = (mean - self.mean).square().sum(-1) / variance
        divergence: Tensor = (self.dimension * (ratio - 1 - ratio.log()) + away) / 2
        return divergence

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """α and v, (..., 1)."""
        t = torch.as_tensor(t, dtype=torch.float64)
        return self.process.alpha(t)[..., None], self.process.mean_variance(t, self.dimension)[..., None]
