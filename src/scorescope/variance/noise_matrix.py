"""The matrices of a forward process: symmetric, never negative, one for each time, kept by their eigenvalues.

The noise of ``dx = −β_t x dt + G_t dW`` has two of them, ``D_t = G_t G_tᵀ / 2`` and the covariance ``S_t`` that has piled up
by time t. Most are a number times the identity, some are diagonal, few are full. All three are ``U diag(values) Uᵀ``, and every
power of one (its inverse, its root) is another with the same U, which is all that the theory asks of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.foundation import UserError

# Eigenvalues below this share of the largest are those of a matrix that is singular.
SINGULAR = 1e-14


@dataclass(frozen=True)
class NoiseMatrix:
    """``U diag(values) Uᵀ`` for every entry of a batch of times.

    Attributes:
        values: eigenvalues, float64 (..., d), or (..., 1) for a number times the identity in any dimension.
        vectors: U with the eigenvectors in its columns, (..., d, d); None for the identity.
    """

    values: Tensor
    vectors: Tensor | None = None

    @classmethod
    def of(cls, matrix: float | Tensor) -> NoiseMatrix:
        """One matrix: a number, a diagonal (d,), or a full one (d, d).

        Raises:
            UserError: another shape; not symmetric; a negative or non-finite eigenvalue.
        """
        given = torch.as_tensor(matrix, dtype=torch.float64)
        if not bool(torch.isfinite(given).all()):
            raise UserError("a noise matrix holds NaN or infinite values: give finite ones")
        if given.ndim < 2:
            found = cls(given.reshape(-1))
        elif given.ndim == 2 and given.shape[0] == given.shape[1]:
            if float((given - given.T).abs().max()) > 1e-10 * float(given.abs().max()):
                raise UserError("a noise matrix must be symmetric: give G Gᵀ / 2, not G")
            found = cls(*torch.linalg.eigh((given + given.T) / 2))
        else:
            raise UserError(f"a noise matrix is a number, (d,) or (d, d), found the shape {tuple(given.shape)}")
        lowest = float(found.values.min())
        if lowest < -1e-12 * max(float(found.values.max()), 1e-300):
            raise UserError(f"a noise matrix has no negative eigenvalue, found {lowest:g}")
        return cls(found.values.clamp(min=0.0), found.vectors)

    @property
    def dimension(self) -> int | None:
        """d, or None where any dimension will do."""
        return None if self.vectors is None and self.values.shape[-1] == 1 else self.values.shape[-1]

    @property
    def zero_directions(self) -> Tensor:
        """Which eigenvalues count as zero, bool, shape of `values`."""
        return self.values <= SINGULAR * self.values.amax(-1, keepdim=True)

    def scaled(self, factors: Tensor) -> NoiseMatrix:
        """Times numbers (...) that broadcast against the batch."""
        values = factors[..., None] * self.values
        vectors = self.vectors
        if vectors is not None:
            vectors = vectors.expand(*values.shape[:-1], *vectors.shape[-2:])
        return NoiseMatrix(values, vectors)

    def power(self, exponent: float) -> NoiseMatrix:
        """Its power; a negative one only where the matrix has no zero eigenvalue.

        Raises:
            UserError: a negative power of a singular matrix.
        """
        if exponent < 0 and bool(self.zero_directions.any()):
            raise UserError(
                "the noise covariance is singular at some of these times, so the score has no value there: stay at t > 0"
                " and give every direction some noise"
            )
        return NoiseMatrix(self.values**exponent, self.vectors)

    def times(self, vectors: Tensor) -> Tensor:
        """Products with vectors (..., d)."""
        if self.vectors is None:
            return self.values * vectors
        return self.from_own_basis(self.values * self.in_own_basis(vectors))

    def in_own_basis(self, vectors: Tensor) -> Tensor:
        """``Uᵀ v`` of vectors (..., d)."""
        return vectors if self.vectors is None else (self.vectors.mT @ vectors[..., None])[..., 0]

    def from_own_basis(self, coordinates: Tensor) -> Tensor:
        """``U c`` of coordinates (..., d)."""
        return coordinates if self.vectors is None else (self.vectors @ coordinates[..., None])[..., 0]

    def on_both_sides(self, matrices: Tensor) -> Tensor:
        """``M X M`` of matrices X (..., d, d)."""
        if self.vectors is None:
            return self.values[..., :, None] * matrices * self.values[..., None, :]
        whole = self.dense(matrices.shape[-1])
        return whole @ matrices @ whole

    def trace(self, dimension: int) -> Tensor:
        """(...)."""
        return self._spread(dimension).sum(-1)

    def log_determinant(self, dimension: int) -> Tensor:
        """(...); minus infinity where singular."""
        return self._spread(dimension).log().sum(-1)

    def dense(self, dimension: int) -> Tensor:
        """(..., d, d)."""
        values = self._spread(dimension)
        if self.vectors is None:
            return torch.diag_embed(values)
        return (self.vectors * values[..., None, :]) @ self.vectors.mT

    def _spread(self, dimension: int) -> Tensor:
        return self.values.expand(*self.values.shape[:-1], dimension)
