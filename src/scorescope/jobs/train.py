"""Training one network, as a study: settings in, a checkpoint, its learning curve and its samples out.

The run folder holds the checkpoint in ``network/``, and those kept on the way in ``steps/``: every command that takes a model
opens them, and `scorescope audit` shows their course.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pydantic

from scorescope.data import ImageSet, load_images
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.foundation.launch import is_launched
from scorescope.foundation.processes import from_all
from scorescope.jobs.training_progress import Watch, training_curves
from scorescope.lenses.audit.unseen import SeenImagesError, unseen_images
from scorescope.lenses.drawing import full_contrast
from scorescope.networks import NetworkConfig, architectures, load_network
from scorescope.study import pictures
from scorescope.study.base import Study, study
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.training import Selection, TrainingConfig, TrainingJob, train_networks
from scorescope.training.accelerated import open_accelerator
from scorescope.training.published import PUBLISHED
from scorescope.training.usual import usual_training

CHECKPOINT, ON_THE_WAY = "network", "steps"
SHARES = ("a", "b")


class TrainConfig(pydantic.BaseModel):
    """Settings of a training run.

    Attributes:
        data: a store, or the name of a built-in data set.
        size: number of training images; None for all of them, or all of one half.
        split: which of two disjoint halves they come from; None for the first half, or for undivided images without a size.
        split_seed: of the halves; equal seeds give equal halves, and a small size is the beginning of a larger one.
        architecture: name in `scorescope list networks`.
        published: whether the network has the size of its paper; else a small one that trains on a CPU.
        arguments: of the architecture, where they are not to be those that fit the images.
        classes: whether the network is told the classes of the images.
        preconditioning: how its output becomes a denoised image; the architecture's usual one by default.
        training: how it is trained; what is not said is what is usual for the preconditioning.
        mixed_precision: ``bf16`` or ``fp16``; None for float32.
        tracker: where accelerate sends the loss as well: ``tensorboard``, ``wandb`` and the like; None for nowhere.
        observe_every: steps between measurements of the PSNR on training and test images.
        observe_images: images of each kind that they are averaged over.
        observe_sigmas: noise levels that they are averaged over.
        checkpoints: steps after which a checkpoint is kept on the way, increasing and below the last step.
        samples: drawn at the end.
        sample_times: how many times a few samples are drawn, from the same noise, the last time at the end.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: str = "fashion-mnist"
    size: pydantic.PositiveInt | None = None
    split: Literal["a", "b"] | None = None
    split_seed: int = pydantic.Field(0, ge=0)
    architecture: str = "unet"
    published: bool = False
    arguments: dict[str, Any] = {}
    classes: bool = False
    preconditioning: str | None = None
    training: TrainingConfig = TrainingConfig()
    mixed_precision: Literal["bf16", "fp16"] | None = None
    tracker: str | None = None
    observe_every: int = pydantic.Field(200, ge=1)
    observe_images: int = pydantic.Field(64, ge=1)
    observe_sigmas: tuple[pydantic.PositiveFloat, ...] = pydantic.Field((0.1, 0.5), min_length=1)
    checkpoints: tuple[pydantic.PositiveInt, ...] = ()
    samples: int = pydantic.Field(32, ge=1)
    sample_times: int = pydantic.Field(5, ge=1)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _usual_training(cls, values: Any) -> Any:
        """What is not said of the training is what the network is usually trained on."""
        if not isinstance(values, Mapping) or isinstance(values.get("training"), TrainingConfig):
            return values
        entry = architectures[values.get("architecture", cls.model_fields["architecture"].default)]
        usual, said = usual_training(values.get("preconditioning") or entry.preconditioning), values.get("training", {})
        objective = usual["objective"] | dict(said.get("objective", {}))
        return {**values, "training": usual | dict(said) | {"objective": objective}}

    @pydantic.model_validator(mode="after")
    def _on_the_way(self) -> TrainConfig:
        increasing = all(first < second for first, second in itertools.pairwise(self.checkpoints))
        if not increasing or (self.checkpoints and self.checkpoints[-1] >= self.training.steps):
            raise ValueError(
                f"checkpoints are kept after increasing numbers of steps, below the last step, {self.training.steps}"
            )
        return self


@study
class Train(Study[TrainConfig]):
    """One network, from a data set to a checkpoint."""

    name = "main/train"
    title = "Training a network"
    question = "What has the network learned, and how well does it denoise images it has not seen?"
    Config = TrainConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "data": "digits",
            "size": 100,
            "training": {"steps": 60, "batch": 16},
            "observe_every": 20,
            "samples": 8,
        },
        "small": {},
        "paper": {
            "published": True,
            "training": {"steps": 50_000, "batch": 512, "learning_rate": 1e-3, "ema_decay": 0.9995},
            "observe_every": 1000,
        },
    }

    def run(self, config: TrainConfig, workspace: Workspace) -> Results:
        """See `Study.run`. The training itself goes on where it was, whatever interrupted it."""
        data = load_images(config.data)
        selection, images = training_images(config, data.train)
        network = network_for(config, images)
        unseen, notes = _unseen(images, data.test)
        watch = Watch(config, network, {"train": images, "test": unseen}, workspace)
        digits = len(str(config.training.steps))  # so that names sort as steps do
        kept = {step: workspace.folder / ON_THE_WAY / f"step-{step:0{digits}}" for step in config.checkpoints}
        job = TrainingJob(
            workspace.folder / CHECKPOINT,
            network,
            images,
            config.training,
            selection,
            watch,
            config.observe_every,
            kept,
        )
        _check_visible(workspace.folder)
        accelerator = None
        if config.mixed_precision or config.tracker or is_launched():
            accelerator = open_accelerator(workspace.device, config.mixed_precision, config.tracker, workspace.folder)
        train_networks(
            [job], device=workspace.device, description=f"training {config.architecture}", accelerator=accelerator
        )
        results = self._results(config, images, watch, workspace)
        results.add_notes(notes)
        return results

    def _results(self, config: TrainConfig, images: ImageSet, watch: Watch, workspace: Workspace) -> Results:
        folder = workspace.folder / CHECKPOINT
        record = load_network(folder)[1].training
        network = NetworkDenoiser.open(folder).to(workspace.device)
        results = Results(study=self.name, title=self.title)
        last = record["observed"][-1]
        said = ", ".join(f"{name} {value:.1f} dB" for name, value in last.items() if name != "step")
        results.headline = (
            f"{config.architecture} trained on {images.stored} images of {images.name} for {last['step']} steps: {said}"
            f" at σ = {', '.join(f'{sigma:g}' for sigma in config.observe_sigmas)}."
        )
        training_curves(results, record)
        watch.show(results, [int(entry["step"]) for entry in record["observed"]])
        drawn = watch.draw(network, config.samples)
        results.add_sheet(
            "samples",
            "Samples of the trained network",
            "Drawn from noise with the averaged weights, shown at full contrast.",
            "Samples",
            pictures.strip(full_contrast(drawn)),
        )
        results.methods |= {
            "Data": f"{images.stored} images of {images.name}, shape {images.image_shape}.",
            "Network": f"{config.architecture} {network_for(config, images).arguments}.",
            "Checkpoint": f"{CHECKPOINT}/ in this run's folder; open it with --model."
            + (f" Those of steps {_listed(config.checkpoints)} are in {ON_THE_WAY}/." if config.checkpoints else ""),
            "Computation": f"{config.mixed_precision or 'float32'}; {record.get('compilation', 'not compiled')}.",
            "Seed": f"{config.training.seed} for weights, images, noise and noise levels.",
        }
        return results


def _listed(steps: Sequence[int]) -> str:
    return ", ".join(f"{step:,}" for step in steps)


def training_images(config: TrainConfig, images: ImageSet) -> tuple[Selection | None, ImageSet]:
    """The images that the settings choose, and how. Raises UserError if there are not so many."""
    if config.size is None and config.split is None:
        return None, images
    share = SHARES.index(config.split or SHARES[0])
    size = config.size or images.stored // len(SHARES)
    selection = Selection(total=images.stored, size=size, share=share, seed=config.split_seed)
    return selection, selection.choose(images)


def _unseen(images: ImageSet, test: ImageSet | None) -> tuple[ImageSet | None, tuple[str, ...]]:
    """The test images that are no training images, and what was left out; none, where too many are: training needs none."""
    if test is None:
        return None, ()
    try:
        found = unseen_images(images, test)
    except SeenImagesError as error:
        return None, (f"{error}: the network was watched on its training images alone",)
    return found.images, found.notes


def network_for(config: TrainConfig, images: ImageSet) -> NetworkConfig:
    """The network that the settings describe, for these images.

    Raises UserError for an unknown architecture, and for classes where the network takes none or the images have none.
    """
    entry = architectures[config.architecture]
    size = dict(PUBLISHED.get(config.architecture, {})) if config.published else {}
    arguments = entry.arguments_for(images.image_shape) | size | config.arguments
    if config.classes:
        arguments[_class_argument(config.architecture)] = int(images.own_labels().max()) + 1
    return NetworkConfig(
        architecture=config.architecture,
        arguments=arguments,
        preconditioning=config.preconditioning or entry.preconditioning,
        image_shape=images.image_shape,
        sigma_range=config.training.objective.sigma_range,
    )


def _class_argument(architecture: str) -> str:
    """What an architecture calls the number of classes."""
    takes = inspect.signature(architectures[architecture].build).parameters
    for name in ("num_classes", "label_dim"):
        if name in takes:
            return name
    raise UserError(
        f"network {architecture!r} takes no classes: leave classes=true out, or choose another architecture"
    )


def _check_visible(folder: Path) -> None:
    """Raise UserError unless all processes see the run folder, where each looks for what an interrupted run has saved."""
    unseen = [index for index, seen in enumerate(from_all(folder.is_dir())) if not seen]
    if unseen:
        raise UserError(
            f"process {unseen[0]} does not see {folder}: on several hosts a network is trained in a folder that all see;"
            " choose one with --out"
        )
