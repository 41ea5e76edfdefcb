"""The training loop: mean squared error of the denoised image, noise levels drawn anew for every image.

``loss = E ‖D(x + σ n) − x‖² / dim`` over images x, noise n and ``σ = sigma_max · u^sigma_power``, u uniform on [0, 1]
(Kadkhodaie et al., ICLR 2024: σ over the whole intensity range, small σ more often than large). Everything random about
step t is drawn from a generator seeded by (seed, t), so a resumed run is the run that was not interrupted.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from torch import Tensor, nn

from scorescope.data.images import ImageSet, to_float
from scorescope.foundation import UserError
from scorescope.networks import preconditionings


class TrainingConfig(pydantic.BaseModel):
    """How a network is trained.

    Attributes:
        steps: optimizer steps.
        batch: images a step.
        learning_rate: Adam's peak learning rate; it rises over `warmup` steps and falls to 1 % along a cosine.
        warmup: steps.
        sigma_max: highest noise level, in units of [-1, 1]; 2 is the paper's 1 on [0, 1].
        sigma_power: σ = sigma_max · u^sigma_power; 1 is uniform, larger draws more small σ.
        ema_decay: decay a step of the exponential moving average of the weights, which is what is kept;
            shorter in the first steps.
        flips: whether images are mirrored at random.
        seed: of the initial weights and of everything drawn.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    steps: int = pydantic.Field(2400, ge=1)
    batch: int = pydantic.Field(32, ge=1)
    learning_rate: float = pydantic.Field(3e-3, gt=0)
    warmup: int = pydantic.Field(50, ge=0)
    sigma_max: float = pydantic.Field(2.0, gt=0)
    sigma_power: float = pydantic.Field(2.0, gt=0)
    ema_decay: float = pydantic.Field(0.99, ge=0, lt=1)
    flips: bool = False
    seed: int = pydantic.Field(0, ge=0)


@dataclass(frozen=True)
class Step:
    """What one optimizer step did.

    Attributes:
        index: steps finished, from 1.
        loss: mean squared error a pixel, in units of [-1, 1].
    """

    index: int
    loss: float


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
        self.finished = 0
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def step(self) -> Step:
        """One optimizer step. Raises UserError if the loss is no longer finite."""
        clean, noisy, sigma = self._draw(self.finished)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(self.finished)
        loss = (self.denoise(self.network, noisy, sigma) - clean).square().mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if not math.isfinite(loss.item()):
            raise UserError(
                f"training diverged at step {self.finished + 1}: the loss is {loss.item()} at sigma up to"
                f" {sigma.max().item():.3g}; try a learning rate below {self.config.learning_rate:g}"
            )
        self.optimizer.step()
        self.finished += 1
        decay = min(self.config.ema_decay, self.finished / (self.finished + 9))
        with torch.no_grad():
            for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                mean.lerp_(value, 1 - decay) if mean.is_floating_point() else mean.copy_(value)
        return Step(self.finished, loss.item())

    def _draw(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images, noisy images and noise levels of one step: (B, C, H, W), (B, C, H, W), (B,)."""
        config = self.config
        generator = torch.Generator().manual_seed(_mix(config.seed, step))
        clean = to_float(self.images.take(self._entries(step)))
        sigma = config.sigma_max * torch.rand(len(clean), generator=generator) ** config.sigma_power
        noise = torch.randn(clean.shape, generator=generator)
        noisy = clean + sigma.reshape(-1, 1, 1, 1) * noise
        if self.device.type == "cpu":
            return clean, noisy.contiguous(memory_format=torch.channels_last), sigma
        return clean.to(self.device), noisy.to(self.device, memory_format=torch.channels_last), sigma.to(self.device)

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

    def _learning_rate(self, step: int) -> float:
        config = self.config
        rise = min(1.0, (step + 1) / max(config.warmup, 1))
        fall = 0.01 + 0.99 * (1 + math.cos(math.pi * step / config.steps)) / 2
        return config.learning_rate * rise * fall

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


def _mix(seed: int, step: int) -> int:
    """One 63-bit seed from (seed, step), far from those of neighbouring steps and seeds."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
