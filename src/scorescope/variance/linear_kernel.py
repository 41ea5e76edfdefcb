"""The V-kernel of linear models: from the theory's formula, or from the spread of models that were fitted.

The field ``ŝ = g S^p W φ + offset`` is linear in W, so its covariance over training runs is that of W seen through the
features, ``Cov[ŝ(a), ŝ(b)] = g_a S_a^p (Σ_{fg} φ_f(a) Cov[W_f, W_g] φ_g(b)) S_b^p g_b``. Three ways to Cov[W]:

* `noise_kernel`, proposition 5.1 of Vastola, ICLR 2025, arXiv 2504.12532: only the target's own noise counts,
  ``Cov[W] = (1/P) Σ_η⁻¹ E[λ² φ φᵀ ⊗ K] Σ_η⁻¹`` with K the covariance of the target given x and ``Σ_η = Σ + η I``. Put
  into the line above it reads ``(1/P) E_c[λ_c² k(a; c) C(c) k(c; b)]`` with ``k(a; b) = φ(a)ᵀ Σ_η⁻¹ φ(b)``.
* `misfit_kernel`: the whole leading order in 1/P. Where the features cannot follow the mean target m(x, t), a draw's
  residual ``y − W φ`` also varies with where the draw fell, and K becomes ``K + (m − W φ)(m − W φ)ᵀ``, minus the
  square of the residual's mean, which the ridge makes ``η W``.
* `fitted_kernel`: the sample covariance over fitted models, at any P.

The first two are asymptotic: they are exact for P ≫ F, and the studies measure where they stop being so.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.variance.features import ProductFeatures
from scorescope.variance.formulations import Formulation
from scorescope.variance.linear import LinearModels, LinearTraining
from scorescope.variance.population import PopulationMoments
from scorescope.variance.processes import Process
from scorescope.variance.proxy import PointProxy
from scorescope.variance.v_kernel import SmoothKernel, root_of


class LinearKernel(SmoothKernel):
    """Mean and covariance of the field of a linear model whose W has a given mean and covariance.

    Args:
        name: in tables.
        process: the forward process.
        features: φ.
        formulation: what the model's output means.
        mean: of W, (d, F).
        covariance: of W, (d, F, d, F).
    """

    def __init__(
        self,
        name: str,
        process: Process,
        features: ProductFeatures,
        formulation: Formulation,
        mean: Tensor,
        covariance: Tensor,
    ) -> None:
        super().__init__(process, features.dimension)
        self.name, self.features, self.formulation = name, features, formulation
        self.weight_mean, self.weight_covariance = mean, covariance
        self._average = LinearModels(process, features, formulation, mean[None])

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """See `VKernel.score`."""
        return self._average.score(x, t)[0]

    def covariance(self, x: Tensor, t: Tensor, other_x: Tensor, other_t: Tensor) -> Tensor:
        """See `SmoothKernel.covariance`."""
        left, right = self.features(x, t), self.features(other_x, other_t)
        middle = torch.einsum("...kf,ifjg->...kijg", left, self.weight_covariance)
        pairs = torch.einsum("...kijg,...lg->...klij", middle, right)
        return (
            self._velocity(x, t)[..., :, None, :, :] @ pairs @ self._velocity(other_x, other_t).mT[..., None, :, :, :]
        )

    def trace(self, x: Tensor, t: Tensor) -> Tensor:
        """See `VKernel.trace`."""
        times = torch.as_tensor(t, dtype=torch.float64).expand(x.shape[:-1])
        rows, flat_t = x.reshape(-1, self.dimension), times.reshape(-1)
        values = self.features(rows, flat_t)
        spread = torch.empty(len(rows), self.dimension, self.dimension, dtype=torch.float64)
        for i in range(self.dimension):
            for j in range(self.dimension):
                spread[:, i, j] = ((values @ self.weight_covariance[i, :, j]) * values).sum(-1)
        gain = self._velocity(rows, flat_t)
        return (gain @ spread @ gain.mT).diagonal(dim1=-2, dim2=-1).sum(-1).reshape(x.shape[:-1])

    def sample_models(self, count: int, generator: torch.Generator) -> LinearModels:
        """Models whose W is Gaussian with this mean and covariance: each is one draw of the whole field, exactly.

        Args:
            count: number of models.
            generator: of the draws.
        """
        size = self.weight_mean.numel()
        factor = root_of(self.weight_covariance.reshape(size, size))
        draws = torch.randn(count, size, generator=generator, dtype=torch.float64) @ factor.T
        return replace(self._average, weights=self.weight_mean + draws.reshape(count, *self.weight_mean.shape))

    def _velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """``D g S^p``, what the output's deviation is multiplied by in the velocity, (..., d, d)."""
        times = torch.as_tensor(t, dtype=torch.float64).expand(x.shape[:-1])
        gain = self.formulation.gain(self.process, times, self.dimension)
        return self.process.diffusion(times).dense(self.dimension) @ gain


def noise_kernel(proxy: PointProxy, features: ProductFeatures, training: LinearTraining) -> LinearKernel:
    """The kernel of proposition 5.1: the target's noise alone.

    Args:
        proxy: the data points and the forward process.
        features: φ.
        training: how a model is fitted.

    Raises:
        UserError: more than two dimensions; without ridge, features that are not independent of each other.
    """
    moments = PopulationMoments(proxy, features, training)
    inverse = _inverse(moments.gram(), training.ridge)
    mean = moments.moments() @ inverse
    noise = moments.weighted(moments.target_covariance)
    return _sandwich("proposition 5.1", moments, inverse, mean, noise)


def misfit_kernel(proxy: PointProxy, features: ProductFeatures, training: LinearTraining) -> LinearKernel:
    """All of the variance at leading order in 1/P: the target's noise and the features' misfit.

    Arguments and errors as `noise_kernel` has them.
    """
    moments = PopulationMoments(proxy, features, training)
    inverse = _inverse(moments.gram(), training.ridge)
    mean = moments.moments() @ inverse
    average = LinearModels(proxy.process, features, training.formulation, mean[None])

    def residual(x: Tensor, t: Tensor) -> Tensor:
        missed = moments.mean_target(x, t) - average.output(x, t)[0]
        return moments.target_covariance(x, t) + missed[..., :, None] * missed[..., None, :]

    noise = moments.weighted(residual)
    noise -= training.ridge**2 * mean[:, :, None, None] * mean[None, None, :, :]
    return _sandwich("leading order", moments, inverse, mean, noise)


def fitted_kernel(models: LinearModels) -> LinearKernel:
    """The sample mean and covariance of fitted models. Raises UserError if there are fewer than two."""
    if len(models) < 2:
        raise UserError("a covariance over models takes at least two of them, found 1")
    mean = models.weights.mean(0)
    away = (models.weights - mean).flatten(1)
    shape = (*mean.shape, *mean.shape)
    covariance = (away.T @ away / (len(models) - 1)).reshape(shape)
    return LinearKernel("fitted models", models.process, models.features, models.formulation, mean, covariance)


def _sandwich(name: str, moments: PopulationMoments, inverse: Tensor, mean: Tensor, noise: Tensor) -> LinearKernel:
    training, features = moments.training, moments.features
    covariance = torch.einsum("fp,ipjq,qg->ifjg", inverse, noise, inverse) / training.samples
    return LinearKernel(name, moments.proxy.process, features, training.formulation, mean, covariance)


def _inverse(gram: Tensor, ridge: float) -> Tensor:
    """``(Σ + η I)⁻¹``."""
    whole = gram + ridge * torch.eye(len(gram), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(whole)
    if float(values[0]) <= 1e-13 * float(values[-1]):
        raise UserError(
            f"the features are not independent under the training draws (their Gram matrix has eigenvalues from"
            f" {float(values[0]):.1e} to {float(values[-1]):.1e}): use a ridge η > 0 or fewer features"
        )
    inverse: Tensor = (vectors / values) @ vectors.mT
    return inverse
