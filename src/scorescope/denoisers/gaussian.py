"""The best denoiser if images were Gaussian: one linear filter, the Wiener filter.

With mean μ and covariance ``U diag(s) Uᵀ`` of the training set, ``D(y, σ) = μ + U diag(s / (s + σ²)) Uᵀ (y − μ)``: in every
principal direction the noisy coefficient shrinks according to its variance.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.base import Denoiser, float64_device
from scorescope.denoisers.registry import training_free
from scorescope.foundation import UserError
from scorescope.posterior.moments import PrincipalComponents, decompose, principal_components


@training_free(
    "gaussian",
    explanation="one linear filter (Wiener)",
    source="Wiener 1949; Wang & Vastola, arXiv 2311.10892; Niedoba et al., ICML 2025, arXiv 2411.19339, section 3",
)
class GaussianDenoiser(Denoiser):
    """The posterior mean under a Gaussian with the training set's mean and covariance (divisor N).

    Args:
        images: the training set.
        rank: how many principal directions to keep, the others having no variance; all by default.

    Raises:
        UserError: rank below 1, or images too large for a covariance matrix.
    """

    mean: Tensor
    variances: Tensor
    directions: Tensor

    def __init__(self, images: ImageSet, *, rank: int | None = None) -> None:
        super().__init__(images.image_shape)
        _check_rank(rank)
        self._keep(principal_components(images, rank))

    @classmethod
    def from_moments(
        cls, mean: Tensor, covariance: Tensor, image_shape: tuple[int, int, int], *, rank: int | None = None
    ) -> GaussianDenoiser:
        """Build it from a mean (d,) or (C, H, W) and a covariance (d, d), in units of [-1, 1].

        Raises:
            UserError: shapes that do not fit, non-finite values, a covariance that is not symmetric, rank below 1.
        """
        dimension = math.prod(image_shape)
        if mean.numel() != dimension or tuple(covariance.shape) != (dimension, dimension):
            raise UserError(
                f"images {image_shape} have a mean of {dimension} values and a covariance ({dimension}, {dimension}), "
                f"found {tuple(mean.shape)} and {tuple(covariance.shape)}"
            )
        matrix = covariance.detach().to("cpu", torch.float64)
        if not bool(torch.isfinite(matrix).all()) or not bool(torch.isfinite(mean).all()):
            raise UserError("the mean and covariance must be finite")
        if not torch.allclose(matrix, matrix.T, rtol=1e-5, atol=1e-7 * float(matrix.abs().max())):
            raise UserError("a covariance is symmetric, this one is not")
        _check_rank(rank)
        denoiser = cls.__new__(cls)
        Denoiser.__init__(denoiser, image_shape)
        values = mean.detach().to("cpu", torch.float64).reshape(-1).numpy()
        denoiser._keep(decompose(values, ((matrix + matrix.T) / 2).numpy(), rank))
        return denoiser

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """See `Denoiser.denoise`; computed in float64, where the images are: what it knows follows them there and stays."""
        place = float64_device(noisy.device)
        if self.mean.device != place:
            self.to(place)
        deviation = noisy.reshape(len(noisy), -1).to(place, torch.float64) - self.mean  # (B, d)
        kept = self.variances / (self.variances + sigma.to(place, torch.float64)[:, None] ** 2)  # (B, r)
        denoised = self.mean + (deviation @ self.directions * kept) @ self.directions.T
        return denoised.reshape(noisy.shape).to(noisy.dtype)

    def _keep(self, components: PrincipalComponents) -> None:
        for name in ("mean", "variances", "directions"):
            self.register_buffer(name, torch.from_numpy(np.array(getattr(components, name))))


def _check_rank(rank: int | None) -> None:
    if rank is not None and rank < 1:
        raise UserError(f"rank must be at least 1, found {rank}")
