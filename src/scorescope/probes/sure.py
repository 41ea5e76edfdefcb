"""What the trace of a denoiser's Jacobian tells of its error: Stein's estimate, effective dimension, and a bound on the KL.

For ``y = x + σ n`` with d values, three facts (Stein 1981; Miyasawa 1961; Kadkhodaie et al., ICLR 2024,
https://arxiv.org/abs/2310.02557, section 2):

- the squared error can be estimated without the clean image, for any denoiser that is differentiable almost everywhere:
  ``E‖x − D(y)‖² = E[ 2σ² tr ∇D(y) + ‖y − D(y)‖² − σ² d ]``;
- the optimal denoiser's Jacobian is the posterior covariance over σ², so its squared error is ``σ² E tr ∇D*(y)``: the noise
  in the tr ∇D* directions that it keeps, which is why the trace is called an *effective dimension*;
- the distribution that is implicit in a denoiser differs from the true one by ``KL ≤ ∫ (MSE(D, σ) − MSE(D*, σ)) σ⁻³ dσ``,
  MSE the sum over all d values, with equality if D is itself the optimal denoiser of some distribution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.denoisers import Denoiser, OptimalDenoiser
from scorescope.foundation import UserError
from scorescope.probes.differentiation import directional_derivatives

Floats = npt.NDArray[np.float64]
DRAWS = 4


def divergence(
    denoiser: Denoiser, noisy: Tensor, sigma: float, generator: torch.Generator, *, draws: int = DRAWS
) -> Tensor:
    """``tr ∇D(y)`` for each of several noisy images.

    By Hutchinson's estimator with random signs, one product with the Jacobians of all images at once a draw; its error averages
    out over images. The optimal denoiser's is exact, from its posterior covariance.

    Args:
        denoiser: must be differentiable.
        noisy: (B, C, H, W).
        sigma: noise level.
        generator: of the signs, on the processor.
        draws: at least 1.

    Returns:
        (B,) float64.

    Raises:
        UserError: a denoiser that is not differentiable; no draws; otherwise as `Denoiser.forward`.
    """
    if isinstance(denoiser, OptimalDenoiser):
        covariance = denoiser.describe(noisy, sigma, top=1).covariance_trace
        return covariance.double().cpu() / (sigma**2 * denoiser.temperature)
    if not denoiser.differentiable:
        raise UserError(f"{denoiser.name} is not differentiable: the trace of its Jacobian cannot be computed")
    if draws < 1:
        raise UserError(f"a trace takes at least one random draw, found {draws}")
    images, levels = denoiser.checked(noisy, sigma)
    total = torch.zeros(len(images), dtype=torch.float64)
    for _ in range(draws):
        signs = (2.0 * torch.randint(0, 2, images.shape, generator=generator) - 1).to(images)
        product = directional_derivatives(lambda y: denoiser.denoise(y, levels), images, signs)
        total += (signs * product).double().flatten(1).sum(1).cpu()
    return total / draws


def sure(noisy: Tensor, denoised: Tensor, traces: Tensor, sigma: float) -> Tensor:
    """Stein's unbiased estimate of the mean squared error a value, for each image: it does not look at clean ones.

    Args:
        noisy: (B, C, H, W).
        denoised: D(y), (B, C, H, W).
        traces: ``tr ∇D(y)``, (B,).
        sigma: noise level.

    Returns:
        (B,) float64; single ones may be negative.
    """
    dimension = noisy[0].numel()
    residual = (noisy.double() - denoised.double()).square().flatten(1).sum(1)
    return (2 * sigma**2 * traces.to(residual) + residual) / dimension - sigma**2


def kl_integrand(excess: npt.ArrayLike, sigmas: Sequence[float] | Floats, dimension: int) -> Floats:
    """The bound on the KL divergence that each factor e of noise adds: ``d · excess / σ²``, nats a unit of ln σ.

    Args:
        excess: mean squared error a value less the optimal denoiser's, or the mean squared difference of two denoisers,
            (..., S).
        sigmas: S levels.
        dimension: d.
    """
    return np.asarray(
        dimension * np.asarray(excess, dtype=np.float64) / np.square(np.asarray(sigmas, dtype=np.float64))
    )


def kl_bound(excess: npt.ArrayLike, sigmas: Sequence[float] | Floats, dimension: int) -> Floats:
    """``∫ d · excess σ⁻³ dσ`` between the lowest and the highest level, nats, by trapezia in ln σ.

    Arguments as `kl_integrand`, levels in any order; returns (...).
    """
    order = np.argsort(sigmas)
    integrand = kl_integrand(excess, sigmas, dimension)[..., order]
    logs = np.log(np.asarray(sigmas, dtype=np.float64)[order])
    return np.asarray(((integrand[..., 1:] + integrand[..., :-1]) / 2 * np.diff(logs)).sum(-1))
