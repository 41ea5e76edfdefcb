"""Sampling from the prior that is implicit in a denoiser that need not know the noise level.

Kadkhodaie & Simoncelli, NeurIPS 2021, https://arxiv.org/abs/2007.13640, algorithm 1. From the residual
``d = D(y) − y`` the noise level is estimated as ``σ̂² = ‖d‖² / dim``; each step moves a fraction h along d and adds
fresh noise of variance ``((1 − βh)² − (1 − h)²) σ̂²``, so that the noise level falls by the factor 1 − βh. β = 1 adds
none. An image stops when its σ̂ falls below `sigma_end`.

Two rules for the step: h is the same at every step, or it grows as ``h_t = h t / (1 + h (t − 1))``, t from 1, towards 1, so
that late steps, which have little noise to lose, are as large as early ones were small. With h = 0.01 and β = 0.1 the noise
falls by a factor of 40 in 3,688 steps by the first rule and in 110 by the second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorescope.denoisers.base import Denoiser
from scorescope.foundation import UserError
from scorescope.foundation.limits import MOST_ASCENT_STEPS

DIVERGED = 10.0  # times the noise level of the start
LEAST_PATIENCE, PATIENCE = 1000, 3
_COUNTED = 4096


@dataclass(frozen=True)
class BlindState:
    """One point of the ascent.

    An image whose `converged` and `diverged` are both false is still on its way; in the last state it ran out of steps.

    Attributes:
        noisy: y, (B, C, H, W).
        denoised: D(y), (B, C, H, W), of each image's own last evaluation.
        sigma: σ̂ of each image, (B,).
        converged: which images have reached `sigma_end`, (B,) bool.
        diverged: which images have been given up, because their σ̂ grew to ten times `sigma_start`, (B,) bool.
        steps: how many steps each image has taken, int64 (B,).
    """

    noisy: Tensor
    denoised: Tensor
    sigma: Tensor
    converged: Tensor
    diverged: Tensor
    steps: Tensor


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
    max_steps: int | None = None,
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
        max_steps: when to give up; the last state then has images that have not converged. Three times what an exact
            denoiser needs by default, and at least 1,000. An image whose σ̂ grows to ten times `sigma_start` has
            diverged: it is left as it is and counts as not converged.

    Yields:
        One state a step; the last one holds the samples in `denoised`.

    Raises:
        UserError: h or beta outside (0, 1], or sigma_end not between 0 and sigma_start.
    """
    return climb(
        lambda noisy, sigma, _: denoiser(noisy, sigma),
        start,
        generator,
        sigma_start=sigma_start,
        sigma_end=sigma_end,
        h=h,
        beta=beta,
        h_grows=h_grows,
        max_steps=max_steps,
    )


def climb(
    estimate: Callable[[Tensor, Tensor, Tensor], Tensor],
    start: Tensor,
    generator: torch.Generator,
    *,
    sigma_start: float,
    sigma_end: float,
    h: float,
    beta: float,
    h_grows: bool,
    max_steps: int | None,
) -> Iterator[BlindState]:
    """The ascent towards any estimate of the clean image: (y, σ̂, which of the B images these are) -> (≤ B, C, H, W).

    Other arguments, states and errors as `blind_ascent`.
    """
    expected = steps_of_exact(sigma_start, sigma_end, h, beta, h_grows)
    most = max_steps if max_steps is not None else max(LEAST_PATIENCE, PATIENCE * expected)
    y, denoised = start.clone(), start.clone()
    sigma = torch.full((len(start),), float(sigma_start), dtype=start.dtype, device=start.device)
    steps = torch.zeros(len(start), dtype=torch.int64, device=start.device)
    with torch.no_grad():
        for step in range(1, most + 1):
            rate = step_size(step, h, h_grows)
            noise = torch.randn(start.shape, generator=generator, dtype=start.dtype, device=start.device)
            going = torch.nonzero((sigma > sigma_end) & (sigma < DIVERGED * sigma_start))[:, 0]
            denoised[going] = estimate(y[going], sigma[going], going)
            residual = denoised[going] - y[going]
            sigma[going] = residual.square().mean((1, 2, 3)).sqrt()
            gamma = sigma[going] * max((1 - beta * rate) ** 2 - (1 - rate) ** 2, 0.0) ** 0.5
            y[going] += rate * residual + gamma.reshape(-1, 1, 1, 1) * noise[going]
            steps[going] += 1
            converged, diverged = sigma <= sigma_end, ~(sigma < DIVERGED * sigma_start)
            yield BlindState(y.clone(), denoised.clone(), sigma.clone(), converged, diverged, steps.clone())
            if bool((converged | diverged).all()):
                return


def step_size(step: int, h: float, h_grows: bool) -> float:
    """h_t of step t, from 1."""
    return h * step / (1 + h * (step - 1)) if h_grows else h


def steps_of_exact(sigma_start: float, sigma_end: float, h: float, beta: float, h_grows: bool) -> int:
    """How many steps the ascent takes with an exact denoiser, whose noise level falls by the factor ``1 − β h_t`` a step.

    Raises UserError if h or beta is outside (0, 1], sigma_end is not between 0 and sigma_start, or that is over a million.
    """
    if not (0 < h <= 1 and 0 < beta <= 1):
        raise UserError(f"the ascent needs 0 < h ≤ 1 and 0 < beta ≤ 1, found h={h}, beta={beta}")
    if not 0 < sigma_end < sigma_start:
        raise UserError(
            f"the ascent goes from sigma_start down to a positive sigma_end, found {sigma_start} to {sigma_end}"
        )
    if not h_grows:
        left = math.log(sigma_end / sigma_start)
        steps = math.ceil(left / math.log1p(-beta * h)) if beta * h < 1 else 1
        return _bearable(steps, h, beta)
    # In the growing rule 1 − β h_t has no product in closed form: it is summed in pieces.
    step, left = 0, math.log(sigma_end / sigma_start)
    while step < MOST_ASCENT_STEPS:
        t = np.arange(step + 1, step + _COUNTED + 1)
        falls = np.log1p(-np.minimum(beta * h * t / (1 + h * (t - 1)), 1 - 1e-12)).cumsum()
        if falls[-1] <= left:
            return _bearable(step + int(np.searchsorted(-falls, -left)) + 1, h, beta)
        step, left = step + _COUNTED, left - float(falls[-1])
    return _bearable(step + 1, h, beta)


def _bearable(steps: int, h: float, beta: float) -> int:
    """The same number. Raises UserError if nobody would wait for so many steps."""
    if steps > MOST_ASCENT_STEPS:
        raise UserError(
            f"with h={h:g} and beta={beta:g} the ascent takes more than {MOST_ASCENT_STEPS:,} steps: choose larger ones"
        )
    return steps
