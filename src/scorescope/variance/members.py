"""Many small networks of one architecture trained side by side, each on its own draws, as one batched computation.

The learned score is random over training runs; to see its distribution it takes dozens to hundreds of runs. Small networks
leave a processor idle, so the M members' parameters are stacked, (M, ...), and `torch.func.vmap` turns M small matrix products
into one batched product. Adam works elementwise, and the loss is a sum over members, so that every member is trained exactly
as it would be alone.

Points of dimension d are images (1, 1, d), so that the project's networks and preconditionings take them as they are.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scorescope.foundation import UserError, track
from scorescope.networks import Preconditioning, preconditioning_from

Target = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(clean, noisy, sigma) -> what the network is trained on; (n, d), (n, d), (n,) -> (n, d)."""


class Members:
    """M networks of one architecture with their own parameters, called as one.

    Args:
        networks: M networks of the same architecture without state other than parameters (no running statistics).
        preconditioning: one, or the name of one; not a blind one.

    Raises:
        UserError: no networks, or networks that keep running statistics.
    """

    def __init__(self, networks: Sequence[nn.Module], preconditioning: str | Preconditioning) -> None:
        if not networks:
            raise UserError("an ensemble has at least one member")
        if any(True for name, _ in networks[0].named_buffers() if "running" in name or "num_batches" in name):
            raise UserError(
                f"{type(networks[0]).__name__} keeps running statistics, which members trained as one cannot: train its runs"
                " one by one"
            )
        self.preconditioning = preconditioning_from(preconditioning)
        self._template = copy.deepcopy(networks[0]).train(False)
        self.parameters, self._buffers = torch.func.stack_module_state(list(networks))
        self.count = len(networks)

    def __call__(self, noisy: Tensor, sigma: float | Tensor) -> Tensor:
        """Every member on noisy images of its own.

        Args:
            noisy: (M, B, C, H, W).
            sigma: a number, (B,), or (M, B).

        Returns:
            Denoised images, (M, B, C, H, W).
        """
        levels = torch.as_tensor(sigma, dtype=noisy.dtype).expand(noisy.shape[:2])
        called = torch.func.vmap(self._one)
        denoised: Tensor = called(self.parameters, self._buffers, noisy, levels)
        return denoised

    def everywhere(self, noisy: Tensor, sigma: float | Tensor) -> Tensor:
        """All members on the same noisy images: (B, C, H, W), a number or (B,) -> (M, B, C, H, W)."""
        return self(noisy.expand(self.count, *noisy.shape), sigma)

    def _one(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], noisy: Tensor, sigma: Tensor) -> Tensor:
        def network(*inputs: Tensor) -> Tensor:
            output: Tensor = torch.func.functional_call(self._template, (parameters, buffers), inputs)
            return output

        return self.preconditioning.denoise(network, noisy, sigma)  # type: ignore[arg-type]


@dataclass(frozen=True)
class MemberTraining:
    """How members are trained.

    Attributes:
        steps: Adam steps.
        batch: noisy points a step, for each member.
        pool: noisy points that a member draws once and is trained on again and again, the sample size P of vastola2025; None
            for fresh ones at every step.
        learning_rate: of the first step; it falls along a cosine to a hundredth.
        sigma_min: lowest noise level.
        sigma_max: highest noise level; levels are log-uniform in between.
        sigma_data: σ_d of the weight ``(σ² + σ_d²) / (σ σ_d)²``.
    """

    steps: int = 1000
    batch: int = 64
    pool: int | None = None
    learning_rate: float = 3e-3
    sigma_min: float = 0.03
    sigma_max: float = 8.0
    sigma_data: float = 0.5


def train_members(
    members: Members,
    points: Tensor,
    target: Target | None,
    how: MemberTraining,
    generator: torch.Generator,
    description: str = "training an ensemble",
) -> Tensor:
    """Train all members on noisy versions of the same points, each on draws of its own.

    Draws depend on the generator alone: two ensembles trained with equal generators see the same noisy points, whatever the
    target.

    Args:
        members: trained in place.
        points: the data set, float32 (N, d).
        target: what they are trained on; None for the noisy target, the clean point.
        how: the rest.
        generator: of the draws.
        description: of the progress bar.

    Returns:
        The loss of every member, mean over the last tenth of the steps, (M,).

    Raises:
        UserError: the loss is no longer finite.
    """
    parameters = list(members.parameters.values())
    for values in parameters:
        values.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, how.learning_rate, betas=(0.9, 0.99))
    pool = None if how.pool is None else _draw(members.count, how.pool, points, how, generator)
    late = torch.zeros(members.count)
    counted = max(1, how.steps // 10)
    for step in track(range(how.steps), description):
        optimizer.param_groups[0]["lr"] = how.learning_rate * (
            0.01 + 0.99 * (1 + math.cos(math.pi * step / how.steps)) / 2
        )
        if pool is None:
            clean, noisy, sigma = _draw(members.count, how.batch, points, how, generator)
        else:
            clean, noisy, sigma = _some_of(pool, how.batch, generator)
        wanted = clean if target is None else _wanted(target, clean, noisy, sigma)
        denoised = members(noisy[:, :, None, None, :], sigma)[:, :, 0, 0, :]
        weight = (sigma**2 + how.sigma_data**2) / (sigma * how.sigma_data) ** 2
        losses = (weight * (denoised - wanted).square().mean(-1)).mean(1)  # (M,)
        if not bool(torch.isfinite(losses).all()):
            raise UserError(f"an ensemble diverged at step {step + 1}: try a learning rate below {how.learning_rate:g}")
        optimizer.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step >= how.steps - counted:
            late += losses.detach() / counted
    for values in parameters:
        values.requires_grad_(False)
    return late


def _draw(
    members: int, count: int, points: Tensor, how: MemberTraining, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Clean and noisy points (M, count, d) and their noise levels (M, count)."""
    chosen = torch.randint(len(points), (members, count), generator=generator)
    clean = points[chosen]
    low, high = math.log(how.sigma_min), math.log(how.sigma_max)
    sigma = (low + (high - low) * torch.rand(members, count, generator=generator)).exp()
    noise = torch.randn(clean.shape, generator=generator)
    return clean, clean + sigma[..., None] * noise, sigma


def _some_of(
    pool: tuple[Tensor, Tensor, Tensor], batch: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """A random choice from every member's own pool, the whole pool if the batch is as large."""
    members, count = pool[2].shape
    if batch >= count:
        return pool
    chosen = torch.randint(count, (members, batch), generator=generator)
    row = torch.arange(members)[:, None]
    clean, noisy, sigma = (values[row, chosen] for values in pool)
    return clean, noisy, sigma


def _wanted(target: Target, clean: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
    flat = target(clean.flatten(0, 1), noisy.flatten(0, 1), sigma.flatten())
    return flat.reshape(clean.shape)
