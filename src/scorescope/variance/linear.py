"""Linear models of the score, fitted in closed form to finitely many noisy targets, many at a time.

A model ``f = W φ(x, t)`` learns the score, the denoised point or the noise by weighted least squares with ridge η on P draws
of (x0, t, x): with t uniform in [ε, T],

    W = A (Σ + η I)⁻¹,   Σ = (1/P) Σ_p λ_p φ_p φ_pᵀ,   A = (1/P) Σ_p λ_p y_p φ_pᵀ

(Vastola, ICLR 2025, arXiv 2504.12532, section 5.1). Another P draws give another W: that is the randomness that the theory is
about. With η = 0, W is the limit of a vanishing ridge: the solution of least norm, also with more features than draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.variance.features import ProductFeatures
from scorescope.variance.formulations import DENOISER, Formulation, Weight, unit_noise_weight
from scorescope.variance.processes import Process
from scorescope.variance.proxy import PointProxy

# Without ridge, singular values below this share of the largest count as zero.
RANK_SHARE = 1e-10
CHUNK_BYTES = 2**27

Target = Callable[[PointProxy, Formulation, Tensor, Tensor, Tensor], Tensor]
"""What is learned: (points, formulation, clean (..., d), x (..., d), t (...)) -> (..., d)."""


def noisy_target(proxy: PointProxy, formulation: Formulation, clean: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The usual target, which knows the clean point that x came from."""
    return clean if formulation is DENOISER else formulation.target(proxy.process, clean, x, t)


def exact_target(proxy: PointProxy, formulation: Formulation, clean: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The mean of the usual target given x, in closed form: a target without variance."""
    if formulation is DENOISER:
        return proxy.denoised(x, t)
    return formulation.from_score(proxy.process, proxy.score(x, t), x, t)


@dataclass(frozen=True)
class LinearTraining:
    """How a linear model is fitted.

    Attributes:
        samples: P, draws for each model.
        ridge: η ≥ 0; 0 is the limit of a vanishing ridge.
        formulation: what the model's output means.
        weight: λ_t; by default the one with which every formulation has the loss ``‖n̂ − n‖²``.
        target: what is learned, `noisy_target` or `exact_target`.
    """

    samples: int = 1024
    ridge: float = 0.1
    formulation: Formulation = DENOISER
    weight: Weight | None = None
    target: Target = noisy_target

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"a model is fitted to at least one sample, found {self.samples}")
        if not 0 <= self.ridge < math.inf:
            raise UserError(f"the ridge η must be a number ≥ 0, found {self.ridge:g}")

    def weights(self, process: Process, t: Tensor, dimension: int) -> Tensor:
        """λ at times (...).

        Raises:
            UserError: a weight that is not finite, as that of denoisers is at t = 0.
        """
        chosen = self.weight or unit_noise_weight(self.formulation)
        found = chosen(process, t, dimension)
        if not bool(torch.isfinite(found).all()):
            raise UserError("the weight λ_t of the loss is infinite at some time: choose ε > 0 or another weight")
        return found


@dataclass(frozen=True)
class LinearModels:
    """Some linear models with the same features.

    Attributes:
        process: the forward process.
        features: φ.
        formulation: what the outputs mean.
        weights: W, float64 (M, d, F).
    """

    process: Process
    features: ProductFeatures
    formulation: Formulation
    weights: Tensor

    def __len__(self) -> int:
        """M."""
        return len(self.weights)

    def output(self, x: Tensor, t: Tensor) -> Tensor:
        """W φ of all models at the same points: x (..., d), t (...) -> (M, ..., d)."""
        flat = self.features(x, torch.as_tensor(t, dtype=torch.float64).expand(x.shape[:-1])).flatten(0, -2)
        return (self.weights @ flat.T).mT.reshape(len(self), *x.shape)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """The scores that the outputs mean: x (..., d), t (...) -> (M, ..., d)."""
        times = torch.as_tensor(t, dtype=torch.float64).expand(x.shape[:-1])
        return self.formulation.to_score(self.process, self.output(x, times), x, times)


def fit_linear(
    proxy: PointProxy, features: ProductFeatures, training: LinearTraining, models: int, generator: torch.Generator
) -> LinearModels:
    """Fit several models, each to P draws of its own.

    Args:
        proxy: the data points and the forward process.
        features: φ.
        training: how each is fitted.
        models: M.
        generator: of the draws.

    Raises:
        UserError: features of another dimension; no model; weights that are not finite.
    """
    if features.dimension != proxy.dimension:
        raise UserError(f"the features take {features.dimension} coordinates, the points have {proxy.dimension}")
    if models < 1:
        raise UserError(f"the number of models must be at least 1, found {models}")
    _check_start(proxy, training)
    at_once = max(1, min(models, CHUNK_BYTES // (8 * training.samples * features.count)))
    weights = []
    for first in range(0, models, at_once):
        count = min(at_once, models - first)
        clean, t, x = proxy.draw_training(count * training.samples, generator)
        targets = training.target(proxy, training.formulation, clean, x, t)
        shape = (count, training.samples, -1)
        values = features(x, t).reshape(shape)
        root = training.weights(proxy.process, t, proxy.dimension).sqrt().reshape(shape)
        weights.append(least_squares(values.mul_(root), targets.reshape(shape) * root, training.ridge))
    return LinearModels(proxy.process, features, training.formulation, torch.cat(weights))


def least_squares(features: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """``argmin_W (1/P) Σ ‖y_p − W φ_p‖² + η ‖W‖²``, the limit η → 0 if η is 0.

    Args:
        features: φ, (M, P, F), each row times the root of its weight.
        targets: y, (M, P, d), likewise.
        ridge: η.

    Returns:
        W, (M, d, F).
    """
    samples, count = features.shape[-2:]
    if ridge == 0:
        return _of_least_norm(features, targets)
    if samples >= count:
        gram = features.mT @ features / samples
        gram.diagonal(dim1=-2, dim2=-1).add_(ridge)
        return _solved(gram, features.mT @ targets / samples).mT
    # Φᵀ (Φ Φᵀ + P η)⁻¹ y is the same with a smaller matrix.
    gram = features @ features.mT
    gram.diagonal(dim1=-2, dim2=-1).add_(ridge * samples)
    return (features.mT @ _solved(gram, targets)).mT


def _solved(gram: Tensor, moments: Tensor) -> Tensor:
    """``gram⁻¹ moments`` for positive matrices (M, n, n) and (M, n, d).

    By Cholesky: PyTorch 2.13's LU factorization of a batch, on two threads, returns wrong numbers once networks have been
    trained in the same process.
    """
    factor = torch.linalg.cholesky(gram)
    half = torch.linalg.solve_triangular(factor, moments, upper=False)
    solved: Tensor = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    return solved


def _of_least_norm(features: Tensor, targets: Tensor) -> Tensor:
    left, values, right = torch.linalg.svd(features, full_matrices=False)
    kept = values > RANK_SHARE * values[..., :1]
    inverse = torch.where(kept, 1 / torch.where(kept, values, 1.0), 0.0)
    found: Tensor = (right.mT @ (inverse[..., None] * (left.mT @ targets))).mT
    return found


def _check_start(proxy: PointProxy, training: LinearTraining) -> None:
    """Raises where the weight is infinite at the first time, which no draw would show."""
    training.weights(proxy.process, torch.tensor([proxy.process.epsilon], dtype=torch.float64), proxy.dimension)
