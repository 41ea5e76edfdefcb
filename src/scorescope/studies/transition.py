"""The main job on networks that it trains itself: from memorization to generalization as the training set grows.

For several sizes N two networks are trained on disjoint halves of a data set (Kadkhodaie et al. 2024, figures 1 and 2), and
each pair is measured as `explain` measures a user's model. The halves are nested: the images of a small N are among
those of a larger one.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pydantic

from scorescope.data import DataSplit, load_images
from scorescope.data.images import ImageSet
from scorescope.denoisers import NetworkDenoiser, OptimalDenoiser
from scorescope.foundation import UserError, new_folder
from scorescope.foundation.processes import by_first
from scorescope.networks import NetworkConfig, architectures
from scorescope.posterior.processes import check_same_images
from scorescope.probes.memorization import RULE
from scorescope.studies import sections
from scorescope.studies.base import Study, study
from scorescope.studies.measurements import Measured, MeasurementConfig, Subject, measure, mechanisms_of
from scorescope.studies.results import Results, Verdict
from scorescope.studies.workspace import Workspace
from scorescope.training import Selection, TrainingConfig, TrainingJob
from scorescope.training.divided import train_divided

NETWORKS = ("A", "B")


class TransitionConfig(pydantic.BaseModel):
    """Settings of the main study.

    Attributes:
        data: a store, or the name of a built-in data set.
        sizes: numbers of training images, increasing.
        width: channels of the first block of the UNet.
        training: how each network is trained; the two networks of a pair differ in their seed as well.
        measurement: how much is measured.
        mechanisms: names of the denoisers that are compared; all that are not costly by default.
        seed: of the halves.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: str = "fashion-mnist"
    sizes: tuple[pydantic.PositiveInt, ...] = (10, 100, 1000, 10000)
    width: int = pydantic.Field(16, ge=1)
    training: TrainingConfig = TrainingConfig()
    measurement: MeasurementConfig = MeasurementConfig()
    mechanisms: tuple[str, ...] = ()
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.field_validator("sizes")
    @classmethod
    def _increasing(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not sizes or list(sizes) != sorted(set(sizes)):
            raise ValueError("sizes must increase")
        return sizes


@study
class Transition(Study[TransitionConfig]):
    """Two networks on disjoint halves for each N, and one report."""

    name = "main/transition"
    paper = "Kadkhodaie et al. 2024, figures 1 and 2; Niedoba et al. 2025, figures 2 and 7"
    title = "From memorization to generalization"
    question = "At which number of training images does a network stop memorizing, and what does it compute then?"
    Config = TransitionConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "data": "digits",
            "sizes": (4, 200),
            "width": 8,
            "training": {"steps": 300, "batch": 16},
            "measurement": {
                "psnr_levels": 4,
                "psnr_images": 32,
                "samples": 8,
                "sampler_beta": 0.5,
                "sigma_end": 0.3,
                "deviation_levels": 4,
                "deviation_inputs": 4,
                "example_levels": 2,
            },
        },
        "small": {},
        "paper": {
            "sizes": (1, 10, 100, 1000, 10000, 30000),
            "width": 64,
            "training": {"steps": 50000, "batch": 512, "learning_rate": 1e-3},
            "measurement": {"samples": 1000, "psnr_images": 1000, "deviation_inputs": 100, "deviation_levels": 20},
        },
    }

    def run(self, config: TransitionConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        images = load_images(config.data)
        check_same_images(images.train)
        _check_sizes(config, images.train)
        measured = [self._measure(config, images, size, workspace) for size in config.sizes]
        return self._results(config, images, measured)

    def _measure(self, config: TransitionConfig, images: DataSplit, size: int, workspace: Workspace) -> Measured:
        selections = {
            name: Selection(total=images.train.stored, size=size, count=len(NETWORKS), share=share, seed=config.seed)
            for share, name in enumerate(NETWORKS)
        }
        training = {name: selection.choose(images.train) for name, selection in selections.items()}
        networks = train_pair(config, training, selections, workspace)
        first = training[NETWORKS[0]]
        subject = Subject(
            networks=networks,
            training=training,
            held_out=images.test,
            optimal=OptimalDenoiser(first),
            mechanisms=mechanisms_of(first, config.mechanisms),
        )
        return measure(f"N = {size}", subject, config.measurement, workspace)

    def _results(self, config: TransitionConfig, images: DataSplit, measured: list[Measured]) -> Results:
        results = Results(study=self.name, title=self.title)
        results.headline = _headline(measured, images.train)
        for one in measured:
            results.verdicts.append(Verdict(one.label, one.evidence.verdict(), sections.reason(one)))
        sections.psnr(results, measured)
        sections.samples(results, measured)
        sections.similarities(results, measured)
        sections.deviation(results, measured)
        sections.explained(results, measured)
        sections.examples(results, [measured[-1], measured[0]] if len(measured) > 1 else measured)
        sections.evidence_table(results, measured)
        sections.transition_claims(results, measured)
        sections.mechanism_claims(results, measured[-1])
        results.methods |= _methods(config, images)
        return results


def train_pair(
    config: TransitionConfig, training: dict[str, ImageSet], selections: dict[str, Selection], workspace: Workspace
) -> dict[str, NetworkDenoiser]:
    """The networks of one N by name, from the cache or trained now, with a copy of each in the run folder."""
    jobs = []
    for index, (name, images) in enumerate(training.items()):
        entry = architectures["unet"]
        network = NetworkConfig(
            architecture="unet",
            arguments=entry.arguments_for(images.image_shape) | {"width": config.width},
            preconditioning=entry.preconditioning,
            image_shape=images.image_shape,
            sigma_range=config.training.objective.sigma_range,
        )
        how = config.training.model_copy(update={"seed": 2 * config.training.seed + index})
        identity = {"network": network.model_dump(), "training": how.model_dump(), "images": images.fingerprint()}
        folder = workspace.network_folder(identity)
        jobs.append(TrainingJob(folder, network, images, how, selections[name]))
    size = jobs[0].images.stored
    folders = train_divided(jobs, device=workspace.device, description=f"training two networks, N = {size}")
    networks = {}
    for name, folder in zip(training, folders, strict=True):
        networks[name] = NetworkDenoiser.open(folder, name).to(workspace.device)
        by_first(functools.partial(_keep_copy, folder, workspace.folder / "networks" / f"{name}-{size}"))
    return networks


def _keep_copy(folder: Path, copy: Path) -> None:
    if not copy.exists():
        with new_folder(copy) as temporary:
            shutil.copytree(folder, temporary, dirs_exist_ok=True)


def _check_sizes(config: TransitionConfig, images: ImageSet) -> None:
    if config.sizes[-1] > images.stored // 2:
        raise UserError(
            f"N = {config.sizes[-1]} asked for: two disjoint halves of the {images.stored} images of {images.name}"
            f" have {images.stored // 2} each; set sizes to smaller ones"
        )


def _headline(measured: list[Measured], images: ImageSet) -> str:
    states = [(one.label, one.evidence.verdict()) for one in measured]
    copying = [label for label, state in states if state == "memorizes"]
    general = [label for label, state in states if state == "generalizes"]
    parts = []
    if copying:
        parts.append(f"With {copying[-1]} training images of {images.name} the networks memorize them")
    if general:
        parts.append(f"from {general[0]} on two networks without a common training image become the same function")
    if not parts:
        return f"On {images.name} no size is clearly memorization or generalization: see the evidence."
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}. At {measured[-1].label}, {sections.best_mechanism(measured[-1])}."


def _methods(config: TransitionConfig, images: DataSplit) -> dict[str, str]:
    how, what = config.training, config.measurement
    held_out = f"{images.test.stored} test images" if images.test is not None else "none"
    return {
        "Data": f"{images.train.name}, {images.train.stored} images of shape {images.train.image_shape}; held out: {held_out}.",
        "Halves": f"Two disjoint, nested subsets for each N, drawn with seed {config.seed}.",
        "Networks": f"Bias-free, blind UNet with {config.width} channels in its first block, on images in [0, 1].",
        "Training": f"{how.steps} steps of {how.batch} images, Adam at {how.learning_rate:g} falling along a cosine,"
        f" σ = {how.objective.sigma_max:g}·u^{how.objective.sigma_power:g}, moving average {how.ema_decay:g};"
        f" seeds {2 * how.seed} (A) and {2 * how.seed + 1} (B).",
        **measurement_methods(what),
    }


def measurement_methods(config: MeasurementConfig) -> dict[str, str]:
    """How everything was measured, for the foot of a page."""
    return {
        "Units": "Images in [−1, 1]; σ is the noise's standard deviation in that unit; PSNR = 10 log10(4 / MSE).",
        "Sampling": f"Blind networks: stochastic ascent from σ = the highest level trained on, around the mean intensity, h ="
        f" {config.sampler_h:g} growing, β = {config.sampler_beta:g}, stopped at σ̂ = {config.sigma_end:g}; the same noise for"
        f" every network. Others: Heun's method on {config.flow_steps} EDM levels. {config.samples} samples a network.",
        "Similarity": "Cosine of images that are centred by their own mean, so that brightness and contrast do not count.",
        "Inputs": f"Forward: {config.deviation_inputs} noisy training images a level. Reverse: the states of as many"
        " trajectories of the first network's own probability flow (Heun), from the highest level down.",
        "Verdict rule": RULE,
        "Seed": f"{config.seed} for all noise and choices of the measurements.",
    }
