"""Adapters: networks that predict noise, image, velocity or score, in a time variable of their own, as denoisers.

Such a network was trained on ``x_t = α x + s n`` and is told t. In project units ``y = x + σ n`` with ``σ = s/α``, so it is
handed ``α y``, and what it predicts gives the image (α and s at that σ):

| name | predicts | image |
| --- | --- | --- |
| ``epsilon`` | n | ``y − σ ε̂`` |
| ``sample`` | x | ``x̂`` |
| ``v`` | ``α n − s x``, for ``α² + s² = 1`` | ``α² y − s v̂`` |
| ``score`` | ``∇ log p(x_t) = −E[n]/s`` | ``y + σ² α ŝ`` |
| ``flow`` | the velocity ``dz/dτ = x − n`` of ``z_τ = (1 − τ) n + τ x`` | ``τ y + (1 − τ) û`` |
| ``trigonometric-flow`` | ``dz/dτ`` of ``z_τ = cos(πτ/2) n + sin(πτ/2) x`` | ``α² y + (2/π) s û`` |

v-prediction is that of Salimans & Ho, ICLR 2022, https://arxiv.org/abs/2202.00512, and flow matching that of Lipman et al.,
ICLR 2023, https://arxiv.org/abs/2210.02747.

α belongs to the process: ``vp``, ``α = (1 + σ²)^(−1/2)``; ``ve``, ``α = 1``; ``flow``, ``α = 1/(1 + σ)``. It is always that of
the actual σ; where a table only approximates the time, the network is told a slightly wrong one.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

import pydantic
import torch
from torch import Tensor, nn

from scorescope.networks.preconditioning import Coefficients, LinearPreconditioning, register
from scorescope.networks.times import AnyTime, CosineTime, FlowTime, SigmaTime, StepTable

Process = Literal["vp", "ve", "flow"]


class ForeignPreconditioning(LinearPreconditioning):
    """What the adapters share: images in a range of the network's own, a process, a time variable.

    Attributes:
        process: how the network's noisy images are scaled.
        time: what it is told of the noise.
        image_range: the range of its images; ours is (−1, 1).
        sigma_scale: factor on σ before it becomes the time, for networks that were told another σ than that of their images.
    """

    process: Process = "vp"
    time: AnyTime = StepTable()
    image_range: tuple[float, float] = (-1.0, 1.0)
    sigma_scale: float = pydantic.Field(1.0, gt=0)

    @pydantic.field_validator("image_range")
    @classmethod
    def _range_is_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < value[1]:
            raise ValueError("the range runs from a lower to a higher value")
        return value

    @abstractmethod
    def image_from(self, sigma: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Factors a and b of ``D = a y + b F`` for ``F`` the prediction, both float64 (B,), from σ and α (B,)."""

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """For σ and images in the network's range."""
        signal = {"vp": (1 + sigma**2).rsqrt(), "ve": torch.ones_like(sigma), "flow": 1 / (1 + sigma)}[self.process]
        skip, out = self.image_from(sigma, signal)
        return Coefficients(skip, out, signal, self.time.time(self.sigma_scale * sigma))

    def denoise(self, network: nn.Module, noisy: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """See `Preconditioning.denoise`."""
        low, high = self.image_range
        if (low, high) == (-1.0, 1.0):
            return super().denoise(network, noisy, sigma, class_labels)
        half = (high - low) / 2
        theirs = super().denoise(network, low + half * (noisy + 1), half * sigma, class_labels)
        return (theirs - low) / half - 1

    @property
    def sigma_range(self) -> tuple[float, float]:
        """That of the time variable, in units of [-1, 1]."""
        half = (self.image_range[1] - self.image_range[0]) / 2
        lowest, highest = self.time.sigma_range
        return lowest / half, highest / half


@register("epsilon", "the network predicts the noise, told a time of its own (Ho et al. 2020)")
class EpsilonPreconditioning(ForeignPreconditioning):
    """Noise prediction; by default over the linear table of 1,000 steps of Ho et al., NeurIPS 2020."""

    def image_from(self, sigma: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
        """``y − σ ε̂``."""
        return torch.ones_like(sigma), -sigma


@register("sample", "the network predicts the image, told a time of its own")
class SamplePreconditioning(ForeignPreconditioning):
    """Image prediction; by default over the linear table of 1,000 steps."""

    def image_from(self, sigma: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
        """The prediction itself."""
        return torch.zeros_like(sigma), torch.ones_like(sigma)


@register("v", "the network predicts v = α n − s x, told a time of its own (Salimans & Ho 2022)")
class VelocityPreconditioning(ForeignPreconditioning):
    """v-prediction; by default in the continuous cosine time, t in [0, 1]."""

    process: Literal["vp"] = "vp"
    time: AnyTime = CosineTime()

    def image_from(self, sigma: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
        """``α² y − s v̂`` with ``s = σ α``."""
        return signal**2, -sigma * signal


@register("score", "the network predicts the score of its noisy images, told a time of its own (Song et al. 2021)")
class ScorePreconditioning(ForeignPreconditioning):
    """Score prediction; by default of unscaled images, told σ."""

    process: Process = "ve"
    time: AnyTime = SigmaTime()

    def image_from(self, sigma: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
        """``y + σ² α ŝ``, for ``∇_y log p = α ∇_{αy} log p``."""
        return torch.ones_like(sigma), sigma**2 * signal


@register("flow", "the network predicts the velocity x − n of (1 − τ) n + τ x (Lipman et al. 2023)")
class FlowPreconditioning(ForeignPreconditioning):
    """Velocity prediction on the straight path between noise and image.

    With ``time.toward = "image"`` (the default) τ is 1 at the image and the velocity is ``dz/dτ = x − n``; with ``"noise"``
    the network is told ``1 − τ``, 1 at the noise, and predicts the opposite, ``n − x``. A table of steps counts from the
    image on, and so goes with ``n − x``.
    """

    process: Literal["flow"] = "flow"
    time: FlowTime | StepTable = pydantic.Field(FlowTime(), discriminator="kind")

    def image_from(self, sigma: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
        """``τ y + (1 − τ) û``."""
        toward_image = isinstance(self.time, FlowTime) and self.time.toward == "image"
        return signal, (1 - signal) * (1 if toward_image else -1)


@register(
    "trigonometric-flow",
    "the network predicts the velocity of cos(πτ/2) n + sin(πτ/2) x (Albergo & Vanden-Eijnden 2023)",
)
class TrigonometricFlowPreconditioning(ForeignPreconditioning):
    """Velocity prediction on the variance-preserving path, ``dz/dτ = (π/2)(cos(πτ/2) x − sin(πτ/2) n)``, 1 at the image."""

    process: Literal["vp"] = "vp"
    time: CosineTime = CosineTime(toward="image")

    def image_from(self, sigma: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
        """``α² y + (2/π) s û`` with ``α = sin(πτ/2)`` and ``s = cos(πτ/2)``."""
        return signal**2, sigma * signal * (2 / math.pi)
