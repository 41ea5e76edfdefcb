"""The proxy score's mean and covariance for a whole image set, through the posterior engine.

For images the noise is the same in every pixel, ``S_t = s² I``, and x over α_t is an image with noise of level σ = s / α_t. The
engine knows the posterior mean D* and the products of its Jacobian ``∇D* = Cov[x0 | x] / σ²``, from which

    s = (α D* − x) / s²,    tr C = α² tr Cov[x0 | x] / s⁴,    C v = ∇D* v / s²

(Vastola, ICLR 2025, arXiv 2504.12532, section 3). No matrix of pixels by pixels is ever made, and the training set is streamed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorescope.denoisers.optimal import OptimalDenoiser
from scorescope.foundation import UserError
from scorescope.variance.processes import Process

ROUNDS = 30  # of subspace iteration
EXTRA = 4  # directions beyond those asked for, which speed it up


class ImageProxy:
    """Score, proxy covariance and its leading directions for noisy images.

    Args:
        process: a process whose noise is a number times the identity.
        denoiser: the optimal denoiser of the images.
        device: where it is asked; by default where the noisy images are.

    Raises:
        UserError: noise that is not the same in every pixel.
    """

    def __init__(
        self, process: Process, denoiser: OptimalDenoiser, *, device: torch.device | str | None = None
    ) -> None:
        noise = process.diffusion(torch.tensor(process.horizon, dtype=torch.float64))
        if noise.vectors is not None or noise.values.shape[-1] != 1:
            raise UserError(
                "image sets take noise that is the same in every pixel: give the process a number as its shape"
            )
        self.process, self.denoiser, self.device = process, denoiser, device

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """s at noisy images x (B, C, H, W) and times t (B,), (B, C, H, W)."""
        alpha, variance, sigma = self._scales(t)
        return (alpha * self._denoised(x / alpha, sigma) - x) / variance

    def trace(self, x: Tensor, t: Tensor) -> Tensor:
        """``tr C``, (B,)."""
        alpha, variance, sigma = self._scales(t)
        noisy = x / alpha
        found = self.denoiser.describe(noisy.to(self.device), sigma.to(self.device), top=1).covariance_trace
        return found.to(x.device) * (alpha**2 / variance**2).flatten()

    def fraction(self, x: Tensor, t: Tensor) -> Tensor:
        """``tr C / (tr C + ‖s‖²)``, how much of the training target's size is noise, (B,)."""
        noise, size = self.trace(x, t), self.score(x, t).square().flatten(1).sum(1)
        return noise / (noise + size)

    def products(self, x: Tensor, t: Tensor, vectors: Tensor) -> Tensor:
        """``C v`` for vectors (..., B, C, H, W)."""
        alpha, variance, sigma = self._scales(t)
        there = ((x / alpha).to(self.device), sigma.to(self.device), vectors.to(self.device))
        return self.denoiser.jacobian_products(*there).to(vectors.device) / variance

    def leading(self, x: Tensor, t: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The largest eigenvalues of C and their directions, by subspace iteration with Rayleigh-Ritz.

        Args:
            x: (B, C, H, W), float64 for full accuracy.
            t: (B,).
            count: k.
            generator: of the first vectors.

        Returns:
            Eigenvalues in descending order, (B, k), and unit directions, (B, k, C, H, W).

        Raises:
            UserError: count below 1 or above the number of pixels.
        """
        pixels = x[0].numel()
        if not 1 <= count <= pixels:
            raise UserError(f"images of {pixels} values have between 1 and {pixels} directions, not {count}")
        width = min(pixels, count + EXTRA)
        basis = torch.randn(len(x), pixels, width, generator=generator, dtype=torch.float64)
        for _ in range(ROUNDS):
            basis = torch.linalg.qr(self._times(x, t, basis))[0]
        values, mixing = torch.linalg.eigh(basis.mT @ self._times(x, t, basis))
        directions = (basis @ mixing).flip(-1)[..., :count].mT
        return values.flip(-1)[:, :count], directions.reshape(len(x), count, *x.shape[1:])

    def _times(self, x: Tensor, t: Tensor, basis: Tensor) -> Tensor:
        """C times the columns of (B, pixels, k)."""
        vectors = basis.permute(2, 0, 1).reshape(-1, *x.shape)
        return self.products(x, t, vectors).flatten(2).permute(1, 2, 0).double()

    def _denoised(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        denoised: Tensor = self.denoiser(noisy.to(self.device), sigma.to(self.device))
        return denoised.to(noisy.device)

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """α and s² as (B, 1, 1, 1), σ as (B,)."""
        times = torch.as_tensor(t, dtype=torch.float64)
        noise = self.process.covariance(times)
        noise.power(-1)  # raises at t = 0
        alpha, variance = self.process.alpha(times), noise.values[..., 0]
        return alpha.reshape(-1, 1, 1, 1), variance.reshape(-1, 1, 1, 1), variance.sqrt() / alpha
