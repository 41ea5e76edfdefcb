"""The probability-flow ODE in sigma: ``dy/dσ = (y − D(y, σ)) / σ``, by Euler's or Heun's method.

Karras et al., NeurIPS 2022, https://arxiv.org/abs/2206.00364, equation 1 and algorithm 1, for any decreasing list of
sigmas. The last step goes to sigma = 0, where it lands on the denoised image. Samplers yield states, and callers keep
what they want.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorescope.noise import check_sigmas


@dataclass(frozen=True)
class State:
    """One point of a trajectory.

    Attributes:
        noisy: y_σ, (B, C, H, W).
        denoised: D(y_σ, σ), (B, C, H, W); at sigma = 0 the sample itself.
        sigma: noise level; 0 for the last state.
    """

    noisy: Tensor
    denoised: Tensor
    sigma: float


Denoise = Callable[[Tensor, float], Tensor]


def euler(denoiser: Denoise, noisy: Tensor, sigmas: Sequence[float] | Tensor) -> Iterator[State]:
    """Solve the flow by Euler's method, one evaluation a step.

    Args:
        denoiser: maps (noisy, sigma) to the clean estimate; any `Denoiser`.
        noisy: states at ``sigmas[0]``, (B, C, H, W); pure noise is ``sigmas[0] * n``.
        sigmas: (n,), positive, strictly decreasing, without a final zero.

    Yields:
        n states at the given sigmas, then the sample at sigma 0.

    Raises:
        UserError: sigmas not positive, finite and decreasing.
    """
    levels = [*check_sigmas(sigmas).tolist(), 0.0]
    y = noisy
    with torch.no_grad():
        for sigma, following in itertools.pairwise(levels):
            denoised = denoiser(y, sigma)
            yield State(y, denoised, sigma)
            y = denoised + (following / sigma) * (y - denoised)
        yield State(y, y, 0.0)


def heun(denoiser: Denoise, noisy: Tensor, sigmas: Sequence[float] | Tensor) -> Iterator[State]:
    """Solve the flow by Heun's method: Euler's step, then the mean of the slopes at both ends; the last step is Euler's.

    Arguments, states and errors as `euler`; 2n − 1 evaluations for n sigmas.
    """
    levels = [*check_sigmas(sigmas).tolist(), 0.0]
    y = noisy
    with torch.no_grad():
        for sigma, following in itertools.pairwise(levels):
            denoised = denoiser(y, sigma)
            yield State(y, denoised, sigma)
            slope = (y - denoised) / sigma
            ahead = y + (following - sigma) * slope
            if following > 0:
                slope_ahead = (ahead - denoiser(ahead, following)) / following
                ahead = y + (following - sigma) * (slope + slope_ahead) / 2
            y = ahead
        yield State(y, y, 0.0)


def last(states: Iterable[Any]) -> Any:
    """The final state of a sampler's run. Raises ValueError if there is none."""
    final = deque(states, maxlen=1)
    if not final:
        raise ValueError("the sampler yielded no state")
    return final[0]
