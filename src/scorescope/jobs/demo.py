"""The demo: from memorization to generalization as the training set grows, on pairs of networks.

For several sizes N there are two networks trained on disjoint halves of a data set (Kadkhodaie et al. 2024, figures 1 and 2),
and each pair is measured as `explain` measures a user's model. The halves are nested: the images of a small N are among
those of a larger one. The networks come with the package where the settings are those that they were trained with, and are
trained otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pydantic
import torch

from scorescope.data import DataSplit, load_images
from scorescope.lenses import deviations, memorization
from scorescope.lenses.audit.unseen import unseen_by_all
from scorescope.lenses.deviations import Measured, measure_deviations, measure_examples
from scorescope.lenses.explorer import explored_in_one_cell
from scorescope.lenses.growing import transition_claims
from scorescope.lenses.memorization import Memorization, measure_memorization
from scorescope.lenses.methods import measurement_methods, training_method
from scorescope.lenses.settings import LensSettings, MeasurementConfig
from scorescope.lenses.subject import Subject
from scorescope.posterior.processes import check_same_images
from scorescope.probes.attribution import Deviation
from scorescope.study.base import Study, study
from scorescope.study.exploration import Exploration
from scorescope.study.landmarks import Landmarks, landmarks_of
from scorescope.study.pairs import NETWORKS, Sizes, check_sizes, choose_pair, shipped_record, train_pair
from scorescope.study.results import Results, Verdict
from scorescope.study.workspace import Workspace
from scorescope.training import TrainingConfig


class DemoConfig(pydantic.BaseModel):
    """Settings of the demo.

    Attributes:
        data: a store, or the name of a built-in data set.
        sizes: numbers of training images, increasing.
        steps: training steps for each of `sizes`, where they are not all `training.steps`.
        width: channels of the first block of the UNet.
        training: how each network is trained; the two networks of a pair differ in their seed as well.
        measurement: how much is measured.
        mechanisms: names of the denoisers that are compared; all that are not costly by default.
        compare_all: whether they are compared with the networks of every N, and not of the largest alone.
        seed: of the halves.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: str = "fashion-mnist"
    sizes: Sizes = (10, 100, 1000, 10000)
    steps: tuple[pydantic.PositiveInt, ...] = ()
    width: int = pydantic.Field(16, ge=1)
    training: TrainingConfig = TrainingConfig()
    measurement: MeasurementConfig = MeasurementConfig(
        psnr_levels=5, psnr_images=512, more_samples=128, deviation_levels=6, deviation_inputs=8
    )
    mechanisms: tuple[str, ...] = ()
    compare_all: bool = False
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.model_validator(mode="after")
    def _steps_of_all(self) -> DemoConfig:
        if self.steps and len(self.steps) != len(self.sizes):
            raise ValueError(
                f"steps has {len(self.steps)} numbers for {len(self.sizes)} sizes: give one for each, or none"
            )
        return self

    def training_of(self, size: int) -> TrainingConfig:
        """How the networks on `size` images are trained."""
        if not self.steps:
            return self.training
        return self.training.model_copy(update={"steps": self.steps[self.sizes.index(size)]})


@dataclass
class _Found:
    """What was measured so far, by N.

    Attributes:
        images: the data; of its test images, those that no network is trained on.
        notes: what was left out of them, in sentences.
        shipped: the records of the networks that came with the package.
        evidence: what the verdicts rest on.
        landmarks: the two noise levels of the first network's training images.
        deviations: see `deviations.deviations`.
        examples: see `deviations.denoised_examples`.
        explored: what the explorer shows of the largest N.
    """

    images: DataSplit
    notes: tuple[str, ...]
    shipped: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    evidence: dict[int, Memorization] = field(default_factory=dict)
    landmarks: dict[int, Landmarks] = field(default_factory=dict)
    deviations: dict[int, dict[str, Deviation]] = field(default_factory=dict)
    examples: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    explored: Exploration | None = None

    def compared(self) -> dict[int, Measured]:
        """Every N whose deviations are known, in increasing order."""
        nothing = {"sigma": np.empty(0), "pictures": np.empty(0)}
        return {
            size: Measured(
                **vars(self.evidence[size]),
                mechanisms=tuple(found["forward"].to_mechanism),
                deviations=found,
                example_sigmas=self.examples.get(size, nothing)["sigma"],
                examples=self.examples.get(size, nothing)["pictures"],
            )
            for size, found in sorted(self.deviations.items())
        }


@study
class Demo(Study[DemoConfig]):
    """Two networks on disjoint halves for each N, and one report."""

    name = "main/transition"
    paper = "Kadkhodaie et al. 2024, figures 1 and 2; Niedoba et al. 2025, figures 2 and 7"
    title = "From memorization to generalization"
    question = "At which number of training images does a network stop memorizing, and what does it compute then?"
    Config = DemoConfig
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
        # Those of the networks that come with the package, which are found by them.
        "pretrained": {
            "data": "fashion-mnist",
            "sizes": (10, 100, 1000, 10000, 30000),
            "steps": (1000, 2000, 3000, 6000, 10000),
            "width": 24,
            "training": {"batch": 32, "learning_rate": 2e-3, "ema_decay": 0.999},
        },
        "paper": {
            "sizes": (1, 10, 100, 1000, 10000, 30000),
            "width": 64,
            "training": {"steps": 50000, "batch": 512, "learning_rate": 1e-3},
            "measurement": {
                "samples": 1000,
                "psnr_images": 1000,
                "psnr_levels": 9,
                "deviation_inputs": 100,
                "deviation_levels": 20,
            },
            "compare_all": True,
        },
    }

    def run(self, config: DemoConfig, workspace: Workspace) -> Results:
        """See `Study.run`. The verdicts come first, one N after another, then the mechanisms."""
        images = load_images(config.data)
        check_same_images(images.train)
        check_sizes(config.sizes, images.train)
        images, notes = _apart(config, images)
        found, subjects = _Found(images, notes), {}
        for size in config.sizes:
            self._show(config, found, workspace)
            subjects[size] = self._subject(config, images, size, workspace)
            found.shipped |= shipped_record(workspace, size)
            found.landmarks[size] = landmarks_of(
                subjects[size].first_training, workspace, f"N={size}/landmarks", _label(size)
            )
            found.evidence[size] = measure_memorization(_label(size), subjects[size], config.measurement, workspace)
        largest, smallest = config.sizes[-1], config.sizes[0]
        for size in (largest, *config.sizes[:-1]):
            self._show(config, found, workspace)
            whole = size == largest or config.compare_all
            subject = subjects[size] if whole else dataclasses.replace(subjects[size], given={})
            found.deviations[size] = measure_deviations(_label(size), subject, config.measurement, workspace)
            if size in (largest, smallest):
                self._show(config, found, workspace)
                found.examples[size] = measure_examples(_label(size), subjects[size], config.measurement, workspace)
        self._show(config, found, workspace)
        found.explored = explored_in_one_cell(_label(largest), subjects[largest], _explored(config), workspace)
        return self._results(config, found)

    def _subject(self, config: DemoConfig, images: DataSplit, size: int, workspace: Workspace) -> Subject:
        pair = choose_pair(images.train, size, config.seed)
        networks = train_pair(pair, config.width, config.training_of(size), workspace)
        for network in networks.values():  # a quarter less time on a processor
            network.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return Subject(networks=networks, training=pair.training, held_out=images.test, names=config.mechanisms)

    def _show(self, config: DemoConfig, found: _Found, workspace: Workspace) -> None:
        """Let the page show what is known, and say what is still to come."""
        pending = {}
        missing = [size for size in config.sizes if size not in found.evidence]
        if missing:
            pending[memorization.SECTION] = f"Still to be measured: {_listed(missing)}."
        if len(found.deviations) < len(config.sizes):
            pending[deviations.DEVIATION] = "The distance from the optimal denoiser is measured after the verdicts."
        if config.sizes[-1] not in found.deviations:
            pending[deviations.EXPLAINED] = (
                f"The mechanisms are compared at {_label(config.sizes[-1])} after the verdicts."
            )
        if config.sizes[0] not in found.examples:
            pending[deviations.EXAMPLES] = "Drawn at the end."
        cells = (len(memorization.CELLS) + 2) * len(config.sizes) + len({config.sizes[0], config.sizes[-1]}) + 1
        cells += sum(3 * (one.audited.looks - 1) for one in found.evidence.values())
        workspace.show(self._results(config, found), pending, cells)

    def _results(self, config: DemoConfig, found: _Found) -> Results:
        """The page of what was found so far."""
        results = Results(study=self.name, title=self.title)
        results.landmarks = {_label(size): levels for size, levels in found.landmarks.items()}
        if config.sizes[-1] in found.landmarks:
            results.landmarks[""] = found.landmarks[config.sizes[-1]]
        evidence, compared = list(found.evidence.values()), found.compared()
        results.headline = _headline(config, found)
        results.add_notes(found.notes)
        for one in evidence:
            results.verdicts.append(Verdict(one.label, one.ruling.state, memorization.reason(one)))
        if evidence:
            memorization.samples(results, evidence)
            memorization.psnr(results, evidence)
            memorization.similarities(results, evidence)
            memorization.evidence_table(results, evidence)
        if len(evidence) == len(config.sizes):
            transition_claims(results, evidence)
        if compared:
            deviations.show_deviation(results, list(compared.values()))
            with_mechanisms = [one for one in compared.values() if one.mechanisms]
            deviations.show_explained(results, with_mechanisms)
            largest = compared[config.sizes[-1]]
            deviations.mechanism_claims(results, largest.label, largest.deviations)
            drawn = [dataclasses.replace(compared[size], mechanisms=largest.mechanisms) for size in found.examples]
            deviations.show_examples(results, drawn)
            if not config.compare_all and len(config.sizes) > 1:
                results.introductions[deviations.EXPLAINED] = (
                    "Compared with the networks of the largest N alone; compare_all=true compares every N."
                )
        if found.explored is not None:
            name = f"Network {next(iter(NETWORKS))} of {_label(config.sizes[-1])}"
            results.exploration = dataclasses.replace(found.explored, model=name)
        results.methods |= _methods(config, found)
        return results


def _explored(config: DemoConfig) -> LensSettings:
    """How much the explorer of the demo knows: a little, and nothing that takes long."""
    few: dict[str, Any] = {"costly_mechanisms": False, "heatmap_pixels": 1, "spectrum_images": 1, "spectrum_levels": 2}
    few |= {"explorer_images": 1, "explorer_pixels": 36, "explorer_sides": 3}
    return LensSettings(**config.measurement.model_dump(), **few)


def _apart(config: DemoConfig, images: DataSplit) -> tuple[DataSplit, tuple[str, ...]]:
    """The data without test images that are training images of the largest pair, which has those of all others."""
    if images.test is None:
        return images, ()
    pair = choose_pair(images.train, config.sizes[-1], config.seed)
    found = unseen_by_all(pair.training.values(), images.test)
    return DataSplit(images.train, found.images), found.notes


def _label(size: int) -> str:
    return f"N = {size}"


def _listed(sizes: Sequence[int]) -> str:
    return ", then ".join(_label(size) for size in sizes)


def _headline(config: DemoConfig, found: _Found) -> str:
    """What the verdicts say together, as far as they are known, and the best mechanism."""
    images = found.images.train
    states = [(one.label, one.ruling.state) for one in found.evidence.values()]
    copying = [label for label, state in states if state == "memorizes"]
    general = [label for label, state in states if state == "generalizes"]
    parts = []
    if copying:
        parts.append(f"With {copying[-1]} training images of {images.name} the networks memorize them")
    if general:
        parts.append(f"from {general[0]} on two networks without a common training image become the same function")
    if not parts:
        complete = len(states) == len(config.sizes)
        return (
            f"On {images.name} no size is clearly memorization or generalization: see the evidence." if complete else ""
        )
    sentence = "; ".join(parts)
    largest = config.sizes[-1]
    best = ""
    if largest in found.deviations:
        best = f" At {_label(largest)}, {deviations.best_mechanism(found.deviations[largest]['forward'])}."
    return f"{sentence[0].upper()}{sentence[1:]}.{best}"


def _methods(config: DemoConfig, found: _Found) -> dict[str, str]:
    images = found.images
    held_out = f"{images.test.stored} test images" if images.test is not None else "none"
    return {
        "Data": f"{images.train.name}, {images.train.stored} images of shape {images.train.image_shape}; held out: {held_out}.",
        "Halves": f"Two disjoint, nested subsets for each N, drawn with seed {config.seed}.",
        "Networks": f"Bias-free, blind UNet with {config.width} channels in its first block, on images in [0, 1]."
        + _origin(found.shipped),
        "Training": training_method(config.training, dict(zip(config.sizes, config.steps, strict=False))),
        **measurement_methods(config.measurement),
    }


def _origin(shipped: Mapping[int, Mapping[str, Any]]) -> str:
    """Which networks came with the package, and how each pair's first was trained."""
    if not shipped:
        return ""
    told = [
        f"{_label(size)}: {record['config']['steps']:,} steps, by `{record['command']}`"
        for size, record in shipped.items()
    ]
    return (
        " They come with scorescope, trained beforehand and stored in half precision; `scorescope demo --train` trains"
        " smaller ones here and now.\n\n"
        + "\n\n".join(told)
        + f"\n\nThe second network of each pair, {NETWORKS[1]}, by the"
        " same command with --split b --seed 1."
    )
