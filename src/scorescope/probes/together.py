"""Jacobians at several images whose products are made in one batch, so that a device is started once for all of them.

Each image is looked at in a thread of its own, which asks for products as if it were alone. When all that are still at work
have asked, the products of all are made: copies of the images, one for every vector, go through the denoiser as one batch. No
image of a batch sees another, so each thread gets the products that it would get alone, but for rounding; and as nothing is
made before all have asked, it does not depend on which thread is faster.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from scorescope.denoisers import Denoiser
from scorescope.probes.differentiation import BatchDerivative
from scorescope.probes.linearization import PRODUCTS_AT_ONCE, Linearization

T = TypeVar("T")
Kind = Literal["rows", "columns"]


class JacobianAmongOthers(Linearization):
    """The Jacobian of a denoiser at one image, whose products are made with those of others.

    Attributes:
        denoised: the denoiser's output there, (C, H, W).
    """

    def __init__(self, meeting: JacobiansTogether, index: int, image: Tensor, denoised: Tensor) -> None:
        super().__init__(image)
        self._meeting, self._index, self.denoised = meeting, index, denoised

    def rows(self, vectors: Tensor) -> Tensor:
        """See `Linearization.rows`."""
        return self._meeting.product("rows", self._index, vectors.to(self.device, self.dtype))

    def columns(self, vectors: Tensor) -> Tensor:
        """See `Linearization.columns`."""
        return self._meeting.product("columns", self._index, vectors.to(self.device, self.dtype))


@dataclass
class _Request:
    """Vectors that a thread wants multiplied, and what came of it."""

    kind: Kind
    index: int
    vectors: Tensor
    product: Tensor | None = None
    error: Exception | None = None


class JacobiansTogether:
    """The Jacobians of a differentiable denoiser at several noisy images.

    Args:
        denoiser: differentiable.
        noisy: (B, C, H, W).
        sigmas: B noise levels.
        products_at_once: how many vectors go through the denoiser together, of all images; more are split.

    Raises:
        UserError: as `Denoiser.forward`.
    """

    def __init__(
        self, denoiser: Denoiser, noisy: Tensor, sigmas: Sequence[float], *, products_at_once: int = PRODUCTS_AT_ONCE
    ) -> None:
        levels = torch.tensor(sigmas, dtype=noisy.dtype, device=noisy.device)
        self._images, self._levels = denoiser.checked(noisy.detach(), levels)
        with torch.no_grad():
            self._denoised = denoiser.denoise(self._images, self._levels)
        self._denoiser, self._at_once = denoiser, products_at_once
        self._derivative = BatchDerivative()
        self._turn = threading.Condition()
        self._at_work = 0
        self._asked: list[_Request] = []

    def each(self, task: Callable[[int, JacobianAmongOthers], T]) -> list[T]:
        """What a task gives for every image, from its number and its Jacobian. Raises what it raises for the first."""
        count = self._at_work = len(self._images)
        with ThreadPoolExecutor(count, thread_name_prefix="jacobian") as threads:
            running = [threads.submit(self._one, index, task) for index in range(count)]
        return [each.result() for each in running]

    def product(self, kind: Kind, index: int, vectors: Tensor) -> Tensor:
        """Products (K, C, H, W) with the Jacobian of one image, once all other threads at work have asked for theirs."""
        request = _Request(kind, index, vectors)
        with self._turn:
            self._asked.append(request)
            self._make_if_all_have_asked()
            self._turn.wait_for(lambda: request.product is not None or request.error is not None)
        if request.product is None:
            raise request.error or RuntimeError("no product was made")
        return request.product

    def _one(self, index: int, task: Callable[[int, JacobianAmongOthers], T]) -> T:
        try:
            return task(index, JacobianAmongOthers(self, index, self._images[index], self._denoised[index]))
        finally:
            with self._turn:
                self._at_work -= 1
                self._make_if_all_have_asked()

    def _make_if_all_have_asked(self) -> None:
        if not self._asked or len(self._asked) < self._at_work:
            return
        asked, self._asked = sorted(self._asked, key=lambda each: each.index), []
        for kind in ("rows", "columns"):
            alike = [each for each in asked if each.kind == kind]
            if not alike:
                continue
            try:
                products = self._made(kind, alike)
            except Exception as error:  # raised in every thread that waits for it
                for each in alike:
                    each.error = error
            else:
                for each, product in zip(alike, products, strict=True):
                    each.product = product
        self._turn.notify_all()

    def _made(self, kind: Kind, alike: list[_Request]) -> list[Tensor]:
        counts = [len(each.vectors) for each in alike]
        which = torch.tensor([each.index for each in alike]).repeat_interleave(torch.tensor(counts))
        vectors, which = torch.cat([each.vectors for each in alike]), which.to(self._images.device)
        found = []
        for part, those in zip(torch.split(vectors, self._at_once), torch.split(which, self._at_once), strict=True):
            multiply = self._derivative.rows if kind == "rows" else self._derivative.columns
            denoise = functools.partial(self._denoised_at, self._levels[those])
            found.append(multiply(denoise, self._images[those], part))
        return list(torch.split(torch.cat(found), counts))

    def _denoised_at(self, levels: Tensor, noisy: Tensor) -> Tensor:
        return self._denoiser.denoise(noisy, levels)
