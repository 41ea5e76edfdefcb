"""Does a network model these images at all? Without a yes no verdict means anything.

A network that was not trained, whose averaged weights are still those it began with, or that was trained on something else,
copies nothing and has no gap: by those alone it would "generalize". Two questions come first.

- *Denoising.* On images of the kind, unseen or trained on, its error must be below that of a denoiser that knows only the mean
  image at nearly all noise levels, and below that of the Gaussian denoiser of the training set (its mean and covariance) at a
  stated part of them. A network that knows its training images by heart may do badly on all others: either will do.
- *Sampling.* Its samples must lie nearer to images of the kind than noise does, and than images whose pixels were shuffled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.probes.audit.membership import area_under_curve
from scorescope.probes.audit.search import Floats
from scorescope.probes.proportions import Interval

BELOW_MEAN, BELOW_GAUSSIAN = 0.75, 0.5
"""Part of the noise levels at which a network must be better than the mean image, and than the Gaussian denoiser."""
CHANCE, NEARER = 0.5, 0.75
"""What noise has, and what images of the kind must have: noise of another distribution may differ a little from chance."""
SLACK, GAIN = 0.02, 0.8

REASONS = (
    "it was not trained, or hardly",
    "its averaged weights follow too slowly and are still near their beginning (try the raw ones)",
    "its noise levels, scaling or prediction were read wrongly (see the model's line below)",
    "it was trained on other images, or on images in another range, size or colour order",
)


@dataclass(frozen=True)
class Modelling:
    """Whether a network models images.

    Attributes:
        below_mean: share of noise levels at which its error is below the mean image's, the better of both sets; None if
            denoising was not looked at.
        below_gaussian: the same for the Gaussian denoiser.
        nearer: probability that a sample lies nearer to images of the kind than a shuffled one or noise does, with its
            interval; None if samples were not looked at.
    """

    below_mean: float | None
    below_gaussian: float | None
    nearer: Interval | None

    @property
    def denoises(self) -> bool:
        """Whether it denoises such images; true if that was not looked at."""
        if self.below_mean is None or self.below_gaussian is None:
            return True
        return self.below_mean >= BELOW_MEAN and self.below_gaussian >= BELOW_GAUSSIAN

    @property
    def samples(self) -> bool:
        """Whether its samples are such images; true if that was not looked at."""
        return self.nearer is None or (self.nearer.low > CHANCE and self.nearer.value >= NEARER)

    @property
    def noise(self) -> bool:
        """Whether its samples lie hardly nearer to images of the kind than noise does; false if that was not looked at."""
        return self.nearer is not None and self.nearer.value < NEARER

    @property
    def holds(self) -> bool:
        """Whether it models these images."""
        return self.denoises and self.samples

    def words(self) -> str:
        """What was found, in a sentence."""
        parts = []
        if self.below_mean is not None and self.below_gaussian is not None:
            parts.append(
                f"its denoising error is below the mean image's at {self.below_mean:.0%} of the noise levels"
                f" (needed: {BELOW_MEAN:.0%}) and below the Gaussian denoiser's at {self.below_gaussian:.0%}"
                f" (needed: {BELOW_GAUSSIAN:.0%})"
            )
        if self.nearer is not None:
            parts.append(
                "a sample lies nearer to images of the kind than noise and shuffled images do with probability"
                f" {self.nearer.words()} (needed: {NEARER:g}, and surely more than {CHANCE:g})"
            )
        return "; ".join(parts)


def share_below(errors: npt.ArrayLike, reference: npt.ArrayLike, slack: float = SLACK) -> float:
    """Share of S noise levels at which the mean of errors is below that of a reference's on the same images, (S, B) each.

    At high noise every good denoiser says the mean image, so an error counts as below up to a small part above.
    """
    mine, theirs = np.asarray(errors, dtype=np.float64).mean(1), np.asarray(reference, dtype=np.float64).mean(1)
    return float((mine < theirs * (1 + slack)).mean())


def worth_denoising(gaussian: npt.ArrayLike, mean: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """At which of S levels there is something to gain over the mean image: (S, B) errors of both -> bool (S,); never none."""
    better = np.asarray(gaussian).mean(1) < GAIN * np.asarray(mean).mean(1)
    return better if better.any() else np.ones(len(better), bool)


def shuffled(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images whose pixels change places, each image in another way: (B, C, H, W)."""
    count, channels, height, width = images.shape
    places = torch.rand((count, 1, height * width), generator=generator).argsort(2).expand(-1, channels, -1)
    return images.flatten(2).gather(2, places).reshape(images.shape)


def noise_like(images: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise with the images' mean and standard deviation, clipped to [-1, 1]."""
    return (images.mean() + images.std() * torch.randn(images.shape, generator=generator)).clamp(-1, 1)


def nearer_than(samples: npt.ArrayLike, nothing: npt.ArrayLike) -> Interval:
    """Probability that a sample is more similar to its nearest unseen image than an image of nothing is, with its interval."""
    return area_under_curve(np.asarray(samples), np.asarray(nothing))


def mean_errors(clean: Tensor, mean: Tensor, levels: int) -> Floats:
    """Errors of the mean image (C, H, W), the same at every level: (levels, B)."""
    errors = (clean.double() - mean.double()).square().mean((1, 2, 3)).numpy()
    return np.broadcast_to(errors, (levels, len(errors))).copy()
