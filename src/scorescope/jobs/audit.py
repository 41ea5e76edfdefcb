"""The audit as a study: samples of a folder, or of one or several checkpoints, against the images they were trained on."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pydantic
import torch

from scorescope.data import DataSplit, ImageSet, ImageStore, import_images, load_images, open_source
from scorescope.data.duplicates import AlikeImages
from scorescope.data.images import to_uint8
from scorescope.data.importing import Colour
from scorescope.data.loading import parse_builtin
from scorescope.data.store import is_store
from scorescope.denoisers import NetworkDenoiser
from scorescope.denoisers.opened import denoiser_of
from scorescope.foundation import UserError, new_file, track
from scorescope.foundation.processes import by_first
from scorescope.lenses.audit import page
from scorescope.lenses.audit.denoising import Denoising, denoised, denoising
from scorescope.lenses.audit.findings import Findings, conclude
from scorescope.lenses.audit.nearness import Nearness, nearness, searched
from scorescope.lenses.audit.regions import Regions, regions, regions_possible, searched_regions
from scorescope.lenses.audit.sets import LEAST_CALIBRATION, AuditSets, audit_sets
from scorescope.lenses.audit.settings import AuditSettings
from scorescope.lenses.drawing import draw_samples
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import mean_intensity
from scorescope.networks import NetworkConfig, open_checkpoint
from scorescope.probes.audit.search import Directions
from scorescope.probes.features_opening import open_features
from scorescope.probes.opening_check import open_checked
from scorescope.study.base import Study, study
from scorescope.study.provenance import ITS_OWN, of_class, own_training_images
from scorescope.study.results import Results
from scorescope.study.storage import write_strict_json
from scorescope.study.workspace import Workspace

SAMPLES_FILE, AUDIT_FILE = "samples.csv", "audit.json"
DEFAULT_SIZE = 64
DRAWN_AT_ONCE = 256


class AuditConfig(pydantic.BaseModel):
    """Settings of an audit.

    Attributes:
        samples: a folder, zip or store of samples; empty for those of a model.
        models: checkpoints; they are taken in the order of their training steps where all say theirs, else as given.
        architecture: of a state dictionary; by default its parameters' names decide.
        arguments: what a state dictionary does not say, by name.
        class_label: the class that the model is asked for, and of which training and unseen images are taken; None for all.
        data: training images: a store, a built-in name, or a folder or zip, which is imported on the way.
        held_out: unseen images, in the same forms; the data set's own test images by default.
        size: side to which folders are brought; that of the store, or of the model.
        count: samples drawn from each model.
        flow_steps: sigmas of the flow that draws them.
        flips: whether mirror images count; as the checkpoint says by default.
        measurement: how much is measured.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    samples: str = ""
    models: tuple[str, ...] = ()
    architecture: str | None = None
    arguments: dict[str, Any] = {}
    class_label: int | None = None
    data: str = ""
    held_out: str | None = None
    size: int | None = pydantic.Field(None, ge=1)
    count: int = pydantic.Field(1000, ge=1)
    flow_steps: int = pydantic.Field(18, ge=2)
    flips: bool | None = None
    measurement: AuditSettings = AuditSettings()


@dataclass(frozen=True)
class _Opened:
    """A checkpoint.

    Attributes:
        label: what the page calls it.
        step: of its training; NaN if not known.
        network: on the device.
        origin: where it came from and what was assumed.
        config: what it says of itself.
    """

    label: str
    step: float
    network: NetworkDenoiser
    origin: str
    config: NetworkConfig


@study
class Audit(Study[AuditConfig]):
    """Does a model, or a folder of images, give its training images back?"""

    name = "main/audit"
    title = "Audit for copies of training images"
    question = "Does it give its training images back, which ones, and how sure is that?"
    Config = AuditConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "count": 64,
            "measurement": {"features": ["pixels"], "planted": 20, "levels": 4, "denoised": 64, "region_images": 300},
        },
        "small": {},
        "paper": {"count": 5000, "measurement": {"denoised": 5000, "levels": 20, "region_images": 10000}},
    }

    def run(self, config: AuditConfig, workspace: Workspace) -> Results:
        """See `Study.run`. Raises UserError if there is nothing to audit, or nothing to compare it with."""
        if bool(config.samples) == bool(config.models):
            raise UserError("an audit takes either --samples FOLDER or --model CHECKPOINT, and --data TRAINING_IMAGES")
        if not config.data:
            raise UserError("an audit compares with training images: say where they are with --data")
        labels = _labels(config.models)
        models = [_open(path, label, config, workspace) for path, label in zip(config.models, labels, strict=True)]
        if np.isfinite([model.step for model in models]).all():
            models = sorted(models, key=lambda model: model.step)
        images, imported = _images(config, models, workspace)
        if not models:
            images = DataSplit(of_class(images.train, config.class_label), images.test)
        if images.test is not None:
            images = DataSplit(images.train, of_class(images.test, config.class_label))
        found, steps = [], []
        if models:
            for model in models:
                _check_fit(model, images)
                found.append(self._of_model(model, config, images, workspace))
                steps.append(model.step)
        else:
            samples, words = _imported("samples", config.samples, images.train, config.size, workspace)
            imported.append(words)
            files = not is_store(Path(config.samples).expanduser())
            found.append(self._of_samples(Path(config.samples).name, samples, config, images, files, workspace))
        results = Results(study=self.name, title=self.title)
        page.add_audit(results, found, steps if np.isfinite(steps).all() and len(set(steps)) == len(steps) else ())
        for model in models:
            results.methods[f"Model {model.label}"] = model.origin
        told = " ".join(part for part in imported if part)
        if told:
            results.methods["Imported"] = told
        _write_rows(found, workspace)
        by_first(lambda: write_strict_json(workspace.folder / AUDIT_FILE, [one.to_json() for one in found]))
        return results

    def _of_model(self, model: _Opened, config: AuditConfig, images: DataSplit, workspace: Workspace) -> Findings:
        training, provenance = own_training_images(model.config, images.train, flips=False)
        others = None
        if training.stored < images.train.stored and images.test is not None:
            others = _rest_of(images.train, training)
        training = of_class(training, config.class_label)
        others = None if others is None else of_class(others, config.class_label)
        flips = model.config.flips if config.flips is None else config.flips
        settings = config.measurement.model_copy(update={"flips": flips})
        sets = _sets(training, images.test, others, config.count, settings)
        key = f"{model.label}/"
        drawn = workspace.computed(f"{key}samples", lambda: _drawn(model.network, training, config, settings.seed))
        samples = ImageSet(drawn["pixels"], name=f"samples of {model.label}")
        arrays = workspace.computed(
            f"{key}denoising",
            lambda: denoised(
                model.network,
                model.network.sigma_range,
                sets.training.without_flips(),
                None if sets.leave_one_out else sets.calibration,
                settings,
                _most_of(sets),
            ),
        )
        found = _measured(model.label, samples, sets, settings, denoising(arrays), workspace, key)
        assumed = () if provenance == ITS_OWN else (f"training images: {provenance}",)
        notes = (*assumed, *_lost(drawn, samples))
        return _noted(found, notes)

    def _of_samples(
        self, label: str, samples: ImageSet, config: AuditConfig, images: DataSplit, files: bool, workspace: Workspace
    ) -> Findings:
        settings = config.measurement.model_copy(update={"flips": bool(config.flips)})
        sets = _sets(images.train, images.test, None, samples.stored, settings)
        return _measured(label, samples, sets, settings, None, workspace, "", from_files=files)


def _measured(
    label: str,
    samples: ImageSet,
    sets: AuditSets,
    settings: AuditSettings,
    network: Denoising | None,
    workspace: Workspace,
    key: str,
    from_files: bool = False,
) -> Findings:
    spaces: list[Nearness] = []
    for word in settings.features:
        directions = Directions(open_features(word, workspace.device), workspace.device)

        def look(directions: Directions = directions) -> dict[str, Any]:
            return searched(samples, sets, directions, settings, f"searching in {directions.name}")

        arrays = workspace.computed(f"{key}nearness {word.replace('/', '_')}", look)
        spaces.append(nearness(arrays, directions.name, sets.control is not None, sets.training.flips, settings))
    local: Regions | None = None
    if settings.regions and regions_possible(sets):
        arrays = workspace.computed(f"{key}regions", lambda: searched_regions(samples, sets, settings))
        local = regions(arrays, sets, settings)
    return conclude(label, settings, sets, samples, spaces, local, network, from_files=from_files)


def _most_of(sets: AuditSets) -> ImageSet:
    """The images that a Gaussian denoiser is made of: that of 20 images knows nothing of others, and any network is better."""
    training, control = sets.training.without_flips(), sets.control
    return training if control is None or control.stored <= training.stored else control.without_flips()


def _sets(
    training: ImageSet, unseen: ImageSet | None, control: ImageSet | None, samples: int, settings: AuditSettings
) -> AuditSets:
    return audit_sets(
        training,
        unseen,
        alike=AlikeImages(settings.near, mirrored=settings.flips),
        calibration=settings.calibration or max(LEAST_CALIBRATION, samples),
        seed=settings.seed,
        control=control,
    )


def _open(path: str, label: str, config: AuditConfig, workspace: Workspace) -> _Opened:
    if parse_builtin(config.data) is not None or is_store(Path(config.data).expanduser()):
        images = load_images(config.data).train
        opened = open_checked(path, config.architecture, config.arguments, images, workspace.device, config.class_label)
    else:
        opened = open_checkpoint(path, config.architecture, config.arguments)
    network = denoiser_of(opened, label, config.class_label).to(workspace.device)
    return _Opened(label, _step(opened.config.training, label), network, opened.origin, opened.config)


def _step(record: Mapping[str, Any], label: str) -> float:
    """The training step of a checkpoint: what it says, or the last number of its name; NaN without either."""
    how = record.get("config")
    said = [record.get("step"), record.get("steps"), how.get("steps") if isinstance(how, Mapping) else None]
    known = next((float(one) for one in said if isinstance(one, int | float)), None)
    digits = re.findall(r"\d+", label)
    return known if known is not None else float(digits[-1]) if digits else float("nan")


def _labels(models: Sequence[str]) -> list[str]:
    """A name for each checkpoint: its own, or the end of its path where others are called the same.

    Raises UserError for a checkpoint that is given twice.
    """
    paths = [Path(path).expanduser().absolute() for path in models]  # a link keeps its name
    places = [path.resolve() for path in paths]
    twice = next((path for index, path in enumerate(places) if path in places[:index]), None)
    if twice is not None:
        raise UserError(f"{twice} is given twice: audit each checkpoint once")
    found, parts = [path.stem if path.is_file() else path.name for path in paths], 1
    while len(set(found)) < len(found):
        parts += 1
        found = ["/".join(path.parts[-parts:]) for path in paths]
    return found


def _images(config: AuditConfig, models: list[_Opened], workspace: Workspace) -> tuple[DataSplit, list[str]]:
    """Training and unseen images, imported if they are files; and what was done, in words."""
    words = []
    shape = models[0].network.image_shape if models else None
    size = config.size or (shape[1] if shape is not None else None)
    split, said = _split("data", config.data, None, size, shape, workspace)
    words.append(said)
    if config.held_out is not None:
        unseen, said = _split("held out", config.held_out, split.train, config.size, shape, workspace)
        words.append(said)
        split = DataSplit(split.train, unseen.train)
    if split.test is not None and split.test.image_shape != split.train.image_shape:
        raise UserError(
            f"{split.train.name} holds images of shape {split.train.image_shape} and {split.test.name} of"
            f" {split.test.image_shape}: import both with the same --size and --grey or --color"
        )
    return split, words


def _split(
    name: str,
    where: str,
    like: ImageSet | None,
    size: int | None,
    shape: tuple[int, int, int] | None,
    workspace: Workspace,
) -> tuple[DataSplit, str]:
    path = Path(where).expanduser()
    ready = parse_builtin(where) is not None or is_store(path) or is_store(path / "train") or not path.exists()
    if ready:
        return load_images(where), ""
    store, said = _imported(name, where, like, size, workspace, channels=None if shape is None else shape[0])
    return DataSplit(store, None), said


def _imported(
    name: str,
    where: str,
    like: ImageSet | None,
    size: int | None,
    workspace: Workspace,
    channels: int | None = None,
) -> tuple[ImageSet, str]:
    """A store as it is, or files brought to the form of `like` by this package's own decoder and filter."""
    path = Path(where).expanduser()
    if is_store(path):
        store = ImageStore.open(path)
        if like is not None and store.image_shape != like.image_shape:
            raise UserError(
                f"{path} holds images of shape {store.image_shape} and {like.name} of {like.image_shape}: import both with the"
                " same --size and --grey or --color, or pass the folder of files itself"
            )
        return store, ""
    if parse_builtin(where) is not None:
        return load_images(where).train, ""
    if like is not None:
        channels, height, width = like.image_shape
        if height != width:
            raise UserError(
                f"{like.name} holds images of {height}×{width} pixels, and files are brought to squares: import {where} first"
            )
        size = height
    out = workspace.folder / "imported" / name.replace(" ", "-")

    def make() -> str:
        if not is_store(out):
            colour: Colour | None = None if channels is None else "grey" if channels == 1 else "colour"
            with open_source(where) as source:
                import_images(source, out, size=size or DEFAULT_SIZE, colour=colour, skip_broken=True)
        return str(out)

    store = ImageStore.open(by_first(make), Path(where).name)
    record = store.record.provenance
    said = f"{store.stored} images of {where} were brought to {store.image_shape[1]}×{store.image_shape[2]} pixels"
    if record.skipped:
        first = record.skipped[0]
        said += f"; {len(record.skipped)} broken ones were left out, the first {first.name} ({first.reason})"
    return store, f"{said}{''.join('; ' + note for note in record.notes)}."


def _rest_of(images: ImageSet, chosen: ImageSet) -> ImageSet | None:
    """The images that were not trained on; None if it is not known which, or none are left."""
    if chosen.indices is None or images.indices is not None:
        return None
    rest = np.setdiff1d(np.arange(images.stored), chosen.indices)
    return images.subset(rest) if len(rest) else None


def _check_fit(model: _Opened, images: DataSplit) -> None:
    if images.train.image_shape != model.network.image_shape:
        raise UserError(
            f"{model.label} takes images (C, H, W) = {model.network.image_shape}, {images.train.name} holds"
            f" {images.train.image_shape}: import the data again with --size and --grey or --color to fit"
        )


def _drawn(network: NetworkDenoiser, training: ImageSet, config: AuditConfig, seed: int) -> dict[str, Any]:
    """Samples in 8-bit steps, and which searches ended, a batch at a time."""
    centre = mean_intensity(training, seed)
    pixels, converged = [], []
    for start in track(range(0, config.count, DRAWN_AT_ONCE), f"drawing {config.count} samples"):
        many = min(DRAWN_AT_ONCE, config.count - start)
        settings = MeasurementConfig(seed=seed + start, samples=max(2, many), flow_steps=config.flow_steps)
        drawn = draw_samples(network, many, centre, settings)
        pixels.append(to_uint8(torch.nan_to_num(drawn.images)))
        converged.append(drawn.converged)
    return {"pixels": np.concatenate(pixels), "converged": np.concatenate(converged)}


def _lost(drawn: Mapping[str, Any], samples: ImageSet) -> list[str]:
    lost = int((~drawn["converged"]).sum())
    return [f"{lost} of {samples.stored} searches for a sample did not converge"] if lost else []


def _noted(found: Findings, notes: tuple[str, ...]) -> Findings:
    return dataclasses.replace(found, sets=dataclasses.replace(found.sets, notes=(*found.sets.notes, *notes)))


def _write_rows(found: list[Findings], workspace: Workspace) -> None:
    """One row a sample, of all models one after the other."""

    def write() -> None:
        frames = [one.rows().assign(model=one.label) if len(found) > 1 else one.rows() for one in found]
        with new_file(workspace.folder / SAMPLES_FILE) as temporary:
            temporary.write_text(pd.concat(frames).to_csv(index=False), encoding="utf-8")

    by_first(write)
