"""Networks beside the images that each was trained on, at some noise levels: what is compared with training-free denoisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pydantic

from scorescope.data import ImageSet
from scorescope.denoisers import NetworkDenoiser, OptimalDenoiser
from scorescope.lenses.subject import Subject
from scorescope.noise import check_sigmas, edm_sigmas
from scorescope.study.landmarks import landmarks_of
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

ENOUGH_INPUTS, ROUNDING = 16, 1e-9


class InputConfig(pydantic.BaseModel):
    """At which noise levels, and on how many inputs.

    Attributes:
        sigmas: noise levels in units of [-1, 1]; by default `levels` of them from `sigma_max` to `sigma_min`.
        levels: how many.
        sigma_min: the lowest.
        sigma_max: the highest.
        inputs: noisy images a level, of each kind: forward from training images, from held-out ones, and reverse.
        image_class: forward inputs are made from images of this class alone; None for all classes.
        seed: of the images chosen and of all noise.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    sigmas: tuple[pydantic.PositiveFloat, ...] = ()
    levels: int = pydantic.Field(18, ge=2)
    sigma_min: pydantic.PositiveFloat = 0.002
    sigma_max: pydantic.PositiveFloat = 80.0
    inputs: int = pydantic.Field(16, ge=1)
    image_class: int | None = None
    seed: int = pydantic.Field(0, ge=0)

    def noise_levels(self) -> list[float]:
        """The noise levels, high to low. Raises UserError for levels that are not finite or named twice."""
        if self.sigmas:
            return [float(level) for level in check_sigmas(sorted(self.sigmas, reverse=True)).tolist()]
        return [float(level) for level in self.spaced().tolist()]

    def spaced(self) -> Any:
        """The default levels: the EDM schedule."""
        return edm_sigmas(self.levels, self.sigma_min, self.sigma_max)


@dataclass(frozen=True)
class Compared:
    """One network with the images that it was trained on.

    Attributes:
        name: what charts and cells call it; no two have the same.
        denoiser: it, on the run's device.
        training: its training images, mirror images included where they belong to them.
        training_key: equal for networks with equal training images.
        optimal: the optimal denoiser of `training`.
        said: what was opened or trained, and whose images it is compared with, in a sentence.
    """

    name: str
    denoiser: NetworkDenoiser
    training: ImageSet
    training_key: str
    optimal: OptimalDenoiser
    said: str

    def within(self, sigmas: Sequence[float]) -> list[int]:
        """Places of the levels that it was trained on."""
        low, high = self.denoiser.sigma_range
        # a list of levels that ends where the training did may miss it by a rounding error
        return [place for place, sigma in enumerate(sigmas) if low * (1 - ROUNDING) <= sigma <= high * (1 + ROUNDING)]

    def warning(self, sigmas: list[float]) -> str:
        """A sentence on the levels that it was not trained on; empty if there are none."""
        outside = sorted(set(range(len(sigmas))) - set(self.within(sigmas)))
        if not outside:
            return ""
        named = ", ".join(f"{sigmas[place]:.3g}" for place in outside[:6]) + (", …" if len(outside) > 6 else "")
        low, high = self.denoiser.sigma_range
        return (
            f"{self.name} was trained on σ from {low:.3g} to {high:.3g}; {len(outside)} of the {len(sigmas)} levels lie"
            f" outside ({named}): what it makes of them is no evidence, and no claim rests on it"
        )


@dataclass(frozen=True)
class Comparison:
    """Networks, images and noise levels of a study.

    Attributes:
        networks: in the order of the settings.
        held_out: images that none was trained on; None if there are none.
        sigmas: noise levels, high to low.
        config: the settings.
        notes: which images were left out of those held out, in sentences.
    """

    networks: tuple[Compared, ...]
    held_out: ImageSet | None
    sigmas: list[float]
    config: InputConfig
    notes: tuple[str, ...] = ()

    def too_few(self) -> str:
        """Why no claim is decided on these inputs; empty if they are enough."""
        if self.config.inputs >= ENOUGH_INPUTS:
            return ""
        return f"{self.config.inputs} inputs a noise level; at least {ENOUGH_INPUTS} are asked for"

    def page(self, study: str, title: str, workspace: Workspace) -> Results:
        """Empty results whose axes of noise levels show collapse and speciation of the first network's training images."""
        first = self.networks[0]
        several = len({one.training_key for one in self.networks}) > 1
        found = landmarks_of(first.training, workspace, of=first.name if several else "")
        return Results(study=study, title=title, landmarks={"": found})

    def describe(self, results: Results, section: str) -> None:
        """Write into a page's methods what was compared, and warnings into the opening of one of its sections."""
        warnings = [f"Warning: {text}." for one in self.networks if (text := one.warning(self.sigmas))]
        if warnings:
            before = results.introductions.get(section, "")
            results.introductions[section] = " ".join(filter(None, [before, *warnings]))
        results.add_notes(self.notes)
        results.methods["Networks"] = "\n\n".join(f"{one.name}: {one.said}" for one in self.networks)
        held_out = "none" if self.held_out is None else f"{self.held_out.stored} images of {self.held_out.name}"
        only = "" if self.config.image_class is None else f", all of class {self.config.image_class}"
        results.methods["Inputs"] = (
            f"{self.config.inputs} noisy images of each kind at every noise level{only}. Forward: an image plus noise, from"
            f" training images and, apart from them, from images that were not trained on ({held_out}). Reverse: states of a"
            " network's own flow (Heun's method on the same levels, as far as it was trained on them)."
        )
        results.methods["Intervals"] = (
            "95 %, percentile bootstrap over images with 1,000 draws, the same images for all denoisers. They say how far"
            " other images would change a number, not how far another training run would."
        )
        results.methods["Units"] = "Images in [−1, 1]; σ is the noise's standard deviation in that unit."
        results.methods["Seed"] = f"{self.config.seed} for images and noise."


def comparison_of(subject: Subject, levels: int, inputs: int, seed: int) -> Comparison:
    """The first network of a subject and its training images, at `levels` noise levels with `inputs` inputs of each kind."""
    training, network = subject.first_training, subject.first
    one = Compared(network.name, network, training, training.fingerprint()[:12], subject.optimal, "")
    config = InputConfig(sigmas=tuple(subject.sigmas(levels)), inputs=inputs, seed=seed)
    return Comparison((one,), subject.held_out, config.noise_levels(), config)
