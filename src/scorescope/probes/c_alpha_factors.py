"""Smooth C^α images by their lowest frequencies: a contour and two textures as fifteen factors, and the nearest to an image.

The family is that of `data.generated.draw_c_alpha` at α = 4, cut off: of the contour's height the mean and the first two
frequencies are kept, of each texture the mean and the lowest frequency across and down. Everything else is as there: a pixel's
share below the contour, four samples a pixel. Images of `draw_c_alpha` are not members; cut off so, 0.988 of their variance is
left, of all but a twentieth 0.96 and more (2,000 images of 16 pixels).

For a given contour both textures are a linear fit. So images are projected on the textures of a grid of contours that have one
frequency; from the three best contours of each height of the wave, damped Gauss-Newton steps by all factors lead to the nearest
member.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from scorescope.data.generated import SUBCOLUMNS, draw_c_alpha_parts, render_c_alpha, share_below
from scorescope.probes.damped_fit import nearest

ALPHA, CONTOUR_FREQUENCIES = 4.0, 2
CONTOUR_NAMES = ("height", "contour cos 1", "contour sin 1", "contour cos 2", "contour sin 2")
TEXTURE_NAMES = ("mean", "cos across", "sin across", "cos down", "sin down")
C_ALPHA_GROUPS = {
    "contour": CONTOUR_NAMES,
    "above": tuple(f"above, {name}" for name in TEXTURE_NAMES),
    "below": tuple(f"below, {name}" for name in TEXTURE_NAMES),
}
C_ALPHA_FACTORS = tuple(name for names in C_ALPHA_GROUPS.values() for name in names)
"""The contour's in pixels from the top, the textures' in intensities."""
WAVES, PHASES, HEIGHTS = (0.1, 0.2, 0.3, 0.4), 12, 16
"""The grid: heights of the contour's wave as shares of the side, its phases, its mean heights."""
BEST, STEPS = 3, 30
"""Contours of each height of the wave that a fit starts from; damped steps."""
_CONTOUR = len(CONTOUR_NAMES)


def draw_c_alpha_factors(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Factors of images that `draw_c_alpha` would draw, float32 (count, 15)."""
    height, above, below = draw_c_alpha_parts(count, size, ALPHA, generator)
    curves, textures = _curves(size, height.dtype), _textures(size, height.dtype)
    parts = [(height, curves), (above.flatten(1), textures), (below.flatten(1), textures)]
    # the waves are orthogonal: a coefficient is a mean of products
    return torch.cat([values @ waves / waves.square().sum(0) for values, waves in parts], 1)


def render_c_alpha_factors(factors: Tensor, size: int) -> Tensor:
    """(B, 15) -> (B, 1, size, size)."""
    height = factors[:, :_CONTOUR] @ _curves(size, factors.dtype).T
    above, below = (
        (part @ _textures(size, factors.dtype).T).view(-1, size, size)
        for part in torch.split(factors[:, _CONTOUR:], len(TEXTURE_NAMES), 1)
    )
    return render_c_alpha(height, above, below)


def fit_c_alpha(images: Tensor) -> Tensor:
    """Factors of the nearest members, (n, 1, size, size) float64 -> (n, 15); the contour's mean height within the image."""
    size = images.shape[2]
    contours, bases = _grid(size)
    flat = images.flatten(1)
    explained = (flat @ bases.flatten(0, 1).T).view(len(flat), len(contours), -1).square().sum(2)
    by_wave = explained.view(len(flat), len(WAVES), -1)  # the grid has one height of the wave after another
    first = torch.arange(len(WAVES)) * by_wave.shape[2]
    best = (by_wave.topk(BEST, dim=2).indices + first[:, None]).flatten()
    starts = BEST * len(WAVES)
    repeated = flat.repeat_interleave(starts, 0)
    return nearest(
        _with_textures(contours[best], repeated, size),
        repeated,
        starts,
        lambda factors: render_c_alpha_factors(factors, size).flatten(1),
        lambda factors: c_alpha_derivatives(factors, size),
        _bounds(size),
        STEPS,
    )


def c_alpha_derivatives(factors: Tensor, size: int) -> Tensor:
    """Of `render_c_alpha_factors` by the factors, (n, 15) -> (n, size², 15)."""
    curves, textures = _curves(size, factors.dtype), _textures(size, factors.dtype)
    height = factors[:, :_CONTOUR] @ curves.T  # (n, 4 size)
    above, below = (part @ textures.T for part in torch.split(factors[:, _CONTOUR:], len(TEXTURE_NAMES), 1))
    rows = torch.arange(size, dtype=factors.dtype)
    filled = rows[None, :, None] + 1 - height[:, None, :]
    crossed = ((filled > 0) & (filled < 1)).to(factors.dtype)  # (n, H, 4 size): where the contour runs
    lost = (crossed[:, :, :, None] * curves).view(-1, size, size, SUBCOLUMNS, _CONTOUR).mean(3).flatten(1, 2)
    share = share_below(height).flatten(1)[:, :, None]
    return torch.cat([(above - below)[:, :, None] * lost, (1 - share) * textures, share * textures], 2)


def _bounds(size: int) -> tuple[Tensor, Tensor]:
    high = torch.full((len(C_ALPHA_FACTORS),), math.inf, dtype=torch.float64)
    high[:_CONTOUR] = size / 2
    low = -high
    low[0], high[0] = 0.0, size
    return low, high


@functools.lru_cache(maxsize=4)
def _curves(size: int, dtype: torch.dtype) -> Tensor:
    """Waves along a contour, (4 size, 5)."""
    angle = torch.arange(size * SUBCOLUMNS, dtype=torch.float64) * (2 * math.pi / (size * SUBCOLUMNS))
    waves = [torch.ones_like(angle)]
    for frequency in range(1, CONTOUR_FREQUENCIES + 1):
        waves += [torch.cos(frequency * angle), torch.sin(frequency * angle)]
    return torch.stack(waves, 1).to(dtype)


@functools.lru_cache(maxsize=4)
def _textures(size: int, dtype: torch.dtype) -> Tensor:
    """Waves of a texture, (size², 5)."""
    angle = torch.arange(size, dtype=torch.float64) * (2 * math.pi / size)
    across, down = angle.repeat(size), angle.repeat_interleave(size)
    waves = [torch.ones_like(across), across.cos(), across.sin(), down.cos(), down.sin()]
    return torch.stack(waves, 1).to(dtype)


@functools.lru_cache(maxsize=2)
def _grid(size: int) -> tuple[Tensor, Tensor]:
    """Contours of one frequency (G, 5), and an orthonormal basis of the images that each makes with any textures (G, 10, d)."""
    found = []
    for wave in WAVES:
        phase = torch.arange(PHASES, dtype=torch.float64) * (2 * math.pi / PHASES)
        room = size * wave + 1
        mean = torch.linspace(room, size - room, HEIGHTS, dtype=torch.float64)
        pairs = torch.cartesian_prod(mean, phase)
        contours = torch.zeros(len(pairs), _CONTOUR, dtype=torch.float64)
        contours[:, 0] = pairs[:, 0]
        contours[:, 1] = size * wave * pairs[:, 1].cos()
        contours[:, 2] = size * wave * pairs[:, 1].sin()
        found.append(contours)
    grid = torch.cat(found)
    return grid, torch.linalg.qr(_either_side(grid, size)).Q.mT


def _either_side(contours: Tensor, size: int) -> Tensor:
    """The ten textures that an image of a given contour is a sum of, (n, 5) -> (n, size², 10)."""
    share = share_below(contours @ _curves(size, contours.dtype).T).flatten(1)[:, :, None]
    waves = _textures(size, contours.dtype)
    return torch.cat([(1 - share) * waves, share * waves], 2)


def _with_textures(contours: Tensor, flat: Tensor, size: int) -> Tensor:
    """Contours with the textures that fit best, (n, 5) -> (n, 15)."""
    sides = _either_side(contours, size)
    fitted = torch.linalg.lstsq(sides, flat[:, :, None]).solution[:, :, 0]
    return torch.cat([contours, fitted], 1)
