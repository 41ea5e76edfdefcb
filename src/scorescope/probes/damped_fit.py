"""Least squares for many images at once: Gauss-Newton steps with damping (Levenberg 1944, Marquardt 1963).

Every image has its own factors f, its own damping λ, and its own steps ``(JᵀJ + λ diag(JᵀJ)) δ = Jᵀ (x − render(f))``. A step
is kept where it comes nearer, and λ falls by five; where it does not, λ rises by five.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def nearest(
    factors: Tensor,
    flat: Tensor,
    starts: int,
    render: Callable[[Tensor], Tensor],
    derivatives: Callable[[Tensor], Tensor],
    bounds: tuple[Tensor, Tensor],
    steps: int,
) -> Tensor:
    """Factors of the nearest image that each is led to from its starts, (n, P).

    Args:
        factors: k starts of each image, one image's after another's, (n k, P) float64.
        flat: the image of every start, (n k, d) float64.
        starts: k.
        render: factors (m, P) -> images (m, d).
        derivatives: factors (m, P) -> derivatives of `render` by them, (m, d, P).
        bounds: lowest and highest factors, (P,) each, infinite for none.
        steps: how many are tried.
    """
    low, high = bounds
    damping = torch.full((len(flat), 1), 1e-3, dtype=flat.dtype)
    left = flat - render(factors)
    error = left.square().sum(1)
    for _ in range(steps):
        jacobian = derivatives(factors)  # (n, d, P)
        normal = jacobian.mT @ jacobian
        scale = torch.diagonal(normal, dim1=1, dim2=2)
        damped = normal + torch.diag_embed(damping * scale + 1e-12)
        step = torch.linalg.solve(damped, (jacobian.mT @ left[:, :, None])[:, :, 0])
        tried = torch.minimum(torch.maximum(factors + step, low), high)
        left_tried = flat - render(tried)
        error_tried = left_tried.square().sum(1)
        better = error_tried < error
        factors = torch.where(better[:, None], tried, factors)
        left = torch.where(better[:, None], left_tried, left)
        error = torch.where(better, error_tried, error)
        damping = torch.where(better[:, None], damping / 5, damping * 5).clamp(1e-12, 1e6)
    best = error.view(-1, starts).argmin(1)
    return factors.view(-1, starts, factors.shape[1])[torch.arange(len(best)), best]
