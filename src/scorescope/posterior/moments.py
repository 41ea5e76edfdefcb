"""Mean and covariance of a training set, exact, streaming: sums of products of bytes are integers.

Several processes each read their part; sums of integers merge without rounding, so they all get what one would get.

Covariances divide by N, the number of images (Niedoba et al. 2025 and others do; N − 1 would be the unbiased estimate).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from scorescope.data.images import ImageSet
from scorescope.foundation import UserError
from scorescope.posterior.exact_product import byte_times_byte
from scorescope.posterior.processes import from_first, merge_sums, own_part, process_count
from scorescope.posterior.units import LEVELS_PER_UNIT, OFFSET, centred

Floats = npt.NDArray[np.float64]

CHUNK = 4096
# A square float64 matrix of this many rows is 2 GiB.
LARGEST_MATRIX = 16384


@dataclass(frozen=True)
class PrincipalComponents:
    """A training set's mean and the eigenvectors of its covariance, in units of [-1, 1].

    Attributes:
        mean: float64 (d,).
        variances: eigenvalues in descending order, float64 (r,), none negative.
        directions: unit eigenvectors as columns, float64 (d, r). Directions left out have no variance.
    """

    mean: Floats
    variances: Floats
    directions: Floats


def mean_image(images: ImageSet) -> Floats:
    """Mean of the training images in [-1, 1], float64 (d,)."""
    total = np.zeros(math.prod(images.image_shape), dtype=np.int64)
    for pixels in _own_chunks(images):
        total += pixels.reshape(len(pixels), -1).sum(0, dtype=np.int64)
    return np.asarray(merge_sums(total) / len(images) / LEVELS_PER_UNIT - 1.0)


def covariance(images: ImageSet) -> tuple[Floats, Floats]:
    """Mean (d,) and covariance (d, d) of the training images in units of [-1, 1], float64, divisor N.

    Raises UserError if an image has more values than a matrix of 2 GiB has rows.
    """
    dimension = math.prod(images.image_shape)
    _check_size(images, dimension)
    total, products = np.zeros(dimension), np.zeros((dimension, dimension))
    for pixels in _own_chunks(images):
        rows = centred(pixels).reshape(len(pixels), dimension)
        total += rows.sum(0, dtype=np.int64)
        products += byte_times_byte(np.ascontiguousarray(rows.T), rows)
    mean = merge_sums(total) / len(images)
    products = merge_sums(products) / len(images)
    products -= np.outer(mean, mean)
    return (mean + OFFSET) / LEVELS_PER_UNIT, products / LEVELS_PER_UNIT**2


def principal_components(images: ImageSet, rank: int | None = None) -> PrincipalComponents:
    """Eigenvectors of the covariance, all that have variance or the first `rank`.

    Whichever is smaller is decomposed, the covariance (d, d) or the products of images with one another (N, N).

    Raises:
        UserError: both are larger than 2 GiB.
    """
    dimension = math.prod(images.image_shape)
    if len(images) < dimension:
        return _same_everywhere(_from_few_images(images, dimension, rank))
    mean, matrix = covariance(images)
    return _same_everywhere(decompose(mean, matrix, rank))


def decompose(mean: Floats, matrix: Floats, rank: int | None = None) -> PrincipalComponents:
    """Eigenvectors of a covariance (d, d), all that have variance or the first `rank`."""
    variances, directions = torch.linalg.eigh(torch.from_numpy(matrix))
    return _largest(mean, variances.numpy(), directions.numpy(), rank)


def _from_few_images(images: ImageSet, dimension: int, rank: int | None) -> PrincipalComponents:
    _check_size(images, len(images))
    rows = centred(images.read(0, len(images))).reshape(len(images), dimension)
    mean = rows.mean(0, dtype=np.float64)
    deviations = torch.from_numpy((rows - mean) / LEVELS_PER_UNIT)
    variances, combinations = torch.linalg.eigh(deviations @ deviations.T / len(images))
    kept = variances > variances[-1] * 1e-12
    variances, combinations = variances[kept], combinations[:, kept]
    directions = deviations.T @ combinations / (variances * len(images)).sqrt()
    return _largest((mean + OFFSET) / LEVELS_PER_UNIT, variances.numpy(), directions.numpy(), rank)


def _own_chunks(images: ImageSet) -> Iterator[npt.NDArray[np.uint8]]:
    """This process's images, (≤ CHUNK, C, H, W)."""
    first, last = own_part(len(images))
    for start in range(first, last, CHUNK):
        yield images.read(start, min(start + CHUNK, last))


def _same_everywhere(found: PrincipalComponents) -> PrincipalComponents:
    """Process 0's: eigenvectors have no sign of their own, and processors of another make round differently."""
    if process_count() == 1:
        return found
    shape = from_first(torch.tensor(found.directions.shape)).tolist()
    arrays = (found.mean, found.variances, found.directions)
    sizes = ((len(found.mean),), (shape[1],), tuple(shape))
    shared = (from_first(torch.from_numpy(np.resize(array, size))) for array, size in zip(arrays, sizes, strict=True))
    return PrincipalComponents(*(values.numpy() for values in shared))


def _largest(mean: Floats, variances: Floats, directions: Floats, rank: int | None) -> PrincipalComponents:
    """Keep the last `rank` of ascending eigenvalues that are above rounding, largest first."""
    kept = variances > max(variances[-1], 0.0) * 1e-13 if len(variances) else np.zeros(0, dtype=bool)
    variances, directions = variances[kept][::-1][:rank], directions[:, kept][:, ::-1][:, :rank]
    return PrincipalComponents(mean, np.ascontiguousarray(variances), np.ascontiguousarray(directions))


def _check_size(images: ImageSet, rows: int) -> None:
    if rows > LARGEST_MATRIX:
        raise UserError(
            f"{images.name}: a covariance of {rows} rows is {rows**2 * 8 / 2**30:.0f} GiB, at most {LARGEST_MATRIX} rows are "
            "computed: use smaller images, or a subset of fewer images"
        )
