"""The main job on a user's model: what it does with its training images, and which mechanism accounts for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pydantic

from scorescope.data import DataSplit, ImageSet, load_images
from scorescope.denoisers import NetworkDenoiser, denoisers
from scorescope.denoisers.opened import denoiser_of
from scorescope.foundation import UserError
from scorescope.foundation.registry import unknown_name
from scorescope.lenses import LensSettings, Subject, lenses, look
from scorescope.lenses.deviations import best_mechanism
from scorescope.lenses.methods import measurement_methods
from scorescope.lenses.settings import PAPER, TINY
from scorescope.networks import OpenedNetwork, open_checkpoint
from scorescope.networks.readers.unsupported import note_on_channels
from scorescope.posterior.processes import check_same_images
from scorescope.probes.opening_check import checked
from scorescope.study.base import Study, study
from scorescope.study.provenance import own_training_images
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

CLOSER: Mapping[str, tuple[str, ...]] = {
    "locality": ("locality", "samples"),
    "shrinkage": ("shrinkage",),
    "variance": ("variance",),
}
"""What an older setting named, in names of lenses."""


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
        mechanisms: names of the denoisers that are compared; all that take these images by default.
        lenses: names in `scorescope list lenses`; all by default.
        closer: what an older version called lenses besides the verdict and the mechanisms; kept nowhere.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    model: str = ""
    others: tuple[str, ...] = ()
    architecture: str | None = None
    arguments: dict[str, Any] = {}
    class_label: int | None = None
    data: str = ""
    held_out: str | None = None
    measurement: LensSettings = LensSettings()
    mechanisms: tuple[str, ...] = ()
    lenses: tuple[str, ...] = ()
    closer: tuple[str, ...] | None = pydantic.Field(None, exclude=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _closer(cls, values: Any) -> Any:
        """`closer`, which named explanations to look at besides the verdict and the mechanisms, as names of lenses."""
        if not isinstance(values, Mapping) or values.get("closer") is None:
            return values
        unknown = [look for look in values["closer"] if look not in CLOSER]
        if unknown:
            raise ValueError(unknown_name("setting closer", str(unknown[0]), list(CLOSER)))
        chosen = [name for look in values["closer"] for name in CLOSER[look]]
        kept = {key: value for key, value in values.items() if key != "closer"}
        return {**kept, "lenses": ["memorization", "mechanisms", *chosen]}


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
                **TINY,
                "flow_steps": 6,
                "costly_mechanisms": False,
                "everywhere_images": 100,
                "stacked_images": 16,
                "heatmap_images": 1,
                "heatmap_pixels": 64,
                "patch_inputs": 2,
                "patch_sides": 4,
                "spectrum_images": 1,
                "spectrum_levels": 2,
                "spectrum": {
                    "eigenpairs": 12,
                    "exact_up_to": 256,
                    "tolerance": 0.1,
                    "most_products": 24,
                    "products": 12,
                    "rotations": 10,
                },
            }
        },
        "small": {},
        "paper": {
            "measurement": {
                **PAPER,
                "everywhere_images": 1000,
                "stacked_images": 128,
                "heatmap_images": 10,
                "patch_inputs": 16,
                "spectrum_images": 10,
            }
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
        for name in config.mechanisms:
            denoisers[name]
        for name in config.lenses:
            lenses[name]
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
            names=config.mechanisms,
        )
        results = Results(study=self.name, title=self.title)
        chosen = [entry for name, entry in lenses.items() if name in (config.lenses or lenses)]
        found: dict[str, Any] = {}
        for place, entry in enumerate(chosen):
            workspace.show(results, {later.title: later.question for later in chosen[place:]})
            found[entry.name] = look(entry(), results, subject, config.measurement, workspace)
        results.headline = _headline(results, found)
        held_out = f"{images.test.name}, {images.test.stored} images" if images.test is not None else "none"
        results.methods = {
            "Training images": f"{own.stored} images of {own.name}, shape {own.image_shape}; {models[0].provenance}.",
            "Held-out images": f"{held_out}.",
            "Model": models[0].origin,
            **{
                name.capitalize(): f"{model.origin} Its training images: {model.provenance}."
                for name, model in list(zip(names, models, strict=True))[1:]
            },
            **measurement_methods(config.measurement),
            **results.methods,
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
    sides = images.train.image_shape[1:]
    opened = open_checkpoint(path, config.architecture, config.arguments, sides=sides)
    if opened.config.image_shape == images.train.image_shape:

        def again(more: Mapping[str, Any], before: OpenedNetwork = opened) -> OpenedNetwork:
            return open_checkpoint(path, config.architecture, {**config.arguments, **more}, sides=sides, like=before)

        opened = checked(opened, images.train, again, workspace.device, config.class_label)
    network = denoiser_of(opened, name, config.class_label).to(workspace.device)
    _check_fit(network, images, path)
    training, provenance = own_training_images(opened.config, images.train)
    return _Model(network, training, opened.origin, provenance)


def _headline(results: Results, found: Mapping[str, Any]) -> str:
    """The verdict and the best mechanism, as far as they were looked at, else what the lenses say."""
    parts = []
    if found.get("memorization") is not None:
        parts.append(f"The model {_said(results.verdicts[0].state)}")
    if found.get("mechanisms") is not None:
        parts.append(best_mechanism(found["mechanisms"].deviations["forward"]))
    if parts:
        return f"{parts[0][0].upper()}{'; '.join(parts)[1:]}."
    return " ".join(f"{glance.number} {glance.sentence}" for glance in results.glances)


def _said(verdict: str) -> str:
    return {
        "memorizes": "memorizes its training images",
        "in transition": "is between memorizing and generalizing",
        "generalizes": "generalizes from its training images",
        "undecided": "does not denoise its own training images, so nothing can be said of it",
    }[verdict]


def _check_fit(network: NetworkDenoiser, images: DataSplit, model: str) -> None:
    if note := note_on_channels(network.image_shape[0]):
        raise UserError(f"{model} does not denoise pixels: {note}")
    for part in images:
        if part is not None and part.image_shape != network.image_shape:
            raise UserError(
                f"{model} takes images (C, H, W) = {network.image_shape}, {part.name} holds {part.image_shape}:"
                " import the data again with --size and --grey or --color to fit"
            )
