"""The Jacobian of a denoiser at a noisy image, by products with many vectors at once.

``J = ∂D(y, σ)/∂y`` is a (d, d) matrix, d = C·H·W: column q is what a small change of input value q does to the whole output,
row p is which inputs the output value p looks at. One differentiation gives the product with one vector, ``J v`` (forward
mode) or ``Jᵀ v`` (backward mode); a batch of them costs far less than so many single ones, because the pass through the
network at y itself is made once and the products go through its layers as one batch. Networks with layers that do not allow
this are differentiated in other ways, see `scorescope.probes.differentiation`.

Of the posterior mean it is symmetric, ``∇D* = Cov[x | y] / σ²`` (Miyasawa 1961), with eigenvalues that say how much of each
direction is kept; of anything else the symmetric part ``(J + Jᵀ)/2`` is what has orthogonal eigenvectors, and how much is
left out by taking it is measured in `scorescope.probes.asymmetry`.
"""

from __future__ import annotations

import typing

import torch
from torch import Tensor

from scorescope.denoisers import Denoiser, NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.probes.differentiation import Derivative
from scorescope.probes.linear_unet import LinearUNet, is_linear_unet
from scorescope.probes.linearization import PRODUCTS_AT_ONCE, Linearization, MatrixJacobian


class Jacobian(Linearization):
    """The Jacobian of a differentiable denoiser at one noisy image, exact, by automatic differentiation.

    Args:
        denoiser: must be differentiable; `DifferenceJacobian` is for those that are not.
        noisy: one image, float (C, H, W).
        sigma: its noise level; None for a blind denoiser.
        products_at_once: how many vectors go through the denoiser together; more are split, so that memory is bounded.

    Attributes:
        denoised: the denoiser's output there, (C, H, W).

    Raises:
        UserError: a denoiser that is not differentiable; otherwise as `Denoiser.forward`.
    """

    def __init__(
        self, denoiser: Denoiser, noisy: Tensor, sigma: float | None, *, products_at_once: int = PRODUCTS_AT_ONCE
    ) -> None:
        if not denoiser.differentiable:
            raise UserError(
                f"{denoiser.name} is not differentiable: its Jacobian cannot be computed, only approximated"
                " by finite differences of a step that you choose: spectrum.finite_differences=STEP (0.01, say) in the study"
                " kadkhodaie2024/fig3, finite_differences=STEP of jacobian_at in Python"
            )
        image, levels = denoiser.checked(noisy.detach()[None], sigma)
        super().__init__(image[0], products_at_once)
        # One level an image: of as many copies of the image as there are.
        self._derivative = Derivative(lambda y: denoiser.denoise(y, levels.expand(len(y))), image)
        self.denoised: Tensor = self._derivative.value

    def rows(self, vectors: Tensor) -> Tensor:
        """See `Linearization.rows`."""
        return self._in_parts(self._derivative.rows, vectors)

    def columns(self, vectors: Tensor) -> Tensor:
        """See `Linearization.columns`."""
        return self._in_parts(self._derivative.columns, vectors)

    def matrix(self) -> Tensor:
        """See `Linearization.matrix`; by rows, since backward mode is the faster one for most networks."""
        rows = []
        for start in track(range(0, self.dimension, self.products_at_once), "the Jacobian, row by row"):
            rows.append(self.rows(self.units(start, min(start + self.products_at_once, self.dimension))).flatten(1))
        return torch.cat(rows)


class DifferenceJacobian(MatrixJacobian):
    """The Jacobian of any denoiser, approximated by central differences, ``(D(y + h e_q) − D(y − h e_q)) / 2h``.

    All 2d differences are computed when it is made. It is for denoisers that are not differentiable, where it says how the
    output changes over changes of size h of a value, which depends on h:
    the step is the caller's choice, and part of the result.

    Args:
        denoiser: any.
        noisy: one image, float (C, H, W).
        sigma: its noise level; None for a blind denoiser.
        step: h, in the units of the image; well below sigma, and well above rounding errors, such as 0.01 at σ = 0.1.
        products_at_once: how many images are denoised together.

    Raises:
        UserError: a step that is not positive; otherwise as `Denoiser.forward`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        noisy: Tensor,
        sigma: float | None,
        *,
        step: float,
        products_at_once: int = PRODUCTS_AT_ONCE,
    ) -> None:
        if not 0 < step < float("inf"):
            raise UserError(f"the step of finite differences must be positive and finite, found {step}")
        checked = denoiser.checked(noisy.detach()[None], sigma)[0][0]
        Linearization.__init__(self, checked, products_at_once)
        columns = []
        with torch.no_grad():
            self.denoised: Tensor = denoiser(checked[None], sigma)[0]
            for start in track(range(0, self.dimension, products_at_once), "finite differences"):
                moved = step * self.units(start, min(start + products_at_once, self.dimension))
                columns.append((denoiser(checked + moved, sigma) - denoiser(checked - moved, sigma)).flatten(1))
        super().__init__(torch.cat(columns).T / (2 * step), tuple(checked.shape))


def jacobian_at(
    denoiser: Denoiser,
    noisy: Tensor,
    sigma: float | None,
    *,
    finite_differences: float | None = None,
    products_at_once: int = PRODUCTS_AT_ONCE,
) -> Jacobian | LinearUNet | DifferenceJacobian:
    """The Jacobian of a denoiser, exact where it is differentiable, else by finite differences if a step is given.

    All of them have the products of a `Linearization`, and ``denoised``, the output there.

    Args:
        denoiser: any.
        noisy: one image, float (C, H, W).
        sigma: its noise level; None for a blind denoiser.
        finite_differences: step for denoisers that are not differentiable, see `DifferenceJacobian`; others ignore it.
        products_at_once: how many vectors are multiplied together.

    Raises:
        UserError: a denoiser that is not differentiable, without a step; otherwise as `Denoiser.forward`.
    """
    if is_linear_unet(denoiser):
        return LinearUNet(typing.cast("NetworkDenoiser", denoiser), noisy, products_at_once=products_at_once)
    if denoiser.differentiable or finite_differences is None:
        return Jacobian(denoiser, noisy, sigma, products_at_once=products_at_once)
    return DifferenceJacobian(denoiser, noisy, sigma, step=finite_differences, products_at_once=products_at_once)
