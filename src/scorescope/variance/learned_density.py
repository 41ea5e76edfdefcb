"""Average learned densities on a grid, and how far two of them are apart, with error bars.

A density is kept as the share of samples in every cell of a grid, for every training run on its own: the average over runs is
what the effective process predicts, and the spread over runs gives error bars by resampling them (bootstrap). What falls
outside of the grid is one more cell, so that nothing is lost. Two densities that are equal are still some distance
apart when both are estimated from few runs; that distance, the *floor*, is measured by splitting each into random halves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.foundation import UserError

# Shares added to every cell before a KL divergence, in samples: Jeffreys' half.
PSEUDO_SAMPLES = 0.5
SPLITS = 40  # of the runs into halves


@dataclass(frozen=True)
class Grid:
    """The same cells along every coordinate.

    Attributes:
        low: lower edge.
        high: upper edge.
        cells: along each coordinate.
        dimension: d.
    """

    low: float = -1.5
    high: float = 1.5
    cells: int = 200
    dimension: int = 1

    def __post_init__(self) -> None:
        if not (self.low < self.high and self.cells >= 1 and self.dimension >= 1):
            raise UserError(f"a grid has cells on a range, found {self.cells} on {self.low:g} to {self.high:g}")

    @property
    def width(self) -> float:
        """Of a cell."""
        return (self.high - self.low) / self.cells

    @property
    def centres(self) -> Tensor:
        """Of the cells along one coordinate, (cells,)."""
        return self.low + self.width * (torch.arange(self.cells, dtype=torch.float64) + 0.5)

    @property
    def points(self) -> Tensor:
        """Centres of all cells, (cells, …, d)."""
        return torch.stack(torch.meshgrid(*[self.centres] * self.dimension, indexing="ij"), -1)

    def shares(self, points: Tensor) -> Tensor:
        """Shares of points (..., n, d) in every cell, and outside as the last one, (..., cells^d + 1)."""
        place = ((points - self.low) / self.width).floor().long()
        inside = ((place >= 0) & (place < self.cells)).all(-1)
        whole = self.cells**self.dimension
        radix = self.cells ** torch.arange(self.dimension - 1, -1, -1)
        cell = torch.where(inside, (place * radix).sum(-1), whole)  # (..., n)
        rows = cell.reshape(-1, cell.shape[-1])
        counts = torch.stack([torch.bincount(row, minlength=whole + 1) for row in rows])
        return counts.double().div_(cell.shape[-1]).reshape(*cell.shape[:-1], whole + 1)


@dataclass(frozen=True)
class Density:
    """Shares of samples in the cells of a grid, run by run.

    Attributes:
        grid: the cells.
        shares: (R, cells^d + 1), the last column what lies outside; each row sums to 1.
        samples: number of samples behind each row.
    """

    grid: Grid
    shares: Tensor
    samples: int

    @classmethod
    def of(cls, points: Tensor, grid: Grid) -> Density:
        """From the samples of R runs, (R, n, d).

        Raises:
            UserError: another shape; no sample.
        """
        if points.ndim != 3 or points.shape[-1] != grid.dimension or 0 in points.shape:
            raise UserError(f"samples have the shape (runs, n, {grid.dimension}), found {tuple(points.shape)}")
        return cls(grid, grid.shares(points), points.shape[1])

    @property
    def average(self) -> Tensor:
        """Mean density over runs, (cells, …), in 1/unit^d; what lies outside is missing from its integral."""
        return self._on_grid(self.shares.mean(0))

    @property
    def deviation(self) -> Tensor:
        """Standard deviation over runs, (cells, …)."""
        return self._on_grid(self.shares.std(0))

    def quantile(self, share: float) -> Tensor:
        """Over runs, cell by cell, (cells, …)."""
        return self._on_grid(self.shares.quantile(share, 0))

    @property
    def inside(self) -> float:
        """Share of all samples that lie on the grid."""
        return 1 - float(self.shares[:, -1].mean())

    def _on_grid(self, shares: Tensor) -> Tensor:
        size = [self.grid.cells] * self.grid.dimension
        return (shares[:-1] / self.grid.width**self.grid.dimension).reshape(size)


@dataclass(frozen=True)
class Distance:
    """How far two average densities are apart.

    Attributes:
        value: the distance of the averages over all runs.
        low: lower end of the 95 % interval over resampled runs.
        high: its upper end.
        floor: the distance that equal densities would show with as many runs.
    """

    value: float
    low: float
    high: float
    floor: float


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """``½ Σ |p − q|`` of shares (..., cells), between 0 and 1."""
    return (p - q).abs().sum(-1) / 2


def kl_divergence(p: Tensor, q: Tensor, samples: float) -> Tensor:
    """``Σ p log(p / q)`` of shares (..., cells), nats, after half a sample was added to every cell of both."""
    added = PSEUDO_SAMPLES / samples
    whole = 1 + added * p.shape[-1]
    first, second = (p + added) / whole, (q + added) / whole
    return (first * (first / second).log()).sum(-1)


def compare(
    first: Density, second: Density, generator: torch.Generator, *, measure: str = "tv", resamples: int = 200
) -> Distance:
    """The distance between two average densities, with its error bar and its floor.

    Args:
        first: R runs.
        second: any number of runs, on the same grid.
        generator: of the resampling.
        measure: ``tv``, total variation, or ``kl``, from the first to the second.
        resamples: of the runs.

    Raises:
        UserError: different grids; an unknown measure.
    """
    if first.grid != second.grid:
        raise UserError(f"densities on different grids cannot be compared: {first.grid} and {second.grid}")
    samples = min(len(one.shares) * one.samples for one in (first, second))
    measures: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "tv": total_variation,
        "kl": lambda p, q: kl_divergence(p, q, samples),
    }
    if measure not in measures:
        raise UserError(f"a distance between densities is tv or kl, not {measure!r}")
    distance = measures[measure]
    value = float(distance(first.shares.mean(0), second.shares.mean(0)))
    drawn = distance(_resampled(first, resamples, generator), _resampled(second, resamples, generator))
    # Resampling adds the runs' own noise once more, and any distance grows with noise: the mean shift is taken off.
    spread = drawn - drawn.mean()
    low, high = (float(spread.quantile(share)) for share in (0.025, 0.975))
    # Halves of R runs differ by the noise of R/2 minus that of R/2, twice the noise of all R. Variances add; total variation
    # grows like the noise itself, a divergence like its square.
    halves = [_between_halves(one, distance, generator) for one in (first, second)]
    floor = math.hypot(*halves) / 2 if measure == "tv" else sum(halves) / 4
    return Distance(value, max(0.0, value + low), value + high, floor)


def _resampled(density: Density, count: int, generator: torch.Generator) -> Tensor:
    """Averages over as many runs drawn with replacement, `count` times: (count, cells)."""
    runs = len(density.shares)
    drawn = torch.randint(runs, (count, runs), generator=generator)
    times = torch.zeros(count, runs, dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    return times / runs @ density.shares


def _between_halves(
    density: Density, distance: Callable[[Tensor, Tensor], Tensor], generator: torch.Generator
) -> float:
    """Mean distance between random halves of a density's runs; 0 if there is only one run."""
    runs = len(density.shares)
    if runs < 2:
        return 0.0
    order = torch.rand(SPLITS, runs, generator=generator).argsort(1)
    mine = (order < runs // 2).double()
    halves = [part / part.sum(1, keepdim=True) @ density.shares for part in (mine, 1 - mine)]
    return float(distance(*halves).mean())
