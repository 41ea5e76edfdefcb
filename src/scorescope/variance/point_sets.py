"""Small sets of points in the line and the plane on which the theory can be seen (Vastola, ICLR 2025, figures 1 to 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def hexagon() -> Tensor:
    """Six points on the unit circle, (6, 2)."""
    return on_circle(6)


def line() -> Tensor:
    """Six equally spaced points on the diagonal from (−1, −1) to (1, 1), (6, 2)."""
    return torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None].expand(6, 2).clone()


def corner() -> Tensor:
    """Six points in the shape of an L, three up and three to the right of the corner, (6, 2)."""
    return torch.tensor([[-1, -1], [-1, 0], [-1, 1], [0, -1], [0.5, -1], [1, -1]], dtype=torch.float64)


def scattered() -> Tensor:
    """Six points without order, two of them close to each other, (6, 2)."""
    return torch.tensor([[-1, -1], [-0.9, 1], [-0.3, 0.2], [0.1, -0.1], [0.2, -0.1], [0.9, 0.7]], dtype=torch.float64)


def three() -> Tensor:
    """−1, 0 and 1, (3, 1)."""
    return torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)


def square(rotation: float = 0.0) -> Tensor:
    """Four points on the unit circle, the first at an angle of `rotation`, (4, 2)."""
    return on_circle(4, rotation)


def on_circle(count: int, rotation: float = 0.0) -> Tensor:
    """Equally spaced points on the unit circle, the first at an angle of `rotation`, (count, 2)."""
    angles = rotation + torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    return torch.stack([angles.cos(), angles.sin()], 1)


FIGURE_1 = {"hexagon": hexagon, "line": line, "L-shape": corner, "scattered": scattered}
"""The four sets of the paper's figure 1, by name."""
