"""Attribution by gradients, D-TRAK: images whose pull on the weights is like the sample's.

Zheng et al., ICLR 2024, arXiv 2311.00500. Of every image x the gradient with respect to the weights θ of the squared norm of
the network's noise estimate,

    g(x) = ∇_θ mean_{σ, n} ‖ε̂_θ(x + σ n, σ)‖²/d,      ε̂ = (y − D(y, σ))/σ,

is projected to k numbers, φ(x) = P g(x); the attribution of sample x to training image i is that of TRAK (Park et al., 2023),
``φ(x)ᵀ (ΦᵀΦ + λ I)⁻¹ φ(x_i)``, Φ the rows of all training images. Squared norms, not losses: that is what they found to work.
P is sparse, one random sign a weight, added to one of k places: inner products keep their expected values, in one pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.denoisers.network import NetworkDenoiser
from scorescope.foundation import UserError, track

Floats = npt.NDArray[np.float64]
PLACES = 4096
MOST_WEIGHTS = 50_000_000
RIDGE = 0.1


class GradientFeatures:
    """Projected gradients of images, as above.

    Args:
        network: whose weights.
        sigmas: levels that the squared norm is averaged over.
        seed: of noise and projection; every image sees the same noise.
        places: k.

    Raises:
        UserError: more weights than `MOST_WEIGHTS`, or none.
    """

    def __init__(self, network: NetworkDenoiser, sigmas: Sequence[float], seed: int = 0, places: int = PLACES) -> None:
        self.network = network
        self.weights = list(network.network.parameters())
        count = sum(weight.numel() for weight in self.weights)
        if not 0 < count <= MOST_WEIGHTS:
            raise UserError(
                f"gradients are taken of networks of at most {MOST_WEIGHTS:,} weights, {network.name} has {count:,}"
            )
        generator = torch.Generator().manual_seed(seed)
        self.sigmas = torch.tensor(list(sigmas), dtype=torch.float32)
        self.noise = torch.randn((len(self.sigmas), *network.image_shape), generator=generator)
        self.places = places
        self.place = torch.randint(0, places, (count,), generator=generator)
        self.sign = torch.randint(0, 2, (count,), generator=generator, dtype=torch.int8)

    def of(self, image: Tensor) -> Tensor:
        """φ of one image (C, H, W), float32 (k,) on the CPU."""
        device, dtype = self.weights[0].device, self.weights[0].dtype
        sigma = self.sigmas.to(device, dtype)
        spread = sigma.reshape(-1, 1, 1, 1)
        noisy = image.to(device, dtype) + spread * self.noise.to(device, dtype)
        wanted = [weight.requires_grad for weight in self.weights]
        try:
            for weight in self.weights:
                weight.requires_grad_(True)
            with torch.enable_grad():
                estimate = (noisy - self.network(noisy, sigma)) / spread
                norm = estimate.square().mean()
                gradients = torch.autograd.grad(norm, self.weights, allow_unused=True)
        finally:
            for weight, was in zip(self.weights, wanted, strict=True):
                weight.requires_grad_(was)
        flat = torch.cat(
            [
                torch.zeros(weight.numel()) if gradient is None else gradient.detach().float().cpu().reshape(-1)
                for weight, gradient in zip(self.weights, gradients, strict=True)
            ]
        )
        return torch.zeros(self.places).index_add_(0, self.place, flat * (2.0 * self.sign - 1.0))

    def of_all(self, images: Tensor, description: str = "gradients of training images") -> Floats:
        """φ of images (B, C, H, W), float64 (B, k)."""
        rows = [self.of(image).numpy() for image in track(list(images), description)]
        return np.stack(rows).astype(np.float64)


def gradient_scores(samples: Floats, training: Floats, ridge: float = RIDGE) -> Floats:
    """``φ(x)ᵀ (ΦᵀΦ + λ I)⁻¹ φ(x_i)`` of samples (B, k) and training images (N, k): (B, N).

    Args:
        samples: φ of the samples.
        training: Φ.
        ridge: λ, in units of the mean squared length of the rows of Φ.
    """
    count, places = training.shape
    size = ridge * float((training**2).sum()) / count
    if size == 0:
        return np.zeros((len(samples), count))
    # (ΦᵀΦ + λ)⁻¹ Φᵀ = Φᵀ (ΦΦᵀ + λ)⁻¹: the smaller of the two systems is solved.
    if count <= places:
        return np.asarray(np.linalg.solve(training @ training.T + size * np.eye(count), training @ samples.T).T)
    return np.asarray(samples @ np.linalg.solve(training.T @ training + size * np.eye(places), training.T))
