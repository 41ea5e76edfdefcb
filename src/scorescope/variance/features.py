"""Features of a linear model: products of one-dimensional functions, one of every coordinate of x and one of t.

A linear model is ``W φ(x, t)`` with ``φ = φ¹(x_1) ⊗ … ⊗ φᵈ(x_d) ⊗ φᵗ(t)``: bumps, or Fourier modes (Vastola, ICLR 2025,
arXiv 2504.12532, figures 2 and 3). Being products, they can be contracted one after another: at a fixed time the model is
a short sum over the features of x alone, ``Σ_a (Σ_b W_ab φᵗ_b(t)) φ_a(x)``, which is what makes sampling fast.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from scorescope.foundation import UserError

# A bump is zero this many widths from its centre, where it is below 3e-18 of its height. Products of its far tails would be
# denormal numbers, which processors multiply a hundred times slower.
REACH = 9.0


class Functions(ABC):
    """A family of functions of one variable.

    Args:
        count: how many.
        low: lower end of the range for which they are meant.
        high: its upper end.

    Raises:
        UserError: none, or no range.
    """

    def __init__(self, count: int, low: float, high: float) -> None:
        if count < 1 or not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UserError(f"features are at least one function on a range, found {count} on {low:g} to {high:g}")
        self.count, self.low, self.high = count, low, high

    @property
    @abstractmethod
    def scale(self) -> float:
        """Length over which they change: the n-th derivative is about as large as the function over the scale's power n."""

    @property
    @abstractmethod
    def support(self) -> tuple[float, float, bool]:
        """Ends of what one must know of them, and whether they repeat beyond, or else are zero there."""

    def clipped(self, low: float, high: float) -> tuple[float, float]:
        """The part of a range on which they are not zero; all of it if they repeat."""
        first, last, repeats = self.support
        if repeats or high <= first or low >= last:
            return low, high
        return max(low, first), min(high, last)

    @abstractmethod
    def __call__(self, values: Tensor) -> Tensor:
        """All of them: (...) -> (..., count)."""


class Bumps(Functions):
    """Gaussian densities with equally spaced centres, the first and the last at the ends of the range.

    Args:
        count: how many, at least 2 unless `width` is given.
        low: first centre.
        high: last centre.
        width: standard deviation of each; half the distance between centres by default.
    """

    def __init__(self, count: int, low: float, high: float, width: float | None = None) -> None:
        super().__init__(count, low, high)
        if width is None and count < 2:
            raise UserError("a single bump needs a width")
        self.width = (high - low) / (count - 1) / 2 if width is None else float(width)
        if not (math.isfinite(self.width) and self.width > 0):
            raise UserError(f"the width of a bump must be positive, found {self.width:g}")
        self.centres = torch.linspace(low, high, count, dtype=torch.float64)

    @property
    def scale(self) -> float:
        """See `Functions.scale`."""
        return self.width

    @property
    def support(self) -> tuple[float, float, bool]:
        """See `Functions.support`."""
        return self.low - REACH * self.width, self.high + REACH * self.width, False

    def __call__(self, values: Tensor) -> Tensor:
        """See `Functions.__call__`."""
        away = (values[..., None] - self.centres) / self.width
        height = torch.exp(-(away**2) / 2) / (self.width * math.sqrt(2 * math.pi))
        return torch.where(away.abs() < REACH, height, 0.0)


class FourierModes(Functions):
    """``1, cos(2πz/L), cos(4πz/L), …, sin(2πz/L), …`` with L the length of the range, lowest first; one more cosine if even."""

    @property
    def scale(self) -> float:
        """See `Functions.scale`; one over the highest wave number."""
        return (self.high - self.low) / (2 * math.pi * max(1, self.count // 2))

    @property
    def support(self) -> tuple[float, float, bool]:
        """See `Functions.support`; one period."""
        return self.low, self.high, True

    def __call__(self, values: Tensor) -> Tensor:
        """See `Functions.__call__`."""
        sines = (self.count - 1) // 2
        orders = torch.arange(1, self.count - sines, dtype=torch.float64)
        phase = values[..., None] * orders * (2 * math.pi / (self.high - self.low))
        return torch.cat([torch.ones_like(values)[..., None], phase.cos(), phase[..., :sines].sin()], -1)


class ProductFeatures:
    """All products of one function of every coordinate of x and one of t.

    Args:
        spatial: the functions of each coordinate of x.
        temporal: the functions of t.

    Raises:
        UserError: no coordinate.

    Attributes:
        dimension: d.
        count: F, the product of all counts; the index of t runs fastest.
    """

    def __init__(self, spatial: Sequence[Functions], temporal: Functions) -> None:
        if not spatial:
            raise UserError("features take at least one coordinate of x")
        self.spatial, self.temporal = tuple(spatial), temporal
        self.dimension = len(self.spatial)
        self.spatial_count = math.prod(functions.count for functions in self.spatial)
        self.count = self.spatial_count * temporal.count

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """φ(x, t): x (..., d), t (...) -> (..., F)."""
        return (self.of_space(x)[..., :, None] * self.of_time(t)[..., None, :]).flatten(-2)

    def of_space(self, x: Tensor) -> Tensor:
        """Products of the functions of the coordinates, (..., d) -> (..., F of x)."""
        product = self.spatial[0](x[..., 0])
        for place, functions in enumerate(self.spatial[1:], start=1):
            product = (product[..., :, None] * functions(x[..., place])[..., None, :]).flatten(-2)
        return product

    def of_time(self, t: Tensor) -> Tensor:
        """The functions of t, (...) -> (..., F of t)."""
        return self.temporal(t)


def bumps(
    dimension: int, per_axis: int, times: tuple[float, float], window: tuple[float, float] = (-1.5, 1.5)
) -> ProductFeatures:
    """The same number of Gaussian bumps on every axis, t included.

    Args:
        dimension: d.
        per_axis: functions of each coordinate, and of t.
        times: ε and T.
        window: range of every coordinate.
    """
    return ProductFeatures([Bumps(per_axis, *window)] * dimension, Bumps(per_axis, *times))


def fourier(
    dimension: int, per_axis: int, times: tuple[float, float], window: tuple[float, float] = (-1.5, 1.5)
) -> ProductFeatures:
    """The same number of Fourier modes on every axis, t included. Arguments as `bumps` has them."""
    return ProductFeatures([FourierModes(per_axis, *window)] * dimension, FourierModes(per_axis, *times))


FAMILIES = {"gaussian": bumps, "fourier": fourier}
"""Features by the name of their functions."""
