"""Critics' question 3: V of real networks, estimated over an ensemble, beside C; and the effective process beside their"
" samples."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import pydantic
import torch
from torch import Tensor

from scorescope.data import load_images
from scorescope.denoisers import OptimalDenoiser
from scorescope.noise import edm_sigmas
from scorescope.papers.vastola2025 import critics3_pages as pages
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
from scorescope.study.base import Study, study
from scorescope.study.results import Results
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


@study
class Critics3(Study[Critics3Config]):
    """V over an ensemble."""

    name = "vastola2025/critics3"
    title = "The V-kernel of real networks"
    question = (
        "Is the variance of networks over training runs large where the target's is, and does it predict their samples?"
    )
    paper = "Vastola 2025, arXiv 2504.12532"
    Config = Critics3Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "points": {"members": 4, "width": 16, "depth": 1, "steps": 30, "pool": 64, "samples": 32, "flow_steps": 5},
            "images": {
                "data": "digits",
                "size": 50,
                "members": 3,
                "width": 8,
                "training": {"steps": 20, "batch": 16},
                "flow_steps": 4,
                "samples": 8,
            },
            "runs": 4,
            "cells": 6,
            "conclusive": False,
        },
        # Groups whose values differ from their own defaults stand here, so that setting one of them keeps the others.
        "small": {"points": {"pool": 512, "samples": 128}, "images": {"training": {"steps": 1200}}},
        "paper": {
            "points": {"members": 100, "width": 128, "depth": 3, "steps": 10_000, "pool": 512, "samples": 1000},
            "images": {
                "size": 1000,
                "members": 32,
                "width": 64,
                "training": {"steps": 50_000, "batch": 512, "learning_rate": 1e-3},
                "samples": 256,
            },
            "runs": 100,
        },
    }

    def run(self, config: Critics3Config, workspace: Workspace) -> Results:
        """See `Study.run`."""
        found = {
            "points": workspace.computed("points", functools.partial(_on_points, config)),
            "images": workspace.computed("images", functools.partial(_on_images, config, workspace)),
        }
        results = Results(study=self.name, title=self.title)
        pages.profiles(results, found)
        pages.samples(results, config, found)
        pages.claims(results, config, found)
        results.headline = pages.headline(config, found)
        results.methods |= _methods(config)
        return results


def _on_points(config: Critics3Config) -> dict[str, Any]:
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


def _on_images(config: Critics3Config, workspace: Workspace) -> dict[str, Any]:
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


def _methods(config: Critics3Config) -> dict[str, str]:
    points, images = config.points, config.images
    return {
        "Points": f"{points.points}: {points.members} multilayer perceptrons of {points.depth} blocks of {points.width} units,"
        " each"
        f" trained for {points.steps} Adam steps on "
        + ("fresh noisy points" if points.pool is None else f"its own {points.pool} noisy points")
        + f"; flow by Heun's method on {points.flow_steps} levels from {points.sigma_max:g} to {points.sigma_min:g}.",
        "Images": f"{images.size} images of {images.data}; {images.members} bias-free UNets of width {images.width} with other"
        " seeds,"
        f" {images.training.steps} steps of {images.training.batch} images; flow by Heun's method on {images.flow_steps}"
        " levels down"
        f" to {images.sigma_end:g}.",
        "Effective process": f"Flow of D̄ + Σ g_m (D_m − D̄)/√(M − 1) with g drawn once a run, {config.runs} runs.",
        "Intervals": "95 %: Student's over levels (correlation) and over starting noises (variance ratio, of logarithms);"
        " bootstrap over"
        " runs for densities.",
        "Seed": f"{config.seed} of the effective process; {points.seed} of the networks on points; 0 to {images.members - 1}"
        " on images.",
    }
