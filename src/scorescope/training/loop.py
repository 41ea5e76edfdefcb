"""The training loop: draw images, noise and noise levels, step, average the weights.

Everything random about step t is drawn from a generator seeded by (seed, t), so a resumed run is the run that was not
interrupted.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from torch import Tensor, nn

from scorescope.data.images import ImageSet, to_float
from scorescope.denoisers.optimal import OptimalDenoiser
from scorescope.foundation import UserError
from scorescope.networks import preconditionings
from scorescope.training.objective import Objective


class TrainingConfig(pydantic.BaseModel):
    """How a network is trained.

    Attributes:
        steps: optimizer steps.
        batch: images a step.
        accumulate: parts that a batch is split into, one after another; less memory, the same step but for layers that
            look at the batch as a whole.
        learning_rate: Adam's peak learning rate.
        schedule: after `warmup`, ``cosine`` (to 1 % at the end), ``constant``, or ``inverse-sqrt`` (from `decay_from` on).
        warmup: steps over which the learning rate rises.
        decay_from: step from which ``inverse-sqrt`` falls.
        ema: ``classic`` (decay a step, shorter in the first steps) or ``power`` (Karras et al. 2024: decay
            ``(1 − 1/t)^(ema_power + 1)``).
        ema_decay: of ``classic``.
        ema_power: of ``power``; 6.94 averages over a tenth of the run.
        clip: norm that gradients are clipped to; None for none.
        flips: whether images are mirrored at random.
        objective: what it is trained on.
        seed: of the initial weights and of everything drawn.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    steps: int = pydantic.Field(2400, ge=1)
    batch: int = pydantic.Field(32, ge=1)
    accumulate: int = pydantic.Field(1, ge=1)
    learning_rate: float = pydantic.Field(3e-3, gt=0)
    schedule: Literal["cosine", "constant", "inverse-sqrt"] = "cosine"
    warmup: int = pydantic.Field(50, ge=0)
    decay_from: int = pydantic.Field(10_000, ge=1)
    ema: Literal["classic", "power"] = "classic"
    ema_decay: float = pydantic.Field(0.99, ge=0, lt=1)
    ema_power: float = pydantic.Field(6.94, ge=0)
    clip: float | None = pydantic.Field(None, gt=0)
    flips: bool = False
    objective: Objective = Objective()
    seed: int = pydantic.Field(0, ge=0)

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step `step`, counted from 0."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        if self.schedule == "cosine":
            fall = 0.01 + 0.99 * (1 + math.cos(math.pi * step / self.steps)) / 2
        elif self.schedule == "inverse-sqrt":
            fall = math.sqrt(self.decay_from / max(step + 1, self.decay_from))
        else:
            fall = 1.0
        return self.learning_rate * rise * fall

    def decay_at(self, finished: int) -> float:
        """Decay of the moving average after `finished` steps, counted from 1."""
        if self.ema == "power":
            return float((1 - 1 / finished) ** (self.ema_power + 1))
        return min(self.ema_decay, finished / (finished + 9))


@dataclass(frozen=True)
class Step:
    """What one optimizer step did.

    Attributes:
        index: steps finished, from 1.
        loss: weighted mean squared error a pixel, in units of [-1, 1].
    """

    index: int
    loss: float


@dataclass(frozen=True)
class Batch:
    """What one step, or one part of it, is trained on.

    Attributes:
        noisy: (B, C, H, W).
        sigma: (B,).
        target: (B, C, H, W).
    """

    noisy: Tensor
    sigma: Tensor
    target: Tensor


class Trainer:
    """Network, moving average and optimizer, and the step that moves them.

    Args:
        network: what is trained, in place.
        preconditioning: name in `preconditionings`.
        images: training images.
        config: how.
        device: where.
    """

    def __init__(
        self,
        network: nn.Module,
        preconditioning: str,
        images: ImageSet,
        config: TrainingConfig,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.images = images.with_flips() if config.flips else images
        self.device = torch.device(device)
        # channels-last: a third less time a step on the CPU for these small convolutions
        self.network = network.to(self.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.average: nn.Module = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.denoise = preconditionings[preconditioning].denoise
        self.optimizer = torch.optim.Adam(self.network.parameters(), config.learning_rate, betas=(0.9, 0.99))
        self.optimal = OptimalDenoiser(self.images) if config.objective.target == "closed-form" else None
        self.finished = 0
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def step(self) -> Step:
        """One optimizer step. Raises UserError if the loss is no longer finite."""
        whole = self.draw(self.finished)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(self.finished)
        self.optimizer.zero_grad()
        loss = 0.0
        for part in split(whole, self.config.accumulate):
            share = self.loss(part) * (len(part.sigma) / len(whole.sigma))
            self.backward(share)
            loss += share.item()
        if not math.isfinite(loss):
            raise UserError(
                f"training diverged at step {self.finished + 1}: the loss is {loss} at sigma between"
                f" {whole.sigma.min().item():.3g} and {whole.sigma.max().item():.3g}; try a learning rate below"
                f" {self.config.learning_rate:g}, or clip the gradients"
            )
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimizer.step()
        self.finished += 1
        self._move_average(self.config.decay_at(self.finished))
        return Step(self.finished, loss)

    def loss(self, batch: Batch) -> Tensor:
        """The objective on one batch, a scalar."""
        denoised = self.denoise(self.network, batch.noisy, batch.sigma)
        error = (denoised.float() - batch.target).square().mean((1, 2, 3))
        return (self.config.objective.weights(batch.sigma) * error).mean()

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a part's loss; what runs on several devices replaces it."""
        loss.backward()  # type: ignore[no-untyped-call]

    def draw(self, step: int) -> Batch:
        """Images, noise and noise levels of one step."""
        generator = torch.Generator().manual_seed(_mix(self.config.seed, step))
        clean = to_float(self.images.take(self._entries(step)))
        sigma = self.config.objective.draw(len(clean), generator)
        noise = torch.randn(clean.shape, generator=generator)
        noisy = clean + sigma.reshape(-1, 1, 1, 1) * noise
        target = clean if self.optimal is None else self.optimal(noisy, sigma)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        return Batch(noisy.to(self.device), sigma.to(self.device), target.to(self.device))

    def _entries(self, step: int) -> npt.NDArray[np.int64]:
        """Which images: every epoch is a permutation of the set, and small sets repeat within a batch."""
        total, batch = len(self.images), self.config.batch
        positions = np.arange(step * batch, (step + 1) * batch)
        entries = np.empty(batch, dtype=np.int64)
        for epoch in np.unique(positions // total):
            if epoch != self._epoch:
                self._epoch = int(epoch)
                self._order = np.random.default_rng((self.config.seed, self._epoch)).permutation(total)
            here = positions // total == epoch
            entries[here] = self._order[positions[here] % total]
        return entries

    def _move_average(self, decay: float) -> None:
        with torch.no_grad():
            for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                mean.lerp_(value, 1 - decay) if mean.is_floating_point() else mean.copy_(value)

    def state(self) -> dict[str, Tensor]:
        """All that a resumed run needs, as flat named tensors."""
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in moments.items()}
        tensors["finished"] = torch.tensor(self.finished)
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a `state`. Raises KeyError or RuntimeError if it belongs to another network."""
        self.network.load_state_dict(_below("network.", tensors))
        self.average.load_state_dict(_below("average.", tensors))
        moments: dict[int, dict[str, Any]] = {}
        for key, value in _below("optimizer.", tensors).items():
            index, name = key.split(".", 1)
            moments.setdefault(int(index), {})[name] = value
        state = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
        self.finished = int(tensors["finished"])


def split(batch: Batch, parts: int) -> list[Batch]:
    """A batch in at most `parts` parts of nearly equal size, in order."""
    pieces = (torch.tensor_split(values, min(parts, len(batch.sigma))) for values in vars(batch).values())
    return [Batch(*piece) for piece in zip(*pieces, strict=True)]


def _mix(seed: int, step: int) -> int:
    """One 63-bit seed from (seed, step), far from those of neighbouring steps and seeds."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
