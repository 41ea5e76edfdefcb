"""The posterior over whole training images: exact, in one pass over the store, in memory that does not grow with it.

For a noisy image ``y = x + σ n`` and training images x_i the posterior weights are ``w = softmax_i(−‖y − x_i‖² / 2σ²)``
and the posterior mean ``Σ w_i x_i`` is the optimal denoiser of the training set. Expanding the square,
``−‖y − x_i‖²/2σ² = (2 y·x_i − ‖x_i‖²)/2σ² + const``: one matrix product a chunk gives all logits, and a second one, of the
weights with the images that have any, the sum. In float32 that expansion is useless at low noise, where the logits
are differences of numbers a million times larger; here both products are exact (`exact_product`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorescope.data.images import ImageSet
from scorescope.posterior import whole_image_kernels as kernels
from scorescope.posterior.accumulator import Accumulator
from scorescope.posterior.exact_product import times_columns, times_rows, to_whole
from scorescope.posterior.processes import gather, merge_maxima, merge_sums, own_part, process_count
from scorescope.posterior.product_race import fastest_way
from scorescope.posterior.product_ways import WHOLE_BITS, Products
from scorescope.posterior.units import LEVELS_PER_UNIT, centre, from_levels
from scorescope.posterior.workers import in_parallel, worker_count

Floats = npt.NDArray[np.float64]

CHUNK_BYTES = 12 * 2**20
MOST_ROWS = 128
# Images with a smaller posterior weight are left out of products with the covariance.
LEAST_WEIGHT = 1e-30


@dataclass
class WholeImageSums:
    """Sums over training images under the posterior of B noisy images, in grey levels centred at 128.

    Attributes:
        largest: largest logit met, float64 (B,).
        weight: ``Σ exp(logit − largest)``, (B,).
        weighted_image: ``Σ exp(logit − largest) image``, (B, d).
        weighted_logit: ``Σ exp(logit − largest) (logit − largest)``, (B,).
        weighted_norm: ``Σ exp(logit − largest) ‖image‖²``, (B,).
        top_logits: the largest logits in descending order, (B, k).
        top_indices: the training images that have them, int64 (B, k); −1 where there are fewer than k.
    """

    largest: Floats
    weight: Floats
    weighted_image: Floats
    weighted_logit: Floats
    weighted_norm: Floats
    top_logits: Floats
    top_indices: npt.NDArray[np.int64]

    @property
    def mean(self) -> Floats:
        """Posterior means in grey levels, (B, d)."""
        return np.asarray(self.weighted_image / self.weight[:, None])

    @property
    def log_normalizer(self) -> Floats:
        """``log Σ exp(logit)``, (B,)."""
        return np.asarray(self.largest + np.log(self.weight))

    @property
    def entropy(self) -> Floats:
        """Of the posterior weights, in nats, (B,)."""
        return np.asarray(np.maximum(np.log(self.weight) - self.weighted_logit / self.weight, 0.0))

    @property
    def covariance_trace(self) -> Floats:
        """``E‖x‖² − ‖E x‖²`` under the posterior, in squared grey levels, (B,)."""
        return np.asarray(np.maximum(self.weighted_norm / self.weight - (self.mean**2).sum(1), 0.0))

    @classmethod
    def empty(cls, batch: int, values: int, top: int) -> WholeImageSums:
        """Of no images."""
        zeros = np.zeros(batch)
        return cls(
            largest=np.full(batch, -np.inf),
            weight=zeros.copy(),
            weighted_image=np.zeros((batch, values)),
            weighted_logit=zeros.copy(),
            weighted_norm=zeros.copy(),
            top_logits=np.full((batch, top), -np.inf),
            top_indices=np.full((batch, top), -1, dtype=np.int64),
        )

    def accumulator(self) -> Accumulator:
        """Log-normalizer (B,) and posterior mean (B, d) in grey levels."""
        return Accumulator(self.log_normalizer, self.mean)

    def merged(self) -> WholeImageSums:
        """Those of all processes together."""
        if process_count() == 1:
            return self
        largest, top = merge_maxima(self.largest), self.top_logits.shape[1]
        share, fall = np.exp(self.largest - largest), _shift(self.largest, largest)
        weighted_logit = self.weighted_logit + fall * self.weight
        columns = [self.weight, weighted_logit, self.weighted_norm, self.weighted_image]
        # One collective for all of them: its cost is in the asking.
        found = merge_sums(share[:, None] * np.column_stack(columns))
        top_logits, top_indices = self.top_logits, self.top_indices
        if top:
            logits, indices = np.concatenate(gather(top_logits), 1), np.concatenate(gather(top_indices), 1)
            top_logits, top_indices = _largest(logits, indices, top)
        return WholeImageSums(largest, found[:, 0], found[:, 3:], found[:, 1], found[:, 2], top_logits, top_indices)


class WholeImagePosterior:
    """Averages over the training images under the posterior of noisy images.

    Args:
        images: the training set.

    Attributes:
        dimension: d = C·H·W.
    """

    def __init__(self, images: ImageSet) -> None:
        self.images = images
        self.dimension = math.prod(images.image_shape)
        self._norms: dict[int, Floats] = {}

    def mean(self, noisy: Floats, sigma: Floats) -> Floats:
        """Posterior mean in [-1, 1], float64 (B, d), of noisy grey levels (B, d) at sigma (B,) in grey levels."""
        pieces = [
            from_levels(self.sums(noisy[rows : rows + MOST_ROWS], sigma[rows : rows + MOST_ROWS]).mean)
            for rows in range(0, len(noisy), MOST_ROWS)
        ]
        return np.concatenate(pieces)

    def sums(self, noisy: Floats, sigma: Floats, top: int = 0) -> WholeImageSums:
        """One pass over the training set.

        Args:
            noisy: B noisy images as centred grey levels, float64 (B, d).
            sigma: noise levels in grey levels, float64 (B,).
            top: how many of the likeliest training images to keep for each.

        Returns:
            The sums; logits hold ``−‖y − x‖²/2σ²`` in full.
        """
        totals = WholeImageSums.empty(len(noisy), self.dimension, top)
        whole, scale = to_whole(noisy)
        way = fastest_way("rows", len(noisy), WHOLE_BITS)
        digits, inverse = way.digits(whole, WHOLE_BITS), 0.5 / sigma**2
        for start, chunk in self._chunks():
            products = way.rows(digits, chunk)
            self._add_chunk(totals, chunk, start, products, way.bits, 2 * scale * inverse, inverse, top)
        constant = (noisy**2).sum(1) * inverse
        totals.largest -= constant
        totals.top_logits -= constant[:, None]
        return totals.merged()

    def log_evidence(self, sums: WholeImageSums, sigma: Floats) -> Floats:
        """``log p_σ(y)`` (B,) in nats, y in units of [-1, 1]: the training set blurred by the noise, as a density."""
        spread = sigma / LEVELS_PER_UNIT
        density = -0.5 * self.dimension * np.log(2 * math.pi * spread**2)
        return np.asarray(sums.log_normalizer - math.log(len(self.images)) + density)

    def weights(self, noisy: Floats, sigma: Floats) -> Floats:
        """Posterior weights of all training images, one row a noisy image that sums to one: float64 (B, N).

        Arguments as in `sums`. This is the one routine here whose memory grows with the training set: by 8 B a weight.
        """
        logits = np.full((len(noisy), len(self.images)), -np.inf)
        inverse = 0.5 / sigma**2
        whole, scale = to_whole(noisy)
        for start, chunk in self._chunks():
            products = (2 * scale * inverse)[:, None] * times_rows(whole, chunk)
            logits[:, start : start + len(chunk)] = products - np.outer(inverse, self._chunk_norms(start, chunk))
        logits -= merge_maxima(logits.max(1))[:, None]
        np.exp(logits, out=logits)
        logits = merge_sums(logits)
        logits /= logits.sum(1, keepdims=True)
        return logits

    def covariance_products(self, noisy: Floats, sigma: Floats, vectors: Floats) -> Floats:
        """Products of the posterior covariances ``Cov[x | y]`` with vectors, by a second pass over the training set.

        Args:
            noisy: as in `sums`.
            sigma: as in `sums`.
            vectors: M for each noisy image, float64 (B, M, d).

        Returns:
            In squared grey levels a unit of vector, float64 (B, M, d).
        """
        few = max(1, MOST_ROWS // vectors.shape[1])
        pieces = []
        for first in range(0, len(noisy), few):
            rows = slice(first, first + few)
            pieces.append(self._covariance_products(noisy[rows], sigma[rows], vectors[rows]))
        return np.concatenate(pieces)

    def _covariance_products(self, noisy: Floats, sigma: Floats, vectors: Floats) -> Floats:
        sums = self.sums(noisy, sigma)
        mean, inverse = sums.mean, 0.5 / sigma**2
        batch, count, dimension = vectors.shape
        along = np.einsum("bmd,bd->bm", vectors, mean)
        constant = (noisy**2).sum(1) * inverse + sums.log_normalizer
        whole, scale = to_whole(noisy)
        whole_vectors, vector_scale = to_whole(vectors.reshape(-1, dimension))
        total, weight = np.zeros((batch * count, dimension)), np.zeros(batch * count)
        for start, chunk in self._chunks():
            products = (2 * scale * inverse)[:, None] * times_rows(whole, chunk)
            logits = products - np.outer(inverse, self._chunk_norms(start, chunk))
            weights = np.exp(logits - constant[:, None])  # (B, n)
            chosen = np.flatnonzero(weights.max(0) > LEAST_WEIGHT)
            if not chosen.size:
                continue
            images = chunk[chosen]
            projections = vector_scale[:, None] * times_rows(whole_vectors, images)
            deviations = projections.reshape(batch, count, -1) - along[:, :, None]  # (x − E x)·v
            factors, unit = to_whole((weights[:, None, chosen] * deviations).reshape(batch * count, -1))
            total += unit[:, None] * times_columns(factors, images)
            weight += unit * factors.sum(1, dtype=np.int64)
        total, weight = merge_sums(total), merge_sums(weight)
        products = total.reshape(vectors.shape) - weight.reshape(batch, count, 1) * mean[:, None]
        return np.asarray(products)

    def _chunks(self) -> Iterator[tuple[int, npt.NDArray[np.int8]]]:
        """This process's training images as (index of the first, centred bytes (n, d)); valid until the next."""
        first, last = own_part(len(self.images))
        size = max(64, CHUNK_BYTES // self.dimension)
        room = np.empty((min(size, last - first), *self.images.image_shape), dtype=np.int8)
        for start in range(first, last, size):
            pixels = self.images.read(start, min(start + size, last))
            chunk = room[: len(pixels)]
            centre(pixels, chunk)
            yield start, chunk.reshape(len(pixels), self.dimension)

    def _add_chunk(
        self,
        totals: WholeImageSums,
        chunk: npt.NDArray[np.int8],
        start: int,
        products: Products,
        bits: int,
        product_scale: Floats,
        norm_scale: Floats,
        top: int,
    ) -> None:
        batch, count = products.shape[1:]
        norms = self._chunk_norms(start, chunk)
        way = fastest_way("columns", batch, WHOLE_BITS)
        logits, digits = np.empty((batch, count)), np.empty((way.places(WHOLE_BITS), batch, count), dtype=way.dtype)
        statistics, used = np.empty((batch, kernels.STATISTICS)), np.zeros((worker_count(), count), dtype=np.uint8)
        parts = iter(used)

        def weigh(first: int, last: int, mark: npt.NDArray[np.uint8]) -> None:
            kernels.weigh(
                products,
                product_scale,
                norms,
                norm_scale,
                totals.largest,
                logits,
                digits,
                (bits, way.bits),
                mark,
                statistics,
                first,
                last,
            )

        in_parallel(lambda first, last: weigh(first, last, next(parts)), batch)
        chosen = np.flatnonzero(used.any(axis=0))
        if top:
            _keep_top(totals, logits, start)
        if not chosen.size:
            return
        if 2 * chosen.size < count:
            chunk, digits = chunk[chosen], np.ascontiguousarray(digits[:, :, chosen])
        weighted = way.columns(digits, chunk)
        largest = np.maximum(totals.largest, statistics[:, kernels.MAXIMUM])
        keep, add = np.exp(totals.largest - largest), np.exp(statistics[:, kernels.MAXIMUM] - largest)
        target = totals.weighted_image
        in_parallel(lambda a, b: kernels.add_weighted(weighted, way.bits, keep, add, target, a, b), batch)
        # A chunk's logits are counted from its own maximum, the totals' from theirs: shifting adds shift · weight.
        found = statistics[:, kernels.WEIGHT]
        drop, fall = _shift(totals.largest, largest), _shift(statistics[:, kernels.MAXIMUM], largest)
        totals.weighted_logit = keep * (totals.weighted_logit + drop * totals.weight) + add * (
            statistics[:, kernels.WEIGHTED_LOGIT] + fall * found
        )
        totals.weight = keep * totals.weight + add * found
        totals.weighted_norm = keep * totals.weighted_norm + add * statistics[:, kernels.WEIGHTED_NORM]
        totals.largest = largest

    def _chunk_norms(self, start: int, chunk: npt.NDArray[np.int8]) -> Floats:
        norms = self._norms.get(start)
        if norms is None:
            norms = np.empty(len(chunk))
            target = norms
            in_parallel(lambda a, b: kernels.squared_norms(chunk, target, a, b), len(chunk))
            self._norms[start] = norms
        return norms


def _shift(old: Floats, new: Floats) -> Floats:
    """``old − new`` where old is finite, else 0 (there is no weight to shift)."""
    return np.where(np.isfinite(old), old - new, 0.0)


def _keep_top(totals: WholeImageSums, logits: Floats, start: int) -> None:
    """Merge a chunk's logits (B, n) of training images start… into the largest kept so far."""
    top = totals.top_logits.shape[1]
    candidates = np.argpartition(-logits, min(top, logits.shape[1]) - 1, axis=1)[:, :top]
    totals.top_logits, totals.top_indices = _largest(
        np.concatenate([totals.top_logits, np.take_along_axis(logits, candidates, 1)], axis=1),
        np.concatenate([totals.top_indices, candidates + start], axis=1),
        top,
    )


def _largest(logits: Floats, indices: npt.NDArray[np.int64], top: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The largest of logits (B, n) in descending order, and their indices."""
    order = np.argsort(-logits, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(logits, order, 1), np.take_along_axis(indices, order, 1)
