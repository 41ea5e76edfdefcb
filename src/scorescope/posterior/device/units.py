"""The engine's units (`posterior.units`) for tensors that stay where they are."""

from __future__ import annotations

from torch import Tensor

from scorescope.posterior.units import LEVELS_PER_UNIT, OFFSET


def to_levels(values: Tensor) -> Tensor:
    """Values in [-1, 1] as grey levels centred at 128, float64, same shape."""
    return values.detach().double() * LEVELS_PER_UNIT - OFFSET


def from_levels(levels: Tensor) -> Tensor:
    """Grey levels centred at 128 as values in [-1, 1], same shape."""
    return (levels + OFFSET) / LEVELS_PER_UNIT
