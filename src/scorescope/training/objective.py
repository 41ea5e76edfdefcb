"""What a network is trained on: which noise levels, how their errors are weighted, and what the target is.

Every objective is a weighted mean squared error of the denoised image, ``E w(σ) ‖D(x + σ n, σ) − target‖² / dim``:

- blind MSE (Kadkhodaie et al. 2024): ``σ = sigma_max u^power``, w = 1;
- EDM (Karras et al. 2022, equation 8 and table 1): ``ln σ ~ N(log_mean, log_std²)``, ``w = (σ² + σ_d²) / (σ σ_d)²``;
- DDPM (Ho et al. 2020, equation 14): σ uniform over a table of steps, ``w = 1/σ²``: the error of the predicted noise;
- score SDE (Song et al. 2021): the same weight, at uniform times of the VP process or log-uniform σ of the VE process;
- v-prediction (Salimans & Ho 2022): ``w = (1 + σ²)/σ²``: the error of ``v = a n − s x``;
- flow matching (Lipman et al. 2023): ``z = (1 − t) x + t n``, t uniform, so σ = t/(1 − t), ``w = 1/t²``: the error of n − x.

The *noisy* target is the clean image itself. Its mean given the noisy one is the optimal denoiser's answer, and with the
*closed-form* target the network is given that instead, which has no variance (Bertrand et al., arXiv 2506.03719).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal

import pydantic
import torch
from torch import Tensor

from scorescope.noise import ddpm_sigmas

Noise = Literal["power", "lognormal", "log-uniform", "ddpm", "ddpm-cosine", "vp", "cosine", "flow"]
Weight = Literal["uniform", "edm", "noise", "velocity", "flow"]
Target = Literal["noisy", "closed-form"]
_VP_BETAS, _VP_TIMES = (0.1, 19.9), (1e-5, 1.0)
# Of the cosine and of the straight path; σ up to 64 and 99: beyond, an image cannot be told from none.
_TIMES = (1e-3, 1 - 1e-2)


class Objective(pydantic.BaseModel):
    """Noise levels, weights and target.

    Attributes:
        noise: how σ is drawn: ``power``, ``lognormal``, ``log-uniform`` over [sigma_min, sigma_max], ``ddpm`` or
            ``ddpm-cosine`` (uniform over the linear or the cosine table of 1,000 steps), ``vp``, ``cosine`` or ``flow``
            (uniform time).
        sigma_min: lowest level of ``log-uniform``, in units of [-1, 1].
        sigma_max: highest level of ``power`` and ``log-uniform``; 2 is the 1 on [0, 1] of kadkhodaie2024.
        sigma_power: of ``power``; 1 is uniform, larger draws more small σ.
        log_mean: of ``lognormal``.
        log_std: of ``lognormal``.
        weight: ``uniform``, ``edm``, ``noise``, ``velocity`` or ``flow``, as above.
        sigma_data: σ_d of the ``edm`` weight, the standard deviation of the data.
        target: ``noisy`` or ``closed-form``.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    noise: Noise = "power"
    sigma_min: float = pydantic.Field(0.002, gt=0)
    sigma_max: float = pydantic.Field(2.0, gt=0)
    sigma_power: float = pydantic.Field(2.0, gt=0)
    log_mean: float = -1.2
    log_std: float = pydantic.Field(1.2, gt=0)
    weight: Weight = "uniform"
    sigma_data: float = pydantic.Field(0.5, gt=0)
    target: Target = "noisy"

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Objective:
        if self.noise == "log-uniform" and self.sigma_min >= self.sigma_max:
            raise ValueError("sigma_min must be below sigma_max")
        return self

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` noise levels, float32 (count,), on the CPU."""
        if self.noise == "lognormal":
            return (self.log_mean + self.log_std * torch.randn(count, generator=generator)).exp()
        uniform = torch.rand(count, generator=generator)
        if self.noise == "power":
            return self.sigma_max * uniform**self.sigma_power
        if self.noise == "log-uniform":
            low, high = math.log(self.sigma_min), math.log(self.sigma_max)
            return (low + (high - low) * uniform).exp()
        if self.noise in _PROCESSES:
            (start, end), sigma_at = _PROCESSES[self.noise]
            return sigma_at(start + (end - start) * uniform)
        table = self._table()
        return table[(uniform * len(table)).long().clamp(max=len(table) - 1)].float()

    def weights(self, sigma: Tensor) -> Tensor:
        """w(σ), (B,)."""
        if self.weight == "edm":
            return (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2
        if self.weight == "noise":
            return sigma**-2
        if self.weight == "velocity":
            return 1 + sigma**-2
        if self.weight == "flow":
            return (1 + 1 / sigma) ** 2
        return torch.ones_like(sigma)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Lowest and highest level that is drawn; of the normal in log σ, all but 1 in 16,000."""
        if self.noise == "lognormal":
            return math.exp(self.log_mean - 4 * self.log_std), math.exp(self.log_mean + 4 * self.log_std)
        if self.noise == "log-uniform":
            return self.sigma_min, self.sigma_max
        if self.noise.startswith("ddpm"):
            table = self._table()
            return float(table[-1]), float(table[0])
        if self.noise in _PROCESSES:
            times, sigma_at = _PROCESSES[self.noise]
            first, last = sigma_at(torch.tensor(times, dtype=torch.float64)).tolist()
            return first, last
        return 0.0, self.sigma_max

    def _table(self) -> Tensor:
        return _tables("cosine" if self.noise == "ddpm-cosine" else "linear")


@functools.cache
def _tables(schedule: str) -> Tensor:
    return ddpm_sigmas(schedule=schedule)


def _vp_sigma(time: Tensor) -> Tensor:
    beta_min, beta_d = _VP_BETAS
    return torch.expm1(beta_d * time**2 / 2 + beta_min * time).sqrt()


def _flow_sigma(time: Tensor) -> Tensor:
    return time / (1 - time)


def _cosine_sigma(time: Tensor) -> Tensor:
    return torch.tan(math.pi / 2 * time)


_PROCESSES: dict[str, tuple[tuple[float, float], Callable[[Tensor], Tensor]]] = {
    "vp": (_VP_TIMES, _vp_sigma),
    "cosine": (_TIMES, _cosine_sigma),
    "flow": (_TIMES, _flow_sigma),
}
