"""The time that a network is told instead of σ: continuous, or the steps of a table.

Networks of other projects were trained on a process ``x_t = α_t x + s_t n`` and are told t. Divided by α_t it is
``x + σ n`` with ``σ = s_t / α_t``, so a time variable is a one-to-one map from σ to t, and that is all that is kept of it here.
A table knows t only at its own σ's; between them t is interpolated linearly in log σ, or the nearest step in log σ is taken.
Outside a table, the nearest end is taken.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal

import pydantic
import torch
from torch import Tensor

from scorescope.networks.preconditioning import vp_sigma, vp_time
from scorescope.noise import ddpm_sigmas


class TimeVariable(pydantic.BaseModel, ABC):
    """A map from σ, in the unit of the network's images, to what the network is told."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def time(self, sigma: Tensor) -> Tensor:
        """float64 (B,), > 0 -> float64 (B,)."""

    @property
    @abstractmethod
    def sigma_range(self) -> tuple[float, float]:
        """Lowest and highest σ that it is meant for."""


class VPTime(TimeVariable):
    """Time of the continuous VP process, ``σ² = exp(β_d t²/2 + β_min t) − 1`` (Song et al., ICLR 2021), t in [0, 1].

    Attributes:
        kind: ``vp``.
        beta_d: slope of β.
        beta_min: β at t = 0.
        scale: the network is told ``scale · t``; 999 in Song et al. and in U-ViT.
        epsilon: smallest t.
        toward: ``noise``: t is 1 at the noise; ``image``: the network is told ``1 − t``.
    """

    kind: Literal["vp"] = "vp"
    toward: Literal["noise", "image"] = "noise"
    beta_d: float = pydantic.Field(19.9, gt=0)
    beta_min: float = pydantic.Field(0.1, ge=0)
    scale: float = pydantic.Field(999.0, gt=0)
    epsilon: float = pydantic.Field(1e-5, gt=0, lt=1)

    def time(self, sigma: Tensor) -> Tensor:
        """See `TimeVariable.time`."""
        time = vp_time(sigma, self.beta_d, self.beta_min)
        return self.scale * (time if self.toward == "noise" else 1 - time)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """From t = epsilon to t = 1."""
        return vp_sigma(self.epsilon, self.beta_d, self.beta_min), vp_sigma(1.0, self.beta_d, self.beta_min)


class CosineTime(TimeVariable):
    """Time of the continuous cosine process, ``σ = tan(π t / 2)``, t in [0, 1] (Salimans & Ho, ICLR 2022).

    Attributes:
        kind: ``cosine``.
        scale: the network is told ``scale · t``.
        toward: ``noise``: t is 1 at the noise; ``image``: the network is told ``1 − t``.
    """

    kind: Literal["cosine"] = "cosine"
    scale: float = pydantic.Field(1.0, gt=0)
    toward: Literal["noise", "image"] = "noise"

    def time(self, sigma: Tensor) -> Tensor:
        """See `TimeVariable.time`."""
        return self.scale * (2 / math.pi) * torch.atan(sigma if self.toward == "noise" else 1 / sigma)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """All but a thousandth of the time at either end."""
        edge = math.tan(math.pi / 2000)
        return edge, 1 / edge


class SigmaTime(TimeVariable):
    """The network is told σ itself, or its logarithm (variance-exploding processes).

    Attributes:
        kind: ``sigma``.
        log: whether it is told ``ln σ``.
        scale: factor on what it is told.
        low: lowest σ.
        high: highest σ.
    """

    kind: Literal["sigma"] = "sigma"
    log: bool = False
    scale: float = pydantic.Field(1.0, gt=0)
    low: float = pydantic.Field(0.01, gt=0)
    high: float = pydantic.Field(50.0, gt=0)

    def time(self, sigma: Tensor) -> Tensor:
        """See `TimeVariable.time`."""
        return self.scale * (sigma.log() if self.log else sigma)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """As given."""
        return self.low, self.high


class FlowTime(TimeVariable):
    """Time of the straight path between noise and image, ``z_τ = (1 − τ) n + τ x``: ``σ = (1 − τ)/τ``, ``τ = 1/(1 + σ)``.

    Attributes:
        kind: ``flow``.
        toward: ``image``: the network is told τ, 1 at the image; ``noise``: it is told ``1 − τ``, 1 at the noise.
        scale: factor on what it is told; 1000 in some published networks.
    """

    kind: Literal["flow"] = "flow"
    toward: Literal["image", "noise"] = "image"
    scale: float = pydantic.Field(1.0, gt=0)

    def time(self, sigma: Tensor) -> Tensor:
        """See `TimeVariable.time`."""
        return self.scale * (1 if self.toward == "image" else sigma) / (1 + sigma)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """All but a thousandth of the time at either end."""
        return 1 / 999, 999.0


class StepTable(TimeVariable):
    """Steps of a discrete process, numbered from its lowest noise level on.

    Attributes:
        kind: ``table``.
        schedule: ``linear``, ``scaled-linear``, ``cosine`` or ``sigmoid``, see `scorescope.noise.ddpm_sigmas`.
        steps: length of the table.
        beta_start: first variance of the linear schedules.
        beta_end: last variance of the linear schedules.
        alphas_cumprod: ᾱ_t itself, strictly decreasing within (0, 1), instead of a schedule; ``σ_t² = (1 − ᾱ_t)/ᾱ_t``.
        sigmas: σ_t itself, strictly increasing, instead of a schedule.
        first_step: number of the first step: 0, or 1 where networks count so.
        scale: the network is told ``scale`` times the step; 1000/T in networks that are told steps out of 1,000 of a table
            of T (Nichol & Dhariwal, ICML 2021).
        between: what the network is told for a σ between two steps: ``interpolated``, a fraction of a step, linear in
            log σ; or ``nearest``, the whole step nearest in log σ.
    """

    kind: Literal["table"] = "table"
    schedule: Literal["linear", "scaled-linear", "cosine", "sigmoid"] = "linear"
    steps: int = pydantic.Field(1000, ge=2)
    beta_start: float = pydantic.Field(1e-4, gt=0, lt=1)
    beta_end: float = pydantic.Field(0.02, gt=0, lt=1)
    alphas_cumprod: tuple[float, ...] | None = None
    sigmas: tuple[float, ...] | None = None
    first_step: int = 0
    scale: float = pydantic.Field(1.0, gt=0)
    between: Literal["interpolated", "nearest"] = "interpolated"

    @pydantic.model_validator(mode="after")
    def _table_makes_sense(self) -> StepTable:
        if self.alphas_cumprod is not None and self.sigmas is not None:
            raise ValueError("give alphas_cumprod or sigmas, not both")
        if self.alphas_cumprod is not None and not all(0 < signal < 1 for signal in self.alphas_cumprod):
            raise ValueError(
                "alphas_cumprod must lie strictly between 0 and 1; leave out a last step without any signal"
            )
        if self.sigmas is not None and not all(0 < level < math.inf for level in self.sigmas):
            raise ValueError("sigmas must be positive and finite")
        table = self.log_sigmas
        if len(table) < 2 or not bool((table.diff() > 0).all()):
            raise ValueError("the table must have two steps at least, every one noisier than the one before")
        return self

    @property
    def log_sigmas(self) -> Tensor:
        """ln σ_t of every step, increasing, float64 (steps,)."""
        return _log_sigmas(self)

    def time(self, sigma: Tensor) -> Tensor:
        """See `TimeVariable.time`."""
        table = self.log_sigmas.to(sigma.device)
        level = sigma.log()
        above = torch.searchsorted(table, level).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        step = above - 1 + ((level - low) / (high - low)).clamp(0, 1)
        return self.scale * (self.first_step + (step.round() if self.between == "nearest" else step))

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Both ends of the table."""
        return float(self.log_sigmas[0].exp()), float(self.log_sigmas[-1].exp())


@functools.lru_cache(maxsize=64)
def _log_sigmas(table: StepTable) -> Tensor:
    # kept outside the object: a tensor among its attributes would take part in comparisons
    if table.sigmas is not None:
        return torch.tensor(table.sigmas, dtype=torch.float64).log()
    if table.alphas_cumprod is not None:
        signal = torch.tensor(table.alphas_cumprod, dtype=torch.float64)
        return ((1 - signal) / signal).log() / 2
    return ddpm_sigmas(table.steps, table.beta_start, table.beta_end, table.schedule).flip(0).log()


AnyTime = Annotated[
    VPTime | CosineTime | SigmaTime | FlowTime | StepTable,
    pydantic.Field(discriminator="kind"),
]
