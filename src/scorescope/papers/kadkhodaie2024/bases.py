"""The basis in which a denoiser shrinks a noisy image: all eigenvectors of its Jacobian, and how they are shown.

A blind, bias-free network is piecewise linear, ``D(y) = J y`` with ``J = ∇D(y)``; where J is nearly symmetric its
eigenvectors ``e_k`` are a basis and its eigenvalues the factors: ``D(y) ≈ Σ λ_k ⟨y, e_k⟩ e_k``. The images of these figures
are small enough for the full matrix; what is decomposed is its symmetric part, and how much that leaves out is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.denoisers import Denoiser
from scorescope.probes.asymmetry import asymmetry
from scorescope.probes.jacobian import jacobian_at

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Basis:
    """Eigen-decomposition of the symmetric part of a Jacobian at one noisy image.

    Attributes:
        values: (d,) float64, decreasing.
        vectors: (d, d) float64, orthonormal columns in the order of `values`.
        asymmetry: ``‖J − Jᵀ‖ / ‖J‖``, 0 for the gradient of a potential.
        denoised: the denoiser's output there, (C, H, W).
    """

    values: Tensor
    vectors: Tensor
    asymmetry: float
    denoised: Tensor

    @property
    def trace(self) -> float:
        """Effective dimension ``Σ λ_k``."""
        return float(self.values.sum())


def basis_at(denoiser: Denoiser, noisy: Tensor, sigma: float) -> Basis:
    """The basis at one noisy image, (C, H, W).

    Raises:
        UserError: a denoiser that is not differentiable.
    """
    jacobian = jacobian_at(denoiser, noisy, sigma)
    matrix = jacobian.matrix().double()
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return Basis(values.flip(0), vectors.flip(1), asymmetry(matrix), jacobian.denoised)


def as_pictures(vectors: Tensor, image_shape: tuple[int, int, int]) -> Floats:
    """Columns (d, K) as images (K, C, H, W): grey is 0, the largest entry is white or black, whichever sign it has."""
    images = vectors.T.reshape(-1, *image_shape).cpu().numpy()
    largest = np.abs(images).max((1, 2, 3), keepdims=True)
    return np.asarray(images / np.maximum(largest, 1e-30), dtype=np.float32)
