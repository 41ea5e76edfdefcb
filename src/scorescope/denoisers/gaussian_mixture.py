"""Linear filters, one for each kind of image: the posterior mean if images came from a mixture of Gaussians.

``D(y, σ) = Σ_k r_k(y) [μ_k + C_k (C_k + σ² I)⁻¹ (y − μ_k)]``: which kind of image it is, memory decides; what it looks
like is then filtered, not looked up. With one component it is the Gaussian denoiser, with as many as training images and no
spread the optimal one.

The mixture lives in the leading principal directions of the training set; in all others, where little is left, the
Gaussian's filter works, so that cost and memory do not grow with the square of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.base import Denoiser, float64_device
from scorescope.denoisers.registry import training_free
from scorescope.foundation import UserError
from scorescope.posterior.gaussian_mixture import GaussianMixture, fitted
from scorescope.posterior.moments import principal_components

# More images hardly move a mixture of some dozen components, and their float copies need not fit in memory.
MOST_FITTED = 20_000


@training_free(
    "gaussian-mixture",
    explanation="a linear filter for each kind of image",
    source="Zoran & Weiss, ICCV 2011 (patches); Wang & Vastola, arXiv 2412.09726 (diffusion models)",
)
class GaussianMixtureDenoiser(Denoiser):
    """The posterior mean under a mixture of Gaussians fitted to the training images.

    Args:
        images: the training set; at most 20,000 of it, drawn at random, are fitted.
        components: K, at most; fewer where there are fewer than 40 images for each.
        directions: leading principal directions that the mixture lives in.
        pool: as how many images the covariance within all components counts in that of each.
        temperature: divides the evidence that a noisy image gives for a component; above 1 it decides later.
        seed: of the search for components.

    Attributes:
        shares: responsibilities of the components for the images that were fitted, (N, K).
        chosen: which entries of `images` these are.

    Raises:
        UserError: components or directions below 1, pool or temperature not positive and finite, images too large for a
            covariance matrix.
    """

    mean: Tensor
    variances: Tensor
    directions: Tensor
    mixture: GaussianMixture

    def __init__(
        self,
        images: ImageSet,
        *,
        components: int = 64,
        directions: int = 256,
        pool: float = 30.0,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(images.image_shape)
        if components < 1 or directions < 1:
            raise UserError(f"components and directions are at least 1, found {components} and {directions}")
        if not all(math.isfinite(value) and value > 0 for value in (pool, temperature)):
            raise UserError(
                f"the pool's weight and the temperature must be positive and finite, found {pool} and {temperature}"
            )
        found = principal_components(images)
        for name in ("mean", "variances", "directions"):
            self.register_buffer(name, torch.from_numpy(np.array(getattr(found, name))))
        self.leading, self.temperature = min(directions, len(found.variances)), temperature
        self.chosen = drawn(images, seed)
        scores = self.coefficients(images.tensor(self.chosen))[:, : self.leading]
        self.mixture, self.shares = fitted(scores, components, directions=40, pool=pool, seed=seed)

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """See `Denoiser.denoise`; computed in float64, where the images are."""
        self._move(float64_device(noisy.device))
        coefficients = self.coefficients(noisy)
        denoised = level_by_level(self._filtered, coefficients, sigma)
        images = self.mean + denoised @ self.directions.T
        return images.reshape(noisy.shape).to(noisy.dtype)

    def coefficients(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in the principal directions, float64 (B, r)."""
        return (images.reshape(len(images), -1).to(self.mean.device, torch.float64) - self.mean) @ self.directions

    def component_shares(self, noisy: Tensor, sigma: float) -> Tensor:
        """Responsibilities of the components for noisy images of one level, float64 (B, K)."""
        self._move(float64_device(noisy.device))
        return self.mixture.shares(self.coefficients(noisy)[:, : self.leading], sigma, self.temperature)

    def _filtered(self, coefficients: Tensor, sigma: float) -> Tensor:
        leading, rest = coefficients[:, : self.leading], coefficients[:, self.leading :]
        others = self.variances[self.leading :]
        found = self.mixture.posterior(leading, sigma, temperature=self.temperature)
        return torch.cat([found.mean, rest * (others / (others + sigma**2))], 1)

    def _move(self, place: torch.device) -> None:
        # What moves a module moves its buffers, not the mixture.
        if self.mean.device != place:
            self.to(place)
        if self.mixture.means.device != place:
            self.mixture = self.mixture.to(place)


def level_by_level(estimate: Callable[[Tensor, float], Tensor], noisy: Tensor, sigma: Tensor) -> Tensor:
    """Estimates of noisy vectors or images (B, …) with levels (B,), those of one level together."""
    levels = sigma.tolist()
    rows = [[row for row, one in enumerate(levels) if one == level] for level in dict.fromkeys(levels)]
    parts = [estimate(noisy.index_select(0, _entries(some, noisy)), levels[some[0]]) for some in rows]
    return torch.cat(parts).index_select(0, _entries(np.argsort(np.concatenate(rows)).tolist(), noisy))


def _entries(rows: list[int], like: Tensor) -> Tensor:
    return torch.tensor(rows, device=like.device)


def drawn(images: ImageSet, seed: int, most: int = MOST_FITTED) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Entries of an image set that a mixture is fitted to, ascending: all, or `most` of them at random."""
    order = np.random.default_rng(seed).permutation(len(images))
    return np.sort(order[:most])
