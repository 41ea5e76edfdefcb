"""Posterior means in one pass: weights and weighted values, counted from the largest logit so far.

With ``m`` the largest logit met, ``Z = Σ e^{ℓ_i − m}`` and ``v = Σ e^{ℓ_i − m} x_i``; a larger logit ``m'`` multiplies both by
``e^{m − m'}``. The mean is v / Z whatever m is, and nothing overflows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorescope.posterior.device.reductions import merge_maxima, merge_sums, rescaled


class RunningMeans:
    """Posterior means of several questions, each with logits of its own.

    Args:
        shape: of the questions.
        values: how many values are averaged for each.
        device: where.
        dtype: of the logits.

    Attributes:
        largest: m, of that type and shape.
        total: Z, float64, of that shape.
        values: v, float64 (values, *shape).
    """

    def __init__(
        self, shape: tuple[int, ...], values: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self.largest = torch.full(shape, -math.inf, dtype=dtype, device=device)
        self.total = torch.zeros(shape, dtype=torch.float64, device=device)
        self.values = torch.zeros((values, *shape), dtype=torch.float64, device=device)

    def count_from(self, largest: Tensor) -> None:
        """Count from `largest`, at least as large as what is counted from now."""
        self.total = rescaled(self.total, self.largest, largest)
        self.values.mul_(rescaled(torch.ones_like(self.total), self.largest, largest))
        self.largest = largest

    def mean(self) -> Tensor:
        """Over the training images of all processes, float64 (values, *shape); the sums are used up."""
        self.count_from(merge_maxima(self.largest))
        return merge_sums(self.values).div_(merge_sums(self.total))
