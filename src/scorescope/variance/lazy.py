"""The lazy network: kernel regression with the tangent kernel, trained for a finite time, and its V-kernel.

With the loss ``½ Σ_p λ_p ‖f(a_p) − y_p‖²`` over P draws, gradient flow for the time τ takes a lazy network from f₀ to

    f(a) = f₀(a) + R(a) (y − f₀(X)),    R(a) = K(a, X) Λ^½ g_τ(Λ^½ K(X, X) Λ^½) Λ^½,    g_τ(m) = (1 − e^{−mτ}) / m

(Vastola, ICLR 2025, arXiv 2504.12532, proposition 5.2; with equal weights R is the ``K(a,X) K(X,X)⁻¹ (I − e^{−Kτ})`` of the
paper). f is linear in targets and start, so at given draws a_p its mean and covariance over the targets' noise and the
initializations are exact:

    E f(a) = E f₀(a) + R(a) (m(X) − E f₀(X)),    Cov[f(a), f(b)] = Σ_p R_p(a) Cov[y | a_p] R_p(b)ᵀ + Cov[f₀ − R f₀(X)],

with m the exact target. For τ → ∞ it is kernel regression that passes through the noisy targets, so that at the draws
themselves the covariance is that of the targets: the naive estimator's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.variance.formulations import DENOISER, Formulation, Weight, unit_noise_weight
from scorescope.variance.processes import Process
from scorescope.variance.tangent_kernels import TangentKernel
from scorescope.variance.v_kernel import SmoothKernel

Inputs = Callable[[Process, Tensor, Tensor], Tensor]
"""What the network sees of x (n, d) at t (n,): (n, k)."""


class Truth(Protocol):
    """What a lazy network needs to know of the data: a `PointProxy`, or a distribution whose scores are known."""

    @property
    def process(self) -> Process:
        """The forward process."""

    @property
    def dimension(self) -> int:
        """d."""

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """The exact score, (n, d)."""

    def covariance(self, x: Tensor, t: Tensor) -> Tensor:
        """C, (n, d, d)."""


def scaled_inputs(process: Process, x: Tensor, t: Tensor) -> Tensor:
    """``x / √(α² + tr S/d)`` and a quarter of the logarithm of ``√(tr S/d) / α``, EDM's two inputs: (n, d), (n,) -> (n, d +"
    " 1)."""
    variance, signal = process.mean_variance(t, x.shape[-1]), process.alpha(t)
    size = (signal**2 + variance).sqrt()
    return torch.cat([x / size[:, None], (variance.sqrt() / signal).log()[:, None] / 4], dim=1)


@dataclass(frozen=True)
class LazyTraining:
    """How a lazy network is trained.

    Attributes:
        time: τ > 0, of gradient flow on the summed loss; infinite for kernel regression.
        formulation: what its outputs mean.
        weight: λ_t of the loss; None for equal weights, as the paper has them.
        inputs: what it sees of (x, t).
    """

    time: float = math.inf
    formulation: Formulation = DENOISER
    weight: Weight | None = None
    inputs: Inputs = scaled_inputs

    def __post_init__(self) -> None:
        if not self.time > 0:
            raise UserError(f"the training time τ must be positive, found {self.time:g}")


def noise_weighted(time: float, formulation: Formulation = DENOISER) -> LazyTraining:
    """Training with the weight that makes every formulation minimize ``‖n̂ − n‖²``."""
    return LazyTraining(time, formulation, unit_noise_weight(formulation))


class LazyNetwork(SmoothKernel):
    """A lazy network trained at given noisy points: its average, its V, and single draws of it.

    Args:
        proxy: the data and the forward process.
        kernel: the tangent kernel.
        training: how it is trained.
        x: the noisy points it is trained at, (P, d).
        t: their times, (P,).

    Raises:
        UserError: no point; with infinite time, points at which the kernel matrix is singular (two that are equal).
    """

    name = "lazy network"

    def __init__(self, proxy: Truth, kernel: TangentKernel, training: LazyTraining, x: Tensor, t: Tensor) -> None:
        super().__init__(proxy.process, proxy.dimension)
        if x.ndim != 2 or not len(x) or x.shape[1] != proxy.dimension or t.shape != (len(x),):
            raise UserError(
                f"training points are (P, {proxy.dimension}) with times (P,), found {tuple(x.shape)} and {tuple(t.shape)}"
            )
        self.proxy, self.kernel, self.training = proxy, kernel, training
        self.x, self.t = x.double(), t.double()
        self.blocks = self.dimension if kernel.coupled else 1
        self._inputs = training.inputs(self.process, self.x, self.t)
        weight = torch.ones_like(self.t)
        if training.weight is not None:
            weight = training.weight(self.process, self.t, self.dimension)
        self._root = weight.sqrt().repeat_interleave(self.blocks)
        gram = _flat(kernel.between(self._inputs, self._inputs))
        values, vectors = torch.linalg.eigh(self._root[:, None] * gram * self._root)
        self._middle = self._root[:, None] * (vectors * _response(values, training.time)) @ vectors.T * self._root
        exact = proxy.score(self.x, self.t)
        self.mean_targets = training.formulation.from_score(self.process, exact, self.x, self.t)  # (P, d)
        spread = proxy.covariance(self.x, self.t)
        self.target_covariance = training.formulation.target_covariance(self.process, spread, self.t)  # (P, d, d)

    def response(self, x: Tensor, t: Tensor) -> Tensor:
        """R, how outputs at (n, d), (n,) follow the targets: (n, P, c, c) with c = d if outputs are coupled, else 1."""
        rows = _flat(self.kernel.between(self._at(x, t), self._inputs)) @ self._middle
        blocks: Tensor = rows.reshape(len(x), self.blocks, len(self.x), self.blocks).transpose(1, 2)
        return blocks

    def output(self, x: Tensor, t: Tensor, targets: Tensor, start: Tensor, start_there: Tensor) -> Tensor:
        """What one trained network answers.

        Args:
            x: (n, d).
            t: (n,).
            targets: y that it was trained on, (P, d).
            start: f₀ at (x, t), (n, d).
            start_there: f₀ at the training points, (P, d).

        Returns:
            (n, d).
        """
        return start + self._follow(self.response(x, t), targets - start_there)

    def mean_output(self, x: Tensor, t: Tensor) -> Tensor:
        """``E f`` over the targets' noise and the initializations, (n, d)."""
        there = self.kernel.start_mean(self._inputs, self.dimension)
        here = self.kernel.start_mean(self._at(x, t), self.dimension)
        return self.output(x, t, self.mean_targets, here, there)

    def output_covariance(self, x: Tensor, t: Tensor, other_x: Tensor, other_t: Tensor) -> Tensor:
        """``Cov[f(a), f(b)]`` of all pairs of n and m points, (n, m, d, d)."""
        left = self.response(x, t)
        right = left if other_x is x and other_t is t else self.response(other_x, other_t)
        return self._of_targets(left, right) + self._of_start(x, t, left, other_x, other_t, right)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """See `VKernel.score`."""
        flat, times = self._rows(x, t)
        output = self.mean_output(flat, times)
        return self.training.formulation.to_score(self.process, output, flat, times).reshape(x.shape)

    def covariance(self, x: Tensor, t: Tensor, other_x: Tensor, other_t: Tensor) -> Tensor:
        """See `SmoothKernel.covariance`."""
        if x.ndim > 2:
            first, second = x.flatten(0, -3), other_x.flatten(0, -3)
            times, other_times = (v.expand(w.shape[:-1]).flatten(0, -2) for v, w in ((t, x), (other_t, other_x)))
            pieces = [self.covariance(*one) for one in zip(first, times, second, other_times, strict=True)]
            return torch.stack(pieces).reshape(*x.shape[:-1], other_x.shape[-2], self.dimension, self.dimension)
        pairs = self.output_covariance(x, t, other_x, other_t)
        return self._velocity(t)[:, None] @ pairs @ self._velocity(other_t).mT[None]

    def trace(self, x: Tensor, t: Tensor) -> Tensor:
        """See `VKernel.trace`."""
        flat, times = self._rows(x, t)
        pairs = torch.cat(
            [self._own(*part) for part in zip(torch.split(flat, 256), torch.split(times, 256), strict=True)]
        )
        gain = self._velocity(times)
        return (gain @ pairs @ gain.mT).diagonal(dim1=-2, dim2=-1).sum(-1).reshape(x.shape[:-1])

    def _own(self, x: Tensor, t: Tensor) -> Tensor:
        """``Cov[f(a), f(a)]``, (n, d, d)."""
        here = torch.arange(len(x))
        return self.output_covariance(x, t, x, t)[here, here]

    def _of_targets(self, left: Tensor, right: Tensor) -> Tensor:
        """``Σ_p R_p(a) Cov[y | a_p] R_p(b)ᵀ``, (n, m, d, d)."""
        if self.blocks == 1:
            return torch.einsum("np,pij,mp->nmij", left[..., 0, 0], self.target_covariance, right[..., 0, 0])
        return torch.einsum("npia,pab,mpjb->nmij", left, self.target_covariance, right)

    def _of_start(self, x: Tensor, t: Tensor, left: Tensor, other_x: Tensor, other_t: Tensor, right: Tensor) -> Tensor:
        """``Cov[f₀(a) − R f₀(X), f₀(b) − R f₀(X)]``, (n, m, d, d)."""
        covariance, first, second = self.kernel.start_covariance, self._at(x, t), self._at(other_x, other_t)
        rows = left.transpose(1, 2).reshape(len(x) * self.blocks, -1)
        columns = right.transpose(1, 2).reshape(len(other_x) * self.blocks, -1)
        both = (
            _flat(covariance(first, second))
            - rows @ _flat(covariance(self._inputs, second))
            - _flat(covariance(first, self._inputs)) @ columns.T
            + rows @ _flat(covariance(self._inputs, self._inputs)) @ columns.T
        )
        found = both.reshape(len(x), self.blocks, len(other_x), self.blocks).transpose(1, 2)
        if self.blocks == 1:
            return found * torch.eye(self.dimension, dtype=torch.float64)
        return found

    def _follow(self, response: Tensor, vectors: Tensor) -> Tensor:
        """``Σ_p R_p v_p``: (n, P, c, c), (P, d) -> (n, d)."""
        return response[..., 0, 0] @ vectors if self.blocks == 1 else torch.einsum("npij,pj->ni", response, vectors)

    def _velocity(self, t: Tensor) -> Tensor:
        """``D g S^p``, what an output's deviation is multiplied by in the velocity, (n, d, d)."""
        return self.process.diffusion(t).dense(self.dimension) @ self.training.formulation.gain(
            self.process, t, self.dimension
        )

    def _at(self, x: Tensor, t: Tensor) -> Tensor:
        return self.training.inputs(self.process, x, t)

    def _rows(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        times = torch.as_tensor(t, dtype=torch.float64).expand(x.shape[:-1])
        return x.reshape(-1, self.dimension), times.reshape(-1)


def _response(values: Tensor, time: float) -> Tensor:
    """``g_τ(m) = (1 − e^{−mτ})/m`` of eigenvalues (n,) ≥ 0; its limit is τ at 0 and 1/m for infinite time."""
    if math.isinf(time):
        if float(values.min()) <= 1e-13 * float(values.max()):
            raise UserError(
                "the tangent kernel is singular at these training points, so training without end has no limit: leave equal"
                " points out, or choose a finite time"
            )
        return 1 / values
    values = values.clamp(min=0.0)
    small = values * time < 1e-8
    return torch.where(small, time, -torch.expm1(-values * time) / torch.where(small, 1.0, values))


def _flat(blocks: Tensor) -> Tensor:
    """(n, m, c, c) -> (n c, m c)."""
    n, m, c, _ = blocks.shape
    return blocks.transpose(1, 2).reshape(n * c, m * c)
