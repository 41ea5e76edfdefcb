"""Bias-free batch normalization: division by the running standard deviation, no mean, no additive constant.

A network whose every layer is homogeneous of degree one satisfies ``f(a y) = a f(y)`` for a > 0 and ``f(y) = ∇f(y) y``:
it is a linear map that depends on its input, whose eigenvectors can be looked at (Mohan et al., ICLR 2020,
https://arxiv.org/abs/1906.05478; Kadkhodaie et al., ICLR 2024, https://arxiv.org/abs/2310.02557).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_BATCH_AND_SPACE = (0, 2, 3)


class BiasFreeBatchNorm(nn.Module):
    """``x · γ / sd``, sd the standard deviation of the batch in training, its running mean in evaluation.

    Args:
        channels: number of channels.
        momentum: weight of the newest batch in the running standard deviation.
        epsilon: added to the variance of the batch, so that a constant channel does not divide by zero.
    """

    running_sd: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.momentum = momentum
        self.epsilon = epsilon
        self.gammas = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("running_sd", torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if not self.training:
            return x * (self.gammas / self.running_sd)
        normalized, sd = _DivideByDeviation.apply(x, self.epsilon)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.running_sd.lerp_(sd.to(self.running_sd.dtype), self.momentum)
        scaled: Tensor = normalized * self.gammas
        return scaled


class _DivideByDeviation(torch.autograd.Function):
    """``x / sd(x)`` a channel, with the gradient written out: `Tensor.var` costs more than the convolutions on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        mean = x.mean(_BATCH_AND_SPACE, keepdim=True)
        sd = (x - mean).square_().mean(_BATCH_AND_SPACE, keepdim=True).add_(epsilon).sqrt_()
        ctx.save_for_backward(x, mean, sd)
        ctx.mark_non_differentiable(sd)
        return x / sd, sd

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None]:
        # d(x_j / sd)/dx_i = δ_ij / sd − x_j (x_i − mean) / (n sd³), n values a channel
        x, mean, sd = ctx.saved_tensors
        n = x.numel() // x.shape[1]
        along = (gradient * x).sum(_BATCH_AND_SPACE, keepdim=True) / (n * sd**3)
        return (gradient / sd).addcmul_(x, along, value=-1).add_(mean * along), None
