"""Linear filters in windows: each window has a mixture of Gaussians of its own, and knows what the whole image seems to be.

A window alone sees too little to tell what it is part of; the whole image alone has too few kinds to fit its details. So the
kind j of a window is judged by its own noisy pixels y_w and by the kind k of the whole image,

    r_j(y) ∝ (Σ_k R_k(y) p(j | k)) N(y_w; μ_j, C_j + σ² I),     E[x_w | y] = Σ_j r_j(y) [μ_j + C_j (C_j + σ² I)⁻¹ (y_w − μ_j)],

R_k being the responsibilities of a mixture of whole images (`gaussian-mixture`), and p(j | k) how often the two went together
in training images. R_k has seen y_w, too: the window counts twice, which is why its evidence may be given a temperature.

Windows overlap; a pixel is the mean of their estimates, weighted by ``sin²`` of its place across the window, for a window knows
its middle better than its border.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.base import Denoiser, float64_device
from scorescope.denoisers.gaussian_mixture import GaussianMixtureDenoiser, level_by_level
from scorescope.foundation import UserError
from scorescope.posterior.gaussian_mixture import GaussianMixture, fitted

# Added to how often two kinds went together, so that nothing is impossible: half a vector, shared by a row.
_UNSEEN = 0.5


@dataclass
class _Window:
    """One place: its pixels, its mixture, and the table ``ln p(j | k)``, (K of the whole, K of the window)."""

    rows: slice
    columns: slice
    mixture: GaussianMixture
    table: Tensor


class WindowMixtureDenoiser(Denoiser):
    """The composite of windows of one side, each with a mixture of its own.

    Args:
        images: the training set; of it, what `whole` was fitted to.
        whole: a mixture of whole images, of the same training set.
        side: of the windows, in pixels; cut to the image.
        stride: from one window to the next.
        components: K of each window, at most.
        temperature: divides the evidence of a window.
        pool: as how many windows the covariance within all components counts in that of each.
        seed: of the search for components.

    Raises:
        UserError: side, stride or components below 1, temperature or pool not positive and finite.
    """

    name = "window-mixture"

    def __init__(
        self,
        images: ImageSet,
        whole: GaussianMixtureDenoiser,
        side: int,
        stride: int,
        *,
        components: int = 32,
        temperature: float = 1.0,
        pool: float = 30.0,
        seed: int = 0,
    ) -> None:
        super().__init__(images.image_shape)
        if min(side, stride, components) < 1:
            raise UserError(f"side, stride and components are at least 1, found {side}, {stride} and {components}")
        if not all(math.isfinite(value) and value > 0 for value in (temperature, pool)):
            raise UserError(f"temperature and pool must be positive and finite, found {temperature} and {pool}")
        self.whole, self.temperature = whole, temperature
        clean = images.tensor(whole.chosen)
        _, height, width = images.image_shape
        self.windows = []
        for rows in places(height, side, stride):
            for columns in places(width, side, stride):
                vectors = clean[:, :, rows, columns].flatten(1)
                mixture, shares = fitted(vectors, components, pool=pool, seed=seed)
                together = (whole.shares.mT @ shares).double() + _UNSEEN / shares.shape[1]
                table = (together / together.sum(1, keepdim=True)).log()
                self.windows.append(_Window(rows, columns, mixture, table))

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """See `Denoiser.denoise`; computed in float64, where the images are."""
        place = float64_device(noisy.device)
        for window in self.windows:
            if window.table.device != place:
                window.mixture, window.table = window.mixture.to(place), window.table.to(place)
        values = noisy.to(place, torch.float64)
        return level_by_level(self._composite, values, sigma).to(noisy.dtype)

    def _composite(self, noisy: Tensor, sigma: float) -> Tensor:
        kinds = self.whole.component_shares(noisy, sigma).log()  # (B, K)
        total, weight = torch.zeros_like(noisy), noisy.new_zeros(noisy.shape[-2:])
        for window in self.windows:
            place = (..., window.rows, window.columns)
            part = noisy[place]
            prior = torch.logsumexp(kinds[:, :, None] + window.table, 1)  # (B, J)
            found = window.mixture.posterior(
                part.flatten(1), sigma, log_prior=prior, temperature=self.temperature
            ).mean.reshape(part.shape)
            taper = _taper(*part.shape[-2:]).to(noisy)
            total[place].add_(taper * found)
            weight[place[1:]].add_(taper)
        return total / weight


def places(length: int, side: int, stride: int) -> list[slice]:
    """Where windows lie along one axis: every `stride` pixels, and one that ends with the image."""
    side = min(side, length)
    starts = sorted({*range(0, length - side, stride), length - side})
    return [slice(start, start + side) for start in starts]


def _taper(height: int, width: int) -> Tensor:
    """``sin²`` across the window in both directions, above 0 everywhere, float64 (height, width)."""
    rows, columns = (
        torch.from_numpy(np.sin(math.pi * (np.arange(side) + 1) / (side + 1)) ** 2) for side in (height, width)
    )
    return rows[:, None] * columns
