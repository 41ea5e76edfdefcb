"""Lists of noise levels, high to low, as sigmas.

A variance-preserving process holds ``a·x + s·n`` with ``a² + s² = 1``; divided by a it is ``x + σ n`` with ``σ = s / a``,
so every schedule of the literature is a list of sigmas (Karras et al., NeurIPS 2022, https://arxiv.org/abs/2206.00364).
Every function returns a float64 tensor (n,), strictly decreasing, without a final zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.foundation.limits import MOST_LEVELS


def edm_sigmas(n: int = 18, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """The schedule of Karras et al. 2022, equation 5: equal steps in ``σ^(1/ρ)``; n is 18 for 32×32, 40 for 64×64.

    Raises UserError unless 2 ≤ n ≤ 100,000 and 0 < sigma_min < sigma_max.
    """
    _check_range(n, sigma_min, sigma_max)
    step = torch.linspace(0, 1, n, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    levels: Tensor = (high + step * (low - high)) ** rho
    return levels


def log_spaced_sigmas(n: int, sigma_min: float = 0.01, sigma_max: float = 100.0) -> Tensor:
    """Equal steps in log σ, both ends included. Raises UserError unless 2 ≤ n ≤ 100,000 and 0 < sigma_min < sigma_max."""
    _check_range(n, sigma_min, sigma_max)
    return torch.logspace(math.log10(sigma_max), math.log10(sigma_min), n, dtype=torch.float64)


def ddpm_sigmas(
    steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02, schedule: str = "linear"
) -> Tensor:
    """The table of a discrete DDPM as sigmas, ``σ_t = sqrt((1 − ᾱ_t) / ᾱ_t)``, from t = steps to t = 1.

    Args:
        steps: length of the table.
        beta_start: first variance of the linear schedule (Ho et al., NeurIPS 2020).
        beta_end: last variance of the linear schedule.
        schedule: ``linear``, ``scaled-linear`` (linear in the root of the variance; Rombach et al., CVPR 2022), or ``cosine``
            (Nichol & Dhariwal, ICML 2021) or ``sigmoid`` (Jabri et al., ICML 2023, https://arxiv.org/abs/2212.11972, from −3
            to 3 at temperature 1), which ignore both betas.

    Raises:
        UserError: unknown schedule; fewer than 2 steps, or more than 100,000.
    """
    check_count(steps)
    if schedule == "linear":
        betas = torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)
    elif schedule == "scaled-linear":
        betas = torch.linspace(math.sqrt(beta_start), math.sqrt(beta_end), steps, dtype=torch.float64) ** 2
    elif schedule == "cosine":
        time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        signal = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = (1 - signal[1:] / signal[:-1]).clamp(max=0.999)
    elif schedule == "sigmoid":
        time = torch.linspace(-3, 3, steps + 1, dtype=torch.float64)
        # ᾱ falls from 1 to 0 as the sigmoid of the time rises from that of −3 to that of 3
        signal = (time[-1].sigmoid() - time.sigmoid()) / (time[-1].sigmoid() - time[0].sigmoid())
        betas = (1 - signal[1:] / signal[:-1]).clamp(max=0.999)
    else:
        raise UserError(f"no DDPM schedule is called {schedule!r}; known: linear, scaled-linear, cosine, sigmoid")
    log_signal = torch.log1p(-betas).cumsum(0)
    return torch.expm1(-log_signal).sqrt().flip(0)


def vp_sigmas(n: int, beta_min: float = 0.1, beta_d: float = 19.9, epsilon: float = 1e-3) -> Tensor:
    """The continuous VP process at n equal times from t = 1 to t = epsilon, ``σ = sqrt(exp(β_d t²/2 + β_min t) − 1)``.

    Here beta_min and beta_d are those of Song et al., ICLR 2021, whose ``dx = −β x/2 dt + √β dW`` gives the signal
    ``exp(−(β_d t²/2 + β_min t)/2)``.
    Raises UserError unless 2 ≤ n ≤ 100,000 and 0 < epsilon < 1.
    """
    _check_range(n, epsilon, 1.0)
    time = torch.linspace(1, epsilon, n, dtype=torch.float64)
    return torch.expm1(beta_d * time**2 / 2 + beta_min * time).sqrt()


def check_count(n: int) -> None:
    """Raise UserError unless a list of noise levels can have n of them."""
    if n < 2:
        raise UserError(f"a list of noise levels has at least 2 of them, found {n}")
    if n > MOST_LEVELS:
        raise UserError(f"a list of noise levels has at most {MOST_LEVELS:,} of them, found {n:,}")


def _check_range(n: int, low: float, high: float) -> None:
    check_count(n)
    if not (math.isfinite(low) and math.isfinite(high) and 0 < low < high):
        raise UserError(f"noise levels run from a positive lowest to a larger highest one, found {low} to {high}")
