"""Samples as the analytic models are sampled: ten DDIM steps from the same noise, the clean image clipped in each.

With η = 0 a DDIM step from ``x_t = √ᾱ_t x + √(1 − ᾱ_t) n`` keeps the noise that the denoised image leaves. For
``y = x_t / √ᾱ_t`` and ``σ_t = √((1 − ᾱ_t)/ᾱ_t)`` that is an Euler step of the probability-flow ODE in σ. Noise follows from the
*clipped* image here; the last step gives the denoised image itself.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from torch import Tensor

from scorescope.denoisers import Denoiser
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.lenses.drawing import guarded
from scorescope.noise import ddpm_sigmas
from scorescope.sampling import euler, last
from scorescope.study.workspace import Workspace
from scorescope.training.randomness import mixed

Images = npt.NDArray[np.float32]
TABLE = 1000
TIMES = tuple(range(900, -1, -100))


class SamplingConfig(pydantic.BaseModel):
    """How every denoiser is sampled.

    Attributes:
        times: steps of the DDPM table, from 0 to 999, decreasing.
        count: samples of every denoiser.
        at_once: samples in a cell.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    times: tuple[int, ...] = pydantic.Field(TIMES, min_length=2)
    count: int = pydantic.Field(128, ge=2)
    at_once: int = pydantic.Field(32, ge=1)


@dataclass(frozen=True)
class Sampled:
    """Samples of every denoiser from the same noise.

    Attributes:
        images: denoiser -> (n, C, H, W) in [-1, 1].
        seconds: denoiser -> processor seconds a step of one sample, set-up left out.
    """

    images: dict[str, Images]
    seconds: dict[str, float]


def sigmas_of(times: Sequence[int]) -> list[float]:
    """Noise levels ``σ_t`` of the linear table, β from 1e-4 to 0.02 in 1,000 steps, counted from 0.

    Raises UserError unless the times decrease within 0 to 999.
    """
    if any(later >= earlier for earlier, later in itertools.pairwise(times)) or not all(0 <= t < TABLE for t in times):
        raise UserError(f"sampling.times decrease from at most {TABLE - 1} to at least 0, found {list(times)}")
    table = ddpm_sigmas(TABLE).flip(0)
    return [float(table[t]) for t in times]


def starts(rows: range, shape: tuple[int, int, int], sigma: float, seed: int) -> Tensor:
    """Unit noise in units of y at the first level, (n, C, H, W): start i does not depend on how many there are."""
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(mixed(seed, row))) for row in rows]
    return math.sqrt(1 + sigma**2) * torch.stack(noise)


def sample(
    denoisers: Mapping[str, Denoiser],
    keys: Mapping[str, str],
    sigmas: Sequence[float],
    config: SamplingConfig,
    seed: int,
    workspace: Workspace,
) -> Sampled:
    """Sample every denoiser, in cells of a few samples each.

    Args:
        denoisers: by name.
        keys: name -> what cells call it; equal for equal denoisers.
        sigmas: noise levels, decreasing.
        config: how many.
        seed: of the noise.
        workspace: of the run.
    """
    images, seconds = {}, {}
    for name, denoiser in denoisers.items():
        parts, took = [], 0.0
        for first in track(range(0, config.count, config.at_once), f"sampling with {name}"):
            rows = range(first, min(first + config.at_once, config.count))
            cell = workspace.computed(
                f"shared noise/{keys[name]}/{first}",
                lambda: _cell(denoiser, rows, sigmas, seed, workspace.device),  # noqa: B023
            )
            parts.append(cell["images"])
            took += cell["seconds"]
        images[name], seconds[name] = np.concatenate(parts), took / (config.count * len(sigmas))
    return Sampled(images, seconds)


def _cell(
    denoiser: Denoiser, rows: range, sigmas: Sequence[float], seed: int, device: torch.device
) -> dict[str, Images | float]:
    start = starts(rows, denoiser.image_shape, sigmas[0], seed)
    with torch.no_grad():  # a first answer sets up what is kept: masks, coefficients, compiled kernels
        for sigma in sigmas:
            denoiser(start[:1].to(device), sigma)
    clipped = Clipped(denoiser, device)
    final: Tensor = last(euler(clipped, start, sigmas)).noisy
    return {"images": final.float().numpy(), "seconds": clipped.seconds}


class Clipped:
    """A denoiser on a device whose images are clipped to [-1, 1], and the processor seconds that it took."""

    def __init__(self, denoiser: Denoiser, device: torch.device) -> None:
        self.denoise = guarded(denoiser, device)
        self.seconds = 0.0

    def __call__(self, noisy: Tensor, sigma: float) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        started = time.process_time()
        denoised = self.denoise(noisy, sigma)
        self.seconds += time.process_time() - started
        return denoised.clamp(-1.0, 1.0)
