"""Ensembles of small networks on a few points of the line or the plane: trained, sampled, and compared with the exact denoiser.

The points are the whole training set, so that the exact denoiser ``D*(y, σ) = Σ_i softmax_i(−‖y − x_i‖² / 2σ²) x_i`` is known,
and what a network does between the points is generalization that can be seen with the eye.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pydantic
import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.networks import NetworkConfig, build_network
from scorescope.noise import log_spaced_sigmas
from scorescope.sampling import heun, last
from scorescope.variance.members import Members, MemberTraining, train_members
from scorescope.variance.processes import VarianceExploding
from scorescope.variance.proxy import PointProxy

POINT_SETS: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "three on a line": ((-1.0,), (0.0,), (1.0,)),
    "square": ((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)),
    "L": ((-1.0, -1.0), (-1.0, 0.0), (-1.0, 1.0), (0.0, -1.0), (1.0, -1.0)),
    "one outlier": ((-1.0, -0.3), (-1.0, 0.3), (-0.5, 0.0), (1.5, 0.0)),
}
PointSet = Literal["three on a line", "square", "L", "one outlier"]


class PointEnsembleConfig(pydantic.BaseModel):
    """Settings of an ensemble on points.

    Attributes:
        points: the data set.
        members: networks.
        width: hidden units.
        depth: blocks of two layers.
        steps: Adam steps of each member.
        batch: noisy points a step.
        pool: noisy points that a member draws once and for all (P); None for fresh ones at every step.
        target: ``noisy`` or ``closed-form``.
        sigma_min: lowest noise level, of training and of sampling.
        sigma_max: highest noise level.
        learning_rate: of the first step.
        samples: drawn from each member.
        flow_steps: noise levels of the flow.
        levels: noise levels at which the deviation from the exact denoiser is measured.
        seed: of initial weights and draws: member m starts from seed · 10,000 + m.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    points: PointSet = "square"
    members: int = pydantic.Field(32, ge=2)
    width: int = pydantic.Field(64, ge=1)
    depth: int = pydantic.Field(2, ge=1)
    steps: int = pydantic.Field(1000, ge=1)
    batch: int = pydantic.Field(64, ge=1)
    pool: pydantic.PositiveInt | None = None
    target: Literal["noisy", "closed-form"] = "noisy"
    sigma_min: float = pydantic.Field(0.03, gt=0)
    sigma_max: float = pydantic.Field(8.0, gt=0)
    learning_rate: float = pydantic.Field(3e-3, gt=0)
    samples: int = pydantic.Field(256, ge=1)
    flow_steps: int = pydantic.Field(24, ge=2)
    levels: int = pydantic.Field(10, ge=2)
    seed: int = pydantic.Field(0, ge=0)

    @property
    def points_tensor(self) -> Tensor:
        """The data set, float32 (N, d)."""
        return torch.tensor(POINT_SETS[self.points])


def proxy_of(config: PointEnsembleConfig) -> PointProxy:
    """Exact denoiser and proxy covariance of the points; the time of its process is σ."""
    return PointProxy(VarianceExploding(config.sigma_min, config.sigma_max), config.points_tensor)


def train_ensemble(config: PointEnsembleConfig) -> Members:
    """The trained members. Raises UserError if training diverges."""
    points = config.points_tensor
    shape = (1, 1, points.shape[1])
    network = NetworkConfig(
        architecture="mlp",
        arguments={"image_shape": list(shape), "width": config.width, "depth": config.depth},
        preconditioning="edm",
        image_shape=shape,
        sigma_range=(config.sigma_min, config.sigma_max),
    )
    members = Members(
        [build_network(network, seed=config.seed * 10_000 + member) for member in range(config.members)], "edm"
    )
    how = MemberTraining(
        steps=config.steps,
        batch=config.batch,
        pool=config.pool,
        learning_rate=config.learning_rate,
        sigma_min=config.sigma_min,
        sigma_max=config.sigma_max,
    )
    exact, proxy = config.target == "closed-form", proxy_of(config)

    def target(clean: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        return proxy.denoised(noisy.double(), sigma.double()).float()

    generator = torch.Generator().manual_seed(config.seed)
    said = f"training {config.members} networks on {config.points}, {config.target} target"
    train_members(members, points, target if exact else None, how, generator, said)
    return members


def starting_noise(config: PointEnsembleConfig, count: int) -> Tensor:
    """The noise that every member's flow starts from, (count, 1, 1, d); the same for every ensemble on these points."""
    generator = torch.Generator().manual_seed(config.seed + 1)
    return config.sigma_max * torch.randn(count, 1, 1, config.points_tensor.shape[1], generator=generator)


def flow_levels(config: PointEnsembleConfig) -> Tensor:
    """Noise levels of the flow, (flow_steps,)."""
    return log_spaced_sigmas(config.flow_steps, config.sigma_min, config.sigma_max)


def draw_from(members: Members, config: PointEnsembleConfig) -> Tensor:
    """Samples of every member by Heun's method from shared noise, (M, samples, d)."""
    start = starting_noise(config, config.samples).expand(members.count, -1, -1, -1, -1)
    final: Tensor = last(heun(members, start, flow_levels(config))).noisy
    return final[:, :, 0, 0, :]


def deviations_of(members: Members, config: PointEnsembleConfig, count: int = 256) -> dict[str, Any]:
    """How far members are from the exact denoiser, and from one another, on noisy training points.

    Returns ``sigma`` (L,) from high to low, ``to optimal`` (M, L), ``run variance`` (L,) and ``target variance`` (L,), all
    squared distances in d dimensions, not a coordinate.
    """
    points, proxy = config.points_tensor, proxy_of(config)
    generator = torch.Generator().manual_seed(config.seed + 2)
    sigmas = [float(s) for s in log_spaced_sigmas(config.levels, config.sigma_min, config.sigma_max)]
    to_optimal, over_runs, of_target = [], [], []
    for sigma in sigmas:
        clean = points[torch.randint(len(points), (count,), generator=generator)]
        noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
        where = noisy.double(), torch.full((count,), sigma, dtype=torch.float64)
        exact, spread = proxy.denoised(*where), proxy.clean_covariance(*where).diagonal(dim1=-2, dim2=-1).sum(-1)
        outputs = members.everywhere(noisy[:, None, None, :], sigma)[:, :, 0, 0, :]
        to_optimal.append((outputs.double() - exact).square().sum(-1).mean(1).numpy())
        over_runs.append(float(outputs.double().var(0).sum(-1).mean()))
        of_target.append(float(spread.mean()))
    return {
        "sigma": np.array(sigmas),
        "to optimal": np.stack(to_optimal, axis=1),
        "run variance": np.array(over_runs),
        "target variance": np.array(of_target),
    }


def off_points(samples: Tensor, points: Tensor, radius: float) -> Tensor:
    """Share of the samples that lie farther than `radius` from every point: (..., n, d), (N, d) -> (...).

    Raises UserError for a radius that is not positive.
    """
    if not (math.isfinite(radius) and radius > 0):
        raise UserError(f"a radius around the points is positive, found {radius:g}")
    nearest = (samples[..., None, :] - points).square().sum(-1).min(-1).values
    return (nearest > radius**2).double().mean(-1)
