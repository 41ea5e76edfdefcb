"""The score of a finite set of points, and the covariance of the noisy target that stands in for it in training.

If the data are points μ_n with weights w_n, the noisy density is the mixture ``p(x|t) = Σ w_n N(x; α_t μ_n, S_t)``. A model is
not trained on its score s but on the *proxy score* ``s̃ = S⁻¹ (α x0 − x)``, which depends on the x0 that x came from. It is
right on average, ``E[s̃ | x, t] = s``, and its covariance

    C(x, t) = S⁻¹ α² Cov[x0 | x, t] S⁻¹ = S⁻¹ + ∇² log p(x | t)

is large where x may have come from several points: the *boundary regions* (Vastola, ICLR 2025, arXiv 2504.12532, section 3).
All of it is in closed form, float64, in any dimension; t is (...), x is (..., d).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.variance.formulations import Formulation, proxy_score
from scorescope.variance.processes import Process

CHUNK = 2**22  # numbers in the largest intermediate array
# Squared distances along directions without noise that differ by less than this share count as equal.
SAME_DISTANCE = 1e-12


class PointProxy:
    """Score, proxy score and proxy covariance of a set of points under a forward process.

    Args:
        process: the forward process.
        points: data, (N, d).
        weights: their probabilities up to a factor, (N,), ≥ 0; equal by default. Duplicates are allowed.

    Raises:
        UserError: no point, points that are not finite, weights that are no probabilities, another dimension than the noise.

    Attributes:
        dimension: d.
    """

    def __init__(self, process: Process, points: Tensor, weights: Tensor | None = None) -> None:
        points = torch.as_tensor(points, dtype=torch.float64)
        if points.ndim != 2 or 0 in points.shape:
            raise UserError(f"points have the shape (N, d), N and d at least 1, found {tuple(points.shape)}")
        if not bool(torch.isfinite(points).all()):
            raise UserError("the points hold NaN or infinite values")
        given = torch.ones(len(points)) if weights is None else torch.as_tensor(weights)
        given = given.double()
        if given.shape != (len(points),) or bool((given < 0).any()) or not 0 < float(given.sum()) < math.inf:
            raise UserError(f"{len(points)} points take as many weights ≥ 0, not all zero, found {tuple(given.shape)}")
        wanted = process.diffusion(torch.tensor(process.horizon, dtype=torch.float64)).dimension
        if wanted not in (None, points.shape[1]):
            raise UserError(f"the noise has {wanted} dimensions, the points have {points.shape[1]}")
        self.process, self.points, self.weights = process, points, given / given.sum()
        self.dimension = points.shape[1]

    def posterior(self, x: Tensor, t: Tensor) -> Tensor:
        """Probability that x came from each point, (..., N).

        Where S_t is singular, at t = 0 or along directions without noise, it is the limit of vanishing noise there: only
        the nearest points along those directions count.
        """
        return self._by_chunks(lambda x, t: _shares(self._logits(x, t)), x, t)

    def denoised(self, x: Tensor, t: Tensor) -> Tensor:
        """``E[x0 | x, t]``, (..., d); at t = 0 the nearest point."""
        return self.posterior(x, t) @ self.points

    def clean_covariance(self, x: Tensor, t: Tensor) -> Tensor:
        """``Cov[x0 | x, t]``, (..., d, d)."""

        def covariance(x: Tensor, t: Tensor) -> Tensor:
            shares = _shares(self._logits(x, t))
            centred = self.points - (shares @ self.points)[..., None, :]
            return (shares[..., None] * centred).mT @ centred

        return self._by_chunks(covariance, x, t)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """``s = S⁻¹ (α E[x0|x,t] − x)``, (..., d). Raises UserError where S_t is singular."""
        return proxy_score(self.process, self.denoised(x, t), x, t)

    def covariance(self, x: Tensor, t: Tensor) -> Tensor:
        """C, (..., d, d). Raises UserError where S_t is singular."""
        scale = (self.process.alpha(t) ** 2)[..., None, None]
        return scale * self.process.covariance(t).power(-1).on_both_sides(self.clean_covariance(x, t))

    def trace(self, x: Tensor, t: Tensor) -> Tensor:
        """``tr C``, (...)."""
        return self.covariance(x, t).diagonal(dim1=-2, dim2=-1).sum(-1)

    def fraction(self, x: Tensor, t: Tensor) -> Tensor:
        """``tr C / (tr C + ‖s‖²)``, how much of the target's size is noise, (...); the paper's figure 1.

        Where both vanish, as at a point that is alone, it is 0: the target has no noise.
        """
        noise, size = self.trace(x, t), self.score(x, t).square().sum(-1)
        whole = noise + size
        return torch.where(whole > 0, noise / whole.clamp(min=torch.finfo(torch.float64).tiny), 0.0)

    def products(self, x: Tensor, t: Tensor, vectors: Tensor) -> Tensor:
        """``C v`` for vectors (..., d)."""
        return (self.covariance(x, t) @ vectors[..., None])[..., 0]

    def leading(self, x: Tensor, t: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The largest eigenvalues of C in descending order, (..., k), and their directions, (..., k, d).

        Raises:
            UserError: count not between 1 and d.
        """
        if not 1 <= count <= self.dimension:
            raise UserError(f"{self.dimension} dimensions have between 1 and {self.dimension} directions, not {count}")
        values, vectors = torch.linalg.eigh(self.covariance(x, t))
        return values.flip(-1)[..., :count], vectors.flip(-1).mT[..., :count, :]

    def target_covariance(self, formulation: Formulation, x: Tensor, t: Tensor) -> Tensor:
        """Covariance of a formulation's training target given x, (..., d, d)."""
        return formulation.target_covariance(self.process, self.covariance(x, t), t)

    def log_density(self, x: Tensor, t: Tensor) -> Tensor:
        """``log p(x | t)``, nats, (...); differentiable in x. Raises UserError where S_t is singular."""
        noise = self.process.covariance(t)
        noise.power(-1)  # raises where the density does not exist
        whole = self._by_chunks(lambda x, t: torch.logsumexp(self._logits(x, t), -1), x, t)
        return whole - (noise.log_determinant(self.dimension) + self.dimension * math.log(2 * math.pi)) / 2

    def draw_clean(self, x: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        """Points drawn from ``p(x0 | x, t)``, one for each x, (..., d)."""
        shares = self.posterior(x, t)
        chosen = torch.multinomial(shares.reshape(-1, len(self.points)), 1, generator=generator)
        return self.points[chosen[:, 0]].reshape(x.shape)

    def draw_training(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Training samples: clean points (count, d), times uniform in [ε, T] (count,), noisy points (count, d)."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        share = torch.rand(count, generator=generator, dtype=torch.float64)
        t = self.process.epsilon + share * (self.process.horizon - self.process.epsilon)
        clean = self.points[chosen]
        return clean, t, self.process.forward(clean, t, generator)

    def _logits(self, x: Tensor, t: Tensor) -> Tensor:
        """``log w_n − ‖S^{-1/2} (x − α μ_n)‖² / 2``, (..., N)."""
        away = x[..., None, :] - self.process.alpha(t)[..., None, None] * self.points
        noise = self.process.covariance(t[..., None])
        squares = noise.in_own_basis(away).square()
        without = noise.zero_directions.expand(squares.shape)
        values = torch.where(noise.zero_directions, 1.0, noise.values)
        logits = self.weights.log() - torch.where(without, 0.0, squares / values).sum(-1) / 2
        if not bool(without.any()):
            return logits
        distance = torch.where(without, squares, 0.0).sum(-1)
        possible = torch.where(self.weights > 0, distance, math.inf)
        nearest = possible.amin(-1, keepdim=True)
        near = possible <= nearest + SAME_DISTANCE * (1 + nearest)
        return torch.where(near, logits, -math.inf)

    def _by_chunks(self, function: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Tensor) -> Tensor:
        """`function` of x (..., d) and t (...), a piece at a time so that memory stays small."""
        if x.shape[-1:] != (self.dimension,):
            raise UserError(f"positions have the shape (..., {self.dimension}), found {tuple(x.shape)}")
        t = torch.as_tensor(t, dtype=torch.float64)
        rows = x.reshape(-1, self.dimension)
        size = max(1, CHUNK // self.points.numel())
        first = t.reshape(-1)[:1]
        if bool((t == first).all()) and len(first):  # what depends on a common time is not computed for every position
            pieces = [function(piece, first.reshape(())) for piece in torch.split(rows, size)]
        else:
            times = t.expand(x.shape[:-1]).reshape(-1)
            pieces = [function(*both) for both in zip(torch.split(rows, size), torch.split(times, size), strict=True)]
        whole: Tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return whole.reshape(x.shape[:-1] + whole.shape[1:])


def _shares(logits: Tensor) -> Tensor:
    """Softmax over the last axis; for a few points many times faster than PyTorch's own, which handles row by row."""
    heights = (logits - logits.amax(-1, keepdim=True)).exp()
    return heights / heights.sum(-1, keepdim=True)
