"""The main job on networks that it trains itself: from memorization to generalization as the training set grows.

For several sizes N two networks are trained on disjoint halves of a data set (Kadkhodaie et al. 2024, figures 1 and 2), and
each pair is measured as `explain` measures a user's model. The halves are nested: the images of a small N are among
those of a larger one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pydantic

from scorescope.data import DataSplit, load_images
from scorescope.data.images import ImageSet
from scorescope.lenses import deviations, memorization
from scorescope.lenses.deviations import Measured, measure
from scorescope.lenses.growing import transition_claims
from scorescope.lenses.methods import measurement_methods, training_method
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import Subject
from scorescope.posterior.processes import check_same_images
from scorescope.study.base import Study, study
from scorescope.study.pairs import Sizes, check_sizes, choose_pair, train_pair
from scorescope.study.results import Results, Verdict
from scorescope.study.workspace import Workspace
from scorescope.training import TrainingConfig


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
    sizes: Sizes = (10, 100, 1000, 10000)
    width: int = pydantic.Field(16, ge=1)
    training: TrainingConfig = TrainingConfig()
    measurement: MeasurementConfig = MeasurementConfig()
    mechanisms: tuple[str, ...] = ()
    seed: int = pydantic.Field(0, ge=0)


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
        check_sizes(config.sizes, images.train)
        measured = [self._measure(config, images, size, workspace) for size in config.sizes]
        return self._results(config, images, measured)

    def _measure(self, config: TransitionConfig, images: DataSplit, size: int, workspace: Workspace) -> Measured:
        pair = choose_pair(images.train, size, config.seed)
        subject = Subject(
            networks=train_pair(pair, config.width, config.training, workspace),
            training=pair.training,
            held_out=images.test,
            names=config.mechanisms,
        )
        return measure(f"N = {size}", subject, config.measurement, workspace)

    def _results(self, config: TransitionConfig, images: DataSplit, measured: list[Measured]) -> Results:
        results = Results(study=self.name, title=self.title)
        results.headline = _headline(measured, images.train)
        for one in measured:
            results.verdicts.append(Verdict(one.label, one.evidence.verdict(), memorization.reason(one)))
        memorization.psnr(results, measured)
        memorization.samples(results, measured)
        memorization.similarities(results, measured)
        deviations.show_deviation(results, measured)
        deviations.show_explained(results, measured)
        deviations.show_examples(results, [measured[-1], measured[0]] if len(measured) > 1 else measured)
        memorization.evidence_table(results, measured)
        transition_claims(results, measured)
        deviations.mechanism_claims(results, measured[-1].label, measured[-1].deviations)
        results.methods |= _methods(config, images)
        return results


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
    best = deviations.best_mechanism(measured[-1].deviations["forward"])
    return f"{sentence[0].upper()}{sentence[1:]}. At {measured[-1].label}, {best}."


def _methods(config: TransitionConfig, images: DataSplit) -> dict[str, str]:
    held_out = f"{images.test.stored} test images" if images.test is not None else "none"
    return {
        "Data": f"{images.train.name}, {images.train.stored} images of shape {images.train.image_shape}; held out: {held_out}.",
        "Halves": f"Two disjoint, nested subsets for each N, drawn with seed {config.seed}.",
        "Networks": f"Bias-free, blind UNet with {config.width} channels in its first block, on images in [0, 1].",
        "Training": training_method(config.training),
        **measurement_methods(config.measurement),
    }
