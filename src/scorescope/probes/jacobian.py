"""The Jacobian of a denoiser at a noisy image, by products with many vectors at once.

``J = ∂D(y, σ)/∂y`` is a (d, d) matrix, d = C·H·W: column q is what a small change of input value q does to the whole output,
row p is which inputs the output value p looks at. One differentiation gives the product with one vector, ``J v`` (forward
mode) or ``Jᵀ v`` (backward mode); a batch of them costs far less than so many single ones, because the pass through the
network at y itself is made once and the products go through its layers as one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from scorescope.denoisers import Denoiser
from scorescope.foundation import UserError

PRODUCTS_AT_ONCE = 128


class Jacobian:
    """The Jacobian of a denoiser at one noisy image, as products with vectors.

    Args:
        denoiser: must be differentiable.
        noisy: one image, float (C, H, W).
        sigma: its noise level.
        products_at_once: how many vectors go through the denoiser together; more are split, so that memory is bounded.

    Attributes:
        dimension: d = C·H·W.
        denoised: the denoiser's output there, (C, H, W).

    Raises:
        UserError: a denoiser that is not differentiable; otherwise as `Denoiser.forward`.
    """

    def __init__(
        self, denoiser: Denoiser, noisy: Tensor, sigma: float, *, products_at_once: int = PRODUCTS_AT_ONCE
    ) -> None:
        if not denoiser.differentiable:
            raise UserError(f"{denoiser.name} is not differentiable: its Jacobian cannot be computed")
        image, levels = denoiser.checked(noisy.detach()[None], sigma)
        self._noisy = image
        self._denoise: Callable[[Tensor], Tensor] = lambda y: denoiser.denoise(y, levels)
        self._products_at_once = products_at_once
        self.dimension = image.numel()
        linearized: Any = torch.func.vjp(self._denoise, image)
        output, self._pull_back = linearized
        self.denoised: Tensor = output[0].detach()

    def rows(self, vectors: Tensor) -> Tensor:
        """``Jᵀ v``: vectors (K, C, H, W) over outputs -> (K, C, H, W) over inputs."""
        return self._batched(lambda v: self._pull_back(v[None])[0][0], vectors)

    def columns(self, vectors: Tensor) -> Tensor:
        """``J v``: vectors (K, C, H, W) over inputs -> (K, C, H, W) over outputs."""
        return self._batched(lambda v: torch.func.jvp(self._denoise, (self._noisy,), (v[None],))[1][0], vectors)

    def matrix(self) -> Tensor:
        """All of it, (d, d), in the dtype of the noisy image; row p, column q is ``∂D_p/∂y_q``."""
        return torch.cat([block.reshape(len(block), -1) for _, block in self.all_columns()]).T

    def all_columns(self) -> Iterator[tuple[int, Tensor]]:
        """Every column in order, in blocks of `products_at_once`: (index of the first, (K, C, H, W))."""
        for start in range(0, self.dimension, self._products_at_once):
            count = min(self._products_at_once, self.dimension - start)
            units = torch.zeros(count, self.dimension, dtype=self._noisy.dtype, device=self._noisy.device)
            units[torch.arange(count), start + torch.arange(count)] = 1
            yield start, self.columns(units.reshape(count, *self._noisy.shape[1:]))

    def _batched(self, product: Callable[[Tensor], Tensor], vectors: Tensor) -> Tensor:
        with torch.no_grad():
            pieces = [torch.func.vmap(product)(part) for part in torch.split(vectors, self._products_at_once)]
        return torch.cat(pieces)
