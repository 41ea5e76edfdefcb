"""From a network's output to a denoised image: what a network predicts is decided here and nowhere else.

Every way of using a network is one line (Karras et al., NeurIPS 2022, https://arxiv.org/abs/2206.00364, equation 7),

    D(y, σ) = c_skip(σ) y + c_out(σ) F(c_in(σ) y, c_noise(σ)),

and the ways differ in four numbers. This file holds the rows of that paper's table 1, and the blind networks that see no σ;
`parametrization` holds the adapters for networks that predict noise, velocity or the image in a time variable of their own.
A preconditioning is a small frozen object whose fields are its arguments, so that a checkpoint can write it down.
"""

from __future__ import annotations

import functools
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import pydantic
import torch
from torch import Tensor, nn

from scorescope.foundation import Registry, UserError


class Preconditioning(pydantic.BaseModel, ABC):
    """One way to use a network as a denoiser.

    Attributes:
        name: in `preconditionings`.
        description: one line for the list.
        blind: whether the network is called with the images alone, σ left unused.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    blind: ClassVar[bool] = False

    @abstractmethod
    def denoise(self, network: nn.Module, noisy: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """The denoised images.

        Args:
            network: called as ``network(images)`` if `blind`, else ``network(images, noise_condition, class_labels)``.
            noisy: (B, C, H, W), clean images in [-1, 1] plus noise.
            sigma: (B,), the noise's standard deviation in that unit; anything if `blind`.
            class_labels: integers (B,), −1 for no class; None for no class anywhere.

        Returns:
            (B, C, H, W), dtype of `noisy`.
        """

    @property
    @abstractmethod
    def sigma_range(self) -> tuple[float, float]:
        """Lowest and highest σ that networks of this kind are usually trained and sampled at, in units of [-1, 1]."""

    def check_fits(self, network: nn.Module) -> None:
        """Raises UserError if the network cannot be called in this way (a blind one told σ, or the other way round)."""
        arguments = (None,) * (1 if self.blind else 3)
        try:
            inspect.signature(network.forward).bind(*arguments)
        except TypeError as error:
            what = "the images alone" if self.blind else "images, noise levels and class labels"
            fitting = [name for name, entry in preconditionings.items() if entry.blind != self.blind]
            raise UserError(
                f"preconditioning {self.name!r} calls a network with {what}, which {type(network).__name__} does not take;"
                f" it goes with {', '.join(fitting)}"
            ) from error


preconditionings: Registry[type[Preconditioning]] = Registry("preconditioning", "preconditionings")

P = TypeVar("P", bound=type[Preconditioning])


def register(name: str, description: str) -> Callable[[P], P]:
    """Class decorator: make a preconditioning available under `name`."""

    def add(cls: P) -> P:
        cls.name, cls.description = name, description
        preconditionings.add(name, cls)
        return cls

    return add


def preconditioning_from(choice: str | Preconditioning, arguments: Mapping[str, Any] | None = None) -> Preconditioning:
    """The preconditioning that a name and its arguments describe; an object is returned as it is.

    Args:
        choice: name in `preconditionings`, or a preconditioning.
        arguments: JSON-like arguments of a named one, over the published ones.

    Raises:
        UserError: unknown name; arguments that it does not take or values that they cannot have.
    """
    if isinstance(choice, Preconditioning):
        return choice
    cls = preconditionings[choice]
    try:
        return cls.model_validate(dict(arguments or {}))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        takes = ", ".join(cls.model_fields) or "none"
        raise UserError(
            f"preconditioning {choice!r} cannot be made from {dict(arguments or {})}:"
            f" {where + ': ' if where else ''}{first['msg']}; its arguments: {takes}"
        ) from error


@dataclass(frozen=True)
class Coefficients:
    """The four numbers, each float64 (B,)."""

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor


class LinearPreconditioning(Preconditioning):
    """The line above, for given coefficients; they are computed in float64, and applied in the images' precision."""

    @abstractmethod
    def coefficients(self, sigma: Tensor) -> Coefficients:
        """c_skip, c_out, c_in and c_noise at σ, float64 (B,)."""

    def denoise(self, network: nn.Module, noisy: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """See `Preconditioning.denoise`. Of a network that also predicts a variance, the first C channels are used."""
        at = self.coefficients(sigma.double())
        output: Tensor = network(_by_image(at.into, noisy) * noisy, at.noise.to(noisy.dtype), class_labels)
        return _by_image(at.skip, noisy) * noisy + _by_image(at.out, noisy) * output[:, : noisy.shape[1]]


def _by_image(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.dtype).reshape(-1, 1, 1, 1)


@register("blind-residual", "D(y) = y − net(y) for images in [0, 1], sigma unseen (Kadkhodaie et al. 2024)")
class BlindResidual(Preconditioning):
    """A blind network that predicts the noise of images in [0, 1] (Kadkhodaie et al. 2024)."""

    blind: ClassVar[bool] = True

    def denoise(self, network: nn.Module, noisy: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """See `Preconditioning.denoise`."""
        # Their images are in [0, 1]: what a homogeneous network maps to itself, zero, is black there.
        noise: Tensor = network((noisy + 1) / 2)
        return noisy - 2 * noise

    @property
    def sigma_range(self) -> tuple[float, float]:
        """All σ up to the width of the intensity range."""
        return 0.0, 2.0


@register("edm", "input and output scaled to unit variance, c_noise = ln(σ)/4 (Karras et al. 2022)")
class EDMPreconditioning(LinearPreconditioning):
    """Input, output and training target of unit variance for data of standard deviation `sigma_data`.

    Attributes:
        sigma_data: standard deviation of the data, in units of [-1, 1].
        noise_scale: c_noise is ``noise_scale · ln σ``; 250 in consistency models.
        boundary: the σ at which the output is the input itself: 0, or the lowest σ of a consistency model (Song et al.,
            ICML 2023, https://arxiv.org/abs/2303.01469, appendix C).
    """

    sigma_data: float = pydantic.Field(0.5, gt=0)
    noise_scale: float = pydantic.Field(0.25, gt=0)
    boundary: float = pydantic.Field(0.0, ge=0)

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Table 1, last column."""
        variance, above = sigma**2 + self.sigma_data**2, sigma - self.boundary
        return Coefficients(
            self.sigma_data**2 / (above**2 + self.sigma_data**2),
            above * self.sigma_data * variance.rsqrt(),
            variance.rsqrt(),
            self.noise_scale * sigma.log(),
        )

    @property
    def sigma_range(self) -> tuple[float, float]:
        """That of the paper's sampler."""
        return 0.002, 80.0


@register("vp", "noise prediction of the continuous VP process, c_noise = (M − 1) t (Song et al. 2021)")
class VPPreconditioning(LinearPreconditioning):
    """Noise prediction in the time of ``σ(t)² = exp(β_d t²/2 + β_min t) − 1``.

    Attributes:
        beta_d: slope of β.
        beta_min: β at t = 0.
        steps: M; the network sees ``(M − 1) t``.
        epsilon_t: smallest time it was trained on.
    """

    beta_d: float = pydantic.Field(19.9, gt=0)
    beta_min: float = pydantic.Field(0.1, ge=0)
    steps: int = pydantic.Field(1000, ge=2)
    epsilon_t: float = pydantic.Field(1e-5, gt=0, lt=1)

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Table 1, first column."""
        time = vp_time(sigma, self.beta_d, self.beta_min)
        return Coefficients(torch.ones_like(sigma), -sigma, (1 + sigma**2).rsqrt(), (self.steps - 1) * time)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """From t = epsilon_t to t = 1."""
        return vp_sigma(self.epsilon_t, self.beta_d, self.beta_min), vp_sigma(1.0, self.beta_d, self.beta_min)


@register("sub-vp", "noise prediction of the continuous sub-VP process, c_noise = (M − 1) t (Song et al. 2021)")
class SubVPPreconditioning(VPPreconditioning):
    """Noise prediction on ``x_t = m x + (1 − m²) n``, ``m = exp(−β_d t²/4 − β_min t/2)``, so that ``σ = (1 − m²)/m``."""

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """As of `VPPreconditioning`, for the m and t of this process."""
        signal = 2 / (sigma + torch.sqrt(sigma**2 + 4))  # m, the positive root of m² + σ m − 1
        time = vp_time((sigma / signal).sqrt(), self.beta_d, self.beta_min)  # 1/m² − 1 = σ/m
        return Coefficients(torch.ones_like(sigma), -sigma, signal, (self.steps - 1) * time)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """From t = epsilon_t to t = 1."""
        low, high = (math.expm1(self.beta_d * t**2 / 2 + self.beta_min * t) for t in (self.epsilon_t, 1.0))
        return low * (1 + low) ** -0.5, high * (1 + high) ** -0.5


@register("ve", "noise prediction of unscaled images, c_noise = ln(σ/2) (Song et al. 2021)")
class VEPreconditioning(LinearPreconditioning):
    """Prediction of the negative noise, images unscaled."""

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Table 1, second column."""
        one = torch.ones_like(sigma)
        return Coefficients(one, sigma, one, (sigma / 2).log())

    @property
    def sigma_range(self) -> tuple[float, float]:
        """That of the paper."""
        return 0.02, 100.0


@register("iddpm", "noise prediction over a table of steps, σ rounded to it (Nichol & Dhariwal 2021)")
class IDDPMPreconditioning(LinearPreconditioning):
    """Noise prediction in discrete steps of the clipped cosine schedule; the time is that of the nearest σ in the table.

    The table is ``u_M = 0``, ``u_{j−1} = sqrt((u_j² + 1) / max(ᾱ_{j−1}/ᾱ_j, C_1) − 1)`` with
    ``ᾱ_j = sin²(π j / (2 M (C_2 + 1)))``, and the network sees ``M − 1 − j``. The entry u_M = 0 is no noise level, no
    network was trained on its time −1, and nothing is rounded to it.

    Attributes:
        C_1: smallest ratio of successive ᾱ.
        C_2: offset of the cosine.
        steps: M.
    """

    C_1: float = pydantic.Field(0.001, gt=0, lt=1)
    C_2: float = pydantic.Field(0.008, ge=0)
    steps: int = pydantic.Field(1000, ge=2)

    @property
    def table(self) -> Tensor:
        """u_0 … u_{M−1}, decreasing, float64 (M,)."""
        return _iddpm_table(self.C_1, self.C_2, self.steps)

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Table 1, third column."""
        nearest = (self.table.to(sigma.device) - sigma[:, None]).abs().argmin(1)
        time = (self.steps - 1 - nearest).double()
        return Coefficients(torch.ones_like(sigma), -sigma, (1 + sigma**2).rsqrt(), time)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Both ends of the table."""
        return float(self.table[-1]), float(self.table[0])


@functools.lru_cache(maxsize=16)
def _iddpm_table(C_1: float, C_2: float, steps: int) -> Tensor:
    angle = math.pi / (2 * steps * (C_2 + 1))
    levels = [0.0]
    for j in range(steps, 0, -1):
        ratio = (math.sin(angle * (j - 1)) / math.sin(angle * j)) ** 2
        levels.append(math.sqrt((levels[-1] ** 2 + 1) / max(ratio, C_1) - 1))
    return torch.tensor(levels[:0:-1], dtype=torch.float64)


def vp_time(sigma: Tensor, beta_d: float, beta_min: float) -> Tensor:
    """The t with ``σ² = exp(β_d t²/2 + β_min t) − 1``, without cancellation at small σ."""
    exponent = torch.log1p(sigma**2)
    return 2 * exponent / (torch.sqrt(beta_min**2 + 2 * beta_d * exponent) + beta_min)


def vp_sigma(time: float, beta_d: float, beta_min: float) -> float:
    """``sqrt(exp(β_d t²/2 + β_min t) − 1)``."""
    return math.sqrt(math.expm1(beta_d * time**2 / 2 + beta_min * time))
