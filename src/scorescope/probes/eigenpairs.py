"""Eigenvalues and eigenvectors of a denoiser's Jacobian, from products alone: which patterns are kept, and how much of each.

The symmetric part ``S = (J + Jᵀ)/2`` has orthonormal eigenvectors ``e_k`` and real eigenvalues ``λ_k``. A bias-free denoiser is
``D(y) = J(y) y``, so as far as J is symmetric ``D(y) = Σ_k λ_k ⟨y, e_k⟩ e_k``: shrinkage of the noisy image's coefficients in a
basis that depends on the image (Kadkhodaie et al., ICLR 2024, https://arxiv.org/abs/2310.02557, section 3).

The leading ones come from block Lanczos with full reorthogonalization (Golub & Underwood 1977): the space spanned by
``V, S V, S² V, …`` for a few random images V holds the leading eigenvectors long before it holds everything. All products are
kept, so the eigenvectors within that space (Rayleigh & Ritz) have known residuals ``‖S e − λ e‖``, and ``|λ − λ_true|`` is at
most that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.probes.linearization import Linearization

TOLERANCE = 1e-3
VALUES_AT_ONCE = 16_384
_INDEPENDENT = 1e-6  # what is left of a unit vector when the basis is taken out of it, below which it is rounding


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenpairs of the symmetric part of a Jacobian, those with the largest eigenvalues first (or the smallest, if asked).

    Attributes:
        values: λ, (k,) float64.
        vectors: e, orthonormal images (k, C, H, W) float64. The sign is such that the entry of largest magnitude is positive.
        residuals: ``‖S e − λ e‖``, (k,) float64.
        products: how many products with S were computed for it; each is one with J and one with Jᵀ.
        tolerance: what was asked of the residuals.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int
    tolerance: float

    @property
    def converged(self) -> bool:
        """Whether every residual is within the tolerance."""
        return bool((self.residuals <= self.tolerance).all())

    def coefficients(self, image: Tensor) -> Tensor:
        """``⟨x, e_k⟩`` of an image (C, H, W): (k,) float64."""
        return self.vectors.flatten(1) @ image.to(self.vectors).reshape(-1)


def leading_eigenpairs(
    jacobian: Linearization,
    count: int,
    generator: torch.Generator,
    *,
    end: Literal["largest", "smallest"] = "largest",
    tolerance: float = TOLERANCE,
    block: int | None = None,
    most_products: int | None = None,
) -> Eigenpairs:
    """The eigenpairs of ``(J + Jᵀ)/2`` with the largest eigenvalues (or the smallest), from products alone.

    It takes the more products the closer the eigenvalues lie together, which at little noise many do near one. From about d/13
    products on, the whole matrix of a `LinearUNet` costs less: ``MatrixJacobian(jacobian.matrix(), image_shape)``.

    Args:
        jacobian: of a denoiser at a noisy image.
        count: k, at least 1 and at most d.
        generator: of the random images that it starts with, on the processor.
        end: which end of the spectrum.
        tolerance: of every residual ``‖S e − λ e‖``, in the units of the eigenvalues (those of a denoiser are about at most 1).
        block: products computed at once; fewer need fewer products in all, more keep the machine busier. By default as many
            images as have about 16,000 values.
        most_products: when to give up; d by default, at which the space is complete and the residuals are rounding errors.

    Returns:
        The eigenpairs; `Eigenpairs.converged` says whether all residuals are within the tolerance.

    Raises:
        UserError: a count, block or number of products below 1, a count above d, a tolerance that is not positive.
    """
    d = jacobian.dimension
    if not 1 <= count <= d:
        raise UserError(f"a Jacobian of {d} values has between 1 and {d} eigenpairs, {count} were asked for")
    most = d if most_products is None else min(most_products, d)
    if block is None:
        block = max(1, VALUES_AT_ONCE // d)
    if block < 1 or most < count or not tolerance > 0:
        raise UserError(
            f"eigenpairs take block ≥ 1, most_products ≥ count = {count} and tolerance > 0, found block = {block},"
            f" most_products = {most}, tolerance = {tolerance}"
        )
    sign = 1.0 if end == "largest" else -1.0
    krylov, look_at = _Krylov(jacobian, generator, most), count
    while True:
        krylov.grow(min(block, most - krylov.size))
        if krylov.size < min(look_at, most):
            continue
        look_at = krylov.size + max(1, krylov.size // 25)  # decomposing costs more than growing
        # Small decompositions are left to the processor, which a device's library waits for at every step.
        values, mixing = (each.to(jacobian.device) for each in torch.linalg.eigh(sign * krylov.projected.cpu()))
        values, mixing = sign * values.flip(0)[:count], mixing.flip(1)[:, :count]
        if krylov.size < most and bool((krylov.expected_residuals(mixing) > tolerance).any()):
            continue
        residuals = krylov.residuals(mixing, values)
        if krylov.size == most or bool((residuals <= tolerance).all()):
            vectors = _signed(mixing.T @ krylov.basis).cpu().reshape(count, *jacobian.image_shape)
            return Eigenpairs(values.cpu(), vectors, residuals.cpu(), krylov.size, tolerance)


def all_eigenpairs(jacobian: Linearization, count: int | None = None) -> Eigenpairs:
    """All eigenpairs of ``(J + Jᵀ)/2``, or the `count` largest, from the full matrix; residuals are rounding errors.

    It costs d products and memory for d² values, so it is for small images.
    """
    matrix = jacobian.matrix().double()
    symmetric = (matrix + matrix.T) / 2
    values, vectors = torch.linalg.eigh(symmetric)
    values, vectors = values.flip(0)[:count], _signed(vectors.flip(1)[:, :count].T)
    residuals = (vectors @ symmetric - values[:, None] * vectors).norm(dim=1)
    found = vectors.cpu().reshape(-1, *jacobian.image_shape)
    return Eigenpairs(values.cpu(), found, residuals.cpu(), jacobian.dimension, TOLERANCE)


def oracle_shrinkage(coefficients: Tensor, sigma: float) -> Tensor:
    """What the best shrinkage in a given basis would keep of each coefficient, ``⟨x,e⟩² / (⟨x,e⟩² + σ²)``, elementwise.

    It knows the clean image's coefficients, so no denoiser of this form does better on that image.
    """
    power = coefficients.double().square()
    kept: Tensor = power / (power + sigma**2)
    return kept


class _Krylov:
    """An orthonormal basis that grows by products with S, and what S makes of each of its vectors.

    Attributes:
        size: number of vectors.
        left: of what S made of the newest vectors, the part outside of the space, (newest, d).
    """

    def __init__(self, jacobian: Linearization, generator: torch.Generator, most: int) -> None:
        self._jacobian, self._generator = jacobian, generator
        self._basis = torch.empty(most, jacobian.dimension, dtype=torch.float64, device=jacobian.device)
        self._images = torch.empty_like(self._basis)
        self._projected = torch.empty(most, most, dtype=torch.float64, device=jacobian.device)
        self.size = 0
        self.left = self._basis[:0]

    @property
    def basis(self) -> Tensor:
        """(size, d)."""
        basis: Tensor = self._basis[: self.size]
        return basis

    @property
    def projected(self) -> Tensor:
        """S within the space, (size, size)."""
        within: Tensor = self._projected[: self.size, : self.size]
        return within

    def expected_residuals(self, mixing: Tensor) -> Tensor:
        """``‖S e − λ e‖`` of vectors of the space, mixing (size, k), if S leads out of it from the newest vectors only.

        So it is but for rounding, of which `residuals` knows.
        """
        expected: Tensor = (mixing[self.size - len(self.left) :].T @ self.left).norm(dim=1)
        return expected

    def residuals(self, mixing: Tensor, values: Tensor) -> Tensor:
        """``‖S e − λ e‖`` of the vectors ``e = mixingᵀ basis``, mixing (size, k), values (k,)."""
        left: Tensor = (mixing.T @ self._images[: self.size] - values[:, None] * (mixing.T @ self.basis)).norm(dim=1)
        return left

    def grow(self, block: int) -> None:
        """Add `block` vectors: what is left of the newest products, and random ones where nothing is."""
        added = self._outside(block)
        start, stop = self.size, self.size + block
        self._basis[start:stop] = added
        self.size = stop
        made = self._jacobian.symmetric(self._jacobian.images(added)).flatten(1).double()
        self._images[start:stop] = made
        inside = made @ self.basis.T  # (block, stop)
        left = made - inside @ self.basis
        self.left = left - (left @ self.basis.T) @ self.basis  # twice is enough (Parlett 1980)
        self._projected[start:stop, :stop] = inside
        self._projected[:stop, start:stop] = inside.T
        corner = inside[:, start:]
        self._projected[start:stop, start:stop] = (corner + corner.T) / 2

    def _outside(self, block: int) -> Tensor:
        """Orthonormal vectors (block, d) that are orthogonal to the basis."""
        found = torch.linalg.svd(self.left.cpu(), full_matrices=False)
        sizes, directions = (each.to(self.left.device) for each in found[1:])
        largest = float(self._images[self.size - len(self.left) : self.size].norm(dim=1).max()) if self.size else 0.0
        kept: Tensor = directions[sizes > _INDEPENDENT * largest][:block]
        if len(kept) < block:
            random = torch.randn(
                block - len(kept), self._basis.shape[1], dtype=torch.float64, generator=self._generator
            )
            known, random = torch.cat([self.basis, kept]), random.to(self._basis.device)
            for _ in range(2):
                random = random - (random @ known.T) @ known
            kept = torch.cat([kept, torch.linalg.qr(random.T).Q.T])
        return kept


def _signed(vectors: Tensor) -> Tensor:
    """Each row with the sign for which its entry of largest magnitude is positive."""
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0)
