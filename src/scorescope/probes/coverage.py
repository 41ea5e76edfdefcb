"""How well a training set covers the neighbourhood of each of its images, and how well a number predicts another.

*Local coverage* (Merger & Goldt, arXiv 2606.14390): the density of the data at a training image times how many images there
are. Here by a kernel over the other images of the set, ``c_i = ln Σ_{j ≠ i} exp(−‖x_i − x_j‖² / 2h²)``, with h the median
distance of an image to its nearest other one: the logarithm of how many neighbours it has at the scale at which images of
this set have any.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from scipy.stats import rankdata

from scorescope.data.images import ImageSet
from scorescope.foundation import UserError
from scorescope.probes.intervals import DRAWS, LEVEL
from scorescope.probes.proportions import Interval

Floats = npt.NDArray[np.float64]


def squared_distances(images: ImageSet) -> Floats:
    """Between all images of a set, in units of [-1, 1], float64 (N, N), exact, with an infinite diagonal."""
    rows = images.read(0, len(images)).reshape(len(images), -1).astype(np.float64)
    lengths = np.square(rows).sum(1)
    squared = (lengths[:, None] + lengths[None] - 2 * rows @ rows.T) / 127.5**2  # sums of whole numbers
    np.fill_diagonal(squared, np.inf)
    return np.asarray(squared)


def local_coverage(images: ImageSet) -> Floats:
    """c_i of every image, (N,). Raises UserError for fewer than 3 images, or where most are there twice."""
    if len(images) < 3:
        raise UserError(f"{images.name}: a neighbourhood takes at least 3 images, found {len(images)}")
    squared = squared_distances(images)
    scale = float(np.median(squared.min(1)))
    if scale <= 0:
        raise UserError(
            f"{images.name}: most images are there twice, so none has a neighbourhood; leave duplicates out"
        )
    return np.asarray(logsumexp(-squared / (2 * scale), axis=1))


def rank_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> Interval:
    """Spearman's correlation of two numbers an image, (n,) twice, with its bootstrap interval; NaN where one is constant."""
    return _over_images(_spearman, np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))


def separation(score: npt.ArrayLike, chosen: npt.ArrayLike) -> Interval:
    """Probability that the score of a chosen image is above that of another one, ties counting half (the area under the curve).

    Args:
        score: (n,).
        chosen: bool (n,).

    Returns:
        It, with its 95 % bootstrap interval over images; NaN where all or none are chosen.
    """
    return _over_images(_area, np.asarray(score, dtype=np.float64), np.asarray(chosen, dtype=np.float64))


def _spearman(first: Floats, second: Floats) -> Floats:
    a, b = (rankdata(values, axis=-1) - (values.shape[-1] + 1) / 2 for values in (first, second))
    scale = np.sqrt(np.square(a).sum(-1) * np.square(b).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((a * b).sum(-1) / scale)


def _area(score: Floats, chosen: Floats) -> Floats:
    many = chosen.sum(-1)
    above = (rankdata(score, axis=-1) * chosen).sum(-1) - many * (many + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(above / (many * (chosen.shape[-1] - many)))


def _over_images(statistic: Callable[[Floats, Floats], Floats], first: Floats, second: Floats) -> Interval:
    """A statistic over the last axis, and its interval over images."""
    value = float(statistic(first, second))
    rows = np.random.default_rng(0).integers(0, len(first), (DRAWS, len(first)))
    drawn = statistic(first[rows], second[rows])
    known = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not known.size:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, min(float(low), value), max(float(high), value))
