"""The main job on a user's model: what it does with its training images, and which mechanism accounts for it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pydantic

from scorescope.data import DataSplit, ImageSet, load_images
from scorescope.foundation import UserError
from scorescope.foundation.names import unknown_name
from scorescope.lenses.settings import PAPER, TINY, LensSettings
from scorescope.study.base import Study, study

if TYPE_CHECKING:
    from scorescope.denoisers import NetworkDenoiser
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
                "explorer_images": 1,
                "explorer_pixels": 16,
                "explorer_sides": 3,
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

    def __init__(self, opened: Opened | None = None) -> None:
        self.opened = opened

    def run(self, config: ExplainConfig, workspace: Workspace) -> Results:
        """See `Study.run`. Raises UserError if the model cannot be opened or takes other images."""
        opened = self.opened or _opened(config, workspace)
        # What measures and draws takes as long to import as PyTorch: not before there is something to measure.
        from scorescope.denoisers import denoisers
        from scorescope.lenses import Subject, lenses, look
        from scorescope.lenses.audit.unseen import sentences
        from scorescope.lenses.methods import measurement_methods
        from scorescope.posterior.processes import check_same_images
        from scorescope.study.landmarks import landmarks_of
        from scorescope.study.results import Results

        images = opened.images
        check_same_images(images.train)
        for name in config.mechanisms:
            denoisers[name]
        for name in config.lenses:
            lenses[name]
        names = ["network", *(f"other {index}" for index in range(1, len(opened.networks)))]
        models = [_model(network, name, images) for name, network in zip(names, opened.networks, strict=True)]
        own = models[0].training
        unseen, notes = _unseen(images, models)
        subject = Subject(
            networks={name: model.network for name, model in zip(names, models, strict=True)},
            training={name: model.training for name, model in zip(names, models, strict=True)},
            held_out=unseen,
            names=config.mechanisms,
        )
        results = Results(study=self.name, title=self.title, landmarks={"": landmarks_of(own, workspace)})
        results.add_notes(notes)
        chosen = [lenses[name] for name in lenses if name in (config.lenses or lenses)]
        found: dict[str, Any] = {}
        for place, entry in enumerate(chosen):
            workspace.show(results, {later.title: later.question for later in chosen[place:]})
            found[entry.name] = look(entry(), results, subject, config.measurement, workspace)
            results.headline = _headline(results, found)
        held_out = f"{unseen.name}, {unseen.stored} images" if unseen is not None else "none"
        results.methods = {
            "Training images": f"{own.stored} images of {own.name}, shape {own.image_shape}; {models[0].provenance}.",
            "Held-out images": " ".join(filter(None, [f"{held_out}.", sentences(notes)])),
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
class Opened:
    """What is looked at, opened already.

    Attributes:
        networks: the model, then others that were trained on other draws of the same data.
        images: the model's training images, and held-out ones if there are any.
    """

    networks: tuple[NetworkDenoiser, ...]
    images: DataSplit

    def settings(self) -> dict[str, Any]:
        """What stands for them among the settings of a run: names and digests, so that a run goes on with the same only."""
        models = [f"{network.name}, opened, weights {_digest(network)}" for network in self.networks]
        train, test = (f"{one.name}, opened, {one.fingerprint()[:16]}" if one else None for one in self.images)
        return {"model": models[0], "others": models[1:], "data": train, "held_out": test}


@dataclass(frozen=True)
class _Model:
    """A network, its training images, and where both are known from."""

    network: NetworkDenoiser
    training: ImageSet
    origin: str
    provenance: str


def _opened(config: ExplainConfig, workspace: Workspace) -> Opened:
    """What the settings name. Raises UserError if one cannot be opened, or they do not fit each other."""
    if not config.model or not config.data:
        raise UserError("this study takes a model and its training images: scorescope explain --model M --data D")
    images = load_images(config.data)
    if config.held_out is not None:
        images = DataSplit(images.train, load_images(config.held_out).train)
    from scorescope.denoisers.opened import denoiser_of
    from scorescope.probes.opening_check import open_checked

    networks = []
    for path in (config.model, *config.others):
        opened = open_checked(
            path, config.architecture, config.arguments, images.train, workspace.device, config.class_label
        )
        network = denoiser_of(opened, path, config.class_label).to(workspace.device)
        _check_fit(network, images)
        networks.append(network)
    return Opened(tuple(networks), images)


def _model(network: NetworkDenoiser, name: str, images: DataSplit) -> _Model:
    from scorescope.study.provenance import of_class, own_training_images

    named = copy.copy(network)
    named.name = name
    training, provenance = images.train, "as given"
    if network.config is not None:
        training, provenance = own_training_images(network.config, images.train)
    if network.class_label is not None and training.labels is not None:
        training, provenance = (
            of_class(training, network.class_label),
            f"{provenance}; class {network.class_label} alone",
        )
    return _Model(named, training, network.origin or f"{network.name}, opened before.", provenance)


def _unseen(images: DataSplit, models: Sequence[_Model]) -> tuple[ImageSet | None, tuple[str, ...]]:
    """The held-out images that none of the networks was trained on, and what was left out."""
    from scorescope.lenses.audit.unseen import unseen_by_all
    from scorescope.study.provenance import of_class

    if images.test is None:
        return None, ()
    found = unseen_by_all([model.training for model in models], of_class(images.test, models[0].network.class_label))
    return found.images, found.notes


def _digest(network: NetworkDenoiser) -> str:
    """The first digits of the SHA-256 of a network's weights."""
    import torch

    digest = hashlib.sha256()
    for name, values in network.state_dict().items():
        digest.update(name.encode())
        digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _headline(results: Results, found: Mapping[str, Any]) -> str:
    """The verdict and the best mechanism, as far as they were looked at, else what the lenses say."""
    parts = []
    if found.get("memorization") is not None:
        parts.append(f"The model {_said(results.verdicts[0].state)}")
    if found.get("mechanisms") is not None:
        from scorescope.lenses.deviations import best_mechanism

        parts.append(best_mechanism(found["mechanisms"].deviations["forward"]))
    if parts:
        return f"{parts[0][0].upper()}{'; '.join(parts)[1:]}."
    return " ".join(f"{glance.number} {glance.sentence}" for glance in results.glances)


def _said(verdict: str) -> str:
    return {
        "memorizes": "memorizes its training images",
        "in transition": "is between memorizing and generalizing",
        "generalizes": "generalizes from its training images",
        "undecided": "may memorize or generalize: its samples are too few to tell",
        "no verdict": "does not model these images, so nothing can be said of it",
    }[verdict]


def _check_fit(network: NetworkDenoiser, images: DataSplit) -> None:
    from scorescope.networks.readers.unsupported import note_on_channels

    if note := note_on_channels(network.image_shape[0]):
        raise UserError(f"{network.name} does not denoise pixels: {note}")
    for part in images:
        if part is not None and part.image_shape != network.image_shape:
            raise UserError(
                f"{network.name} takes images (C, H, W) = {network.image_shape}, {part.name} holds {part.image_shape}:"
                " import the data again with --size and --grey or --color to fit"
            )
