"""What would have been found: copies are planted among samples, and the share of them that is detected is counted.

A planted copy is a training image as a generator or a file format might hand it on: exact, mirrored, shifted, brighter, noisy,
through JPEG, half or a quarter of it in another image. "No copy found" says something only beside these numbers, which belong
to this data, these features and this number of training images.

The same numbers choose the statistic, without a look at the samples: among those that do not take smoothed unseen images for
copies, the one that finds most. Generators smooth what they make, and a smooth image is near to many.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from scorescope.data.images import Pixels, to_float, to_uint8
from scorescope.probes.audit.copies import FDR, Statistic, conformal, q_values
from scorescope.probes.audit.search import Floats
from scorescope.probes.proportions import Interval, wilson

NOISE, BRIGHTER, QUALITY = 0.1, 0.15, 75
SMOOTHED = (3, 5)
"""Sides of the box filters, in pixels, by which unseen images are smoothed to see which statistic smoothness fools."""
FOOLED = 3.0
"""How many times its nominal rate a statistic may exceed on smoothed unseen images."""


@dataclass(frozen=True)
class Planted:
    """One kind of planted copies.

    Attributes:
        name: what was done to the training images.
        found: the share detected at the false discovery rate, with its interval.
    """

    name: str
    found: Interval


def exact(images: Tensor, hosts: Tensor, generator: torch.Generator) -> Tensor:
    """The images as they are."""
    return images


def mirrored(images: Tensor, hosts: Tensor, generator: torch.Generator) -> Tensor:
    """Left and right exchanged."""
    return images.flip(-1)


def shifted(pixels: int) -> Callable[[Tensor, Tensor, torch.Generator], Tensor]:
    """Moved to the right by `pixels`, the edge repeated."""
    return lambda images, hosts, generator: pad(images, (pixels, 0, 0, 0), mode="replicate")[..., : images.shape[-1]]


def brighter(images: Tensor, hosts: Tensor, generator: torch.Generator) -> Tensor:
    """Brighter by `BRIGHTER`, clipped."""
    return (images + BRIGHTER).clamp(-1, 1)


def noisy(images: Tensor, hosts: Tensor, generator: torch.Generator) -> Tensor:
    """With Gaussian noise of standard deviation `NOISE`."""
    return (images + NOISE * torch.randn(images.shape, generator=generator)).clamp(-1, 1)


def through_jpeg(images: Tensor, hosts: Tensor, generator: torch.Generator) -> Tensor:
    """Written as JPEG of quality `QUALITY` and read again."""
    return to_float(np.stack([_jpeg(pixels) for pixels in to_uint8(images)]))


def half_in_another(images: Tensor, hosts: Tensor, generator: torch.Generator) -> Tensor:
    """The left half of the image, the right half of an unseen one."""
    return part_in_another(images, hosts, (0.0, 1.0), (0.0, 0.5))


def quarter_in_another(images: Tensor, hosts: Tensor, generator: torch.Generator) -> Tensor:
    """A quarter of the image, its centre, in an unseen one."""
    return part_in_another(images, hosts, (0.25, 0.75), (0.25, 0.75))


def patch_in_another(images: Tensor, hosts: Tensor, generator: torch.Generator) -> Tensor:
    """A patch of a quarter of its sides, beside the centre, in an unseen image."""
    return part_in_another(images, hosts, (0.375, 0.625), (0.375, 0.625))


def part_in_another(images: Tensor, hosts: Tensor, rows: tuple[float, float], columns: tuple[float, float]) -> Tensor:
    """A rectangle of `images`, given in shares of the sides, in the place of the same rectangle of `hosts`."""
    height, width = images.shape[-2:]
    top, bottom = (round(share * height) for share in rows)
    left, right = (round(share * width) for share in columns)
    mixed = hosts.clone()
    mixed[..., top:bottom, left:right] = images[..., top:bottom, left:right]
    return mixed


KINDS: Mapping[str, Callable[[Tensor, Tensor, torch.Generator], Tensor]] = {
    "exact": exact,
    "mirrored": mirrored,
    "shifted 1 pixel": shifted(1),
    "shifted 2 pixels": shifted(2),
    "brighter": brighter,
    "noisy": noisy,
    "JPEG": through_jpeg,
    "half in another": half_in_another,
    "quarter in another": quarter_in_another,
    "patch in another": patch_in_another,
}
LOCAL = ("half in another", "quarter in another", "patch in another")
"""Kinds of which only a part is copied: what windows are for."""


def planted(kind: str, images: Tensor, hosts: Tensor, seed: int = 0) -> Tensor:
    """Copies of a kind: training images (n, C, H, W), unseen ones of the same number -> (n, C, H, W) in 8-bit steps."""
    made = KINDS[kind](images, hosts, torch.Generator().manual_seed(seed))
    return to_float(to_uint8(made))


def smoothed(images: Tensor, side: int) -> Tensor:
    """Images under a box filter of odd side, edges repeated."""
    margin = side // 2
    return avg_pool2d(pad(images, (margin,) * 4, mode="replicate"), side, 1)


def detected(copies: npt.ArrayLike, others: npt.ArrayLike, calibration: npt.ArrayLike, fdr: float = FDR) -> Interval:
    """The share of planted copies that is found among as many or more images that are none.

    Args:
        copies: statistics of the planted copies (n,).
        others: statistics of images that are no copies (m,).
        calibration: statistics of the calibration images (h,).
        fdr: false discovery rate of the list.
    """
    mine = np.asarray(copies, dtype=np.float64)
    p = conformal(np.concatenate([mine, np.asarray(others, dtype=np.float64)]), calibration)
    share = float((q_values(p)[: len(mine)] <= fdr).mean())
    return wilson(share, len(mine))


def choose_statistic(
    found_of: Mapping[Statistic, Sequence[float]], fooled: Mapping[Statistic, float], nominal: float
) -> Statistic:
    """The statistic that finds most planted copies, among those that smoothness does not fool.

    Args:
        found_of: statistic -> share found of every kind of planted copies.
        fooled: statistic -> share of smoothed unseen images above the level that a share `nominal` of others exceeds.
        nominal: that share.

    Returns:
        The best; where all are fooled, the one that is fooled least.
    """
    honest = [kind for kind in found_of if fooled[kind] <= FOOLED * nominal]
    if not honest:
        return min(found_of, key=lambda kind: fooled[kind])
    return max(honest, key=lambda kind: float(np.mean(found_of[kind])))


def exceeding(smooth: npt.ArrayLike, calibration: npt.ArrayLike, nominal: float) -> float:
    """Share of smoothed unseen images above the level that a share `nominal` of the calibration images exceeds."""
    level = float(np.quantile(np.asarray(calibration, dtype=np.float64), 1 - nominal))
    return float((np.asarray(smooth, dtype=np.float64) > level).mean())


def _jpeg(pixels: Pixels) -> Pixels:
    channels = pixels.shape[0]
    picture = Image.fromarray(pixels[0] if channels == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    read = np.asarray(Image.open(file))
    return read[None] if channels == 1 else read.transpose(2, 0, 1)


def mean_found(kinds: Sequence[Planted]) -> Floats:
    """The shares found, one a kind."""
    return np.array([one.found.value for one in kinds])
