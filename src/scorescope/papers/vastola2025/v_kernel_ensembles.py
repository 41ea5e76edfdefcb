"""Networks that differ in their training run alone, on points and on images: how much their answers and samples vary."""

from __future__ import annotations

from typing import Any

import pydantic
import torch
from torch import Tensor

from scorescope.data import load_images
from scorescope.denoisers import OptimalDenoiser
from scorescope.noise import edm_sigmas
from scorescope.papers.vastola2025.ensemble_flows import (
    compare_flows,
    independent_samples,
    separately,
)
from scorescope.papers.vastola2025.point_ensembles import (
    PointEnsembleConfig,
    flow_levels,
    proxy_of,
    starting_noise,
    train_ensemble,
)
from scorescope.papers.vastola2025.runs import trained_runs
from scorescope.posterior.processes import check_same_images
from scorescope.study.workspace import Workspace
from scorescope.training import Selection, TrainingConfig
from scorescope.variance.ensemble import Ensemble, together


class ImageEnsembleConfig(pydantic.BaseModel):
    """Settings of the ensemble on images.

    Attributes:
        data: a store, or the name of a built-in data set.
        size: training images.
        members: networks; they differ in their seed, which decides initial weights, order, noise levels and noise.
        width: channels of the first block of the UNet.
        training: how each is trained.
        flow_steps: noise levels of the flow.
        sigma_end: lowest noise level of the flow, in units of [-1, 1].
        samples: flows, from as many different noises.
        split_seed: of the choice of the training images.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: str = "fashion-mnist"
    size: int = pydantic.Field(300, ge=2)
    members: int = pydantic.Field(8, ge=2)
    width: int = pydantic.Field(16, ge=1)
    training: TrainingConfig = TrainingConfig(steps=1200)
    flow_steps: int = pydantic.Field(14, ge=2)
    sigma_end: float = pydantic.Field(0.05, gt=0)
    samples: int = pydantic.Field(16, ge=2)
    split_seed: int = pydantic.Field(0, ge=0)


class Critics3Config(pydantic.BaseModel):
    """Settings.

    Attributes:
        points: ensemble on points of the plane.
        images: ensemble on images.
        runs: of the effective process.
        cells: of the grid on which densities are compared, along each coordinate.
        conclusive: whether the sizes are such that the claims can be judged.
        seed: of the fields of the effective process, and of resampling.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    points: PointEnsembleConfig = PointEnsembleConfig(pool=512, samples=128)
    images: ImageEnsembleConfig = ImageEnsembleConfig()
    runs: int = pydantic.Field(32, ge=2)
    cells: int = pydantic.Field(12, ge=2)
    conclusive: bool = True
    seed: int = pydantic.Field(0, ge=0)


def on_points(config: Critics3Config) -> dict[str, Any]:
    members, proxy = train_ensemble(config.points), proxy_of(config.points)

    def target_variance(noisy: Tensor, sigma: float) -> Tensor:
        flat = noisy[:, 0, 0].double()
        spread = proxy.clean_covariance(flat, torch.full((len(flat),), sigma, dtype=torch.float64))
        return spread.diagonal(dim1=-2, dim2=-1).sum(-1)

    generator = torch.Generator().manual_seed(config.seed)
    start = starting_noise(config.points, config.points.samples)
    sigmas = flow_levels(config.points).tolist()
    ensemble = Ensemble(members.everywhere, members.count)
    paired = compare_flows(ensemble, members, target_variance, start, sigmas, config.runs, generator)
    runs = max(config.runs, members.count)
    fresh = config.points.sigma_max * torch.randn(runs, *start.shape, generator=generator)
    alone = independent_samples(ensemble, members, fresh, sigmas, generator)
    return paired | {f"independent/{name}": samples for name, samples in alone.items()}


def on_images(config: Critics3Config, workspace: Workspace) -> dict[str, Any]:
    how, data = config.images, load_images(config.images.data).train
    check_same_images(data)
    training = Selection(total=data.stored, size=how.size, count=1, seed=how.split_seed).choose(data)
    runs = [how.training.model_copy(update={"seed": seed}) for seed in range(how.members)]
    networks = trained_runs([training] * how.members, runs, how.width, workspace, "training an ensemble")
    optimal = OptimalDenoiser(training)
    generator = torch.Generator().manual_seed(config.seed)
    high = networks[0].sigma_range[1]
    sigmas = edm_sigmas(how.flow_steps, how.sigma_end, high).tolist()
    start = float(training.tensor().mean()) + high * torch.randn(
        how.samples, *training.image_shape, generator=generator
    )
    return compare_flows(
        Ensemble(together(networks), len(networks)),
        separately(networks),
        lambda noisy, sigma: optimal.describe(noisy, sigma).covariance_trace,
        start,
        sigmas,
        config.runs,
        generator,
    )
