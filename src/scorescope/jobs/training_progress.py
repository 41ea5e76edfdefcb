"""What is seen of a network while it is trained: PSNR on images that it trains on and on others, samples from one noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import nn

from scorescope.data import ImageSet
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.lenses.drawing import draw_samples, full_contrast
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import chosen, mean_intensity
from scorescope.networks import NetworkConfig, preconditioning_from
from scorescope.probes.errors import denoising_psnr
from scorescope.study import charts, palette, pictures
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.training import TrainingConfig

SECTION, COLUMNS = "Training", 8
Pictures = npt.NDArray[np.float32]


class WatchConfig(Protocol):
    """The settings of a training run that say what is looked at."""

    @property
    def training(self) -> TrainingConfig: ...
    @property
    def observe_every(self) -> int: ...
    @property
    def observe_images(self) -> int: ...
    @property
    def observe_sigmas(self) -> tuple[float, ...]: ...
    @property
    def sample_times(self) -> int: ...


class Watch:
    """Looks at the averaged network on the way; called with the network and the number of finished steps.

    Args:
        config: what is looked at, and how often.
        network: what is trained.
        images: by name; None where there are none.
        workspace: where samples are kept, so that a run that goes on still has the earlier ones.
    """

    def __init__(
        self,
        config: WatchConfig,
        network: NetworkConfig,
        images: Mapping[str, ImageSet | None],
        workspace: Workspace,
    ) -> None:
        self.config = config
        self.network = network
        self.images = {name: some for name, some in images.items() if some is not None}
        self.workspace = workspace
        self.centre = mean_intensity(self.images["train"], 0)

    def __call__(self, module: nn.Module, step: int) -> dict[str, float]:
        """Mean PSNR in dB on each kind of images; draws samples when their time has come."""
        used = preconditioning_from(self.network.preconditioning, self.network.preconditioning_arguments)
        denoiser = NetworkDenoiser(module, used, self.network.image_shape, self.network.sigma_range)
        if self._is_time(step):
            self.workspace.computed(_cell(step), lambda: self._drawn(denoiser))
        return {f"{name} PSNR": self._psnr(denoiser, images) for name, images in self.images.items()}

    def draw(self, denoiser: NetworkDenoiser, count: int) -> Pictures:
        """Samples from the run's noise, (count, C, H, W); one class after another where the network knows classes."""
        config = MeasurementConfig(seed=self.config.training.seed)
        classes, images = denoiser.classes.count, self.images["train"]
        if not classes:
            return np.asarray(draw_samples(denoiser, count, self.centre, config, images)[0].cpu().numpy())
        each = -(-count // classes)
        asked = [denoiser.with_class(label) for label in range(min(classes, count))]
        drawn = [draw_samples(one, each, self.centre, config, images)[0].cpu().numpy() for one in asked]
        return np.concatenate(drawn)[:count]

    def show(self, results: Results, steps: list[int]) -> None:
        """Add the samples of the way, a row each time."""
        times = [step for step in steps if self._is_time(step) and self.workspace.done(_cell(step))]
        if times:
            rows = [self.workspace.computed(_cell(step), dict)["samples"] for step in times]
            results.add_sheet(
                "samples-on-the-way",
                "Samples on the way",
                "From the same noise each time; grey where the sampler found no image yet.",
                SECTION,
                pictures.grid(np.stack([_contrasted(row) for row in rows]), [f"step {step}" for step in times]),
            )

    def _is_time(self, step: int) -> bool:
        """Whether another of the equal stretches has ended since the last look, or the training."""
        steps, times = self.config.training.steps, self.config.sample_times
        before = (step - 1) // self.config.observe_every * self.config.observe_every
        return step * times // steps > before * times // steps

    def _drawn(self, denoiser: NetworkDenoiser) -> dict[str, Any]:
        try:
            return {"samples": self.draw(denoiser, COLUMNS)}
        except UserError:  # a network of a few steps may lead the sampler out of all numbers
            return {"samples": np.full((COLUMNS, *self.network.image_shape), np.nan, dtype=np.float32)}

    def _psnr(self, denoiser: NetworkDenoiser, images: ImageSet) -> float:
        count, sigmas = self.config.observe_images, self.config.observe_sigmas
        asked = {denoiser: images}
        if denoiser.classes.count and images.labels is not None:
            present = sorted(set(images.own_labels().tolist()))
            asked = {denoiser.with_class(label): images.of_class(label) for label in present}
            count = -(-count // len(present))
        device = self.workspace.device
        found = [denoising_psnr(one, chosen(own, count, 0).to(device), sigmas, 0).mean() for one, own in asked.items()]
        return float(np.mean(found))


def training_curves(results: Results, record: Mapping[str, Any]) -> None:
    """Add the loss of each stretch of steps and the PSNR on the way, from a checkpoint's record."""
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
        SECTION,
        charts.lines(panels, "step", x_log=False),
    )
    results.add_table("observed", "PSNR on the way", "Averaged over images and noise levels.", observed)


def _cell(step: int) -> str:
    return f"samples at step {step}"


def _contrasted(images: Pictures) -> Pictures:
    """At full contrast, but for images that hold no numbers."""
    if not np.isfinite(images).all():
        return images
    return np.asarray(full_contrast(images), dtype=np.float32)
