"""Which networks are compared with which training images, at which noise levels: what the studies of locality share.

Networks are named by the paths of their checkpoints, of any kind that `scorescope.networks.open_checkpoint` opens. Where none
is named, small ones are trained on the data and kept in the cache. Each network is compared with denoisers of the images that
*it* was trained on: the part of the data that its checkpoint names, or all of it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from scorescope.data import ImageSet, load_images
from scorescope.denoisers import OptimalDenoiser
from scorescope.denoisers.opened import denoiser_of
from scorescope.foundation import UserError
from scorescope.foundation.processes import by_first
from scorescope.lenses.audit.unseen import unseen_by_all
from scorescope.lenses.comparison import Compared, Comparison, InputConfig
from scorescope.networks import NetworkConfig, OpenedNetwork, architectures, classes_of, open_checkpoint
from scorescope.posterior.processes import check_same_images
from scorescope.study.provenance import own_training_images
from scorescope.study.workspace import Workspace
from scorescope.training import TrainingConfig, TrainingJob
from scorescope.training.divided import train_divided
from scorescope.training.published import PUBLISHED
from scorescope.training.usual import usual_training

CHECKPOINT_FOLDER = "network"
TINY_SETTINGS: Mapping[str, Any] = {
    "data": "digits",
    "levels": 9,
    "inputs": 4,
    "training": {"architectures": ("ddpm++", "mlp"), "steps": 40},
}
# The paper's data: a store called cifar10 in the working folder, made by `scorescope data import`.
PAPER_SETTINGS: Mapping[str, Any] = {
    "data": "cifar10",
    "flips": True,
    "inputs": 100,
    "training": {
        "architectures": ("ddpm++", "ncsn++", "dit", "u-vit"),
        "published": True,
        "steps": 200_000,
        "batch": 512,
        "learning_rate": 1e-3,
        "ema_decay": 0.9999,
    },
}
PAPER = "Niedoba, Zwartsenberg, Murphy, Wood: Towards a Mechanistic Explanation of Diffusion Model Generalization, ICML 2025"


class OwnTraining(pydantic.BaseModel):
    """How networks are trained where none is named.

    Attributes:
        architectures: names in `scorescope list networks`, one network each, small ones that fit the images.
        published: whether they have the sizes of their papers.
        steps: optimizer steps.
        batch: images a step.
        learning_rate: Adam's peak learning rate.
        ema_decay: of the moving average of the weights.
        seed: of the initial weights and of everything drawn.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    architectures: tuple[str, ...] = pydantic.Field(("ddpm++",), min_length=1)
    published: bool = False
    steps: int = pydantic.Field(1500, ge=1)
    batch: int = pydantic.Field(16, ge=1)
    learning_rate: float = pydantic.Field(2e-3, gt=0)
    ema_decay: float = pydantic.Field(0.99, ge=0, lt=1)
    seed: int = pydantic.Field(0, ge=0)


class ComparedConfig(InputConfig):
    """What is compared, on which inputs; see `InputConfig` as well.

    Attributes:
        networks: paths of checkpoints; none: networks are trained as `training` says.
        arguments: path of a state dictionary -> what it does not say itself (``architecture`` and its arguments).
        class_label: the class that conditional networks are asked for; they are compared with its training images alone.
        data: a store, or the name of a built-in data set: the images that the networks were trained on.
        held_out: images that none was trained on; the data set's own test images by default, if it has any.
        flips: whether mirror images belong to the training images; by default as each checkpoint records, else not.
        training: of networks, where none is named.
    """

    networks: tuple[str, ...] = ()
    arguments: dict[str, dict[str, Any]] = pydantic.Field({})
    class_label: int | None = None
    data: str = "fashion-mnist"
    held_out: str | None = None
    flips: bool | None = None
    training: OwnTraining = OwnTraining()


def open_comparison(config: ComparedConfig, workspace: Workspace) -> Comparison:
    """Open, or train, what the settings name; levels outside a network's training are told on standard error.

    Raises:
        UserError: a checkpoint that cannot be opened or takes other images, a conditional network without a class, a
            class that none knows, one path twice.
    """
    sigmas = config.noise_levels()
    images = load_images(config.data)
    held_out = images.test if config.held_out is None else load_images(config.held_out).train
    check_same_images(images.train)
    if len(set(config.networks)) < len(config.networks):
        raise UserError(f"each network is named once, found {', '.join(config.networks)}")
    opened = _opened(config, images.train) if config.networks else _trained(config, images.train, workspace)
    networks = [_compared(name, one, images.train, config, workspace) for name, one in opened.items()]
    if config.class_label is not None and not any(one.denoiser.classes.count for one in networks):
        raise UserError(f"class_label={config.class_label} is given, and no network takes classes: leave it out")
    notes: tuple[str, ...] = ()
    if held_out is not None:
        _check_shape(networks[0].denoiser.image_shape, held_out, networks[0].name)
        found = unseen_by_all([one.training for one in networks], _of_class(held_out, config))
        held_out, notes = found.images, found.notes
    comparison = Comparison(tuple(networks), held_out, sigmas, config, notes)
    by_first(lambda: _warn(comparison))
    return comparison


def _opened(config: ComparedConfig, images: ImageSet) -> dict[str, OpenedNetwork]:
    names = unique_names(config.networks)
    unknown = [path for path in config.arguments if path not in config.networks]
    if unknown:
        raise UserError(f"arguments are given for {unknown[0]}, which is none of the networks")
    opened = {}
    for name, path in names.items():
        arguments = dict(config.arguments.get(path, {}))
        architecture = arguments.pop("architecture", None)
        opened[name] = open_checkpoint(path, architecture, arguments, sides=images.image_shape[1:])
    return opened


def _trained(config: ComparedConfig, images: ImageSet, workspace: Workspace) -> dict[str, OpenedNetwork]:
    """Small networks, from the cache or trained now."""
    how, jobs = config.training, {}
    for name in dict.fromkeys(how.architectures):
        entry = architectures[name]
        wanted = how.model_dump(exclude={"architectures", "published"}) | {"flips": bool(config.flips)}
        training = TrainingConfig.model_validate(usual_training(entry.preconditioning) | wanted)
        size = PUBLISHED.get(name, {}) if how.published else {}
        network = NetworkConfig(
            architecture=name,
            arguments=entry.arguments_for(images.image_shape) | dict(size),
            preconditioning=entry.preconditioning,
            image_shape=images.image_shape,
            sigma_range=training.objective.sigma_range,
        )
        identity = {"network": network.model_dump(), "training": training.model_dump(), "images": images.fingerprint()}
        jobs[name] = TrainingJob(workspace.network_folder(identity), network, images, training)
    said = f"training {', '.join(jobs)}"
    folders = train_divided(list(jobs.values()), device=workspace.device, description=said)
    return {name: open_checkpoint(folder) for name, folder in zip(jobs, folders, strict=True)}


def _compared(
    name: str, opened: OpenedNetwork, images: ImageSet, config: ComparedConfig, workspace: Workspace
) -> Compared:
    _check_shape(opened.config.image_shape, images, name)
    label = config.class_label if classes_of(opened.network).count else None
    try:
        denoiser = denoiser_of(opened, name, label)
    except UserError as error:
        raise UserError(f"{name}: {error}, with class_label=N") from error
    training, provenance = own_training_images(opened.config, images, config.flips)
    if denoiser.class_label is not None:
        training, provenance = training.of_class(denoiser.class_label), f"{provenance}, class {denoiser.class_label}"
    said = f"{opened.origin} Compared with {len(training)} training images of {training.name}: {provenance}."
    key = training.fingerprint()[:12]
    return Compared(name, denoiser.to(workspace.device), training, key, OptimalDenoiser(training), said)


def _of_class(images: ImageSet, config: ComparedConfig) -> ImageSet:
    return images if config.class_label is None else images.of_class(config.class_label)


def _check_shape(image_shape: tuple[int, int, int], images: ImageSet, name: str) -> None:
    if images.image_shape != image_shape:
        raise UserError(
            f"{name} takes images (C, H, W) = {image_shape}, {images.name} holds {images.image_shape}: import the data again"
            " with --size and --grey or --color to fit"
        )


def unique_names(paths: tuple[str, ...]) -> Mapping[str, str]:
    """Short name -> path: the last part of a path that says something, with its parent's name where two are the same."""
    parts = {path: [part for part in Path(path).parts if part not in (CHECKPOINT_FOLDER, "/")] for path in paths}
    names: dict[str, str] = {}
    for path in paths:
        own = parts[path] or [path]
        length = 1
        while any(other != path and parts[other][-length:] == own[-length:] for other in paths) and length < len(own):
            length += 1
        name = "-".join([*own[-length:-1], Path(own[-1]).stem if Path(path).is_file() else own[-1]])
        names[name if name not in names else path] = path
    return names


def _warn(comparison: Comparison) -> None:
    for one in comparison.networks:
        if said := one.warning(comparison.sigmas):
            print(f"scorescope: warning: {said}", file=sys.stderr)
