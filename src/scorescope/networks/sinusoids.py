"""A number as sines and cosines of many frequencies, in the two ways of diffusion U-Nets.

For a width of 2h both use ``sin(t f_i)`` and ``cos(t f_i)`` with h frequencies that fall from 1 in equal ratios, to
``1/θ`` itself (Ho et al., NeurIPS 2020, who put the sines first), or to the one before it (Dhariwal & Nichol, NeurIPS 2021,
who put the cosines first).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sines_first(time: Tensor, width: int, theta: float = 10_000.0) -> Tensor:
    """``[sin(t f), cos(t f)]`` with ``f_i = θ^(−i/(h−1))``: (B,) -> (B, width)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=time.device) * (-math.log(theta) / max(half - 1, 1)))
    angles = time[:, None] * frequencies
    return _filled(torch.cat([angles.sin(), angles.cos()], 1), width)


def cosines_first(time: Tensor, width: int, theta: float = 10_000.0) -> Tensor:
    """``[cos(t f), sin(t f)]`` with ``f_i = θ^(−i/h)``: (B,) -> (B, width)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=time.device) * -math.log(theta) / half)
    angles = time[:, None] * frequencies
    return _filled(torch.cat([angles.cos(), angles.sin()], 1), width)


def _filled(embedded: Tensor, width: int) -> Tensor:
    """A last column of zeros where the width is odd."""
    return embedded if embedded.shape[1] == width else torch.cat([embedded, torch.zeros_like(embedded[:, :1])], 1)
