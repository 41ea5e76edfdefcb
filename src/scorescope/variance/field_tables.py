"""Following the flow of many linear models with many points each, fast.

One Euler step of the flow of a linear model is ``x ← P_k x + Q_k W φ(x, t_k)`` with matrices that depend on the time alone. At
a fixed t_k the features of t are contracted into W once, and what is left is a smooth function of x alone, the same for all
points of a model. It is tabulated on a grid and read with cubic interpolation: the cost of a step does not depend on the number
of features, and no array over points and features is ever made. The grid has `NODES_PER_SCALE` nodes over the features' scale ℓ
(a bump's width), so that the error, ``3/128 h⁴ |f⁗|`` for each coordinate, is about 1e-5 of the field's size; tests hold it to
that. In one or two dimensions; Numba kernels run over models in parallel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.variance.features import Functions
from scorescope.variance.linear import LinearModels

Floats = npt.NDArray[np.float64]

NODES_PER_SCALE = 10
MOST_DIMENSIONS = 2


def follow_flow(
    models: LinearModels, starts: Tensor, times: Tensor, *, window: tuple[float, float] | None = None
) -> Tensor:
    """Where the flow of each model takes its points, by Euler's method.

    Args:
        models: M models in one or two dimensions.
        starts: points at ``times[0]``, (M, n, d), or (n, d) for all models.
        times: decreasing, (K + 1,); the field is evaluated at all but the last.
        window: beyond this range of every coordinate a model's output is that at its edge; None: as the features have it.

    Returns:
        Points at ``times[-1]``, float64 (M, n, d).

    Raises:
        UserError: more than two dimensions; another shape of starts.
    """
    dimension = models.features.dimension
    if dimension > MOST_DIMENSIONS:
        raise UserError(
            f"tabulated fields have 1 or 2 dimensions, not {dimension}: follow the flow step by step instead"
        )
    if starts.shape[-1] != dimension or starts.ndim not in (2, 3) or (starts.ndim == 3 and len(starts) != len(models)):
        raise UserError(
            f"{len(models)} models in {dimension} dimensions start at (n, {dimension}) or ({len(models)}, n, {dimension})"
            f" points, found {tuple(starts.shape)}"
        )
    points = np.array(starts.expand(len(models), -1, -1).numpy(), dtype=np.float64, order="C")
    linear, fields = flow_steps(models, times)
    axes = [_Axis.of(functions, window) for functions in models.features.spatial]
    if dimension == 1:
        (axis,) = axes
        _follow_on_line(
            points[:, :, 0], linear[:, 0, 0], fields[:, :, 0], axis.values, axis.low, axis.step, axis.repeats
        )
    else:
        first, second = axes
        shape = (*fields.shape[:3], first.values.shape[1], second.values.shape[1])
        _follow_in_plane(
            points, linear, fields.reshape(shape), first.values, first.low, first.step, first.repeats,
            second.values, second.low, second.step, second.repeats,
        )  # fmt: skip
    return torch.from_numpy(points)


def flow_steps(models: LinearModels, times: Tensor) -> tuple[Floats, Floats]:
    """The Euler steps ``x ← P_k x + U_k φˣ(x)`` of all models, with the features of t contracted away.

    Args:
        models: M models.
        times: (K + 1,).

    Returns:
        P, (K, d, d), and U, (K, M, d, F of x).
    """
    features, process, form = models.features, models.process, models.formulation
    size = features.dimension
    t, step = times[:-1], times.diff()
    diffusion, identity = process.diffusion(t).dense(size), torch.eye(size, dtype=torch.float64)
    # The offset is linear in x, so its matrix is read off the unit vectors.
    rows = identity.expand(len(t), size, size)
    offset = form.offset(process, rows, t[:, None].expand(len(t), size)).mT
    linear = identity + step[:, None, None] * (-process.beta(t)[:, None, None] * identity - diffusion @ offset)
    gain = -step[:, None, None] * diffusion @ form.gain(process, t, size)  # (K, d, d)
    shaped = models.weights.reshape(len(models), size, features.spatial_count, features.temporal.count)
    at_times = torch.einsum("mdfg,kg->kmdf", shaped, features.of_time(t))
    fields = torch.einsum("kid,kmdf->kmif", gain, at_times)
    return np.ascontiguousarray(linear.numpy()), np.ascontiguousarray(fields.numpy())


@dataclass(frozen=True)
class _Axis:
    """The functions of one coordinate at the nodes of a table.

    Attributes:
        values: (n, count).
        low: first node.
        step: between nodes.
        repeats: whether the table goes on periodically; else its ends go on as they are.
    """

    values: Floats
    low: float
    step: float
    repeats: bool

    @classmethod
    def of(cls, functions: Functions, window: tuple[float, float] | None) -> _Axis:
        """A table of what there is to know, or of a window."""
        low, high, repeats = (*window, False) if window is not None else functions.support
        cells = max(4, math.ceil((high - low) / functions.scale * NODES_PER_SCALE))
        step = (high - low) / cells
        # One node before and two after the range: a cubic needs two on either side.
        nodes = low + step * torch.arange(-1, cells + 3, dtype=torch.float64)
        return cls(np.ascontiguousarray(functions(nodes).numpy()), low, step, repeats)


@numba.njit(inline="always")
def _place(value, low, step, cells, repeats):  # type: ignore[no-untyped-def]
    """The cell that a value lies in, and how far along it, within the table."""
    along = (value - low) / step
    if repeats:
        along -= cells * math.floor(along / cells)
    elif not along > 0.0:
        along = 0.0
    elif along > cells:
        along = float(cells)
    cell = min(int(along), cells - 1)
    return cell, along - cell


@numba.njit(inline="always")
def _cubic(share):  # type: ignore[no-untyped-def]
    """Weights of the four nodes around a place, by Lagrange's formula."""
    a, b, c = share + 1.0, share - 1.0, share - 2.0
    return -share * b * c / 6.0, a * b * c / 2.0, -a * share * c / 2.0, a * share * b / 6.0


@numba.njit(parallel=True, cache=True, error_model="numpy")
def _follow_on_line(points, linear, fields, values, low, step, repeats):  # type: ignore[no-untyped-def]
    """points (M, n) in place; linear (K,), fields (K, M, F of x), values (nodes, F of x)."""
    cells = len(values) - 4
    for model in numba.prange(len(points)):
        mine = points[model]
        table = np.empty(len(values))
        for k in range(len(linear)):
            for node in range(len(values)):
                total = 0.0
                for f in range(values.shape[1]):
                    total += values[node, f] * fields[k, model, f]
                table[node] = total
            for i in range(len(mine)):
                cell, share = _place(mine[i], low, step, cells, repeats)
                w0, w1, w2, w3 = _cubic(share)
                field = w0 * table[cell] + w1 * table[cell + 1] + w2 * table[cell + 2] + w3 * table[cell + 3]
                mine[i] = linear[k] * mine[i] + field


@numba.njit(parallel=True, cache=True, error_model="numpy")
def _follow_in_plane(  # type: ignore[no-untyped-def]
    points, linear, fields, values, low, step, repeats, other_values, other_low, other_step, other_repeats
):
    """points (M, n, 2) in place; linear (K, 2, 2), fields (K, M, 2, F1, F2), values (nodes, F1) and (nodes, F2)."""
    cells, other_cells = len(values) - 4, len(other_values) - 4
    for model in numba.prange(len(points)):
        mine = points[model]
        table = np.empty((len(values), len(other_values), 2))
        half = np.empty((values.shape[1], len(other_values), 2))
        for k in range(len(linear)):
            half[:] = 0.0
            for f in range(values.shape[1]):
                for g in range(other_values.shape[1]):
                    a, b = fields[k, model, 0, f, g], fields[k, model, 1, f, g]
                    for node in range(len(other_values)):
                        half[f, node, 0] += a * other_values[node, g]
                        half[f, node, 1] += b * other_values[node, g]
            table[:] = 0.0
            for node in range(len(values)):
                for f in range(values.shape[1]):
                    value = values[node, f]
                    if value != 0.0:
                        table[node] += value * half[f]
            for i in range(len(mine)):
                x, y = mine[i, 0], mine[i, 1]
                cell, share = _place(x, low, step, cells, repeats)
                other, other_share = _place(y, other_low, other_step, other_cells, other_repeats)
                along, across = _cubic(share), _cubic(other_share)
                u, v = 0.0, 0.0
                for p in range(4):
                    row = table[cell + p]
                    u += along[p] * (
                        across[0] * row[other, 0] + across[1] * row[other + 1, 0]
                        + across[2] * row[other + 2, 0] + across[3] * row[other + 3, 0]
                    )  # fmt: skip
                    v += along[p] * (
                        across[0] * row[other, 1] + across[1] * row[other + 1, 1]
                        + across[2] * row[other + 2, 1] + across[3] * row[other + 3, 1]
                    )  # fmt: skip
                mine[i, 0] = linear[k, 0, 0] * x + linear[k, 0, 1] * y + u
                mine[i, 1] = linear[k, 1, 0] * x + linear[k, 1, 1] * y + v
