"""Forward inputs ``clean + sigma * n``, and the check that every list of sigmas from outside goes through."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scorescope.foundation import UserError


def add_noise(clean: Tensor, sigma: float | Tensor, generator: torch.Generator) -> Tensor:
    """``clean + sigma * n`` with ``n ~ N(0, I)`` from `generator`.

    Args:
        clean: (B, C, H, W) in [-1, 1].
        sigma: a number, or a tensor (B,), ≥ 0.
        generator: on the device of `clean`.

    Returns:
        (B, C, H, W).
    """
    noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
    levels = torch.as_tensor(sigma, dtype=clean.dtype, device=clean.device).reshape(-1, 1, 1, 1)
    return clean + levels * noise


def check_sigmas(sigmas: Sequence[float] | Tensor) -> Tensor:
    """The list as a float64 tensor (n,). Raises UserError unless it is finite, positive and strictly decreasing."""
    levels = torch.as_tensor(sigmas, dtype=torch.float64).reshape(-1)
    if not levels.numel() or not bool((torch.isfinite(levels) & (levels > 0)).all()):
        raise UserError(f"noise levels must be positive and finite, found {levels.tolist()[:6]}")
    if bool((levels.diff() >= 0).any()):
        raise UserError(f"noise levels must decrease strictly, found {levels.tolist()[:6]}")
    return levels
