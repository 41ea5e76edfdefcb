"""Training one network, as a study: settings in, a checkpoint, its learning curve and its samples out.

The run folder holds the checkpoint in ``network/``, which every command that takes a model opens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import pydantic
import torch
from torch import nn

from scorescope.data import ImageSet, load_images
from scorescope.denoisers import NetworkDenoiser
from scorescope.networks import NetworkConfig, architectures, load_network
from scorescope.probes.errors import denoising_psnr
from scorescope.studies import charts, palette, pictures, sections
from scorescope.studies.base import Study, study
from scorescope.studies.measurements import MeasurementConfig, chosen, draw_samples
from scorescope.studies.results import Results
from scorescope.studies.workspace import Workspace
from scorescope.training import Selection, TrainingConfig, TrainingJob, train_networks
from scorescope.training.accelerated import is_launched, open_accelerator

CHECKPOINT = "network"
SHARES = ("a", "b")


class TrainConfig(pydantic.BaseModel):
    """Settings of a training run.

    Attributes:
        data: a store, or the name of a built-in data set.
        size: number of training images; None for all of them, undivided.
        split: which of two disjoint halves they come from.
        split_seed: of the halves; equal seeds give equal halves, and a small size is the beginning of a larger one.
        architecture: name in `scorescope list networks`.
        arguments: of the architecture, where they are not to be those that fit the images.
        preconditioning: how its output becomes a denoised image; the architecture's usual one by default.
        training: how it is trained.
        mixed_precision: ``bf16`` or ``fp16``; None for float32.
        tracker: where accelerate sends the loss as well: ``tensorboard``, ``wandb`` and the like; None for nowhere.
        observe_every: steps between measurements of the PSNR on training and test images.
        observe_images: images of each kind that they are averaged over.
        observe_sigmas: noise levels that they are averaged over.
        samples: drawn at the end.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: str = "fashion-mnist"
    size: pydantic.PositiveInt | None = None
    split: Literal["a", "b"] = "a"
    split_seed: int = pydantic.Field(0, ge=0)
    architecture: str = "unet"
    arguments: dict[str, Any] = {}
    preconditioning: str | None = None
    training: TrainingConfig = TrainingConfig()
    mixed_precision: Literal["bf16", "fp16"] | None = None
    tracker: str | None = None
    observe_every: int = pydantic.Field(200, ge=1)
    observe_images: int = pydantic.Field(64, ge=1)
    observe_sigmas: tuple[pydantic.PositiveFloat, ...] = (0.1, 0.5)
    samples: int = pydantic.Field(32, ge=1)


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
            "arguments": {"width": 8},
            "training": {"steps": 60, "batch": 16},
            "observe_every": 20,
            "samples": 8,
        },
        "small": {"arguments": {"width": 16}},
        "paper": {"training": {"steps": 50_000, "batch": 512, "learning_rate": 1e-3}, "observe_every": 1000},
    }

    def run(self, config: TrainConfig, workspace: Workspace) -> Results:
        """See `Study.run`. The training itself goes on where it was, whatever interrupted it."""
        data = load_images(config.data)
        selection, images = None, data.train
        if config.size is not None:
            share = SHARES.index(config.split)
            selection = Selection(total=images.stored, size=config.size, share=share, seed=config.split_seed)
            images = selection.choose(images)
        network = network_for(config, images)
        job = TrainingJob(
            workspace.folder / CHECKPOINT,
            network,
            images,
            config.training,
            selection,
            lambda module, _: self._observe(config, network, module, images, data.test, workspace.device),
            config.observe_every,
        )
        accelerator = None
        if config.mixed_precision or config.tracker or is_launched():
            accelerator = open_accelerator(workspace.device, config.mixed_precision, config.tracker, workspace.folder)
        train_networks(
            [job], device=workspace.device, description=f"training {config.architecture}", accelerator=accelerator
        )
        return self._results(config, images, workspace)

    def _observe(
        self,
        config: TrainConfig,
        network: NetworkConfig,
        module: nn.Module,
        train: ImageSet,
        test: ImageSet | None,
        device: torch.device,
    ) -> dict[str, float]:
        denoiser = NetworkDenoiser(module, network.preconditioning, network.image_shape, network.sigma_range)
        found = {}
        for name, images in {"train": train, "test": test}.items():
            if images is not None:
                clean = chosen(images, config.observe_images, 0).to(device)
                found[f"{name} PSNR"] = float(denoising_psnr(denoiser, clean, config.observe_sigmas, 0).mean())
        return found

    def _results(self, config: TrainConfig, images: ImageSet, workspace: Workspace) -> Results:
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
        _curves(results, record)
        centre = float(chosen(images, 512, 0).mean())
        samples, _ = draw_samples(network, config.samples, centre, MeasurementConfig(seed=config.training.seed))
        results.add_sheet(
            "samples",
            "Samples of the trained network",
            "Drawn from noise with the averaged weights, shown at full contrast.",
            "Samples",
            pictures.strip(sections.full_contrast(samples.cpu().numpy())),
        )
        results.methods |= {
            "Data": f"{images.stored} images of {images.name}, shape {images.image_shape}.",
            "Network": f"{config.architecture} {network_for(config, images).arguments}.",
            "Checkpoint": f"{CHECKPOINT}/ in this run's folder; open it with --model.",
            "Seed": f"{config.training.seed} for weights, images, noise and noise levels.",
        }
        return results


def network_for(config: TrainConfig, images: ImageSet) -> NetworkConfig:
    """The network that the settings describe, for these images. Raises UserError for an unknown architecture."""
    entry = architectures[config.architecture]
    return NetworkConfig(
        architecture=config.architecture,
        arguments=entry.arguments_for(images.image_shape) | config.arguments,
        preconditioning=config.preconditioning or entry.preconditioning,
        image_shape=images.image_shape,
        sigma_range=config.training.objective.sigma_range,
    )


def _curves(results: Results, record: dict[str, Any]) -> None:
    losses = np.array(record["loss"])
    steps = (1 + np.arange(len(losses))) * record["loss_every"]
    observed = pd.DataFrame(record["observed"])
    panels = [charts.Panel([charts.Series("training loss", steps, losses)], "loss", y_log=True)]
    psnr = [
        charts.Series(
            name, observed["step"], observed[f"{name} PSNR"], colour=palette.BY_NAME[name], dashed=name == "test"
        )
        for name in ("train", "test")
        if f"{name} PSNR" in observed
    ]
    panels.append(charts.Panel(psnr, "PSNR (dB)"))
    results.add_chart(
        "learning",
        "Learning curve",
        "The loss of each stretch of steps, and how well images that it trains on and images that it has not seen are"
        " denoised on the way.",
        "Training",
        charts.lines(panels, "step", x_log=False),
    )
    results.add_table("observed", "PSNR on the way", "Averaged over images and noise levels.", observed)
