"""Attribution as a study: one sample of a checkpoint, or an image, against the images that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pydantic
import torch
from torch import Tensor

from scorescope.data import ImageSet, load_images
from scorescope.data.images import to_float
from scorescope.data.sources.base import BrokenImageError
from scorescope.data.sources.decoding import decode
from scorescope.denoisers import NetworkDenoiser
from scorescope.denoisers.opened import denoiser_of
from scorescope.foundation import UserError, new_file
from scorescope.foundation.processes import by_first
from scorescope.lenses.attribution import baselines, page
from scorescope.lenses.attribution.findings import Findings, best_at_levels
from scorescope.lenses.attribution.leaving import LeftOut, leave_out
from scorescope.lenses.attribution.settings import AttributionSettings
from scorescope.lenses.attribution.states import Familiarity, States, drawn_states, familiarity, given_states
from scorescope.lenses.attribution.tracing import Traced, trace
from scorescope.posterior.processes import check_same_images
from scorescope.probes.opening_check import open_checked
from scorescope.study.base import Study, study
from scorescope.study.landmarks import landmarks_of
from scorescope.study.provenance import of_class, own_training_images
from scorescope.study.results import Results
from scorescope.study.storage import write_strict_json
from scorescope.study.workspace import Workspace

IMAGES_FILE, ATTRIBUTION_FILE = "attribution.csv", "attribution.json"


class AttributeConfig(pydantic.BaseModel):
    """Settings of an attribution.

    Attributes:
        model: checkpoint of any kind.
        architecture: of a state dictionary; by default its parameters' names decide.
        arguments: what a state dictionary does not say, by name.
        class_label: the class that the model is asked for, and of which training images are taken; None for all.
        data: the images it was trained on: a store, or the name of a built-in data set.
        sample: an image file; None for a sample that the model draws.
        measurement: how much is measured.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    model: str = ""
    architecture: str | None = None
    arguments: dict[str, Any] = {}
    class_label: int | None = None
    data: str = ""
    sample: str | None = None
    measurement: AttributionSettings = AttributionSettings()


@study
class Attribute(Study[AttributeConfig]):
    """Which training images, and which of their patches, is one sample made of?"""

    name = "main/attribute"
    title = "Who made this sample"
    question = "Which training images, and which of their patches, is this sample made of, and how sure is that?"
    Config = AttributeConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "measurement": {
                "flow_steps": 6,
                "everywhere_images": 100,
                "left_out": 2,
                "gradient_images": 24,
                "gradient_levels": 2,
                "familiar": 8,
            }
        },
        "small": {},
        "paper": {"measurement": {"every": 1, "everywhere_images": 20000, "gradient_images": 2000, "left_out": 8}},
    }

    def run(self, config: AttributeConfig, workspace: Workspace) -> Results:
        """See `Study.run`. Raises UserError if model, images and sample do not fit, or there is nothing to choose among."""
        if not config.model or not config.data:
            raise UserError(
                "an attribution takes a model and its training images: scorescope attribute --model M --data D"
            )
        images = load_images(config.data).train
        opened = open_checked(
            config.model, config.architecture, config.arguments, images, workspace.device, config.class_label
        )
        network = denoiser_of(opened, Path(config.model).name, config.class_label).to(workspace.device)
        network.classes.check(config.class_label)
        if images.image_shape != network.image_shape:
            raise UserError(
                f"{config.model} takes images (C, H, W) = {network.image_shape}, {images.name} holds {images.image_shape}:"
                " import the data again with --size and --grey or --color to fit"
            )
        sample, notes = (None, ()) if config.sample is None else opened_sample(config.sample, network.image_shape)
        training, provenance = own_training_images(opened.config, images)
        training = of_class(training, config.class_label)
        if training.stored < 2:
            raise UserError(f"{images.name} holds one image, and everything would be its: an attribution takes several")
        check_same_images(training)
        landmarks = {"": landmarks_of(training, workspace)}
        results = Results(study=self.name, title=self.title, question=self.question, landmarks=landmarks)
        found = _measured(network, training, sample, notes, config.measurement, workspace)
        page.add_attribution(results, found)
        results.methods |= {
            "Training images": f"{training.stored} images of {training.name}, shape {training.image_shape}; {provenance}.",
            "Model": opened.origin,
        }
        _write_rows(found, workspace)
        by_first(lambda: write_strict_json(workspace.folder / ATTRIBUTION_FILE, found.to_json()))
        return results


def opened_sample(path: str, image_shape: tuple[int, int, int]) -> tuple[Tensor, tuple[str, ...]]:
    """An image file as (C, H, W) in [-1, 1], and what was done to it.

    Raises UserError if it cannot be read, or is of another size than the model's images.
    """
    channels, height, width = image_shape
    try:
        decoded = decode(Path(path).expanduser().read_bytes())
    except BrokenImageError as error:
        raise UserError(f"--sample {path} cannot be read: {error}") from error
    image, notes = decoded.image, [f"{path} was {change}" for change in decoded.changes]
    if image.size != (width, height):
        raise UserError(
            f"--sample {path} has {image.size[1]}×{image.size[0]} pixels, the model's images have {height}×{width}: give the"
            " sample as the model made it"
        )
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        pixels = np.asarray(image)
        if mode == "L" and bool((pixels != pixels[..., :1]).any()):
            notes.append(f"the colours of {path} were brought to grey, as the model's images are")
        image = image.convert(mode)
    values = np.asarray(image, dtype=np.uint8).reshape(height, width, channels).transpose(2, 0, 1)
    return to_float(values), tuple(notes)


def _measured(
    network: NetworkDenoiser,
    training: ImageSet,
    sample: Tensor | None,
    notes: tuple[str, ...],
    settings: AttributionSettings,
    workspace: Workspace,
) -> Findings:
    device = workspace.device

    def states_of() -> dict[str, Any]:
        if sample is None:
            return vars(drawn_states(network, training, settings, device))
        return vars(given_states(network, sample, settings, device))

    states = States(**workspace.computed("states", states_of))
    if not np.isfinite(states.denoised).all():
        raise UserError(f"{network.name} answers with numbers that are not finite, so there is nothing to attribute")
    known: Familiarity | None = None
    if sample is not None:
        told = workspace.computed("familiarity", lambda: vars(familiarity(network, states, training, settings, device)))
        known = Familiarity(**told)
    others = [
        baselines.Scores(**one)
        for one in workspace.computed("likeness", lambda: _likeness(training, states, settings, device))
    ]
    nearest = np.unique(baselines.most_alike(others[0], settings.everywhere_images) % training.stored)

    def traces() -> list[dict[str, Any]]:
        return [one.arrays() for one in trace(training, states, settings, nearest)]

    traced = [Traced(**one) for one in workspace.computed("weights", traces)]

    def left_out() -> dict[str, Any] | None:
        best = best_at_levels(traced)
        found = leave_out(training, states, best, settings.left_out, "leaving training images out")
        return None if found is None else vars(found)

    left = workspace.computed("left out", left_out)
    if settings.gradient_images:
        candidates = baselines.most_alike(others[0], settings.gradient_images)

        def gradients() -> dict[str, Any]:
            return vars(baselines.gradient_attribution(network, training, states, candidates, settings))

        others.append(baselines.Scores(**workspace.computed("gradients", gradients)))
    kept = None if left is None else LeftOut(**left)
    return Findings(network.name, training, settings, states, traced, kept, others, known, notes)


def _likeness(
    training: ImageSet, states: States, settings: AttributionSettings, device: torch.device
) -> list[dict[str, Any]]:
    found = [baselines.pixel_cosine(training, states)]
    if settings.embedded_images:
        candidates = baselines.most_alike(found[0], settings.embedded_images)
        found.append(baselines.embedded_cosine(training, states, candidates, device))
    return [vars(one) for one in found]


def _write_rows(found: Findings, workspace: Workspace) -> None:
    """One row for every training image that any method has among its first."""

    def write() -> None:
        with new_file(workspace.folder / IMAGES_FILE) as temporary:
            temporary.write_text(found.rows().to_csv(index=False), encoding="utf-8")

    by_first(write)
