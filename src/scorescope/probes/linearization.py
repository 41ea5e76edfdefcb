"""A square matrix over images that is known by its products, as the Jacobian of a denoiser is.

``J = ∂D(y, σ)/∂y`` is a (d, d) matrix, d = C·H·W: column q is what a small change of input value q does to the whole output,
row p is which inputs the output value p looks at. What is measured on it (eigenpairs, trace, asymmetry) only needs products
``J v`` and ``Jᵀ v`` with many images at once, however they are computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from scorescope.foundation import UserError

PRODUCTS_AT_ONCE = 128


class Linearization(ABC):
    """A square matrix over images that is known by its products: the Jacobian of a denoiser at one noisy image.

    Args:
        example: any image of its shape, dtype and device, (C, H, W).
        products_at_once: how many vectors are multiplied together; more are split, so that memory is bounded.

    Attributes:
        image_shape: (C, H, W).
        dimension: d = C·H·W.
        dtype: of the products.
        device: of the products.
        products_at_once: as given.
    """

    def __init__(self, example: Tensor, products_at_once: int = PRODUCTS_AT_ONCE) -> None:
        if products_at_once < 1:
            raise UserError(f"at least one vector is multiplied at a time, found products_at_once = {products_at_once}")
        self.image_shape = tuple(example.shape)
        self.dimension = example.numel()
        self.dtype, self.device = example.dtype, example.device
        self.products_at_once = products_at_once

    @abstractmethod
    def rows(self, vectors: Tensor) -> Tensor:
        """``Jᵀ v``: vectors (K, C, H, W) over outputs -> (K, C, H, W) over inputs."""

    @abstractmethod
    def columns(self, vectors: Tensor) -> Tensor:
        """``J v``: vectors (K, C, H, W) over inputs -> (K, C, H, W) over outputs."""

    def symmetric(self, vectors: Tensor) -> Tensor:
        """``S v`` with the symmetric part ``S = (J + Jᵀ)/2``: (K, C, H, W) -> (K, C, H, W)."""
        return (self.columns(vectors) + self.rows(vectors)) / 2

    def matrix(self) -> Tensor:
        """All of it, (d, d); row p, column q is ``∂D_p/∂y_q``."""
        return torch.cat([block.flatten(1) for _, block in self.all_columns()]).T

    def all_columns(self) -> Iterator[tuple[int, Tensor]]:
        """Every column in order, in blocks of `products_at_once`: (index of the first, (K, C, H, W))."""
        for start in range(0, self.dimension, self.products_at_once):
            yield start, self.columns(self.units(start, min(start + self.products_at_once, self.dimension)))

    def units(self, start: int, stop: int) -> Tensor:
        """The images that are one at value `start`, …, `stop` − 1 and zero elsewhere, (stop − start, C, H, W)."""
        count = stop - start
        units = torch.zeros(count, self.dimension, dtype=self.dtype, device=self.device)
        units[torch.arange(count), start + torch.arange(count)] = 1
        return self.images(units)

    def images(self, rows: Tensor) -> Tensor:
        """Vectors (K, d) as the images that products take, (K, C, H, W), of their dtype and on their device."""
        return rows.to(self.device, self.dtype).reshape(-1, *self.image_shape)

    def _in_parts(self, product: Callable[[Tensor], Tensor], vectors: Tensor) -> Tensor:
        parts = torch.split(vectors.to(self.device, self.dtype), self.products_at_once)
        return torch.cat([product(part) for part in parts])


class MatrixJacobian(Linearization):
    """A Jacobian that is at hand as a matrix.

    Args:
        matrix: (d, d); row p, column q is ``∂D_p/∂y_q``.
        image_shape: (C, H, W) with d = C·H·W.

    Raises:
        UserError: a matrix of another shape.
    """

    def __init__(self, matrix: Tensor, image_shape: tuple[int, ...]) -> None:
        super().__init__(matrix.new_zeros(image_shape))
        if tuple(matrix.shape) != (self.dimension, self.dimension):
            raise UserError(
                f"the Jacobian over images {tuple(image_shape)} has {self.dimension} rows and columns, found a matrix"
                f" {tuple(matrix.shape)}"
            )
        self._matrix = matrix

    def rows(self, vectors: Tensor) -> Tensor:
        """See `Linearization.rows`."""
        return self.images(self.images(vectors).flatten(1) @ self._matrix)

    def columns(self, vectors: Tensor) -> Tensor:
        """See `Linearization.columns`."""
        return self.images(self.images(vectors).flatten(1) @ self._matrix.T)

    def matrix(self) -> Tensor:
        """See `Linearization.matrix`."""
        return self._matrix
