"""Moments of training draws in the limit of infinitely many: what the normal equations of a linear model converge to.

For draws c = (x0, t, x) with t uniform in [ε, T], features φ and a target y, these are ``Σ = E[λ φ φᵀ]``, ``A = E[λ y φᵀ]`` and
``E[λ² (φ φᵀ) ⊗ R]`` with R a matrix that depends on (x, t), such as the covariance of the target. Points are few and spaces
small here, so that the integrals are done by quadrature: Gauss-Legendre over times, the trapezoidal rule over x, which
converges faster than any power for Gaussians. As features are products, no array over nodes and features is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.variance.features import ProductFeatures
from scorescope.variance.linear import LinearTraining
from scorescope.variance.proxy import PointProxy

ORDER = 6  # of Gauss-Legendre in each panel of times
REACH = 6.0  # standard deviations on either side of a point
FINE = 0.4  # spacing of nodes over the noise's standard deviation, and over the features' scale
MOST_DIMENSIONS = 2


@dataclass(frozen=True)
class Block:
    """Nodes on a rectangular grid at one time.

    Attributes:
        time: index of the time.
        t: that time, ().
        x: all nodes, (n_1, …, n_d, d).
        share: what of the expectation at that time each node stands for, density times cell, (n_1, …, n_d).
        axes: nodes of every coordinate, d tensors (n_i,).
    """

    time: int
    t: Tensor
    x: Tensor
    share: Tensor
    axes: list[Tensor]


class PopulationMoments:
    """Expectations over training draws for one set of points, features and way of training.

    Args:
        proxy: the data points and the forward process.
        features: φ.
        training: formulation and weights; P and η do not matter.

    Raises:
        UserError: more than two dimensions; features of another dimension; weights that are not finite.
    """

    def __init__(self, proxy: PointProxy, features: ProductFeatures, training: LinearTraining) -> None:
        if proxy.dimension > MOST_DIMENSIONS:
            raise UserError(
                f"population moments are computed for 1 or 2 dimensions, not {proxy.dimension}: use fitted models instead"
            )
        if features.dimension != proxy.dimension:
            raise UserError(f"the features take {features.dimension} coordinates, the points have {proxy.dimension}")
        self.proxy, self.features, self.training = proxy, features, training
        t, self._time_shares = self._times()
        self._weights = training.weights(proxy.process, t, proxy.dimension)
        self._of_time = features.of_time(t)
        self._blocks = [block for index in range(len(t)) for block in self._blocks_at(index, t[index])]

    def gram(self) -> Tensor:
        """``Σ = E[λ φ φᵀ]``, (F, F)."""
        return self._joined(self._spatial_grams([block.share for block in self._blocks]), self._weights)

    def mean_target(self, x: Tensor, t: Tensor) -> Tensor:
        """``E[y | x, t]``, (..., d)."""
        form = self.training.formulation
        return form.from_score(self.proxy.process, self.proxy.score(x, t), x, t)

    def target_covariance(self, x: Tensor, t: Tensor) -> Tensor:
        """``Cov[y | x, t]``, (..., d, d)."""
        return self.proxy.target_covariance(self.training.formulation, x, t)

    def moments(self) -> Tensor:
        """``A = E[λ y φᵀ]``, (d, F)."""
        size = self.proxy.dimension
        spatial = torch.zeros(len(self._time_shares), size, self.features.spatial_count, dtype=torch.float64)
        for block in self._blocks:
            rest = block.share[..., None] * self.mean_target(block.x, block.t)  # (n_1, …, n_d, d)
            for functions, nodes in zip(self.features.spatial, block.axes, strict=True):
                rest = torch.tensordot(rest, functions(nodes), dims=([0], [0]))
            spatial[block.time] += rest.flatten(1)
        shares = (self._time_shares * self._weights)[:, None] * self._of_time
        return torch.einsum("ndf,ng->dfg", spatial, shares).flatten(1)

    def weighted(self, matrix: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """``E[λ² φ φᵀ ⊗ R]`` for R = matrix(x (..., d), t (...)), symmetric (..., d, d) -> (d, F, d, F)."""
        size, count = self.proxy.dimension, self.features.count
        values = [block.share[..., None, None] * matrix(block.x, block.t) for block in self._blocks]
        whole = torch.empty(size, count, size, count, dtype=torch.float64)
        for i in range(size):
            for j in range(i, size):
                spatial = self._spatial_grams([value[..., i, j] for value in values])
                joined = self._joined(spatial, self._weights**2)
                whole[i, :, j], whole[j, :, i] = joined, joined.T
        return whole

    def _joined(self, spatial: Tensor, weights: Tensor) -> Tensor:
        """``Σ_t share_t weight_t G_t ⊗ φᵗ φᵗᵀ`` for spatial parts G (n, F of x, F of x) -> (F, F)."""
        count, times = self.features.spatial_count, self.features.temporal.count
        outer = (self._of_time[:, :, None] * self._of_time[:, None, :]).flatten(1)
        joined = spatial.flatten(1).T @ ((self._time_shares * weights)[:, None] * outer)
        shaped = joined.reshape(count, count, times, times).permute(0, 2, 1, 3)
        return shaped.reshape(count * times, count * times)

    def _spatial_grams(self, shares: list[Tensor]) -> Tensor:
        """``E[value φˣ φˣᵀ | t]`` for every time, from density times value at the nodes of every block: (n, F of x, F of x)."""
        counts = [functions.count for functions in self.features.spatial]
        total = torch.zeros(len(self._time_shares), math.prod(c**2 for c in counts), dtype=torch.float64)
        for block, share in zip(self._blocks, shares, strict=True):
            rest = share
            for functions, nodes in zip(self.features.spatial, block.axes, strict=True):
                values = functions(nodes)
                products = (values[:, :, None] * values[:, None, :]).flatten(1)  # (n, c²)
                rest = torch.tensordot(rest, products, dims=([0], [0]))
            total[block.time] += rest.reshape(-1)
        pairs = total.reshape([-1, *(c for count in counts for c in (count, count))])
        order = [0, *range(1, 2 * len(counts), 2), *range(2, 2 * len(counts) + 1, 2)]
        whole = math.prod(counts)
        return pairs.permute(order).reshape(-1, whole, whole)

    def _times(self) -> tuple[Tensor, Tensor]:
        """Nodes of the average over t uniform in [ε, T], and their shares.

        Panels grow geometrically from ε, where weights like α²/S rise steeply, up to what the features of t resolve.
        """
        low, high = self.proxy.process.epsilon, self.proxy.process.horizon
        widest = min((high - low) / 8, 1.5 * self.features.temporal.scale)
        edges = [low]
        while edges[-1] < high:
            step = min(widest, max(edges[-1], (high - low) * 1e-5))
            edges.append(min(high, edges[-1] + step))
        places, weights = np.polynomial.legendre.leggauss(ORDER)
        start, width = torch.tensor(edges[:-1]).double(), torch.tensor(edges).double().diff()
        t = start[:, None] + width[:, None] * torch.from_numpy((places + 1) / 2)
        shares = width[:, None] * torch.from_numpy(weights / 2) / (high - low)
        return t.flatten(), shares.flatten()

    def _blocks_at(self, time: int, t: Tensor) -> Iterator[Block]:
        """One grid over everything, or one around each point, whichever has fewer nodes."""
        spread = self.proxy.process.covariance(t)
        deviations = spread.dense(self.proxy.dimension).diagonal().sqrt()
        finest = float(spread.values.min().sqrt())
        centres = self.proxy.process.alpha(t) * self.proxy.points
        steps = [FINE * min(finest, functions.scale) for functions in self.features.spatial]
        around = [_nodes(-REACH * float(d), REACH * float(d), h) for d, h in zip(deviations, steps, strict=True)]
        low, high = centres.amin(0) - REACH * deviations, centres.amax(0) + REACH * deviations
        bounds = zip(low.tolist(), high.tolist(), self.features.spatial, strict=True)
        limits = [functions.clipped(a, b) for a, b, functions in bounds]
        everything = [_nodes(a, b, h) for (a, b), h in zip(limits, steps, strict=True)]
        if math.prod(map(len, everything)) <= len(centres) * math.prod(map(len, around)):
            yield self._block(time, t, everything, self.proxy)
            return
        for point, weight, centre in zip(self.proxy.points, self.proxy.weights, centres, strict=True):
            axes = [c + nodes for c, nodes in zip(centre, around, strict=True)]
            yield self._block(time, t, axes, PointProxy(self.proxy.process, point[None]), weight)

    @staticmethod
    def _block(time: int, t: Tensor, axes: list[Tensor], proxy: PointProxy, weight: float | Tensor = 1.0) -> Block:
        x = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        cell = math.prod(float(nodes[1] - nodes[0]) for nodes in axes)
        return Block(time, t, x, weight * cell * proxy.log_density(x, t).exp(), axes)


def _nodes(low: float, high: float, step: float) -> Tensor:
    """Equally spaced nodes from low to high, at most `step` apart, at least two."""
    return torch.linspace(low, high, max(2, math.ceil((high - low) / step) + 1), dtype=torch.float64)
