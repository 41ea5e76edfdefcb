"""The optimal denoiser of a training set: the exact posterior mean when the training set is the whole truth.

``D*(y, σ) = Σ_i w_i x_i`` with ``w = softmax_i(−‖y − x_i‖² / 2σ²)``. No denoiser has a smaller training error, and sampling
with it only gives training images back: it is what a network that memorizes perfectly computes. Its Jacobian is the
posterior covariance over σ², ``∇D* = Σ_i w_i (x_i − D*)(x_i − D*)ᵀ / σ²``: symmetric, no eigenvalue negative, and exact here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.registry import training_free
from scorescope.denoisers.training_set import Floats, TrainingSetDenoiser
from scorescope.foundation import UserError
from scorescope.posterior.device import DeviceEngine, has_device_engine
from scorescope.posterior.processes import from_first
from scorescope.posterior.units import LEVELS_PER_UNIT, from_levels
from scorescope.posterior.whole_image import WholeImagePosterior


@dataclass(frozen=True)
class TrainingPosterior:
    """What the training set says of B noisy images, in units of [-1, 1].

    Attributes:
        mean: posterior mean, the optimal denoiser's output, (B, C, H, W).
        indices: the k likeliest training images in descending order, int64 (B, k): entries of the image set that the
            denoiser was made from; −1 where that has fewer than k.
        probabilities: their posterior weights, (B, k).
        effective_number: exp of the entropy of the weights, between 1 and the number of training images, (B,).
        log_evidence: ``log p_σ(y)``, nats, of the training set blurred by the noise, (B,).
        covariance_trace: ``tr Cov[x | y]``, (B,); over σ² it is the trace of the Jacobian.
    """

    mean: Tensor
    indices: Tensor
    probabilities: Tensor
    effective_number: Tensor
    log_evidence: Tensor
    covariance_trace: Tensor


@training_free(
    "optimal",
    explanation="memorization (the training set itself)",
    source="Karras et al., NeurIPS 2022, arXiv 2206.00364, equation 57; Vincent, Neural Computation 2011",
)
class OptimalDenoiser(TrainingSetDenoiser):
    """The posterior mean over the training images; gradients flow to the noisy images, by a second pass over the data.

    Args:
        images: the training set.
        temperature: divides the logits, as if the noise level were ``σ √temperature``.

    Raises:
        UserError: temperature not positive and finite.
    """

    differentiable = True

    def __init__(self, images: ImageSet, *, temperature: float = 1.0) -> None:
        super().__init__(images, temperature=temperature)
        self.posterior = WholeImagePosterior(images)

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """See `Denoiser.denoise`."""
        denoised: Tensor = _PosteriorMean.apply(noisy, sigma, self)  # type: ignore[no-untyped-call]
        return denoised

    def posterior_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        """See `TrainingSetDenoiser.posterior_mean`."""
        return self.posterior.mean(noisy, spread)

    def device_mean(self, engine: DeviceEngine, noisy: Tensor, spread: Tensor, sigma: list[float]) -> Tensor:
        """See `TrainingSetDenoiser.device_mean`."""
        return engine.whole_image.mean(noisy, spread)

    def describe(self, noisy: Tensor, sigma: float | Tensor, top: int = 8) -> TrainingPosterior:
        """Everything that one pass over the training set tells.

        Args:
            noisy: (B, C, H, W).
            sigma: as in `Denoiser.forward`.
            top: k, how many of the likeliest training images to name.

        Raises:
            UserError: as `Denoiser.forward`; top below 1.
        """
        if top < 1:
            raise UserError(f"the number of training images to name must be at least 1, found {top}")
        noisy, levels = self.checked(noisy, sigma)
        asked = from_first(noisy), from_first(levels)
        # What follows is the same for sums on the processor, as arrays, and on a device, as tensors.
        sums: Any
        evidence: Any
        if has_device_engine(noisy.device):
            there, (points, width) = self.engine_on(noisy.device).whole_image, self.in_levels_there(*asked)
            sums = there.sums(points, width, top=top)
            evidence = there.log_evidence(sums, width)
        else:
            values, spread = self.in_levels(*asked)
            sums = self.posterior.sums(values, spread, top=top)
            evidence = self.posterior.log_evidence(sums, spread)
        probabilities = torch.as_tensor(sums.top_logits - sums.log_normalizer[:, None]).exp()

        def like(values: Any) -> Tensor:
            return torch.as_tensor(values).to(noisy.device, noisy.dtype)

        return TrainingPosterior(
            mean=like(from_levels(sums.mean)).reshape(noisy.shape),
            indices=torch.as_tensor(sums.top_indices).to(noisy.device),
            probabilities=like(probabilities),
            effective_number=like(torch.as_tensor(sums.entropy).exp()),
            log_evidence=like(evidence),
            covariance_trace=like(sums.covariance_trace / LEVELS_PER_UNIT**2),
        )

    def jacobian_products(self, noisy: Tensor, sigma: float | Tensor, vectors: Tensor) -> Tensor:
        """Products of the Jacobian ``∂D*/∂y = Cov[x | y] / σ²`` (temperature included) with vectors.

        Args:
            noisy: (B, C, H, W).
            sigma: as in `Denoiser.forward`.
            vectors: (..., B, C, H, W): any number of them for each noisy image.

        Returns:
            The products, shape and dtype of `vectors`.

        Raises:
            UserError: as `Denoiser.forward`; vectors of another shape.
        """
        noisy, levels = self.checked(noisy, sigma)
        if vectors.shape[-4:] != noisy.shape:
            raise UserError(
                f"{self.name}: vectors for {tuple(noisy.shape)} images are (..., {', '.join(map(str, noisy.shape))}),"
                f" found {tuple(vectors.shape)}"
            )
        asked = from_first(noisy), from_first(levels)
        rows = from_first(vectors).detach().double().reshape(-1, len(noisy), noisy[0].numel()).transpose(0, 1)
        if has_device_engine(noisy.device):
            points, width = self.in_levels_there(*asked)
            there = self.engine_on(noisy.device).whole_image.covariance_products(points, width, rows.to(noisy.device))
            jacobian = there / width[:, None, None] ** 2
        else:
            values, spread = self.in_levels(*asked)
            products = self.posterior.covariance_products(values, spread, rows.to("cpu").contiguous().numpy())
            jacobian = torch.from_numpy(products / (spread**2)[:, None, None])
        return jacobian.transpose(0, 1).reshape(vectors.shape).to(vectors.device, vectors.dtype)


class _PosteriorMean(torch.autograd.Function):
    """The optimal denoiser for autograd: backwards and forwards its derivative is the same symmetric matrix."""

    @staticmethod
    def forward(noisy: Tensor, sigma: Tensor, denoiser: OptimalDenoiser) -> Tensor:
        return TrainingSetDenoiser.denoise(denoiser, noisy, sigma)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, OptimalDenoiser], output: Tensor) -> None:
        noisy, sigma, ctx.denoiser = inputs
        ctx.save_for_backward(noisy, sigma)
        ctx.save_for_forward(noisy, sigma)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        if ctx.needs_input_grad[1]:
            raise UserError("optimal: gradients with respect to sigma are not computed, only to the noisy images")
        noisy, sigma = ctx.saved_tensors
        return _JacobianProduct.apply(gradient, noisy, sigma, ctx.denoiser), None, None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        noisy, sigma = ctx.saved_tensors
        product: Tensor = _JacobianProduct.apply(tangent, noisy, sigma, ctx.denoiser)  # type: ignore[no-untyped-call]
        return product

    @staticmethod
    def vmap(info: Any, in_dims: Any, noisy: Tensor, sigma: Tensor, denoiser: OptimalDenoiser) -> Any:
        if in_dims[0] is None and in_dims[1] is None:  # what is batched are the tangents
            return _PosteriorMean.apply(noisy, sigma, denoiser), None  # type: ignore[no-untyped-call]

        def batched(values: Tensor, dim: int | None) -> Tensor:
            return values.expand(info.batch_size, *values.shape) if dim is None else values.movedim(dim, 0)

        many, levels = batched(noisy, in_dims[0]), batched(sigma, in_dims[1])
        denoised = _PosteriorMean.apply(many.flatten(0, 1), levels.flatten(0, 1), denoiser)  # type: ignore[no-untyped-call]
        return denoised.unflatten(0, many.shape[:2]), 0


class _JacobianProduct(torch.autograd.Function):
    """Jacobian-vector products that can be batched over vectors (`torch.func.vmap` of a `torch.func.vjp`)."""

    @staticmethod
    def forward(vectors: Tensor, noisy: Tensor, sigma: Tensor, denoiser: OptimalDenoiser) -> Tensor:
        return denoiser.jacobian_products(noisy, sigma, vectors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        _, noisy, sigma, ctx.denoiser = inputs
        ctx.save_for_backward(noisy, sigma)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        if ctx.needs_input_grad[1]:
            raise UserError("optimal: second derivatives with respect to the noisy images are not computed")
        noisy, sigma = ctx.saved_tensors
        return ctx.denoiser.jacobian_products(noisy, sigma, gradient), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, vectors: Tensor, noisy: Tensor, sigma: Tensor, denoiser: OptimalDenoiser) -> Any:
        if in_dims[1] is not None or in_dims[2] is not None:
            raise UserError("optimal: batch the vectors, not the noisy images: those are a batch already")
        return _JacobianProduct.apply(vectors.movedim(in_dims[0], 0), noisy, sigma, denoiser), 0  # type: ignore[no-untyped-call]
