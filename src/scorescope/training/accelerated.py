"""The same step on several devices, in mixed precision, with trackers: Hugging Face's accelerate does the work.

Every process draws the whole batch of a step, from the same seed, and keeps its share; gradients are averaged over
processes. The step is therefore the one that a single process makes, but for layers that look at the batch as a whole
(`BiasFreeBatchNorm`), which see one share, and for rounding.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from scorescope.data.images import ImageSet
from scorescope.foundation import UserError
from scorescope.training.loop import Batch, Step, Trainer, TrainingConfig, split


class AcceleratedTrainer(Trainer):
    """A `Trainer` whose network and optimizer are accelerate's.

    Args:
        network: what is trained.
        preconditioning: name in `preconditionings`.
        images: training images.
        config: how; ``batch`` counts the images of all processes together.
        accelerator: as launched: devices, mixed precision.

    Raises:
        UserError: a batch that does not divide by the number of processes.
    """

    def __init__(
        self,
        network: nn.Module,
        preconditioning: str,
        images: ImageSet,
        config: TrainingConfig,
        accelerator: Accelerator,
    ) -> None:
        if config.batch % (accelerator.num_processes * config.accumulate):
            raise UserError(
                f"a batch of {config.batch} does not divide into {config.accumulate} parts for each of"
                f" {accelerator.num_processes} processes: choose a multiple of"
                f" {accelerator.num_processes * config.accumulate}"
            )
        super().__init__(network, preconditioning, images, config, accelerator.device)
        self.accelerator = accelerator
        self.model, self.optimizer = accelerator.prepare(self.network, self.optimizer)

    def draw(self, step: int) -> Batch:
        """The share of this process in the batch of one step."""
        shares = split(super().draw(step), self.accelerator.num_processes)
        return shares[int(self.accelerator.process_index)]

    def loss(self, batch: Batch) -> Tensor:
        """The objective on this process's share, in the precision that was asked for."""
        with self.accelerator.autocast():
            denoised = self.denoise(self.model, batch.noisy, batch.sigma)
        error = (denoised.float() - batch.target).square().mean((1, 2, 3))
        return (self.config.objective.weights(batch.sigma) * error).mean()

    def step(self) -> Step:
        """One optimizer step; the loss is that of all processes. Raises UserError if it is no longer finite."""
        own = super().step()
        mean = self.accelerator.reduce(torch.tensor(own.loss, device=self.device), "mean")
        return Step(own.index, float(mean))

    def backward(self, loss: Tensor) -> None:
        """Through accelerate, which scales, and averages over processes."""
        self.accelerator.backward(loss)


def is_launched() -> bool:
    """Whether this is one of several processes that ``torchrun`` or ``accelerate launch`` started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def open_accelerator(
    device: torch.device, mixed_precision: str | None, tracker: str | None, folder: Path
) -> Accelerator:
    """The accelerator for a training run.

    Args:
        device: ``cpu`` keeps everything there; otherwise what the launcher gave.
        mixed_precision: ``bf16``, ``fp16``, or None for float32.
        tracker: ``tensorboard``, ``wandb`` and the like, or None.
        folder: where trackers that write files write them.

    Raises:
        UserError: a tracker or a precision that is not available here.
    """
    settings: dict[str, Any] = {"cpu": device.type == "cpu"}
    if mixed_precision:
        settings["mixed_precision"] = mixed_precision
    if tracker:
        settings |= {"log_with": tracker, "project_dir": str(folder)}
    try:
        accelerator = Accelerator(**settings)
        if tracker:
            accelerator.init_trackers("scorescope")
        return accelerator
    except (ValueError, ImportError) as error:
        raise UserError(f"this machine cannot train so: {error}") from error
