"""Learned densities of a known mixture, as the number of data points grows, against the best Gaussian kernel density estimate.

Both get the same data points. The kernel estimate may choose the bandwidth that is best for the truth, which nobody could in
practice; linear models have the bandwidth that their features, the variance and ε give them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import special
from torch import Tensor

from scorescope.papers.vastola2025.learned_by_linear import LinearDensityConfig, learned, line_proxy
from scorescope.variance.learned_density import Grid, kl_divergence

Array = npt.NDArray[np.float64]
GRID = Grid(-1.8, 1.8, 72)
BANDWIDTHS = np.geomspace(0.01, 1.0, 60)


@dataclass(frozen=True)
class Mixture:
    """Equal Gaussians on the line.

    Attributes:
        means: their means.
        deviation: their common standard deviation.
    """

    means: tuple[float, ...] = (-0.7, 0.5)
    deviation: float = 0.2

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Data points, (count, 1)."""
        chosen = torch.randint(len(self.means), (count,), generator=generator)
        centre = torch.tensor(self.means, dtype=torch.float64)[chosen]
        noise = torch.randn(count, generator=generator, dtype=torch.float64)
        return (centre + self.deviation * noise)[:, None]

    def cells(self) -> Tensor:
        """Probabilities of the grid's cells, and of what lies outside as the last one, (73,)."""
        return gaussian_cells(torch.tensor(self.means, dtype=torch.float64), self.deviation)


def gaussian_cells(centres: Tensor, deviation: float) -> Tensor:
    """Probabilities of the grid's cells under equal Gaussians around centres (n,), and of what lies outside, (73,)."""
    edges = np.linspace(GRID.low, GRID.high, GRID.cells + 1)
    below = special.ndtr((edges[:, None] - centres.numpy()) / deviation).mean(1)
    inside = np.diff(below)
    return torch.from_numpy(np.append(inside, 1 - inside.sum()))


def best_kernel(truth: Tensor, data: Tensor, samples: int) -> tuple[float, float]:
    """The smallest divergence of a kernel density estimate over bandwidths, nats, and the bandwidth: (73,), (N, 1)."""
    found = [float(kl_divergence(truth, gaussian_cells(data[:, 0], float(width)), samples)) for width in BANDWIDTHS]
    place = int(np.argmin(found))
    return found[place], float(BANDWIDTHS[place])


def mixture_errors(mixture: Mixture, data: int, sets: int, config: LinearDensityConfig) -> dict[str, Array]:
    """Divergences from the truth with N data points, for several draws of the data.

    Args:
        mixture: the truth.
        data: N.
        sets: draws of the data.
        config: of the linear models.

    Returns:
        Nats, (sets,): ``learned``, of the average density over training runs; ``average``, of the average model's, without
        variance; ``exact``, of the exact score's, memorization; ``kernel``, of the best kernel estimate; and its ``bandwidth``.
    """
    truth, generator = mixture.cells(), torch.Generator().manual_seed(config.seed)
    samples = config.models * config.drawn
    rows: dict[str, list[float]] = {name: [] for name in ("learned", "average", "exact", "kernel", "bandwidth")}
    for place in range(sets):
        points = mixture.draw(data, generator)
        runs = learned(line_proxy(points, config.epsilon), config.model_copy(update={"seed": config.seed + 10 * place}))
        for name, drawn in (("learned", runs.models), ("average", runs.average), ("exact", runs.exact)):
            shares = GRID.shares(drawn.reshape(-1, 1))
            rows[name].append(float(kl_divergence(truth, shares, samples)))
        for name, value in zip(("kernel", "bandwidth"), best_kernel(truth, points, samples), strict=True):
            rows[name].append(value)
    return {name: np.array(values) for name, values in rows.items()}
