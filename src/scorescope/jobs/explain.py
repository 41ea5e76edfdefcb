"""The main job on a user's model: what it does with its training images, and which mechanism accounts for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pydantic

from scorescope.data import DataSplit, ImageSet, load_images
from scorescope.denoisers import NetworkDenoiser, OptimalDenoiser
from scorescope.denoisers.opened import denoiser_of
from scorescope.foundation import UserError
from scorescope.lenses import sections
from scorescope.lenses.measurements import Measured, MeasurementConfig, Subject, measure, mechanisms_of
from scorescope.lenses.methods import measurement_methods
from scorescope.networks import open_checkpoint
from scorescope.papers.kadkhodaie2024.explained import add_shrinkage
from scorescope.papers.niedoba2025.explained import add_locality
from scorescope.papers.niedoba2025.samples import add_sample_sheet
from scorescope.papers.vastola2025.explained import add_variance
from scorescope.posterior.processes import check_same_images
from scorescope.study.base import Study, study
from scorescope.study.provenance import own_training_images
from scorescope.study.results import Results, Verdict
from scorescope.study.workspace import Workspace

Look = Literal["locality", "shrinkage", "variance"]


class ExplainConfig(pydantic.BaseModel):
    """Settings of the study of one model.

    Attributes:
        model: checkpoint of any kind that `scorescope.networks.open_checkpoint` opens.
        others: checkpoints of the same kind, trained on other draws of the same data, such as a disjoint half.
        architecture: of a state dictionary; by default its parameters' names decide.
        arguments: what a state dictionary does not say, by name.
        class_label: the class that the model is asked for; None for none.
        data: the images it was trained on: a store, or the name of a built-in data set.
        held_out: images that it was not trained on; the data set's own test images by default, if it has any.
        measurement: how much is measured.
        mechanisms: names of the denoisers that are compared; all that are not costly by default.
        closer: which of the rival explanations are looked at more closely, with their paper's own measurements.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    model: str = ""
    others: tuple[str, ...] = ()
    architecture: str | None = None
    arguments: dict[str, Any] = {}
    class_label: int | None = None
    data: str = ""
    held_out: str | None = None
    measurement: MeasurementConfig = MeasurementConfig()
    mechanisms: tuple[str, ...] = ()
    closer: tuple[Look, ...] = ("locality", "shrinkage", "variance")


def _locality(results: Results, subject: Subject, config: MeasurementConfig, workspace: Workspace) -> None:
    add_locality(results, subject, config, workspace)
    add_sample_sheet(results, subject, config, workspace, sections.SAMPLES)


def _shrinkage(results: Results, subject: Subject, config: MeasurementConfig, workspace: Workspace) -> None:
    images = subject.held_out or subject.first_training
    add_shrinkage(results, subject.first, images, workspace, seed=config.seed)


CLOSER: dict[Look, Callable[[Results, Subject, MeasurementConfig, Workspace], None]] = {
    "locality": _locality,
    "shrinkage": _shrinkage,
    "variance": add_variance,
}


@study
class Explain(Study[ExplainConfig]):
    """One model under the microscope."""

    name = "main/explain"
    title = "One model under the microscope"
    question = "Does this model memorize or generalize its training images, and which mechanism accounts for it?"
    Config = ExplainConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "measurement": {
                "psnr_levels": 4,
                "psnr_images": 32,
                "samples": 8,
                "sampler_beta": 0.5,
                "sigma_end": 0.3,
                "deviation_levels": 4,
                "deviation_inputs": 4,
                "example_levels": 2,
            }
        },
        "small": {},
        "paper": {
            "measurement": {"samples": 1000, "psnr_images": 1000, "deviation_inputs": 100, "deviation_levels": 20}
        },
    }

    def run(self, config: ExplainConfig, workspace: Workspace) -> Results:
        """See `Study.run`. Raises UserError if the model cannot be opened or takes other images."""
        if not config.model or not config.data:
            raise UserError("this study takes a model and its training images: scorescope explain --model M --data D")
        images = load_images(config.data)
        if config.held_out is not None:
            images = DataSplit(images.train, load_images(config.held_out).train)
        check_same_images(images.train)
        names = ["network", *(f"other {index}" for index in range(1, len(config.others) + 1))]
        models = [
            _model(path, name, config, images, workspace)
            for name, path in zip(names, [config.model, *config.others], strict=True)
        ]
        own = models[0].training
        subject = Subject(
            networks={name: model.network for name, model in zip(names, models, strict=True)},
            training={name: model.training for name, model in zip(names, models, strict=True)},
            held_out=images.test,
            optimal=OptimalDenoiser(own),
            mechanisms=mechanisms_of(own, config.mechanisms),
        )
        measured = measure("the model", subject, config.measurement, workspace)
        results = self._results(config, DataSplit(own, images.test), measured, models[0].provenance)
        results.methods["Model"] = models[0].origin
        for name, model in list(zip(names, models, strict=True))[1:]:
            results.methods[name.capitalize()] = f"{model.origin} Its training images: {model.provenance}."
        for look in config.closer:
            CLOSER[look](results, subject, config.measurement, workspace)
        return results

    def _results(self, config: ExplainConfig, images: DataSplit, measured: Measured, provenance: str) -> Results:
        verdict = measured.evidence.verdict()
        results = Results(study=self.name, title=self.title)
        results.headline = f"The model {_said(verdict)}; {sections.best_mechanism(measured)}."
        results.verdicts.append(Verdict(measured.label, verdict, sections.reason(measured)))
        sections.psnr(results, [measured])
        sections.samples(results, [measured])
        sections.similarities(results, [measured])
        sections.deviation(results, [measured])
        sections.explained(results, [measured])
        sections.examples(results, [measured])
        sections.evidence_table(results, [measured])
        sections.mechanism_claims(results, measured)
        held_out = f"{images.test.name}, {images.test.stored} images" if images.test is not None else "none"
        results.methods |= {
            "Training images": f"{images.train.stored} images of {images.train.name}, shape {images.train.image_shape};"
            f" {provenance}.",
            "Held-out images": f"{held_out}.",
            **measurement_methods(config.measurement),
        }
        return results


@dataclass(frozen=True)
class _Model:
    """A checkpoint that was opened, its training images, and where both are known from."""

    network: NetworkDenoiser
    training: ImageSet
    origin: str
    provenance: str


def _model(path: str, name: str, config: ExplainConfig, images: DataSplit, workspace: Workspace) -> _Model:
    opened = open_checkpoint(path, config.architecture, config.arguments, sides=images.train.image_shape[1:])
    network = denoiser_of(opened, name, config.class_label).to(workspace.device)
    _check_fit(network, images, path)
    training, provenance = own_training_images(opened.config.training, images.train)
    return _Model(network, training, opened.origin, provenance)


def _said(verdict: str) -> str:
    return {
        "memorizes": "memorizes its training images",
        "in transition": "is between memorizing and generalizing",
        "generalizes": "generalizes from its training images",
        "undecided": "does not denoise its own training images, so nothing can be said of it",
    }[verdict]


def _check_fit(network: NetworkDenoiser, images: DataSplit, model: str) -> None:
    for part in images:
        if part is not None and part.image_shape != network.image_shape:
            raise UserError(
                f"{model} takes images (C, H, W) = {network.image_shape}, {part.name} holds {part.image_shape}:"
                " import the data again with --size and --grey or --color to fit"
            )
