"""Sampling from the prior that is implicit in a denoiser that need not know the noise level.

Kadkhodaie & Simoncelli, NeurIPS 2021, https://arxiv.org/abs/2007.13640, algorithm 1. From the residual
``d = D(y) − y`` the noise level is estimated as ``σ̂² = ‖d‖² / dim``; each step moves a fraction h along d and adds
fresh noise of variance ``((1 − βh)² − (1 − h)²) σ̂²``, so that the noise level falls by the factor 1 − βh. β = 1 adds
none. An image stops when its σ̂ falls below `sigma_end`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.denoisers.base import Denoiser
from scorescope.foundation import UserError


@dataclass(frozen=True)
class BlindState:
    """One point of the ascent.

    Attributes:
        noisy: y, (B, C, H, W).
        denoised: D(y), (B, C, H, W), of each image's own last evaluation.
        sigma: σ̂ of each image, (B,).
        converged: which images have reached `sigma_end`, (B,) bool.
    """

    noisy: Tensor
    denoised: Tensor
    sigma: Tensor
    converged: Tensor


def blind_ascent(
    denoiser: Denoiser,
    start: Tensor,
    generator: torch.Generator,
    *,
    sigma_start: float = 2.0,
    sigma_end: float = 0.1,
    h: float = 0.01,
    beta: float = 0.1,
    h_grows: bool = True,
    max_steps: int = 1000,
) -> Iterator[BlindState]:
    """Climb to the images that a denoiser expects, yielding every state.

    Args:
        denoiser: blind, or told its own estimate σ̂ (from the step before, `sigma_start` at first).
        start: (B, C, H, W): the mean plus ``sigma_start`` times white noise.
        generator: for the noise that is added, on the device of `start`. Every image draws from it at every step,
            stopped or not, so the noise of one image does not depend on when another stops.
        sigma_start: noise level of `start`, in units of [-1, 1]; 2 is the paper's 1 on [0, 1].
        sigma_end: noise level to stop at; 0.1 is the paper's 0.05.
        h: first step size, in (0, 1].
        beta: share of the step that lowers the noise, in (0, 1]; smaller is more stochastic.
        h_grows: whether step t (from 1) is ``h·t / (1 + h·(t − 1))``, as the paper's code offers, instead of h.
        max_steps: when to give up; the last state then has images that have not converged. An image whose σ̂ grows to
            ten times `sigma_start` has diverged: it is left as it is and counts as not converged.

    Yields:
        One state a step; the last one holds the samples in `denoised`.

    Raises:
        UserError: h or beta outside (0, 1], or sigma_end not between 0 and sigma_start.
    """
    if not (0 < h <= 1 and 0 < beta <= 1):
        raise UserError(f"the ascent needs 0 < h ≤ 1 and 0 < beta ≤ 1, found h={h}, beta={beta}")
    if not 0 < sigma_end < sigma_start:
        raise UserError(
            f"the ascent goes from sigma_start down to a positive sigma_end, found {sigma_start} to {sigma_end}"
        )
    y, denoised = start.clone(), start.clone()
    sigma = torch.full((len(start),), float(sigma_start), dtype=start.dtype, device=start.device)
    active = torch.ones(len(start), dtype=torch.bool, device=start.device)
    with torch.no_grad():
        for step in range(1, max_steps + 1):
            rate = h * step / (1 + h * (step - 1)) if h_grows else h
            noise = torch.randn(start.shape, generator=generator, dtype=start.dtype, device=start.device)
            denoised[active] = denoiser(y[active], sigma[active])
            residual = denoised[active] - y[active]
            sigma[active] = residual.square().mean((1, 2, 3)).sqrt()
            gamma = sigma[active] * max((1 - beta * rate) ** 2 - (1 - rate) ** 2, 0.0) ** 0.5
            y[active] += rate * residual + gamma.reshape(-1, 1, 1, 1) * noise[active]
            active = active & (sigma > sigma_end) & (sigma < 10 * sigma_start)
            yield BlindState(y.clone(), denoised.clone(), sigma.clone(), sigma <= sigma_end)
            if not bool(active.any()):
                return
