"""Figure 3 of kadkhodaie2024: the basis in which a denoiser shrinks, and whether it is harmonic and follows the contours.

The Jacobian of preset small is far from symmetric; whether that is for want of size and training is measured in `trends`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import pydantic

from scorescope.data import DataSplit, ImageSet, load_images
from scorescope.denoisers import Denoiser, denoisers
from scorescope.denoisers.opened import denoiser_of
from scorescope.foundation import UserError
from scorescope.lenses.shrinkage import (
    IMAGES_ENOUGH,
    SIDE_ENOUGH,
    arrays,
    show_spectra,
    spectrum_methods,
    stored_spectra,
)
from scorescope.lenses.subject import chosen
from scorescope.lenses.waves import claims, mean_ratio
from scorescope.networks import open_checkpoint
from scorescope.papers.kadkhodaie2024.class_networks import NetworkSettings, trained_on
from scorescope.probes.spectra import Spectrum
from scorescope.probes.spectrum_settings import SpectrumSettings
from scorescope.study.base import Study, study
from scorescope.study.landmarks import landmarks_of
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

NETWORK = "network:"
TRAINED_ENOUGH = 1000
BASIS = "The basis in which it shrinks"
PAPER = "Kadkhodaie, Guth, Simoncelli, Mallat, ICLR 2024, https://arxiv.org/abs/2310.02557, figure 3"


class Fig3Config(pydantic.BaseModel):
    """Settings of the study.

    Attributes:
        data: a store, or the name of a built-in data set.
        options: of a built-in data set, by name (``{"size": 40}``); None, written ``null``, for none.
        size: number of training images; None for all.
        denoiser: whose Jacobian: empty to train `network`, ``network:PATH`` for a checkpoint of any kind, or the name of a
            training-free denoiser.
        network: what is trained.
        images: noisy test images (training images where there are no others), the first of which are shown.
        sigmas: noise levels, increasing.
        shown_sigma: which of them the eigenvectors and coefficients are shown at.
        spectrum: how much is measured of each Jacobian.
        seed: of choices, noise, starts and rotations.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: str = "natural-patches"
    options: dict[str, Any] | None = None
    size: pydantic.PositiveInt | None = None
    denoiser: str = ""
    network: NetworkSettings = NetworkSettings()
    images: int = pydantic.Field(4, ge=1)
    sigmas: tuple[pydantic.PositiveFloat, ...] = (0.1, 0.2, 0.5, 1.0)
    shown_sigma: float = 0.5
    spectrum: SpectrumSettings = SpectrumSettings()
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.model_validator(mode="after")
    def _fitting(self) -> Self:
        if not self.sigmas or list(self.sigmas) != sorted(set(self.sigmas)):
            raise ValueError("sigmas must increase")
        if self.shown_sigma not in self.sigmas:
            raise ValueError(f"shown_sigma must be one of sigmas {self.sigmas}, found {self.shown_sigma:g}")
        return self


@study
class Fig3(Study[Fig3Config]):
    """The eigenvectors of one denoiser."""

    name = "kadkhodaie2024/fig3"
    title = "Adaptive harmonic bases"
    question = (
        "In which basis does a denoiser shrink noisy images, how much of each direction does it keep, and is the basis"
    )
    question += " made of waves that follow the image?"
    paper = PAPER
    Config = Fig3Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "data": "digits",
            "network": {"arguments": {"width": 8}, "training": {"steps": 60, "batch": 16}},
            "images": 2,
            "sigmas": (0.2, 0.5),
            "spectrum": {"eigenpairs": 16, "rotations": 10},
        },
        "small": {
            "network": {"arguments": {"width": 24}, "training": {"steps": 4000, "batch": 32}},
        },
        "paper": {
            "options": {"size": 80, "n": 100_000},
            "network": {
                "arguments": {"width": 64},
                "training": {"steps": 200_000, "batch": 512, "learning_rate": 1e-3, "ema_decay": 0.9995},
            },
            "images": 16,
        },
    }

    def run(self, config: Fig3Config, workspace: Workspace) -> Results:
        """See `Study.run`.

        Raises:
            UserError: a denoiser that is not known, cannot be opened, takes other images, or is not differentiable while
                ``spectrum.finite_differences`` is not set.
        """
        images = load_images(config.data, **(config.options or {}))
        training = images.train if config.size is None else _first(images.train, config.size)
        denoiser, said = subject(config, training, workspace)
        clean = chosen(images.test or training, config.images, config.seed + 1).to(workspace.device)
        found = stored_spectra("spectra", denoiser, clean, config.sigmas, config.spectrum, config.seed, workspace)
        results = Results(study=self.name, title=self.title, question=self.question, paper=self.paper)
        results.landmarks[""] = landmarks_of(training, workspace)
        fill(results, found, config.sigmas.index(config.shown_sigma), untested(config, images))
        results.methods |= _methods(config, images, training, said)
        return results


def subject(config: Fig3Config, training: ImageSet, workspace: Workspace) -> tuple[Denoiser, str]:
    """The denoiser that the settings name, and what it is in a sentence."""
    if not config.denoiser:
        network = trained_on({"network": training}, config.network, workspace)["network"]
        return network, f"Trained: {config.network.said}"
    if config.denoiser.startswith(NETWORK):
        path = config.denoiser.removeprefix(NETWORK)
        opened = open_checkpoint(path, None, {}, sides=training.image_shape[1:])
        network = denoiser_of(opened, "network", None).to(workspace.device)
        if network.image_shape != training.image_shape:
            raise UserError(f"{path} takes images {network.image_shape}, {training.name} holds {training.image_shape}")
        return network, opened.origin
    entry = denoisers[config.denoiser]
    return entry.build(training).to(workspace.device), f"{config.denoiser}: {entry.explanation}, without training."


def untested(config: Fig3Config, images: DataSplit) -> str:
    """Why these settings decide nothing about the paper; empty if they do."""
    if not config.denoiser and config.network.training.steps < TRAINED_ENOUGH:
        return (
            f"a network trained for {config.network.training.steps} steps, {TRAINED_ENOUGH} are the least to judge by"
        )
    if min(images.train.image_shape[1:]) < SIDE_ENOUGH or config.images < IMAGES_ENOUGH:
        return f"it takes {IMAGES_ENOUGH} images of {SIDE_ENOUGH}×{SIDE_ENOUGH} pixels to tell"
    return ""


def fill(results: Results, found: list[list[Spectrum]], shown: int, why_untested: str) -> None:
    """Everything on the page but its methods; the level `shown` is the one of the eigenvectors and the claims."""
    row = found[shown]
    trace, skew = (
        sum(values) / len(row) for values in ([s.trace.value for s in row], [s.asymmetry.value for s in row])
    )
    results.headline = (
        f"At σ = {row[0].sigma:.2g} the denoiser keeps {trace:.0f} of {row[0].dimension} dimensions; its Jacobian's asymmetry"
        f" is {skew:.2f}, and its leading {row[0].kept} eigenvectors are"
        f" {mean_ratio(row, 'concentration'):.1f} times as concentrated in one wave as random rotations of them."
    )
    show_spectra(results, found, row, BASIS)
    claims(results, row, why_untested)
    arrays(results, found)
    if not all(one.converged for line in found for one in line):
        results.methods["Not converged"] = "Some eigenpairs have larger residuals than were asked for."


def _first(images: ImageSet, count: int) -> ImageSet:
    if count > images.stored:
        raise UserError(f"size = {count} asked for, {images.name} has {images.stored} training images")
    return images.subset(range(count))


def _methods(config: Fig3Config, images: DataSplit, training: ImageSet, said: str) -> dict[str, str]:
    how = config.spectrum
    measured_on = "test images" if images.test is not None else "training images, there are no others"
    return {
        "Data": f"{training.name}, {training.stored} training images of shape {training.image_shape}; measured on"
        f" {config.images} {measured_on}.",
        "Denoiser": said,
        **spectrum_methods(how),
        "Asymmetry": "Whether it falls with a network's size and training is measured in kadkhodaie2024/trends.",
        "Seed": f"{config.seed} for choices, noise, starts, signs and rotations.",
    }
