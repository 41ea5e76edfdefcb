"""The nearest disk of an image: centre, radius and two intensities.

For given centre and radius the intensities are a straight-line fit, so the best of a grid of centres and radii is found by
correlations; from the three best of it, damped Gauss-Newton steps lead to the nearest disk.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from scorescope.data.generated import render_disks
from scorescope.probes.damped_fit import nearest

STARTS, STEPS, STEP = 3, 25, 0.5
"""Grid points that a fit starts from; damped steps; grid step of the radius in pixels."""
SOFTNESS = 0.5  # that of `render_disks`


def fit_disks(images: Tensor) -> Tensor:
    """Factors of the nearest disks, (n, 1, size, size) float64 -> (n, 5); centres in the image, radii from half a pixel on."""
    size = images.shape[2]
    grid, templates = _grid(size)
    flat = images.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    best = (centred @ templates.T).abs().topk(STARTS, dim=1).indices  # (n, STARTS)
    repeated = flat.repeat_interleave(STARTS, 0)
    return nearest(
        _with_intensities(grid[best.flatten()], repeated, size),
        repeated,
        STARTS,
        lambda factors: render_disks(factors, size).flatten(1),
        lambda factors: disk_derivatives(factors, size),
        _bounds(size),
        STEPS,
    )


def disk_derivatives(factors: Tensor, size: int) -> Tensor:
    """Of `render_disks` by its parameters, (n, 5) -> (n, size², 5): ``Φ((r − ρ)/s)``, ρ the distance to the centre."""
    x, y, radius, foreground, background = (column[:, None] for column in factors.unbind(1))
    place = torch.arange(size, dtype=factors.dtype)
    across, down = place.repeat(size) - x, place.repeat_interleave(size) - y  # (n, size²)
    distance = torch.hypot(across, down).clamp_min(1e-6)
    edge = (radius - distance) / SOFTNESS
    steep = (foreground - background) * torch.exp(-edge.square() / 2) / (SOFTNESS * math.sqrt(2 * math.pi))
    covered = torch.special.ndtr(edge)
    return torch.stack([steep * across / distance, steep * down / distance, steep, covered, 1 - covered], 2)


def _bounds(size: int) -> tuple[Tensor, Tensor]:
    low = torch.tensor([-1.0, -1.0, 0.5, -math.inf, -math.inf], dtype=torch.float64)
    return low, torch.tensor([size, size, 0.6 * size, math.inf, math.inf], dtype=torch.float64)


@functools.lru_cache(maxsize=4)
def _grid(size: int) -> tuple[Tensor, Tensor]:
    """Centres and radii (G, 3), and their disks as unit vectors about their mean, float64 (G, size²)."""
    radii = torch.arange(1.0, 0.4 * size, STEP, dtype=torch.float64)
    place = torch.arange(size, dtype=torch.float64)
    shape = torch.cartesian_prod(place, place, radii)
    covered = render_disks(torch.cat([shape, torch.tensor([[1.0, 0.0]]).double().expand(len(shape), 2)], 1), size)
    vectors = covered.flatten(1) - covered.flatten(1).mean(1, keepdim=True)
    return shape, torch.nn.functional.normalize(vectors, dim=1)


def _with_intensities(shape: Tensor, flat: Tensor, size: int) -> Tensor:
    """Disks of given centre and radius with the intensities that fit best, (n, 3) -> (n, 5)."""
    unit = torch.tensor([[1.0, 0.0]], dtype=flat.dtype).expand(len(shape), 2)
    covered = render_disks(torch.cat([shape, unit], 1), size).flatten(1)
    mean, level = covered.mean(1, keepdim=True), flat.mean(1, keepdim=True)
    slope = ((covered - mean) * (flat - level)).sum(1, keepdim=True) / (covered - mean).square().sum(1, keepdim=True)
    background = level - slope * mean
    return torch.cat([shape, background + slope, background], 1)
