"""The effective process: one trajectory of the average model, with the variance over training runs as its noise.

``ẋ = −β_t x − D_t s_avg(x, t) + ξ(x, t)``, from T down to ε, by Euler's method on given times (Vastola, ICLR 2025, arXiv
2504.12532, proposition 3.1). What ξ is depends on the kernel:

* a `WhiteKernel` adds independent Gaussian noise at every step;
* a `SmoothKernel` is a field that is drawn once and frozen. Along a trajectory that is done by conditioning: given ξ at the
  points already visited, ξ at the next one is Gaussian with a mean and covariance that a growing Cholesky factor gives. Each
  trajectory has a field of its own here, so that trajectories are independent draws from the average learned density;
* a `LinearKernel` can also draw whole fields, `LinearKernel.sample_models`, whose flow `follow_flow` follows: that is
  exact too, and fast, because the field is linear in W.

Without noise it is the probability flow, which gives back the data points.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from scorescope.variance.linear import LinearModels
from scorescope.variance.v_kernel import JITTER, NaiveKernel, SmoothKernel, WhiteKernel, root_of


def probability_flow(kernel: WhiteKernel | SmoothKernel, starts: Tensor, times: Tensor) -> Iterator[Tensor]:
    """States of the average model without any noise: (n, d) at every one of the times (K + 1,), the start included."""
    x = starts
    yield x
    for t, following in itertools.pairwise(times):
        x = x + (following - t) * kernel.drift(x, t.expand(len(x)))
        yield x


def effective_process(
    kernel: WhiteKernel | SmoothKernel, starts: Tensor, times: Tensor, generator: torch.Generator
) -> Iterator[Tensor]:
    """States of the effective process, independent of each other from one trajectory to the next.

    Args:
        kernel: the average score and V.
        starts: points at ``times[0]``, (n, d).
        times: decreasing, (K + 1,); everything is evaluated at all but the last.
        generator: of the noise.

    Yields:
        (n, d) at every time, the start included.
    """
    if isinstance(kernel, WhiteKernel):
        yield from _with_white_noise(kernel, starts, times, generator)
    else:
        yield from _with_frozen_noise(kernel, starts, times, generator)


def naive_estimator(kernel: NaiveKernel, starts: Tensor, times: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """States of the naive estimator itself, which draws an x0 at every step. Arguments as `effective_process` has them."""
    x = starts
    yield x
    for t, following in itertools.pairwise(times):
        at, step = t.expand(len(x)), following - t
        x = x + step * kernel.drift(x, at) + kernel.draw_noise(x, at, step.expand(len(x)), generator)
        yield x


def models_flow(models: LinearModels, starts: Tensor, times: Tensor) -> Iterator[Tensor]:
    """States of the flow of linear models, without tables and in any dimension.

    Args:
        models: M models.
        starts: (M, n, d).
        times: decreasing, (K + 1,).

    Yields:
        (M, n, d) at every time, the start included.
    """
    x = starts
    yield x
    process, form = models.process, models.formulation
    for t, following in itertools.pairwise(times):
        at = t.expand(x.shape[:-1])
        output = (models.weights @ models.features(x, at).mT).mT
        score = form.to_score(process, output, x, at)
        x = x + (following - t) * process.drift(x, at, score)
        yield x


def _with_white_noise(
    kernel: WhiteKernel, starts: Tensor, times: Tensor, generator: torch.Generator
) -> Iterator[Tensor]:
    x = starts
    yield x
    for t, following in itertools.pairwise(times):
        at, step = t.expand(len(x)), following - t
        noise = kernel.sample_noise(x, at, step.expand(len(x)), generator)
        x = x + step * kernel.drift(x, at) + noise
        yield x


def _with_frozen_noise(
    kernel: SmoothKernel, starts: Tensor, times: Tensor, generator: torch.Generator
) -> Iterator[Tensor]:
    count, size, steps = len(starts), kernel.dimension, len(times) - 1
    visited = torch.zeros(count, steps, size, dtype=torch.float64)
    # ξ at the visited points is L z with z white: L grows by d rows a step, and z is kept.
    factor = torch.zeros(count, steps * size, steps * size, dtype=torch.float64)
    white = torch.randn(count, steps * size, generator=generator, dtype=torch.float64)
    x = starts
    yield x
    for k, (t, following) in enumerate(itertools.pairwise(times)):
        visited[:, k] = x
        known, rows = k * size, slice(k * size, (k + 1) * size)
        at = times[: k + 1].expand(count, k + 1)
        with_all = kernel.covariance(x[:, None], at[:, -1:], visited[:, : k + 1], at)[:, 0]  # (n, k + 1, d, d)
        across = with_all[:, :k].permute(0, 2, 1, 3).reshape(count, size, known)
        own = with_all[:, k]
        if k:
            # Rows of L to the left of the diagonal: L_known rowsᵀ = acrossᵀ.
            left = torch.linalg.solve_triangular(factor[:, :known, :known], across.mT, upper=False).mT
            factor[:, rows, :known] = left
            own = _not_negative(own - left @ left.mT, own)
        factor[:, rows, rows] = root_of(own)
        noise = (factor[:, rows, : known + size] @ white[:, : known + size, None])[..., 0]
        x = x + (following - t) * (kernel.drift(x, t.expand(count)) + noise)
        yield x


def _not_negative(covariances: Tensor, before: Tensor) -> Tensor:
    """A conditional covariance (..., d, d) whose rounding errors, relative to the one before, cannot make it negative."""
    values, vectors = torch.linalg.eigh((covariances + covariances.mT) / 2)
    floor = JITTER * before.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
    mended: Tensor = (vectors * torch.maximum(values, floor)[..., None, :]) @ vectors.mT
    return mended
