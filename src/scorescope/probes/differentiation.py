"""Products with the derivative of a map of images, by the quickest way of differentiation that its layers allow.

``J = ∂D(y)/∂y`` of one image, with K vectors at once. PyTorch's batched differentiation (`torch.func.vmap` of one backward or
forward pass) is the quickest, but not every layer has it: GroupNorm's backward pass does not, nor do reshapes that must not
copy. Then y goes through the map K times, as a batch, and one plain pass multiplies each copy's Jacobian with its own
vector: the same numbers, as no image of a batch sees another. Forward mode that a layer lacks is made of two backward
passes, ``J v = ∂(vᵀ Jᵀ u)/∂u``, which is exact since ``Jᵀ u`` is linear in u.

Fused attention has no forward mode and no second derivative; while products are made, attention is computed plainly
(softmax of a matrix product), which is the same function.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from scorescope.foundation import UserError

COPIES = 32
_AGREEMENT = 1e-3
Denoise = Callable[[Tensor], Tensor]
Product = Callable[[Tensor], Tensor]


def directional_derivatives(denoise: Denoise, images: Tensor, vectors: Tensor) -> Tensor:
    """``J_b v_b`` for every image b of a batch at once, each with its own vector.

    Args:
        denoise: images to images of that shape, none of which depends on another.
        images: (B, C, H, W).
        vectors: (B, C, H, W).

    Raises:
        UserError: it can be differentiated neither forwards nor twice.
    """
    return BatchDerivative().columns(denoise, images, vectors)


class BatchDerivative:
    """Derivatives of maps at every image of a batch, each with its own vector; it remembers which way works."""

    def __init__(self) -> None:
        self._ways = [_forwards, _twice]

    def columns(self, denoise: Denoise, images: Tensor, vectors: Tensor) -> Tensor:
        """``J_b v_b``, see `directional_derivatives`."""
        found = images.detach().clone()
        left, product = _first_that_works([functools.partial(way, denoise, found) for way in self._ways], vectors)
        self._ways = self._ways[-len(left) :]
        return product

    def rows(self, denoise: Denoise, images: Tensor, vectors: Tensor) -> Tensor:
        """``J_bᵀ v_b``, arguments as in `directional_derivatives`."""
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            found = images.detach().clone().requires_grad_()
            return torch.autograd.grad(denoise(found), found, vectors)[0]


class Derivative:
    """The derivative of a map of images at one image, by its products with vectors.

    Args:
        denoise: (B, C, H, W) -> (B, C, H, W), no image of which depends on another.
        image: (1, C, H, W).

    Attributes:
        value: the map's output there, (C, H, W).
    """

    def __init__(self, denoise: Denoise, image: Tensor) -> None:
        self._denoise, self._image = denoise, image
        self._kept: tuple[Tensor, Tensor] | None = None
        self._rows: list[Product] = [self._backwards_copies]
        try:
            with sdpa_kernel(SDPBackend.MATH):
                linearized: Any = torch.func.vjp(denoise, image)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError:  # a layer that functional differentiation does not know
            linearized = denoise(image), None
        else:
            self._rows.insert(0, torch.func.vmap(self._backwards_once))
        output, self._pull_back = linearized
        self.value: Tensor = output[0].detach()
        self._columns: list[Product] = [torch.func.vmap(self._forwards_once), self._forwards_copies, self._twice_copies]

    def rows(self, vectors: Tensor) -> Tensor:
        """``Jᵀ v``: (K, C, H, W) -> (K, C, H, W). Raises UserError if it cannot be differentiated."""
        self._rows, product = _first_that_works(self._rows, vectors)
        return product

    def columns(self, vectors: Tensor) -> Tensor:
        """``J v``: (K, C, H, W) -> (K, C, H, W). Raises UserError if it can be differentiated neither forwards nor twice."""
        self._columns, product = _first_that_works(self._columns, vectors)
        return product

    def _backwards_once(self, vector: Tensor) -> Tensor:
        product: Tensor = self._pull_back(vector[None])[0][0]
        return product

    def _forwards_once(self, vector: Tensor) -> Tensor:
        return _forwards(self._denoise, self._image, vector[None])[0]

    def _backwards_copies(self, vectors: Tensor) -> Tensor:
        return torch.cat([self._through_kept_pass(part) for part in torch.split(vectors, COPIES)])

    def _forwards_copies(self, vectors: Tensor) -> Tensor:
        return self._in_copies(_forwards, vectors)

    def _twice_copies(self, vectors: Tensor) -> Tensor:
        return self._in_copies(_twice, vectors)

    def _in_copies(self, derivative: Callable[[Denoise, Tensor, Tensor], Tensor], vectors: Tensor) -> Tensor:
        parts = torch.split(vectors, COPIES)
        return torch.cat([derivative(self._denoise, self._copies(len(part)), part) for part in parts])

    def _copies(self, count: int) -> Tensor:
        return self._image.detach().expand(count, *self._image.shape[1:]).clone()

    def _through_kept_pass(self, vectors: Tensor) -> Tensor:
        if self._kept is None or len(self._kept[0]) != len(vectors):
            self._kept = None  # before the next pass takes its memory
            with torch.enable_grad():
                copies = self._copies(len(vectors)).requires_grad_()
                self._kept = copies, self._denoise(copies)
        copies, denoised = self._kept
        return torch.autograd.grad(denoised, copies, vectors, retain_graph=True)[0]


def _forwards(denoise: Denoise, images: Tensor, vectors: Tensor) -> Tensor:
    product: Tensor = torch.func.jvp(denoise, (images,), (vectors,))[1]
    return product


def _twice(denoise: Denoise, images: Tensor, vectors: Tensor) -> Tensor:
    with torch.enable_grad():
        place = images.detach().clone().requires_grad_()
        over_outputs = torch.zeros_like(vectors).requires_grad_()
        denoised = denoise(place)
        (rows,) = torch.autograd.grad(denoised, place, over_outputs, create_graph=True)
        products = torch.autograd.grad(rows, over_outputs, vectors, retain_graph=True)[0].detach()
        # PyTorch drops what goes through a layer whose backward pass is not differentiable, without a word, so it is checked
        # that (J v)ᵀ(J v) = (Jᵀ J v)ᵀ v.
        (back,) = torch.autograd.grad(denoised, place, products)
    forth, again = ((one * other).flatten(1).double().sum(1) for one, other in ((products, products), (back, vectors)))
    if bool(((forth - again).abs() > _AGREEMENT * (forth + again.abs())).any()):
        raise RuntimeError("the backward pass of a layer is not differentiable itself")
    return products


def _first_that_works(ways: list[Product], vectors: Tensor) -> tuple[list[Product], Tensor]:
    """The ways that are left, the working one first, and its product. What one layer lacks, PyTorch says as RuntimeError."""
    while True:
        try:
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
                return ways, ways[0](vectors)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if len(ways) == 1:
                said = " ".join(str(error).split())[:150]
                raise UserError(
                    f"its Jacobian cannot be computed, as PyTorch cannot differentiate one of its layers ({said}): write"
                    " that layer in other operations, or use finite differences"
                ) from error
            ways = ways[1:]
