"""The training loop: draw images, noise and noise levels, step, average the weights."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from scorescope.data.images import ImageSet, to_float
from scorescope.denoisers.optimal import OptimalDenoiser
from scorescope.foundation import UserError
from scorescope.networks import NO_CLASS, Preconditioning, classes_of, preconditioning_from
from scorescope.networks.edm_layers import GroupNorm
from scorescope.posterior.processes import process_count
from scorescope.training.batches import Batch, DrawnAhead, split
from scorescope.training.config import TrainingConfig
from scorescope.training.randomness import LayerNoise, mixed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """What one optimizer step did.

    Attributes:
        index: steps finished, from 1.
        loss: weighted mean squared error a pixel, in units of [-1, 1].
    """

    index: int
    loss: float


class _NotCompiledError(Exception):
    """What PyTorch's compiler said that could not compile a network."""


class Trainer:
    """Network, moving average and optimizer, and the step that moves them.

    Args:
        network: what is trained, in place.
        preconditioning: one, or the name of one in `preconditionings`.
        images: training images; their classes are used if the network takes any.
        config: how.
        device: where.

    Attributes:
        compilation: whether the network is compiled, in words, and why it is not if it was to be.

    Raises:
        UserError: a network that takes classes, and images that have none or others, or a closed-form target.
    """

    def __init__(
        self,
        network: nn.Module,
        preconditioning: str | Preconditioning,
        images: ImageSet,
        config: TrainingConfig,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.images = images.with_flips() if config.flips else images
        self.device = torch.device(device)
        self._layout = _layout(network, self.device)
        self.network = network.to(self.device, memory_format=self._layout).train()  # type: ignore[call-overload]
        self.average: nn.Module = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.compilation = "compiled" if config.compile else "not compiled"
        self.model = self.compiled(self.network)
        self.preconditioning = preconditioning_from(preconditioning)
        self.classes = _classes(network, images)
        self._label_dropout = config.label_dropout if classes_of(network).optional else 0.0
        fused = self.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), config.learning_rate, betas=(0.9, 0.99), fused=fused
        )
        self.optimal = OptimalDenoiser(self.images) if config.objective.target == "closed-form" else None
        if self.optimal is not None and self.classes is not None:
            raise UserError(
                "the closed-form target is that of all images, whatever their class: train without classes, or on the noisy"
                " target"
            )
        self.finished = 0
        # Looked up once: a small network's step is not much longer than the look. Parameters stay the same objects, while
        # what they hold may be moved by whoever prepares the network.
        self._averaged = list(self.average.parameters()), list(self.network.parameters())
        self._layer_noise = LayerNoise(self.device)
        # Processes that share the closed-form target's work draw when the others do.
        shared = self.optimal is not None and process_count() > 1
        self._ahead = DrawnAhead(self.draw, self.device) if self.device.type != "cpu" and not shared else None
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def step(self) -> Step:
        """One optimizer step. Raises UserError if the loss is no longer finite."""
        whole = self.draw(self.finished) if self._ahead is None else self._ahead.take(self.finished)
        if self._ahead is not None:
            self._ahead.start(self.finished + 1)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(self.finished)
        parts = split(whole, self.config.accumulate)
        try:
            losses = self._gradients(parts)
        except _NotCompiledError as error:
            self.compilation = f"not compiled, as this machine cannot ({error})"
            logger.warning(
                "torch.compile cannot compile this network here (%s): it is trained without; a C++ compiler may be missing",
                error,
            )
            self.model = self._plain
            losses = self._gradients(parts)
        loss = self.whole_loss(torch.stack(losses).sum()).item()
        if not math.isfinite(loss):
            raise UserError(self._divergence(parts, loss))
        if self.config.clip is not None:
            self.clip_gradients(self.config.clip)
        self.optimizer.step()
        self.finished += 1
        self._move_average(self.config.decay_at(self.finished))
        return Step(self.finished, loss)

    def compiled(self, network: nn.Module) -> nn.Module:
        """The network as it is called in training: compiled if that is wanted, at its first pass, and if that works."""
        self._plain = network
        return cast("nn.Module", torch.compile(network)) if self.config.compile else network

    def errors(self, batch: Batch) -> Tensor:
        """The weighted mean squared error of every image of a batch, (B,)."""
        labels = None if self.classes is None else batch.class_labels
        denoised = self.preconditioning.denoise(self.model, batch.noisy, batch.sigma, labels)
        error = (denoised.float() - batch.target).square().mean((1, 2, 3))
        return self.config.objective.weights(batch.sigma) * error

    def loss(self, batch: Batch) -> Tensor:
        """The objective on one batch, a scalar."""
        return self.errors(batch).mean()

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a part's loss; what runs on several devices replaces it."""
        loss.backward()  # type: ignore[no-untyped-call]

    def whole_loss(self, loss: Tensor) -> Tensor:
        """The loss of the whole batch from that of this process's share; what runs on several devices replaces it."""
        return loss

    def clip_gradients(self, norm: float) -> None:
        """Scale the gradients down to a norm; what scales them itself replaces it."""
        nn.utils.clip_grad_norm_(self.network.parameters(), norm)

    def draw(self, step: int) -> Batch:
        """Images, noise and noise levels of one step."""
        generator = torch.Generator().manual_seed(mixed(self.config.seed, step))
        entries = self._entries(step)
        clean = to_float(self.images.take(entries))
        sigma = self.config.objective.draw(len(clean), generator)
        noise = torch.randn(clean.shape, generator=generator)
        noisy = torch.addcmul(clean, sigma.reshape(-1, 1, 1, 1), noise)
        target = clean if self.optimal is None else self.optimal(noisy, sigma)
        labels = torch.full((len(clean),), NO_CLASS)
        if self.classes is not None:
            shown = torch.rand(len(clean), generator=generator) >= self._label_dropout
            labels[shown] = self.classes[entries % self.images.stored][shown]
        return Batch(noisy.contiguous(memory_format=self._layout), sigma, target, labels).on(self.device)

    def _gradients(self, parts: list[Batch]) -> list[Tensor]:
        """The gradient of a batch, in parts; returns their shares of the loss."""
        self.optimizer.zero_grad()
        whole = sum(map(len, parts))
        return [self._gradient(part, index, len(part) / whole) for index, part in enumerate(parts)]

    def _gradient(self, part: Batch, index: int, share: float) -> Tensor:
        """Add the gradient of one part; returns its share of the loss."""
        try:
            with self._layer_noise.seeded(mixed(self.config.seed, self.finished, index)):
                loss = self.loss(part) * share
            self.backward(loss)
        except Exception as error:
            compiling = self.model is not self._plain
            if not (compiling and type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))):
                raise
            raise _NotCompiledError(str(error).strip().split("\n")[0]) from error
        return loss.detach()

    def _divergence(self, parts: list[Batch], loss: float) -> str:
        with torch.no_grad():
            finite = torch.cat([torch.isfinite(self.errors(part)) for part in parts])
        sigma = torch.cat([part.sigma for part in parts])
        bad = sigma[~finite] if int((~finite).sum()) > 0 else sigma
        low, high = f"{bad.min().item():.3g}", f"{bad.max().item():.3g}"
        where = f"sigma = {low}" if low == high else f"sigma between {low} and {high}"
        return (
            f"training diverged at step {self.finished + 1}: the loss is {loss} at {where}; try a learning rate below"
            f" {self.config.learning_rate:g}, or clip the gradients (training.clip=1)"
        )

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
            torch._foreach_lerp_(*self._averaged, 1 - decay)
            for mean, value in zip(self.average.buffers(), self.network.buffers(), strict=True):
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
        parameters = list(self.network.parameters())
        for key, value in _below("optimizer.", tensors).items():
            index, name = key.split(".", 1)
            parameter = parameters[int(index)]
            # The fused optimizer walks through memory: moments must lie there as their parameter does.
            laid_out = torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
            moments.setdefault(int(index), {})[name] = laid_out
        state = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
        self.finished = int(tensors["finished"])


def _layout(network: nn.Module, device: torch.device) -> torch.memory_format:
    """How images lie in memory: channels last, but on the CPU not for networks with group normalization.

    Measured there (``benchmarks/training.py``): a tenth less time a step for the UNet and BF-CNN, 3 to 5 % more for DDPM++,
    NCSN++ and ADM.
    """
    grouped = any(isinstance(module, GroupNorm | nn.GroupNorm) for module in network.modules())
    return torch.contiguous_format if grouped and device.type == "cpu" else torch.channels_last


def _classes(network: nn.Module, images: ImageSet) -> Tensor | None:
    """Classes of the stored images, int64 (stored,), for a network that takes any; else None."""
    known = classes_of(network).count
    if not known:
        return None
    labels = torch.from_numpy(images.own_labels().astype(np.int64))
    if int(labels.min()) < 0 or int(labels.max()) >= known:
        raise UserError(
            f"{images.name} has classes {int(labels.min())} to {int(labels.max())}, the network was built for {known}"
            f" (0 to {known - 1}): give it as many"
        )
    return labels


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
