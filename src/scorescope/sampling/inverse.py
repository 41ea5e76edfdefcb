"""Linear inverse problems with the prior of a denoiser: images that agree with what was measured, drawn from what it expects.

What is known of an image x are m numbers ``c = Mᵀ x``, M with m orthonormal columns: some of its pixels (inpainting), averages
of blocks (super-resolution), or random directions. The ascent of `blind` climbs ``log p(y | c)`` instead of ``log p(y)`` if the
denoiser's residual is kept in the directions that were not measured and the measured ones are drawn to what was measured,

    d = (I − M Mᵀ) (D(y) − y) + M (c − Mᵀ y),

which is the residual towards ``D_c(y) = D(y) + M (c − Mᵀ D(y))``: the denoised image with its measured part set right. So the
same ascent is made with D_c in place of D, from ``(I − M Mᵀ) m + M c`` plus noise, m the mean image.

With an exact denoiser the samples are those of the posterior ``p(x | c)`` in the limit of slow cooling, β → 0. How slow is slow
enough depends on the measurements: what they say reaches the rest of the image at a rate in proportion to the share of the
image's features that they see, so β must be well below that share, or samples are too varied and too close to the prior.

Source: Kadkhodaie & Simoncelli, NeurIPS 2021, https://arxiv.org/abs/2007.13640, algorithm 2.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from scorescope.denoisers.base import Denoiser
from scorescope.foundation import UserError
from scorescope.sampling.blind import BlindState, climb

ImageShape = tuple[int, int, int]


class Measurement(ABC):
    """m linear measurements of an image with orthonormal directions.

    Attributes:
        image_shape: (C, H, W).
        count: m.
    """

    image_shape: ImageShape
    count: int

    @abstractmethod
    def measure(self, images: Tensor) -> Tensor:
        """``Mᵀ x``: (B, C, H, W) -> (B, m)."""

    @abstractmethod
    def spread(self, values: Tensor) -> Tensor:
        """``M c``: (B, m) -> (B, C, H, W), the image of smallest norm that has these measurements."""

    def impose(self, images: Tensor, values: Tensor) -> Tensor:
        """Images with their measured part replaced, ``x + M (c − Mᵀ x)``: (B, C, H, W), (B, m) -> (B, C, H, W)."""
        return images + self.spread(values - self.measure(images))


class Inpainting(Measurement):
    """Some values of the image are known.

    Args:
        known: which, bool (C, H, W), or (H, W) for pixels with all their channels.
        channels: C, for `known` of shape (H, W).

    Raises:
        UserError: a mask of another shape or kind; nothing known, or everything.
    """

    def __init__(self, known: Tensor, channels: int = 1) -> None:
        mask = known if known.ndim == 3 else known.expand(channels, *known.shape)
        if known.dtype != torch.bool or mask.ndim != 3:
            raise UserError(
                f"known pixels are a mask of bool (H, W) or (C, H, W), found {known.dtype} {tuple(known.shape)}"
            )
        if not bool(mask.any()) or bool(mask.all()):
            raise UserError("inpainting needs some pixels that are known and some that are not")
        channels, height, width = mask.shape
        self.image_shape = (channels, height, width)
        self.known = torch.nonzero(mask.flatten())[:, 0]
        self.count = len(self.known)

    def measure(self, images: Tensor) -> Tensor:
        """See `Measurement.measure`: the known values, in row order."""
        return images.flatten(1)[:, self.known.to(images.device)]

    def spread(self, values: Tensor) -> Tensor:
        """See `Measurement.spread`: the known values in their places, zero elsewhere."""
        flat = values.new_zeros(len(values), math.prod(self.image_shape))
        flat[:, self.known.to(values.device)] = values
        return flat.reshape(-1, *self.image_shape)


class BlockAverages(Measurement):
    """An image of fewer pixels is known, whose pixels are the averages of blocks.

    A measurement is the block's average times the block's side, which makes its direction one of unit length; `coarse` and
    `of_coarse` go between measurements and the small image.

    Args:
        image_shape: (C, H, W).
        factor: side of a block, at least 2; H and W are multiples of it.

    Raises:
        UserError: a factor below 2, or one that does not divide the sides.
    """

    def __init__(self, image_shape: ImageShape, factor: int) -> None:
        channels, height, width = image_shape
        if factor < 2 or height % factor or width % factor:
            raise UserError(
                f"blocks of side {factor} do not tile images of {height}×{width}: the side is at least 2 and divides both"
            )
        self.image_shape = image_shape
        self.factor = factor
        self.count = channels * (height // factor) * (width // factor)

    def measure(self, images: Tensor) -> Tensor:
        """See `Measurement.measure`: the averages times the factor."""
        return self.factor * torch.nn.functional.avg_pool2d(images, self.factor).flatten(1)

    def spread(self, values: Tensor) -> Tensor:
        """See `Measurement.spread`: blocks of one value each."""
        small = self.coarse(values)
        return small.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)

    def coarse(self, values: Tensor) -> Tensor:
        """The small image that measurements are: (B, m) -> (B, C, H / factor, W / factor)."""
        channels, height, width = self.image_shape
        return values.reshape(-1, channels, height // self.factor, width // self.factor) / self.factor

    def of_coarse(self, images: Tensor) -> Tensor:
        """The measurements that a small image is: (B, C, H / factor, W / factor) -> (B, m)."""
        return self.factor * images.flatten(1)


class RandomDirections(Measurement):
    """Products with random orthonormal directions are known, uniformly distributed over all sets of so many.

    Args:
        image_shape: (C, H, W).
        count: m, between 1 and C·H·W − 1.
        generator: that draws them, on the CPU.

    Raises:
        UserError: another count.
    """

    def __init__(self, image_shape: ImageShape, count: int, generator: torch.Generator) -> None:
        dimension = math.prod(image_shape)
        if not 1 <= count < dimension:
            raise UserError(
                f"{count} random measurements asked for of images with {dimension} values: between 1 and {dimension - 1}"
            )
        self.image_shape = image_shape
        self.count = count
        gaussian = torch.randn(dimension, count, generator=generator, dtype=torch.float64)
        q, r = torch.linalg.qr(gaussian)
        # With the diagonal of R positive the factor is unique, and its distribution uniform (Mezzadri 2007).
        self.directions = (q * torch.sign(torch.diagonal(r))).float()  # (d, m)

    def measure(self, images: Tensor) -> Tensor:
        """See `Measurement.measure`."""
        return torch.matmul(images.flatten(1), self.directions.to(images))

    def spread(self, values: Tensor) -> Tensor:
        """See `Measurement.spread`."""
        return torch.matmul(values, self.directions.to(values).T).reshape(-1, *self.image_shape)


def start_of(
    measurement: Measurement, measured: Tensor, mean: float, sigma_start: float, generator: torch.Generator
) -> Tensor:
    """Where the constrained ascent starts: the mean where nothing was measured, plus noise, (B, C, H, W).

    Args:
        measurement: what was measured.
        measured: (B, m).
        mean: mean intensity of the images.
        sigma_start: noise level.
        generator: for the noise, on the device of `measured`.
    """
    _check_measured(measurement, measured)
    grey = torch.full((len(measured), *measurement.image_shape), mean, dtype=measured.dtype, device=measured.device)
    noise = torch.randn(grey.shape, generator=generator, dtype=grey.dtype, device=grey.device)
    return measurement.impose(grey, measured) + sigma_start * noise


def constrained_ascent(
    denoiser: Denoiser,
    measurement: Measurement,
    measured: Tensor,
    start: Tensor,
    generator: torch.Generator,
    *,
    sigma_start: float = 2.0,
    sigma_end: float = 0.1,
    h: float = 0.01,
    beta: float = 0.1,
    h_grows: bool = True,
    max_steps: int | None = None,
) -> Iterator[BlindState]:
    """Climb to images that a denoiser expects and that have given measurements, yielding every state.

    Args:
        denoiser: as for `blind_ascent`.
        measurement: what was measured.
        measured: the values, (B, m), one row an image that is to be found; repeat a row for several images that share it.
        start: (B, C, H, W), see `start_of`.
        generator: for the noise that is added.
        sigma_start: noise level of `start`.
        sigma_end: noise level to stop at.
        h: first step size, in (0, 1].
        beta: share of the step that lowers the noise, in (0, 1].
        h_grows: whether the steps grow.
        max_steps: when to give up; by default as in `blind_ascent`.

    Yields:
        One state a step; ``denoised`` has the measurements to rounding, in every state.

    Raises:
        UserError: measured values of another shape, or another number of them than of images to start from; otherwise as
            `blind_ascent`.
    """
    _check_measured(measurement, measured)
    if tuple(start.shape) != (len(measured), *measurement.image_shape):
        raise UserError(
            f"{len(measured)} rows of measurements of images {measurement.image_shape} need as many images to start from,"
            f" found {tuple(start.shape)}"
        )

    def estimate(noisy: Tensor, sigma: Tensor, which: Tensor) -> Tensor:
        return measurement.impose(denoiser(noisy, sigma), measured[which])

    return climb(
        estimate,
        start,
        generator,
        sigma_start=sigma_start,
        sigma_end=sigma_end,
        h=h,
        beta=beta,
        h_grows=h_grows,
        max_steps=max_steps,
    )


def _check_measured(measurement: Measurement, measured: Tensor) -> None:
    if measured.ndim != 2 or measured.shape[1] != measurement.count:
        raise UserError(f"measured values are (B, {measurement.count}), found {tuple(measured.shape)}")
    if not bool(torch.isfinite(measured).all()):
        raise UserError("the measured values hold NaN or infinite ones")
