"""Two limits in which the effective process has a closed form (Vastola, ICLR 2025, arXiv 2504.12532, appendix).

*All noise at the end.* If ξ acts only just before t = ε, the flow has already arrived at the noisy data points, and the
learned density is a kernel density estimate: ``Σ_n w_n N(x; α_ε μ_n, S_ε + Ξ)``, where Ξ is all the noise that was added.

*Small noise (semiclassical).* A trajectory stays near the deterministic one, x̄(t), and its deviation obeys the linear equation
``δ̇ = J δ + ξ(x̄, t)`` with ``J = ∂/∂x (−β x − D s_avg)``. It is Gaussian, and its covariance at the end is
``∫∫ Φ(ε, t) V(x̄_t, t; x̄_t', t') Φ(ε, t')ᵀ dt dt'`` with Φ the propagator of J; white noise makes that a single integral. Both
are evaluated on the Euler steps of the flow, so that they agree with simulations of the same steps when the noise is small.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.variance.effective import probability_flow
from scorescope.variance.learned_density import Grid
from scorescope.variance.proxy import PointProxy
from scorescope.variance.v_kernel import NoVariance, SmoothKernel, VKernel, WhiteKernel

CHUNK = 2**22  # numbers in the largest intermediate array


class EndNoise(NoVariance):
    """The exact score, and white noise of a given total covariance that is spread over the last stretch before ε.

    Args:
        proxy: the data points and the forward process.
        total: Ξ, all of the noise, (d, d).
        stretch: length of the time before ε in which it acts, > 0.

    Raises:
        UserError: a stretch that is not within the process; a covariance of another dimension.
    """

    name = "noise at the end"

    def __init__(self, proxy: PointProxy, total: Tensor, stretch: float) -> None:
        super().__init__(proxy)
        longest = proxy.process.horizon - proxy.process.epsilon
        if not 0 < stretch <= longest:
            raise UserError(f"the noise acts in a time between 0 and {longest:g} before ε, found {stretch:g}")
        if total.shape != (proxy.dimension, proxy.dimension):
            raise UserError(
                f"the noise has the covariance (d, d) with d = {proxy.dimension}, found {tuple(total.shape)}"
            )
        self.total, self.stretch = total.double(), stretch

    def intensity(self, x: Tensor, t: Tensor) -> Tensor:
        """See `WhiteKernel.intensity`."""
        acts = torch.as_tensor(t, dtype=torch.float64) <= self.proxy.process.epsilon + self.stretch * (1 + 1e-9)
        return torch.where(acts[..., None, None], self.total / self.stretch, 0.0).expand(*x.shape, self.dimension)

    def sample_noise(self, x: Tensor, t: Tensor, step: Tensor, generator: torch.Generator) -> Tensor:
        """See `WhiteKernel.sample_noise`."""
        return WhiteKernel.sample_noise(self, x, t, step, generator)

    def times(self, steps: int, last_steps: int) -> Tensor:
        """Times from T to ε: geometric down to where the noise begins, then equal steps; (steps + last_steps + 1,)."""
        process = self.proxy.process
        begin = process.epsilon + self.stretch
        early = torch.logspace(math.log10(process.horizon), math.log10(begin), steps + 1, dtype=torch.float64)
        late = torch.linspace(begin, process.epsilon, last_steps + 1, dtype=torch.float64)
        return torch.cat([early, late[1:]])


def kernel_density(proxy: PointProxy, total: Tensor, grid: Grid) -> Tensor:
    """The limit of all noise at the end: shares of ``Σ_n w_n N(x; α_ε μ_n, S_ε + Ξ)`` in the cells of a grid.

    Args:
        proxy: the data points and the forward process.
        total: Ξ, (d, d).
        grid: the cells.

    Returns:
        Shares, (cells^d + 1,), the last one what lies outside; by the midpoint rule, so cells must be narrow.
    """
    epsilon = torch.tensor(proxy.process.epsilon, dtype=torch.float64)
    centres = proxy.process.alpha(epsilon) * proxy.points
    spread = proxy.process.covariance(epsilon).dense(proxy.dimension) + total
    return gaussian_mixture(centres, spread.expand(len(centres), -1, -1), grid, proxy.weights)


def gaussian_mixture(means: Tensor, covariances: Tensor, grid: Grid, weights: Tensor | None = None) -> Tensor:
    """Shares of a mixture of Gaussians in the cells of a grid, and outside as the last one, (cells^d + 1,).

    Args:
        means: (n, d).
        covariances: (n, d, d); a cell's width squared over 12 is added, so that narrow ones are not lost between centres.
        grid: the cells.
        weights: (n,) that sum to 1; equal by default.
    """
    count, size = means.shape
    shares = torch.full((count,), 1 / count, dtype=torch.float64) if weights is None else weights
    widened = covariances + grid.width**2 / 12 * torch.eye(size, dtype=torch.float64)
    factor = torch.linalg.cholesky(widened)
    points = grid.points.reshape(-1, size)
    density = torch.zeros(len(points), dtype=torch.float64)
    at_once = max(1, CHUNK // (len(points) * size))
    for rows in torch.split(torch.arange(count), at_once):
        away = (points - means[rows, None]).mT  # (rows, d, cells^d)
        white = torch.linalg.solve_triangular(factor[rows], away, upper=False)
        height = shares[rows] / (factor[rows].diagonal(dim1=-2, dim2=-1).prod(-1) * (2 * math.pi) ** (size / 2))
        density += (height[:, None] * torch.exp(-(white**2).sum(1) / 2)).sum(0)
    inside = density * grid.width**size
    return torch.cat([inside, (1 - inside.sum()).clamp(min=0.0)[None]])


def semiclassical(kernel: WhiteKernel | SmoothKernel, starts: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """The deterministic end of every trajectory, and the covariance of the deviation from it, to first order in V.

    Args:
        kernel: the average score and V.
        starts: (n, d) at ``times[0]``.
        times: decreasing, (K + 1,).

    Returns:
        Ends (n, d) and covariances (n, d, d).
    """
    path = list(probability_flow(kernel, starts, times))
    steps = times.diff()
    growth = [_step_matrix(kernel, x, t, step) for x, t, step in zip(path[:-1], times[:-1], steps, strict=True)]
    if isinstance(kernel, WhiteKernel):
        return path[-1], _white(kernel, path, times, growth)
    return path[-1], _frozen(kernel, path, times, growth)


def _step_matrix(kernel: VKernel, x: Tensor, t: Tensor, step: Tensor) -> Tensor:
    """``I + Δt ∂/∂x drift`` at every point, (n, d, d)."""
    place = x.detach().requires_grad_()
    drift = kernel.drift(place, t.expand(len(x)))
    rows = [torch.autograd.grad(drift[:, i].sum(), place, retain_graph=True)[0] for i in range(x.shape[1])]
    return torch.eye(x.shape[1], dtype=torch.float64) + step * torch.stack(rows, 1)


def _white(kernel: WhiteKernel, path: list[Tensor], times: Tensor, growth: list[Tensor]) -> Tensor:
    count, size = path[0].shape
    covariance = torch.zeros(count, size, size, dtype=torch.float64)
    for (t, following), x, matrix in zip(itertools.pairwise(times), path, growth, strict=False):
        added = kernel.intensity(x, t.expand(count)) * (following - t).abs()
        covariance = matrix @ covariance @ matrix.mT + added
    return covariance


def _frozen(kernel: SmoothKernel, path: list[Tensor], times: Tensor, growth: list[Tensor]) -> Tensor:
    """The double sum over steps, with the propagators from each step to the end."""
    count, size = path[0].shape
    steps = times.diff()
    onward = torch.eye(size, dtype=torch.float64).expand(count, size, size)
    propagators = []
    for matrix, step in zip(reversed(growth), reversed(steps.tolist()), strict=True):
        propagators.append(step * onward)  # ξ of a step acts after that step's own growth
        onward = onward @ matrix
    whole = torch.stack(propagators[::-1], 1)  # (n, K, d, d)
    visited = torch.stack(path[:-1], 1)
    at = times[:-1].expand(count, len(steps))
    covariance: Tensor = torch.zeros(count, size, size, dtype=torch.float64)
    for k in range(len(steps)):
        across = kernel.covariance(visited[:, k, None], at[:, k, None], visited, at)[:, 0]  # (n, K, d, d)
        covariance = covariance + whole[:, k] @ (across @ whole.mT).sum(1)
    return covariance
