"""Whether a denoiser's leading directions are those in which the data can move: tangent spaces and angles to them.

Images that are a smooth function of k parameters, ``x = g(θ)``, lie on a k-dimensional manifold, whose tangent space at x
is spanned by the columns of ``∂g/∂θ``. As σ → 0 the optimal denoiser projects noise onto that space: k eigenvalues of its
Jacobian are 1 and all others 0, and its error is that of k coordinates,

    MSE* = k σ² / d  a pixel,   PSNR* = input PSNR + 10 log10(d / k),   d pixels.

Two subspaces are compared by their principal angles ``0 ≤ θ_1 ≤ … ≤ θ_k ≤ π/2``: the cosines are the singular values of
``AᵀB`` for orthonormal bases A and B; where an angle is small its sine, from what of B is left outside of A, says it far
more precisely (Björck & Golub 1973).

Source: Kadkhodaie et al., ICLR 2024, https://arxiv.org/abs/2310.02557, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from scorescope.foundation import UserError

RANK_TOLERANCE = 1e-6


def tangent_space(render: Callable[[Tensor], Tensor], parameters: Tensor) -> Tensor:
    """An orthonormal basis of the tangent space at one point of a manifold, in float64.

    Args:
        render: differentiable, (1, P) parameters -> (1, C, H, W) image, as `scorescope.data.generated` has them.
        parameters: (P,).

    Returns:
        float64 (d, P), d = C·H·W, orthonormal columns that span the derivatives by the parameters.

    Raises:
        UserError: derivatives that are not independent, so that the manifold has no tangent space of P dimensions there
            (a sinusoid of amplitude 0).
    """
    if parameters.ndim != 1:
        raise UserError(f"a tangent space is taken at one point, parameters (P,); found {tuple(parameters.shape)}")
    point = parameters.detach().double()
    derivative: Tensor = torch.func.jacfwd(lambda p: render(p[None])[0].flatten())(point)  # (d, P)
    # Parameters have units of their own (pixels, intensities): only directions count.
    directions = torch.nan_to_num(derivative / derivative.norm(dim=0).clamp_min(1e-300))
    left: Tensor
    left, singular, _ = torch.linalg.svd(directions, full_matrices=False)
    if not bool(torch.isfinite(derivative).all()) or not float(singular[-1]) > RANK_TOLERANCE * float(singular[0]):
        raise UserError(
            f"the derivatives by the parameters are not independent at {[round(v, 4) for v in point.tolist()]}: the manifold"
            " has no tangent space there"
        )
    return left


def principal_angles(first: Tensor, second: Tensor) -> Tensor:
    """Principal angles between the spans of two orthonormal bases, increasing.

    Args:
        first: (d, m), orthonormal columns.
        second: (d, k), orthonormal columns.

    Returns:
        float64 (min(m, k),), radians in [0, π/2].

    Raises:
        UserError: bases of different d, or columns that are not orthonormal to 1e-4.
    """
    a, b = first.double(), second.double()
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
        raise UserError(f"angles are between bases (d, m) and (d, k), found {tuple(a.shape)} and {tuple(b.shape)}")
    for basis in (a, b):
        units = torch.eye(basis.shape[1], dtype=basis.dtype, device=basis.device)
        if not torch.allclose(basis.T @ basis, units, atol=1e-4):
            raise UserError("angles are between orthonormal bases: the columns of one are not orthonormal")
    if a.shape[1] < b.shape[1]:
        a, b = b, a
    left, cosines, right = torch.linalg.svd(a.T @ b, full_matrices=False)
    cosines = cosines.clamp(0, 1)
    # The part of each principal vector of b that a does not hold, whose length is the sine.
    outside = b @ right.T - a @ (left * cosines)
    sines = outside.norm(dim=0).clamp(0, 1)
    return torch.where(cosines < math.sqrt(0.5), torch.acos(cosines), torch.asin(sines))


def captured_share(subspace: Tensor, tangent: Tensor) -> float:
    """Mean squared cosine of the principal angles: the share of `tangent` that lies in `subspace`, in [0, 1].

    Args:
        subspace: (d, m), orthonormal columns; of m random directions the share is m/d on average.
        tangent: (d, k), orthonormal columns.
    """
    return float((subspace.double().T @ tangent.double()).square().sum() / tangent.shape[1])


def manifold_error(dimension: int, pixels: int, sigma: float) -> float:
    """The optimal denoiser's squared error a pixel on a k-dimensional manifold as σ → 0, ``k σ² / d``."""
    return dimension * sigma**2 / pixels
