"""One network for each class of images: trained side by side once, kept in the cache that all studies share.

What a cached network is found by are its architecture, how it was trained, and its training images' fingerprint, so that
two figures on the same images use the same network.
"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from scorescope.data.images import ImageSet
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError, new_folder
from scorescope.foundation.processes import by_first
from scorescope.networks import NetworkConfig, architectures
from scorescope.study.workspace import Workspace
from scorescope.training import TrainingConfig, TrainingJob
from scorescope.training.divided import train_divided

SHORT_RUN: Mapping[str, Any] = {
    "noise": "log-uniform",
    "sigma_min": 0.01,
    "sigma_max": 2.0,
    "weight": "edm",
    "sigma_data": 0.1,
}
"""Noise levels and weights for runs of a few thousand steps. The paper's plain squared error is nearly all due to high noise,
and so short a run would never come to learn low noise."""


class NetworkSettings(pydantic.BaseModel):
    """A kind of network and how it is trained.

    Attributes:
        architecture: a name that ``scorescope list networks`` shows.
        arguments: over those that fit the images.
        training: how it is trained.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    architecture: str = "unet"
    arguments: dict[str, Any] = {}
    training: TrainingConfig = TrainingConfig()

    @property
    def said(self) -> str:
        """For the foot of a page."""
        how, drawn = self.training, self.training.objective
        low, high = drawn.sigma_range
        given = ", ".join(f"{key} {value}" for key, value in self.arguments.items())
        return (
            f"{self.architecture}{f' ({given})' if given else ''}; {how.steps} steps of {how.batch} images, Adam at"
            f" {how.learning_rate:g}, {how.schedule} schedule, seed {how.seed}; noise of σ from {low:g} to {high:g}"
            f" ({drawn.noise}), squared error with weight {drawn.weight}."
        )


def trained_on(
    sets: Mapping[str, ImageSet], settings: NetworkSettings, workspace: Workspace
) -> dict[str, NetworkDenoiser]:
    """A network for each set of images, by the sets' names, with a copy of each in the run folder.

    Args:
        sets: name -> training images.
        settings: the same for all.
        workspace: says where the cache is.

    Raises:
        UserError: an architecture that is not known or does not fit the images; otherwise as `train_networks`.
    """
    jobs = [training_job(images, settings, workspace) for images in sets.values()]
    # Two classes may be the same images.
    open_jobs = list({job.folder: job for job in jobs}.values())
    train_divided(
        open_jobs, device=workspace.device, description=f"training {len(open_jobs)} × {settings.architecture}"
    )
    networks = {}
    for (name, images), job in zip(sets.items(), jobs, strict=True):
        network = NetworkDenoiser.open(job.folder, name).to(workspace.device)
        assert network.image_shape == images.image_shape
        networks[name] = network
        by_first(functools.partial(_keep_copy, job.folder, workspace.folder / "networks" / _file_name(name, settings)))
    return networks


def training_job(images: ImageSet, settings: NetworkSettings, workspace: Workspace) -> TrainingJob:
    """How one network is trained, and where the cache keeps it. Raises UserError if it does not fit the images."""
    entry = architectures[settings.architecture]
    arguments = entry.arguments_for(images.image_shape) | settings.arguments
    try:
        entry.build(**arguments)
    except TypeError as error:
        raise UserError(f"{settings.architecture} cannot be built from {arguments}: {error}") from error
    network = NetworkConfig(
        architecture=settings.architecture,
        arguments=arguments,
        preconditioning=entry.preconditioning,
        image_shape=images.image_shape,
        sigma_range=settings.training.objective.sigma_range,
    )
    identity = {
        "network": network.model_dump(),
        "training": settings.training.model_dump(),
        "images": images.fingerprint(),
    }
    return TrainingJob(workspace.network_folder(identity), network, images, settings.training)


def _file_name(name: str, settings: NetworkSettings) -> str:
    words = re.findall(r"[A-Za-z0-9.]+", name.replace("α", "alpha"))
    return "-".join([settings.architecture, *words])


def _keep_copy(folder: Path, copy: Path) -> None:
    if not copy.exists():
        with new_folder(copy) as temporary:
            shutil.copytree(folder, temporary, dirs_exist_ok=True)
