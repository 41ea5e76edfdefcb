"""Pairs of networks watched while they are trained: a checkpoint at steps that grow by a factor, for several numbers of images.

Studies of what happens during training look at the same runs: they are trained once, and the checkpoints are kept in the cache
that all runs share. The learning rate is constant after its rise, so that the network at step t is the one that a training of
t steps gives, and the number of steps is the same for every N. The two networks of a pair have disjoint training images, so
that what one has seen and the other has not is compared on the same images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from torch import Tensor

from scorescope.data import ImageSet
from scorescope.data.resolution import at_side
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.foundation.processes import from_all, share_folder
from scorescope.lenses.drawing import drowns, like
from scorescope.lenses.subject import HIGHEST_SIGMA
from scorescope.networks import NetworkConfig, architectures
from scorescope.noise import edm_sigmas
from scorescope.papers.kadkhodaie2024.trained import SubsetConfig, open_material
from scorescope.probes.features import PixelFeatures
from scorescope.probes.quality import frechet_distance
from scorescope.sampling import State, heun
from scorescope.study.pairs import NETWORKS, Pair, Sizes, choose_pair
from scorescope.study.workspace import Workspace
from scorescope.training import TrainingConfig, TrainingJob
from scorescope.training.divided import train_divided
from scorescope.training.shipped import network_identity

Floats = npt.NDArray[np.float64]
EVERY = 10
"""Checkpoints are kept at multiples of so many steps."""
ENOUGH_STEPS, ENOUGH_SNAPSHOTS, ENOUGH_INPUTS = 1000, 8, 32
UNSEEN_MOST = 1000


class RunsConfig(SubsetConfig):
    """Which networks are trained, and when they are looked at.

    Attributes:
        sizes: numbers of training images, increasing.
        near_duplicates: as in `SubsetConfig`; none are left out by default.
        side: to which images are averaged; None to leave them as they are.
        architecture: one that is trained here.
        arguments: of the architecture, over those that fit the images.
        training: how each network is trained; the two networks of a pair differ in their seed as well.
        snapshots: how many checkpoints of each network.
        first: step of the first one; the last is the last step, and steps between grow by a factor.
        samples: samples of each checkpoint.
        flow_steps: noise levels of the flow that draws them.
        sigma_min: the lowest of them, in units of [-1, 1].
    """

    sizes: Sizes = (8, 16, 32, 64, 128, 1024)
    near_duplicates: float | None = pydantic.Field(None, gt=-1, lt=1)
    side: int | None = pydantic.Field(16, ge=2)
    architecture: str = "unet"
    arguments: dict[str, Any] = pydantic.Field({"width": 16, "blocks": 2})
    training: TrainingConfig = TrainingConfig(steps=3000, batch=16, schedule="constant")
    snapshots: int = pydantic.Field(14, ge=3)
    first: int = pydantic.Field(20, ge=EVERY)
    samples: int = pydantic.Field(96, ge=2)
    flow_steps: int = pydantic.Field(10, ge=2)
    sigma_min: pydantic.PositiveFloat = 0.02

    @pydantic.field_validator("sizes")
    @classmethod
    def _more_than_one(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if sizes[0] < 2:
            raise ValueError("sizes start at 2: of one image nothing tells a copy from a sample")
        return sizes

    @property
    def steps(self) -> list[int]:
        """The steps of the checkpoints."""
        between = np.geomspace(min(self.first, self.training.steps), self.training.steps, self.snapshots)
        return sorted({max(EVERY, round(step / EVERY) * EVERY) for step in between[:-1]} | {self.training.steps})

    @property
    def untested(self) -> str:
        """Why claims about the course of training cannot be tested with these settings; empty if they can."""
        if self.training.steps >= ENOUGH_STEPS and len(self.steps) >= ENOUGH_SNAPSHOTS:
            return ""
        return f"it takes {ENOUGH_STEPS} training steps and {ENOUGH_SNAPSHOTS} checkpoints."


# Settings of the presets, for all studies of these runs.
TINY: dict[str, Any] = {
    "data": "digits",
    "sizes": (4, 8, 16),
    "side": None,
    "arguments": {"width": 8, "blocks": 1},
    "training": {"steps": 60, "batch": 8},
    "snapshots": 3,
    "first": 10,
    "samples": 8,
    "flow_steps": 4,
}
PUBLISHED: dict[str, Any] = {
    "data": "cifar10",
    "sizes": (128, 256, 512, 1024, 2048, 4096, 16384),
    "side": None,
    "architecture": "ddpm++-no-attention",
    "arguments": {"model_channels": 64, "channel_mult": [1, 2, 2, 2], "num_blocks": 2},
    "training": {
        "steps": 400_000,
        "batch": 128,
        "learning_rate": 2e-4,
        "ema_decay": 0.999,
        "objective": {"noise": "lognormal", "weight": "edm"},
    },
    "snapshots": 32,
    "first": 500,
    "samples": 2000,
    "flow_steps": 18,
}


@dataclass(frozen=True)
class Watched:
    """A pair of training runs.

    Attributes:
        training: name of the network -> its training images.
        steps: of the checkpoints, increasing.
        folders: name of the network -> its checkpoints, in that order.
    """

    training: dict[str, ImageSet]
    steps: list[int]
    folders: dict[str, list[Path]]

    @property
    def size(self) -> int:
        """N, how many images each network has."""
        return self.training[NETWORKS[0]].stored

    def networks(self, name: str, device: torch.device) -> Iterator[NetworkDenoiser]:
        """One network at every checkpoint, one after the other."""
        for folder in self.folders[name]:
            yield NetworkDenoiser.open(folder, name).to(device)


@dataclass(frozen=True)
class Runs:
    """All runs of a study.

    Attributes:
        pairs: N -> its pair.
        unseen: images that no network is trained on, at most 1,000, at the side that networks see.
        methods: heading -> text.
    """

    pairs: dict[int, Watched]
    unseen: ImageSet
    methods: dict[str, str]


def open_runs(config: RunsConfig, sizes: Sequence[int], workspace: Workspace) -> Runs:
    """The runs of some numbers of images, trained now or taken from the cache.

    Args:
        config: which.
        sizes: some of the config's.
        workspace: with the cache.

    Raises:
        UserError: no such data, too few images; an architecture that is not trained here; diverging training; a cache from
            which checkpoints were deleted.
    """
    material = open_material(config, workspace)
    held_out = material.held_out.subset(
        np.random.default_rng(config.seed).permutation(material.held_out.stored)[:UNSEEN_MOST]
    )
    pairs = {}
    for size in sizes:
        pair = choose_pair(material.images, size, config.seed)
        if config.side is not None:
            pair = Pair({name: at_side(images, config.side) for name, images in pair.training.items()}, pair.selections)
        pairs[size] = _watched(pair, config, workspace)
    unseen = held_out if config.side is None else at_side(held_out, config.side)
    side = f" Averaged to {config.side}×{config.side} pixels." if config.side else ""
    arguments = ", ".join(f"{key} {value}" for key, value in config.arguments.items())
    methods = {
        "Data": material.methods["Data"] + side,
        "Subsets": material.methods["Subsets"],
        "Networks": f"{config.architecture}{f' ({arguments})' if arguments else ''}; two for each N, on disjoint images.",
        "Training": f"{config.training.steps:,} steps of {config.training.batch} images for every N, Adam at"
        f" {config.training.learning_rate:g} ({config.training.schedule}), moving average {config.training.ema_decay:g}; seeds"
        f" {2 * config.training.seed} (A) and {2 * config.training.seed + 1} (B). Checkpoints of the moving average at steps"
        f" {', '.join(map(str, config.steps))}, kept in the cache.",
        "Sampling": f"{config.samples} samples of each checkpoint by Heun's method on {config.flow_steps} EDM levels, from the"
        " same starts for all networks: noise at the highest level trained on; where that does not drown the images, on draws"
        " of a Gaussian with the mean and covariance of unseen images.",
        "Seed": f"{config.seed} for all noise and choices of the measurements.",
    }
    return Runs(pairs, unseen, methods)


def own_flow(denoiser: NetworkDenoiser, unseen: ImageSet, config: RunsConfig) -> list[State] | None:
    """The states of a network's own flow, from the highest level to the sample at 0; None if it leads out of all numbers.

    Args:
        denoiser: whose.
        unseen: images whose mean and covariance the starts have, where noise does not drown them.
        config: how many, and which levels.
    """
    high = min(denoiser.sigma_range[1], HIGHEST_SIGMA)
    generator = torch.Generator().manual_seed(config.seed)
    start = high * torch.randn((config.samples, *denoiser.image_shape), generator=generator)
    if not drowns(high, unseen):
        start = start + like(unseen, config.samples, generator)
    device = next(denoiser.parameters()).device
    try:
        states = list(heun(denoiser, start.to(device), flow_levels(denoiser, config)))
    except UserError:  # a network of a few steps may
        return None
    return states if bool(torch.isfinite(states[-1].noisy).all()) else None


def flow_levels(denoiser: NetworkDenoiser, config: RunsConfig) -> list[float]:
    """The noise levels of `own_flow`, decreasing."""
    low, high = denoiser.sigma_range
    found: list[float] = edm_sigmas(config.flow_steps, max(low, config.sigma_min), min(high, HIGHEST_SIGMA)).tolist()
    return found


def distance_to(unseen: ImageSet, samples: Tensor) -> float:
    """The Fréchet distance of samples to unseen images in pixels, each image less its own mean."""
    space = PixelFeatures()
    made = space(samples.cpu().clamp(-1, 1)).numpy()
    return frechet_distance(space(unseen.tensor(np.arange(unseen.stored))).numpy(), made)


def _watched(pair: Pair, config: RunsConfig, workspace: Workspace) -> Watched:
    jobs, kept = [], {}
    for index, (name, images) in enumerate(pair.training.items()):
        entry = architectures[config.architecture]
        network = NetworkConfig(
            architecture=config.architecture,
            arguments=entry.arguments_for(images.image_shape) | config.arguments,
            preconditioning=entry.preconditioning,
            image_shape=images.image_shape,
            sigma_range=config.training.objective.sigma_range,
        )
        how = config.training.model_copy(update={"seed": 2 * config.training.seed + index})
        identity = network_identity(network, how, images.fingerprint())
        folder = workspace.network_folder(identity | {"checkpoints": config.steps})
        along = {step: folder.with_name(f"{folder.name}-checkpoints") / f"step-{step:07}" for step in config.steps[:-1]}
        jobs.append(TrainingJob(folder, network, images, how, pair.selections[name], checkpoints=along))
        kept[name] = [*along.values(), folder]
    train_divided(jobs, device=workspace.device, description=f"training two networks, N = {pair.size}")
    for folder in (folder for folders in kept.values() for folder in folders):
        there = from_all(folder.exists())
        if not any(there):
            whole = folder.parent.with_name(folder.parent.name.removesuffix("-checkpoints"))
            raise UserError(f"{folder} is missing, a checkpoint on the way to {whole}: delete that folder, too")
        share_folder(folder, there.index(True))
    return Watched(pair.training, config.steps, kept)
