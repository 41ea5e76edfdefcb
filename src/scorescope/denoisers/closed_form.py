"""The smoothed closed form: the optimal denoiser averaged over perturbed inputs.

Scarvelis et al., arXiv 2310.12395: in the flow convention ``z = (1 − τ) n + τ x`` the posterior mean is replaced by
``E_ε[Σ_i softmax_i(−‖z + s ε − τ x_i‖² / 2(1 − τ)²) x_i]``, ``ε ~ N(0, I)``. With ``z = τ y``, ``σ = (1 − τ)/τ`` the exponent
is ``−‖y + s (1 + σ) ε − x_i‖² / 2σ²``: the optimal denoiser at an input moved by noise of deviation ``s (1 + σ)``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.registry import training_free
from scorescope.denoisers.training_set import Floats, TrainingSetDenoiser
from scorescope.foundation import UserError
from scorescope.posterior.device import DeviceEngine
from scorescope.posterior.units import LEVELS_PER_UNIT
from scorescope.posterior.whole_image import WholeImagePosterior


@training_free(
    "closed-form",
    explanation="smoothed memorization (averaged over perturbations)",
    source="Scarvelis et al., TMLR 2025, arXiv 2310.12395",
)
class ClosedFormDenoiser(TrainingSetDenoiser):
    """The mean of the optimal denoiser over M perturbed copies of the input; all copies share one pass over the data.

    Args:
        images: the training set.
        smoothing: s, the perturbation's deviation in the flow convention; 0 gives the optimal denoiser.
        draws: M. The same M perturbations are used at every call, so that outputs are a function of the input.
        seed: of the perturbations.
        temperature: divides the logits.

    Raises:
        UserError: smoothing negative or not finite, draws below 1, temperature not positive and finite.
    """

    def __init__(
        self, images: ImageSet, smoothing: float = 0.1, draws: int = 8, *, seed: int = 0, temperature: float = 1.0
    ) -> None:
        super().__init__(images, temperature=temperature)
        if not (math.isfinite(smoothing) and smoothing >= 0):
            raise UserError(f"smoothing must be finite and not negative, found {smoothing}")
        if draws < 1:
            raise UserError(f"at least 1 draw is needed, found {draws}")
        self.smoothing = smoothing
        self.posterior = WholeImagePosterior(images)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(draws, self.posterior.dimension, generator=generator, dtype=torch.float64)
        self.perturbations: Floats = noise.numpy()

    def posterior_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        """See `TrainingSetDenoiser.posterior_mean`."""
        draws = len(self.perturbations)
        moved = self.smoothing * (1 + np.asarray(sigma)) * LEVELS_PER_UNIT  # (B,)
        copies = noisy[:, None] + moved[:, None, None] * self.perturbations  # (B, M, d)
        means = self.posterior.mean(copies.reshape(-1, noisy.shape[1]), np.repeat(spread, draws))
        mean: Floats = means.reshape(len(noisy), draws, -1).mean(1)
        return mean

    def device_mean(self, engine: DeviceEngine, noisy: Tensor, spread: Tensor, sigma: list[float]) -> Tensor:
        """See `TrainingSetDenoiser.device_mean`."""
        draws = len(self.perturbations)
        moved = self.smoothing * (1 + noisy.new_tensor(sigma)) * LEVELS_PER_UNIT  # (B,)
        perturbations = torch.from_numpy(self.perturbations).to(noisy.device)
        copies = noisy[:, None] + moved[:, None, None] * perturbations  # (B, M, d)
        means = engine.whole_image.mean(copies.flatten(0, 1), spread.repeat_interleave(draws))
        return means.reshape(len(noisy), draws, -1).mean(1)
