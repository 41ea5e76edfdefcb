"""Which member of a family with known factors an image is nearest to, and how much of the image that member explains.

Families are those of `data.generated` whose factors an image tells: *disks* (centre, radius, two intensities) and *sinusoids*
(amplitude and phase). Sinusoids of one frequency fill a plane, and the nearest is a projection. Disks: for given centre and
radius the intensities are a straight-line fit, so the best of a grid of centres and radii is found by correlations; from the
three best of it, Gauss-Newton steps with damping (Levenberg 1944, Marquardt 1963) lead to the nearest disk.

``explained = 1 − ‖x − nearest‖² / ‖x − mean(x)‖²`` of an image x: 1 for a member.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from scorescope.data.generated import (
    DISK_PARAMETERS,
    SINUSOID_PARAMETERS,
    draw_disk_parameters,
    draw_sinusoid_parameters,
    render_disks,
    render_sinusoids,
)
from scorescope.foundation import UserError

Floats = npt.NDArray[np.float64]
STARTS, STEPS, STEP = 3, 25, 0.5
"""Grid points that a fit starts from; damped steps; grid step of the radius in pixels."""
SOFTNESS = 0.5  # that of `render_disks`
_AT_ONCE = 256


@dataclass(frozen=True)
class Fitted:
    """The nearest members of a family.

    Attributes:
        factors: (n, P), in the order of the family's names.
        explained: share of each image's variance that its member explains, (n,); 0 for a constant image.
    """

    factors: Floats
    explained: Floats


@dataclass(frozen=True)
class Family:
    """Images that are a function of a few factors.

    Attributes:
        names: of the factors.
        draw: (count, size, generator) -> factors (count, P).
        render: (factors (B, P), size) -> images (B, 1, size, size).
        fit: images (n, 1, size, size) in float64 -> factors (n, P) of the nearest members.
        periodic: factors that are angles.
    """

    names: tuple[str, ...]
    draw: Callable[[int, int, torch.Generator], Tensor]
    render: Callable[[Tensor, int], Tensor]
    fit: Callable[[Tensor], Tensor]
    periodic: tuple[str, ...] = ()

    def fitted(self, images: Tensor) -> Fitted:
        """The nearest member of each image. Raises UserError for images that are not square and grey."""
        if images.ndim != 4 or images.shape[1] != 1 or images.shape[2] != images.shape[3]:
            raise UserError(f"families of images are square and grey, found {tuple(images.shape)}")
        clean = images.double()
        parts = [self.fit(part) for part in torch.split(clean, _AT_ONCE)]
        factors = torch.cat(parts)
        left = (clean - self.render(factors, images.shape[2])).square().sum((1, 2, 3))
        spread = (clean - clean.mean((1, 2, 3), keepdim=True)).square().sum((1, 2, 3))
        explained = torch.where(spread > 0, 1 - left / spread.clamp_min(1e-12), 0.0)
        return Fitted(factors.numpy(), explained.numpy())


def factor_distances(
    fitted: npt.ArrayLike, reference: npt.ArrayLike, names: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    """Name -> Kolmogorov's distance between two draws of a factor, (n, P) and (m, P), and its p-value."""
    first, second = np.asarray(fitted, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    found = {}
    for column, name in enumerate(names):
        test = ks_2samp(first[:, column], second[:, column])
        found[name] = (float(test.statistic), float(test.pvalue))
    return found


def _fit_sinusoids(images: Tensor) -> Tensor:
    size = images.shape[2]
    angles = torch.tensor([[1.0, 0.0], [1.0, math.pi / 2]], dtype=images.dtype)
    cosine, minus_sine = render_sinusoids(angles, size).flatten(1)  # a cos(θ + φ) = a cos φ cos θ − a sin φ sin θ
    basis = torch.stack([cosine, minus_sine], 1)
    weights = torch.linalg.lstsq(basis, images.flatten(1).T).solution  # (2, n): a cos φ and a sin φ
    return torch.stack([torch.hypot(*weights), torch.atan2(weights[1], weights[0]) % (2 * math.pi)], 1)


def _fit_disks(images: Tensor) -> Tensor:
    size = images.shape[2]
    grid, templates = _disk_grid(size)
    flat = images.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    best = (centred @ templates.T).abs().topk(STARTS, dim=1).indices  # (n, STARTS)
    factors = _with_intensities(grid[best.flatten()], flat.repeat_interleave(STARTS, 0), size)
    factors, errors = _descend(factors, flat.repeat_interleave(STARTS, 0), size)
    chosen = errors.view(-1, STARTS).argmin(1)
    return factors.view(-1, STARTS, len(DISK_PARAMETERS))[torch.arange(len(flat)), chosen]


@functools.lru_cache(maxsize=4)
def _disk_grid(size: int) -> tuple[Tensor, Tensor]:
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


def _descend(factors: Tensor, flat: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Damped Gauss-Newton steps, each kept where it comes nearer; centres stay in the image, radii from half a pixel on."""
    low = torch.tensor([-1.0, -1.0, 0.5, -math.inf, -math.inf], dtype=flat.dtype)
    high = torch.tensor([size, size, 0.6 * size, math.inf, math.inf], dtype=flat.dtype)
    damping = torch.full((len(flat), 1), 1e-3, dtype=flat.dtype)
    left = flat - render_disks(factors, size).flatten(1)
    error = left.square().sum(1)
    for _ in range(STEPS):
        jacobian = _disk_derivatives(factors, size)  # (n, d, 5)
        normal = jacobian.mT @ jacobian
        scale = torch.diagonal(normal, dim1=1, dim2=2)
        damped = normal + torch.diag_embed(damping * scale + 1e-12)
        step = torch.linalg.solve(damped, (jacobian.mT @ left[:, :, None])[:, :, 0])
        tried = torch.minimum(torch.maximum(factors + step, low), high)
        left_tried = flat - render_disks(tried, size).flatten(1)
        error_tried = left_tried.square().sum(1)
        better = error_tried < error
        factors = torch.where(better[:, None], tried, factors)
        left = torch.where(better[:, None], left_tried, left)
        error = torch.where(better, error_tried, error)
        damping = torch.where(better[:, None], damping / 5, damping * 5).clamp(1e-12, 1e6)
    return factors, error


def _disk_derivatives(factors: Tensor, size: int) -> Tensor:
    """Of `render_disks` by its parameters, (n, 5) -> (n, size², 5): ``Φ((r − ρ)/s)``, ρ the distance to the centre."""
    x, y, radius, foreground, background = (column[:, None] for column in factors.unbind(1))
    place = torch.arange(size, dtype=factors.dtype)
    across, down = place.repeat(size) - x, place.repeat_interleave(size) - y  # (n, size²)
    distance = torch.hypot(across, down).clamp_min(1e-6)
    edge = (radius - distance) / SOFTNESS
    steep = (foreground - background) * torch.exp(-edge.square() / 2) / (SOFTNESS * math.sqrt(2 * math.pi))
    covered = torch.special.ndtr(edge)
    return torch.stack([steep * across / distance, steep * down / distance, steep, covered, 1 - covered], 2)


FAMILIES: Mapping[str, Family] = {
    "disks": Family(DISK_PARAMETERS, draw_disk_parameters, render_disks, _fit_disks),
    "sinusoids": Family(
        SINUSOID_PARAMETERS,
        lambda count, _, generator: draw_sinusoid_parameters(count, generator),
        render_sinusoids,
        _fit_sinusoids,
        periodic=("phase",),
    ),
}
"""The families by the names of their data sets."""
