"""The same step on several devices, in mixed precision, with trackers: Hugging Face's accelerate does the work.

Every process draws the whole batch of a step, from the same seed, and keeps its share; gradients are averaged over
processes. The step is therefore the one that a single process makes, but for layers that look at the batch as a whole
(`BiasFreeBatchNorm`), which see one share, and for rounding.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from scorescope.data.images import ImageSet
from scorescope.foundation import UserError
from scorescope.networks import Preconditioning
from scorescope.training.batches import Batch, split
from scorescope.training.config import TrainingConfig
from scorescope.training.loop import Trainer


class AcceleratedTrainer(Trainer):
    """A `Trainer` whose network and optimizer are accelerate's.

    Args:
        network: what is trained.
        preconditioning: one, or the name of one in `preconditionings`.
        images: training images.
        config: how; ``batch`` counts the images of all processes together.
        accelerator: as launched: devices, mixed precision.

    Raises:
        UserError: a batch that does not divide by the number of processes.
    """

    def __init__(
        self,
        network: nn.Module,
        preconditioning: str | Preconditioning,
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
        prepared, self.optimizer = accelerator.prepare(self.network, self.optimizer)
        self.model = self.compiled(prepared)

    def draw(self, step: int) -> Batch:
        """The share of this process in the batch of one step."""
        shares = split(super().draw(step), self.accelerator.num_processes)
        return shares[int(self.accelerator.process_index)]

    def _gradient(self, part: Batch, index: int, share: float) -> Tensor:
        """As `Trainer` does; processes exchange gradients once a step, with the last part."""
        last = index == self.config.accumulate - 1
        with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
            return super()._gradient(part, index, share)

    def errors(self, batch: Batch) -> Tensor:
        """The weighted error of every image, in the precision that was asked for."""
        with self.accelerator.autocast():
            return super().errors(batch)

    def backward(self, loss: Tensor) -> None:
        """Through accelerate, which scales, and averages over processes."""
        self.accelerator.backward(loss)

    def whole_loss(self, loss: Tensor) -> Tensor:
        """The mean over processes, so that all of them see a divergence at the same step."""
        mean: Tensor = self.accelerator.reduce(loss, "mean")
        return mean

    def clip_gradients(self, norm: float) -> None:
        """After half precision's scale has been taken out of them."""
        self.accelerator.clip_grad_norm_(self.network.parameters(), norm)

    def state(self) -> dict[str, Tensor]:
        """As `Trainer.state`, with the scale of half precision's gradients."""
        scaler = self.accelerator.scaler
        scale = {} if scaler is None else {f"scaler.{key}": value for key, value in scaler.state_dict().items()}
        return super().state() | {key: torch.tensor(value, dtype=torch.float64) for key, value in scale.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """As `Trainer.restore`."""
        super().restore(tensors)
        kept = {
            key.removeprefix("scaler."): value.item() for key, value in tensors.items() if key.startswith("scaler.")
        }
        if self.accelerator.scaler is not None and kept:
            self.accelerator.scaler.load_state_dict(kept | {"_growth_tracker": int(kept["_growth_tracker"])})


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
        if mixed_precision == "fp16" and accelerator.device.type == "cpu":
            # accelerate would compute in float32 and not say so
            raise ValueError("fp16 needs a GPU, and this is a CPU; choose bf16, or leave mixed precision out")
        if tracker:
            accelerator.init_trackers("scorescope")
        return accelerator
    except (ValueError, ImportError) as error:
        raise UserError(f"this machine cannot train so: {error}") from error
