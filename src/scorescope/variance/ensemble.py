"""V over an ensemble: the same network trained M times on different draws, and the random field that such networks are draws
of.

With members D_1 … D_M the average model is ``D̄ = Σ D_m / M``, and in the flow ``dy/dσ = (y − D(y, σ)) / σ`` of the noise
level the V-kernel of Vastola (ICLR 2025, arXiv 2504.12532, proposition 3.1) is estimated by

    V(a; b) = Cov_m[D_m(a), D_m(b)] / (σ_a σ_b)        (divisor M − 1).

What the target's own variance would make of it, D C D, is ``Cov[x | y] / σ²``; the ratio of the traces,
``tr Cov_m[D_m] / tr Cov[x | y]``, is the share of the target's variance that training leaves in the model.

A Gaussian field with exactly this kernel is ``ξ = Σ_m g_m (D_m − D̄) / √(M − 1)`` with independent unit normal g: one vector g
is one training run as the theory sees it, at all points at once, so that the effective process is the flow of ``D̄ + ξ``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.denoisers.base import Denoiser
from scorescope.foundation import UserError

Outputs = Callable[[Tensor, float], Tensor]
"""All members on the same noisy images: (B, …), σ -> (M, B, …)."""


def together(denoisers: Sequence[Denoiser]) -> Outputs:
    """Denoisers of the same images as one function of all of them."""

    def outputs(noisy: Tensor, sigma: float) -> Tensor:
        with torch.no_grad():
            return torch.stack([denoiser(noisy, sigma) for denoiser in denoisers])

    return outputs


class Ensemble:
    """M members, and what they say of training runs in general.

    Args:
        outputs: of all members.
        count: M.

    Raises:
        UserError: fewer than two members, which have no variance.
    """

    def __init__(self, outputs: Outputs, count: int) -> None:
        if count < 2:
            raise UserError(f"a variance over training runs takes at least two members, found {count}")
        self.outputs, self.count = outputs, count

    def mean(self, noisy: Tensor, sigma: float) -> Tensor:
        """D̄, the average model: (B, …) -> (B, …)."""
        return self.outputs(noisy, sigma).mean(0)

    def variance(self, noisy: Tensor, sigma: float) -> Tensor:
        """``tr Cov_m[D_m]``, summed over pixels, float64 (B,)."""
        return self.outputs(noisy, sigma).double().var(0).flatten(1).sum(1)

    def covariance(self, noisy: Tensor, sigma: float, other: Tensor, other_sigma: float) -> Tensor:
        """V between all pairs of two batches, flattened images of d values: (B, …), (B', …) -> (B, B', d, d), float64."""
        first = self._deviations(noisy, sigma)
        second = first if other is noisy and other_sigma == sigma else self._deviations(other, other_sigma)
        return torch.einsum("mbi,mcj->bcij", first, second) / (sigma * other_sigma)

    def draw_weights(self, runs: int, generator: torch.Generator) -> Tensor:
        """g of several runs as the theory sees them, (R, M)."""
        return torch.randn(runs, self.count, generator=generator)

    def run(self, weights: Tensor) -> Callable[[Tensor, float], Tensor]:
        """The denoisers ``D̄ + ξ`` of several runs.

        Args:
            weights: g, (R, M), see `draw_weights`.

        Returns:
            A function of noisy images of each run's own (R, B, …) and σ, to (R, B, …).
        """
        scaled = weights / (self.count - 1) ** 0.5

        def denoise(noisy: Tensor, sigma: float) -> Tensor:
            found = self.outputs(noisy.flatten(0, 1), sigma)
            mean = found.mean(0)
            each = (found - mean).reshape(self.count, *noisy.shape)  # (M, R, B, …)
            return mean.reshape(noisy.shape) + torch.einsum("rm,mr...->r...", scaled.to(each.dtype), each)

        return denoise

    def _deviations(self, noisy: Tensor, sigma: float) -> Tensor:
        """``(D_m − D̄) / √(M − 1)``, float64 (M, B, d)."""
        found = self.outputs(noisy, sigma).double().flatten(2)
        deviations: Tensor = (found - found.mean(0)) / (self.count - 1) ** 0.5
        return deviations


@dataclass(frozen=True)
class Profile:
    """The variance over runs and that of the target at the same states, over L levels and B states each.

    Attributes:
        sigmas: (L,), from high to low.
        model: ``tr Cov_m[D_m]``, (L, B).
        target: ``tr Cov[x | y]``, (L, B).
    """

    sigmas: Tensor
    model: Tensor
    target: Tensor

    @property
    def left(self) -> Tensor:
        """Share of the target's variance that is left in the model, of the means over states, (L,); infinite where there is"
        " none."""
        return self.model.mean(1) / self.target.mean(1)

    def rank_correlations(self) -> Tensor:
        """Spearman's correlation of the two over the states of each level, (L,); NaN where either does not vary."""
        ranks = [values.argsort(1).argsort(1).double() for values in (self.model, self.target)]
        centred = [rank - rank.mean(1, keepdim=True) for rank in ranks]
        found = (centred[0] * centred[1]).sum(1) / (centred[0].square().sum(1) * centred[1].square().sum(1)).sqrt()
        same = (self.model.std(1) <= 1e-6 * self.model.mean(1)) | (self.target.std(1) <= 1e-6 * self.target.mean(1))
        return torch.where(same, torch.nan, found)


def profile(
    ensemble: Ensemble, target_variance: Callable[[Tensor, float], Tensor], states: Sequence[tuple[Tensor, float]]
) -> Profile:
    """Both variances along trajectories.

    Args:
        ensemble: the members.
        target_variance: ``tr Cov[x | y]`` of noisy images (B, …) at σ, (B,).
        states: (noisy (B, …), σ) at every level, from high to low.
    """
    model = torch.stack([ensemble.variance(noisy, sigma) for noisy, sigma in states])
    target = torch.stack([target_variance(noisy, sigma).double() for noisy, sigma in states])
    return Profile(torch.tensor([sigma for _, sigma in states], dtype=torch.float64), model, target)
