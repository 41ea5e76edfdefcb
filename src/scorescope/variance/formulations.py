"""Three things that a model may learn, score, denoised point or noise, and how each becomes a score.

Given x at time t, ``x = α_t x0 + S_t^{1/2} n``, a model is trained on one of three targets, all of them random given x:

    score      s̃ = S⁻¹ (α x0 − x)        score of the output f:  f
    denoiser   x0                          S⁻¹ (α f − x)
    noise      n = S^{-1/2} (x − α x0)     −S^{-1/2} f

Each score is ``g S^p f`` plus something known, so one covariance serves all: a target with covariance K has the proxy
score's covariance ``C = g S^p K S^p g`` (Vastola, ICLR 2025, arXiv 2504.12532, appendix).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from scorescope.variance.processes import Process

Weight = Callable[[Process, Tensor, int], Tensor]
"""λ_t of a loss: (process, t (...), dimension) -> (...)."""

Signal = Literal["one", "alpha", "minus one"]


@dataclass(frozen=True)
class Formulation:
    """What a model's output means: ``score = g_t S_t^p output + offset``.

    Attributes:
        name: as users write it.
        exponent: p.
        signal: g.
    """

    name: str
    exponent: float
    signal: Signal

    def target(self, process: Process, clean: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """What a model is trained on at x (..., d), noisy version of clean (..., d) at t (...)."""
        return self.from_score(process, proxy_score(process, clean, x, t), x, t)

    def to_score(self, process: Process, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The score that an output (..., d) means."""
        return self.gain_times(process, output, t) + self.offset(process, x, t)

    def from_score(self, process: Process, score: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The output that means a score (..., d)."""
        without = score - self.offset(process, x, t)
        return process.covariance(t).power(-self.exponent).times(without) / self._signal(process, t)[..., None]

    def gain_times(self, process: Process, vectors: Tensor, t: Tensor) -> Tensor:
        """``g S^p v``: how the score moves when the output moves by vectors (..., d)."""
        return self._signal(process, t)[..., None] * process.covariance(t).power(self.exponent).times(vectors)

    def gain(self, process: Process, t: Tensor, dimension: int) -> Tensor:
        """``g S^p`` as matrices, (..., d, d)."""
        return self._signal(process, t)[..., None, None] * process.covariance(t).power(self.exponent).dense(dimension)

    def offset(self, process: Process, x: Tensor, t: Tensor) -> Tensor:
        """The score of a zero output, (..., d)."""
        return -process.covariance(t).power(-1).times(x) if self.name == "denoiser" else torch.zeros_like(x)

    def target_covariance(self, process: Process, proxy_covariance: Tensor, t: Tensor) -> Tensor:
        """Covariance of the target given x, from that of the proxy score, both (..., d, d)."""
        whitened = process.covariance(t).power(-self.exponent).on_both_sides(proxy_covariance)
        return whitened / (self._signal(process, t) ** 2)[..., None, None]

    def _signal(self, process: Process, t: Tensor) -> Tensor:
        if self.signal == "alpha":
            return process.alpha(t)
        return torch.full_like(t, 1.0 if self.signal == "one" else -1.0)


SCORE = Formulation("score", 0.0, "one")
DENOISER = Formulation("denoiser", -1.0, "alpha")
NOISE = Formulation("noise", -0.5, "minus one")
FORMULATIONS = {formulation.name: formulation for formulation in (SCORE, DENOISER, NOISE)}
"""All three by name."""


def proxy_score(process: Process, clean: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """``s̃ = S_t⁻¹ (α_t x0 − x)``, the training target whose mean given x is the score, (..., d)."""
    return process.covariance(t).power(-1).times(process.alpha(t)[..., None] * clean - x)


def unit_noise_weight(formulation: Formulation) -> Weight:
    """The λ_t that makes every formulation minimize the same loss, ``‖n̂ − n‖²``, where the noise is isotropic.

    It is ``tr S/d`` for scores, ``α² d / tr S`` for denoisers and 1 for noise.
    """

    def weight(process: Process, t: Tensor, dimension: int) -> Tensor:
        variance = process.mean_variance(t, dimension)
        if formulation.name == "score":
            return variance
        return process.alpha(t) ** 2 / variance if formulation.name == "denoiser" else torch.ones_like(t)

    return weight
