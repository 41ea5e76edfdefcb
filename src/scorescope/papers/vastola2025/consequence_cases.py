"""The data sets on which the consequences of vastola2025 are tested, and what is measured on each: arrays with one value a"
" model."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.papers.vastola2025.learned_by_linear import LinearDensityConfig, learned, line_proxy
from scorescope.variance.features import FAMILIES
from scorescope.variance.linear import LinearTraining, fit_linear
from scorescope.variance.linear_kernel import fitted_kernel
from scorescope.variance.processes import VariancePreserving
from scorescope.variance.proxy import PointProxy

NEAR = 0.1
FAR_TIME = 0.1
Array = npt.NDArray[np.float64]


def column(*places: float) -> Tensor:
    """Points on the line, (N, 1)."""
    return torch.tensor(places, dtype=torch.float64)[:, None]


def in_gap(samples: Tensor, low: float, high: float) -> Array:
    """Density of every run's samples in the middle half of the gap between two points: (M, n, 1) -> (M,)."""
    middle, quarter = (low + high) / 2, (high - low) / 4
    share = ((samples[..., 0] - middle).abs() < quarter).double().mean(1)
    return np.asarray((share / (2 * quarter)).numpy())


def outlier(config: LinearDensityConfig) -> dict[str, Any]:
    """Four points at distances of 0.4 and one that is 0.8 away: density ``inner`` in their gaps and ``outer`` towards it."""
    points = column(-0.8, -0.4, 0.0, 0.4, 1.2)
    runs = learned(line_proxy(points, config.epsilon), config)
    inner = np.mean([in_gap(runs.models, low, low + 0.4) for low in (-0.8, -0.4, 0.0)], axis=0)
    return _samples(runs.models, runs.average, points) | {"inner": inner, "outer": in_gap(runs.models, 0.4, 1.2)}


def gap_widths(config: LinearDensityConfig) -> dict[str, Any]:
    """Gaps of 0.4, 0.6 and 1: density in each, ``gaps`` (M, 3)."""
    places = (-1.0, -0.6, 0.0, 1.0)
    points = column(*places)
    runs = learned(line_proxy(points, config.epsilon), config)
    gaps = [in_gap(runs.models, low, high) for low, high in itertools.pairwise(places)]
    return _samples(runs.models, runs.average, points) | {"gaps": np.stack(gaps, axis=1)}


def duplicates(config: LinearDensityConfig, copies: int) -> dict[str, Any]:
    """−1, 0 and 1, with 0 there several times: shares ``near middle``, ``near others``, ``in gaps``, and ``data share``."""
    points = column(-1.0, *[0.0] * copies, 1.0)
    samples = learned(line_proxy(points, config.epsilon), config).models[..., 0]
    middle = (samples.abs() < NEAR).double().mean(1)
    others = ((samples.abs() - 1).abs() < NEAR).double().mean(1)
    gaps = ((samples.abs() - 0.5).abs() < 0.25).double().mean(1)
    named = {"near middle": middle, "near others": others, "in gaps": gaps}
    return {name: values.numpy() for name, values in named.items()} | {"data share": copies / (copies + 2)}


def anisotropic(config: LinearDensityConfig, ratio: float) -> dict[str, Any]:
    """The corners of a square under noise whose variance along the first axis is `ratio` times that along the second.

    Returns samples, and the shares in the middle of the two gaps ``along first`` axis and of the two ``along second``.
    """
    points = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]).double() * 0.8
    # The geometric mean of the two variances stays that of plain noise.
    shape = torch.tensor([ratio**0.5, ratio**-0.5], dtype=torch.float64)
    runs = learned(PointProxy(VariancePreserving(config.epsilon, shape=shape), points), config)
    first, second = (runs.models / 0.8).unbind(-1)
    along_first = (first.abs() < 0.5) & ((second.abs() - 1).abs() < 0.25)
    along_second = (second.abs() < 0.5) & ((first.abs() - 1).abs() < 0.25)
    return _samples(runs.models, runs.average, points) | {
        "along first": along_first.double().mean(1).numpy(),
        "along second": along_second.double().mean(1).numpy(),
    }


def far_from_data(config: LinearDensityConfig) -> dict[str, Any]:
    """Traces of D C D, ``target``, and of V, ``model``, for ``x`` from 0 to 2.5, beyond the outermost training point at 1."""
    proxy = line_proxy(column(-1.0, 0.0, 1.0), config.epsilon)
    process = proxy.process
    features = FAMILIES[config.family](1, config.per_axis, (process.epsilon, process.horizon))
    training = LinearTraining(samples=config.samples, ridge=config.ridge)
    models = fit_linear(proxy, features, training, config.models, torch.Generator().manual_seed(config.seed))
    x = torch.linspace(0.0, 2.5, 51, dtype=torch.float64)[:, None]
    t = torch.full((51,), FAR_TIME, dtype=torch.float64)
    alpha = process.alpha(t[:1])
    model = fitted_kernel(models).trace(alpha * x, t)
    spread = process.diffusion(t).on_both_sides(proxy.covariance(alpha * x, t))[:, 0, 0]
    return {"x": x[:, 0].numpy(), "target": spread.clamp(min=1e-12).numpy(), "model": model.numpy()}


def points_on_a_line(config: LinearDensityConfig) -> dict[str, Any]:
    """Four points on a slanted line in the plane: effective dimension of samples and their ``thickness`` across the line."""
    way = torch.tensor([0.8, 0.6], dtype=torch.float64)
    points = torch.tensor([-1.2, -0.4, 0.4, 1.2], dtype=torch.float64)[:, None] * way
    runs = learned(line_proxy(points, config.epsilon), config)
    across = torch.tensor([-0.6, 0.8], dtype=torch.float64)
    return _samples(runs.models, runs.average, points) | {
        "data dimension": float(participation_ratio(points[None])[0]),
        "dimension": participation_ratio(runs.models).numpy(),
        "average dimension": participation_ratio(runs.average).numpy(),
        "thickness": ((runs.models @ across).std(1) / (runs.models @ way).std(1)).numpy(),
    }


def participation_ratio(samples: Tensor) -> Tensor:
    """``(tr Σ)² / tr Σ²`` of every run's covariance: 1 on a line, d in all directions alike: (M, n, d) -> (M,)."""
    away = samples - samples.mean(1, keepdim=True)
    covariance = away.mT @ away / samples.shape[1]
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    ratio: Tensor = trace**2 / covariance.square().sum((-2, -1))
    return ratio


def likeliest(config: LinearDensityConfig) -> dict[str, Any]:
    """−1, 0 and 1: average density near every point and in the middle of every gap, and the lowest of the first over the"
    " highest."""
    runs = learned(line_proxy(column(-1.0, 0.0, 1.0), config.epsilon), config)
    flat = runs.models[..., 0]
    at = [float(((flat - place).abs() < NEAR).double().mean()) / (2 * NEAR) for place in (-1.0, 0.0, 1.0)]
    between = [float(((flat - place).abs() < NEAR).double().mean()) / (2 * NEAR) for place in (-0.5, 0.5)]
    return {"at": np.array(at), "between": np.array(between), "ratio": min(at) / max(*between, 1e-12)}


def _samples(models: Tensor, average: Tensor, points: Tensor) -> dict[str, Any]:
    return {"models": models.float().numpy(), "average": average.float().numpy(), "points": points.numpy()}
