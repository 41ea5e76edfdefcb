"""Traces of a Jacobian from few products, with error bars: how many directions a denoiser keeps.

``tr J`` is the effective dimension of what the denoiser keeps of the noisy image, and the divergence in Stein's unbiased risk
estimate. Hutchinson (1989): ``E[vᵀ J v] = tr J`` for random signs v; the spread of m draws gives the standard error. Hutch++
(Meyer, Musco, Musco & Woodruff, SOSA 2021, https://arxiv.org/abs/2010.09649) takes the trace exactly on the space that J maps
random vectors to, where most of it is, and Hutchinson's estimate of the rest, whose spread is far smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.probes.linearization import Linearization


@dataclass(frozen=True)
class RandomEstimate:
    """A number that was estimated from random draws.

    Attributes:
        value: the estimate.
        error: its standard error; 0 where it is exact.
        draws: how many draws it is an average of.
    """

    value: float
    error: float
    draws: int

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true number is with about 95 % confidence: two standard errors either side."""
        return self.value - 2 * self.error, self.value + 2 * self.error


def hutchinson(jacobian: Linearization, draws: int, generator: torch.Generator) -> RandomEstimate:
    """The trace by Hutchinson's estimator: `draws` products with J.

    Args:
        jacobian: of a denoiser at a noisy image.
        draws: at least 2, so that there is an error.
        generator: of the random signs, on the processor.

    Raises:
        UserError: fewer than 2 draws.
    """
    _check(draws)
    signs = random_signs(jacobian, draws, generator)
    return _mean((signs * jacobian.columns(signs).double()).flatten(1).sum(1))


def hutch_plus_plus(jacobian: Linearization, products: int, generator: torch.Generator) -> RandomEstimate:
    """The trace by Hutch++: about `products` products with J, a third for each of its three parts.

    Args:
        jacobian: of a denoiser at a noisy image.
        products: at least 6.
        generator: of the random signs, on the processor.

    Returns:
        The estimate; its error is that of the part which was drawn, 0 if the space is complete.

    Raises:
        UserError: fewer than 6 products.
    """
    if products < 6:
        raise UserError(f"Hutch++ takes at least 6 products, found {products}")
    third = products // 3
    rank = min(third, jacobian.dimension)
    sketch = jacobian.columns(random_signs(jacobian, rank, generator)).double().flatten(1)
    basis = torch.linalg.qr(sketch.T).Q.T  # (rank, d)
    kept = jacobian.columns(jacobian.images(basis)).double().flatten(1)
    on_basis = float((basis * kept).sum())
    if rank == jacobian.dimension:
        return RandomEstimate(on_basis, 0.0, rank)
    signs = random_signs(jacobian, third, generator).flatten(1)
    signs = signs - (signs @ basis.T) @ basis
    mapped = jacobian.columns(jacobian.images(signs)).double().flatten(1)
    rest = _mean((signs * mapped).sum(1))
    return RandomEstimate(on_basis + rest.value, rest.error, third)


def trace_of(matrix: Tensor) -> RandomEstimate:
    """The trace of a full matrix, exact."""
    return RandomEstimate(float(matrix.double().trace()), 0.0, len(matrix))


def random_signs(jacobian: Linearization, draws: int, generator: torch.Generator) -> Tensor:
    """Images of random signs, (draws, C, H, W) float64 on the Jacobian's device."""
    signs = torch.randint(0, 2, (draws, *jacobian.image_shape), generator=generator)
    return (2.0 * signs.double() - 1).to(jacobian.device)


def _mean(values: Tensor) -> RandomEstimate:
    return RandomEstimate(float(values.mean()), float(values.std() / math.sqrt(len(values))), len(values))


def _check(draws: int) -> None:
    if draws < 2:
        raise UserError(f"an estimate with an error bar takes at least 2 draws, found {draws}")
