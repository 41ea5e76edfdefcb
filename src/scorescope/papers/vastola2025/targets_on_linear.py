"""The noisy against the exact target with linear models, which are fitted in closed form: nothing is left to an optimizer.

With both targets the model is the same least squares fit to the same P noisy points; as P grows both tend to the same
projection of the exact denoiser onto the features. What is left of the deviation with the exact target is the features' bias
and the randomness of where the P points fell.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pydantic
import torch

from scorescope.papers.vastola2025.point_ensembles import POINT_SETS, PointSet, off_points
from scorescope.papers.vastola2025.targets_on_points import TARGETS, PointsFound, pool_words
from scorescope.study.workspace import Workspace
from scorescope.variance.effective import models_flow
from scorescope.variance.features import bumps
from scorescope.variance.linear import LinearTraining, exact_target, fit_linear, noisy_target
from scorescope.variance.processes import VariancePreserving
from scorescope.variance.proxy import PointProxy

DRAWN = dict(zip(TARGETS, (noisy_target, exact_target), strict=True))


class LinearConfig(pydantic.BaseModel):
    """Settings of the linear models.

    Attributes:
        sets: data sets of the line and the plane.
        pools: numbers of noisy points that a model is fitted to (P), increasing.
        models: fitted models of each case.
        per_axis: Gaussian features on the line, of x and of t each; the plane has half as many an axis.
        ridge: η.
        epsilon: ε, where the VP process stops.
        steps: Euler steps of the flow.
        samples: drawn from each model.
        levels: times at which the deviation is measured.
        radius: a sample farther from every point than this is between them.
        seed: of all draws.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    sets: tuple[PointSet, ...] = ("three on a line", "square")
    pools: tuple[pydantic.PositiveInt, ...] = (64, 256, 1024)
    models: int = pydantic.Field(50, ge=2)
    per_axis: int = pydantic.Field(16, ge=2)
    ridge: float = pydantic.Field(0.1, ge=0)
    epsilon: float = pydantic.Field(1e-3, gt=0)
    steps: int = pydantic.Field(30, ge=1)
    samples: int = pydantic.Field(500, ge=1)
    levels: int = pydantic.Field(8, ge=2)
    radius: float = pydantic.Field(0.15, gt=0)
    seed: int = pydantic.Field(0, ge=0)


def compare_linear(config: LinearConfig, workspace: Workspace) -> list[PointsFound]:
    """Fit, sample and measure every case; the labels of what is found say that the models are linear."""
    found = []
    for points in config.sets:
        for pool in config.pools:
            name = f"linear/{points}/{pool_words(pool)}"
            both = workspace.computed(name, functools.partial(_both, config, points, pool))
            found.append(PointsFound.of(points, pool, both, model="linear model"))
    return found


def _both(config: LinearConfig, points: PointSet, pool: int) -> dict[str, Any]:
    return {target: _measured(config, points, pool, target) for target in TARGETS}


def _measured(config: LinearConfig, points: PointSet, pool: int, target: str) -> dict[str, Any]:
    process = VariancePreserving(config.epsilon)
    proxy = PointProxy(process, torch.tensor(POINT_SETS[points]))
    per_axis = config.per_axis if proxy.dimension == 1 else config.per_axis // 2
    features = bumps(proxy.dimension, per_axis, (process.epsilon, process.horizon))
    training = replace(LinearTraining(samples=pool, ridge=config.ridge), target=DRAWN[target])
    # Equal seeds: the two targets are fitted at the same noisy points.
    models = fit_linear(proxy, features, training, config.models, torch.Generator().manual_seed(config.seed))
    generator = torch.Generator().manual_seed(config.seed + 1)
    start = process.start(config.samples, proxy.dimension, generator)
    for state in models_flow(models, start.expand(config.models, -1, -1), process.times(config.steps)):
        samples = state
    to_optimal, over_runs, of_target, sigmas = [], [], [], []
    for time in process.times(config.levels - 1):
        clean = proxy.points[torch.randint(len(proxy.points), (256,), generator=generator)]
        at = time.expand(len(clean))
        noisy = process.forward(clean, at, generator)
        output = models.output(noisy, at)
        to_optimal.append((output - proxy.denoised(noisy, at)).square().sum(-1).mean(1).numpy())
        over_runs.append(float(output.var(0).sum(-1).mean()))
        of_target.append(float(proxy.clean_covariance(noisy, at).diagonal(dim1=-2, dim2=-1).sum(-1).mean()))
        sigmas.append(float(process.mean_variance(time, 1).sqrt() / process.alpha(time)))
    return {
        "sigma": np.array(sigmas),
        "to optimal": np.stack(to_optimal, axis=1),
        "run variance": np.array(over_runs),
        "target variance": np.array(of_target),
        "samples": samples.float().numpy(),
        "between": off_points(samples, proxy.points, config.radius).numpy(),
    }
