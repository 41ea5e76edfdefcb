"""The main job on a user's model: what it does with its training images, and which mechanism accounts for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pydantic

from scorescope.data import DataSplit, load_images
from scorescope.denoisers import NetworkDenoiser, OptimalDenoiser
from scorescope.denoisers.opened import denoiser_of
from scorescope.foundation import UserError
from scorescope.networks import open_checkpoint
from scorescope.posterior.processes import check_same_images
from scorescope.studies import sections
from scorescope.studies.base import Study, study
from scorescope.studies.measurements import Measured, MeasurementConfig, Subject, measure, mechanisms_of
from scorescope.studies.results import Results, Verdict
from scorescope.studies.transition import measurement_methods
from scorescope.studies.workspace import Workspace
from scorescope.training import Selection


class ExplainConfig(pydantic.BaseModel):
    """Settings of the study of one model.

    Attributes:
        model: checkpoint of any kind that `scorescope.networks.open_checkpoint` opens.
        architecture: of a state dictionary; by default its parameters' names decide.
        arguments: what a state dictionary does not say, by name.
        class_label: the class that the model is asked for; None for none.
        data: the images it was trained on: a store, or the name of a built-in data set.
        held_out: images that it was not trained on; the data set's own test images by default, if it has any.
        measurement: how much is measured.
        mechanisms: names of the denoisers that are compared; all that are not costly by default.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    model: str = ""
    architecture: str | None = None
    arguments: dict[str, Any] = {}
    class_label: int | None = None
    data: str = ""
    held_out: str | None = None
    measurement: MeasurementConfig = MeasurementConfig()
    mechanisms: tuple[str, ...] = ()


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
        opened = open_checkpoint(
            config.model, config.architecture, config.arguments, sides=images.train.image_shape[1:]
        )
        network = denoiser_of(opened, "network", config.class_label).to(workspace.device)
        if config.held_out is not None:
            images = DataSplit(images.train, load_images(config.held_out).train)
        _check_fit(network, images, config.model)
        images, provenance = _own_training_images(opened.config.training, images)
        check_same_images(images.train)
        subject = Subject(
            networks={"network": network},
            training={"network": images.train},
            held_out=images.test,
            optimal=OptimalDenoiser(images.train),
            mechanisms=mechanisms_of(images.train, config.mechanisms),
        )
        measured = measure("the model", subject, config.measurement, workspace)
        results = self._results(config, images, measured, provenance)
        results.methods["Model"] = opened.origin
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


def _own_training_images(record: Mapping[str, Any], images: DataSplit) -> tuple[DataSplit, str]:
    """The part of the data that the checkpoint says it was trained on, and what is known of that, in words."""
    recorded = record.get("selection")
    if recorded and recorded["total"] == images.train.stored:
        chosen = Selection.model_validate(recorded).choose(images.train)
        if chosen.fingerprint() == record.get("data_sha256"):
            return DataSplit(chosen, images.test), "those that the checkpoint says it was trained on"
    if record.get("data_sha256") == images.train.fingerprint():
        return images, "those that the checkpoint says it was trained on"
    said = "the checkpoint was trained on other images" if "data_sha256" in record else "the checkpoint does not say"
    return images, f"as given; {said}"


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
