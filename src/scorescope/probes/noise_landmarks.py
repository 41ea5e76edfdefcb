"""Speciation and collapse of a training set in a fraction of a second: what every axis of noise levels shows.

The two levels of `posterior_entropy`, for many images. Collapse from two products of the images with a few noisy ones: the
noise n is the same at every σ, so that ``‖x_i + σ n − x_j‖² = ‖x_i − x_j‖² + 2σ n·(x_i − x_j) + σ²‖n‖²`` needs the images once.
Of a set that is too large for that, M of the N images stand for all: each but the noisy image's own counts (N − 1)/(M − 1)
times. Speciation from a few thousand images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorescope.data.images import ImageSet
from scorescope.probes.posterior_entropy import HIGHEST, LOWEST, PRECISION

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
INPUTS, MOST_VALUES, MOST_FOR_SPECIATION = 64, 48_000_000, 2048
"""Noisy images; pixel values that are read for collapse; images that are read for speciation."""
_CHUNK, _SMALL = 2048, 256


@dataclass(frozen=True)
class NoiseLandmarks:
    """Two noise levels of a training set, in units of [-1, 1].

    Attributes:
        collapse: below it the posterior of a noisy training image holds on to single images; None for fewer than 3 images.
        speciation: above it a noisy image does not tell its kind; None where all images are equal.
        images: N.
        read_for_collapse: how many of them stood for all.
        read_for_speciation: how many of them the covariance is of.
    """

    collapse: float | None
    speciation: float | None
    images: int
    read_for_collapse: int
    read_for_speciation: int


def noise_landmarks(images: ImageSet, *, most_values: int = MOST_VALUES, seed: int = 0) -> NoiseLandmarks:
    """Both levels.

    Args:
        images: the training set.
        most_values: pixel values that are read at most; of a larger set a random part.
        seed: of the images and the noise.
    """
    dimension = math.prod(images.image_shape)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(images))
    many = min(len(images), max(3, most_values // dimension))
    few = min(many, MOST_FOR_SPECIATION)
    collapse = None
    if many > 2:
        collapse = _collapse(images, order[:many], generator)
    return NoiseLandmarks(collapse, _speciation(_flat(images, order[:few])), len(images), many, few)


def _collapse(images: ImageSet, entries: npt.NDArray[np.int64], generator: np.random.Generator) -> float:
    """By bisection, as `posterior_entropy.collapse_level`."""
    clean = _flat(images, entries[:INPUTS])
    noise = generator.standard_normal(clean.shape)
    own = np.arange(len(clean))
    both, lengths = np.concatenate([clean, noise.astype(np.float32)]).T, np.square(clean).sum(1)
    distance, slope = np.empty((2, len(clean), len(entries)), dtype=np.float32)
    for start in range(0, len(entries), _CHUNK):
        part = _flat(images, entries[start : start + _CHUNK])
        products = (part @ both).T
        here = slice(start, start + len(part))
        # float32 is enough: a distance is off by less than 0.001, beside the hundreds that lie between images.
        distance[:, here] = np.square(part).sum(1) + lengths[:, None] - 2 * products[: len(clean)]
        slope[:, here] = -products[len(clean) :]
    slope -= slope[own, own][:, None].copy()
    distance[own, own] = 0.0
    counted = np.full_like(distance, (len(images) - 1) / (len(entries) - 1))
    counted[own, own] = 1.0
    low, high = LOWEST, HIGHEST
    while math.log(high / low) > PRECISION:
        between = math.sqrt(low * high)
        logits = distance * (-0.5 / between**2) - slope * (1 / between)
        above = _entropy(logits, counted).mean() > math.log(2)
        low, high = (low, between) if above else (between, high)
    return math.sqrt(low * high)


def _entropy(logits: Singles, counted: Singles) -> Floats:
    """Of weights in proportion to exp(logits), each of which stands for `counted` images, nats (B,)."""
    logits = logits - logits.max(1, keepdims=True)
    weights = counted * np.exp(logits)
    total = weights.sum(1)
    return np.asarray(np.log(total) - (weights * logits).sum(1) / total)


def _speciation(rows: Singles) -> float | None:
    """The root of the largest eigenvalue of the covariance of rows (n, d); None where there is no variance."""
    centred = rows - rows.mean(0, dtype=np.float64).astype(np.float32)
    if not centred.any():
        return None
    count, dimension = centred.shape
    if min(count, dimension) <= _SMALL:
        products = centred @ centred.T if count < dimension else centred.T @ centred
        largest = float(np.linalg.eigvalsh(products)[-1])
    else:
        from scipy.sparse.linalg import svds

        start = np.ones(min(count, dimension), dtype=np.float32)
        largest = float(svds(centred, 1, v0=start, tol=1e-4, return_singular_vectors=False)[0]) ** 2
    return math.sqrt(largest / count)


def _flat(images: ImageSet, entries: npt.NDArray[np.int64]) -> Singles:
    """Chosen images in [-1, 1], (n, d)."""
    return images.take(entries).reshape(len(entries), -1).astype(np.float32) / np.float32(127.5) - np.float32(1)
