"""Which member of a family with known factors an image is nearest to, and how much of the image that member explains.

Families are those of `data.generated` whose factors an image tells: *disks* (centre, radius, two intensities), *sinusoids*
(amplitude and phase) and *c-alpha*, smooth C^α images by their lowest frequencies (a contour and two textures). Sinusoids of
one frequency fill a plane, and the nearest is a projection; for the others see `disk_factors` and `c_alpha_factors`.

``explained = 1 − ‖x − nearest‖² / ‖x − mean(x)‖²`` of an image x: 1 for a member.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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
from scorescope.probes.c_alpha_factors import (
    C_ALPHA_FACTORS,
    C_ALPHA_GROUPS,
    draw_c_alpha_factors,
    fit_c_alpha,
    render_c_alpha_factors,
)
from scorescope.probes.disk_factors import fit_disks

Floats = npt.NDArray[np.float64]
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
        groups: title -> factors that belong together, for charts; nothing for all in one.
    """

    names: tuple[str, ...]
    draw: Callable[[int, int, torch.Generator], Tensor]
    render: Callable[[Tensor, int], Tensor]
    fit: Callable[[Tensor], Tensor]
    periodic: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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


FAMILIES: Mapping[str, Family] = {
    "disks": Family(DISK_PARAMETERS, draw_disk_parameters, render_disks, fit_disks),
    "sinusoids": Family(
        SINUSOID_PARAMETERS,
        lambda count, _, generator: draw_sinusoid_parameters(count, generator),
        render_sinusoids,
        _fit_sinusoids,
        periodic=("phase",),
    ),
    "c-alpha": Family(
        C_ALPHA_FACTORS, draw_c_alpha_factors, render_c_alpha_factors, fit_c_alpha, groups=C_ALPHA_GROUPS
    ),
}
"""The families by the names of their data sets; members of ``c-alpha`` lack the higher frequencies of that data set."""
