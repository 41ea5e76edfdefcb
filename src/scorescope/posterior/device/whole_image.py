"""The posterior over whole training images on a device: `posterior.whole_image`, its formulas and exactness, in tensors.

One product of bytes a chunk gives all logits and a second one, of the weights with the images that have any, the sum. Where
the device has matrix units and Triton that is a fixed row of launches (`two_passes`), which is recorded where the whole set
is on the device (`replay`); elsewhere products of digits in PyTorch (`digits`). Everything of size (noisy images × training
images) lives for one chunk only, whose size follows from what the store allows intermediate results; sums are float64 and
stay on the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorescope.posterior.device import attention, two_passes
from scorescope.posterior.device.digits import (
    WEIGHT_ONE,
    digit_products,
    from_digits,
    split_digits,
    to_bytes_and_digits,
    to_digits,
    to_fixed_point,
)
from scorescope.posterior.device.reductions import gather, merge_maxima, merge_sums, rescaled
from scorescope.posterior.device.replay import Replays
from scorescope.posterior.device.store import DeviceStore
from scorescope.posterior.device.units import from_levels
from scorescope.posterior.processes import process_count
from scorescope.posterior.units import LEVELS_PER_UNIT
from scorescope.posterior.whole_image import LEAST_WEIGHT
from scorescope.posterior.whole_image_kernels import NEGLIGIBLE

MOST_ROWS = 256
# Bytes of intermediate results for each pair of a noisy and a training image, and for each byte of a training image.
_BYTES_PER_PAIR = 80
_COPIES_OF_IMAGE = 3
# A product of so many terms is summed in 32 bits; see `integer_product.MOST_TERMS`.
_MOST_CHUNK_IMAGES = 2**16
# Squared norms are found for so many bytes of images at a time.
_NORM_BYTES = 2**26
# A recorded pass holds its logits: no more than this.
_MOST_RECORDED_BYTES = 2**28


@dataclass
class DeviceSums:
    """Sums over training images under the posterior of B noisy images, in grey levels centred at 128, on the device.

    Attributes are those of `posterior.whole_image.WholeImageSums`, as tensors.
    """

    largest: Tensor
    weight: Tensor
    weighted_image: Tensor
    weighted_logit: Tensor
    weighted_norm: Tensor
    top_logits: Tensor
    top_indices: Tensor

    @property
    def mean(self) -> Tensor:
        """Posterior means in grey levels, (B, d)."""
        return self.weighted_image / self.weight[:, None]

    @property
    def log_normalizer(self) -> Tensor:
        """``log Σ exp(logit)``, (B,)."""
        return self.largest + self.weight.log()

    @property
    def entropy(self) -> Tensor:
        """Of the posterior weights, in nats, (B,)."""
        return (self.weight.log() - self.weighted_logit / self.weight).clamp_min(0)

    @property
    def covariance_trace(self) -> Tensor:
        """``E‖x‖² − ‖E x‖²`` under the posterior, in squared grey levels, (B,)."""
        return (self.weighted_norm / self.weight - self.mean.square().sum(1)).clamp_min(0)

    @classmethod
    def empty(cls, batch: int, values: int, top: int, device: torch.device) -> DeviceSums:
        """Of no images."""

        def full(value: float, *shape: int) -> Tensor:
            return torch.full(shape, value, dtype=torch.float64, device=device)

        return cls(
            largest=full(-math.inf, batch),
            weight=full(0, batch),
            weighted_image=full(0, batch, values),
            weighted_logit=full(0, batch),
            weighted_norm=full(0, batch),
            top_logits=full(-math.inf, batch, top),
            top_indices=torch.full((batch, top), -1, dtype=torch.int64, device=device),
        )

    def keep_top(self, logits: Tensor, start: int) -> None:
        """Merge a chunk's logits (B, n) of training images start… into the largest kept so far."""
        top = self.top_logits.shape[1]
        found, places = logits.topk(min(top, logits.shape[1]), dim=1)
        every = torch.cat([self.top_logits, found], 1), torch.cat([self.top_indices, places + start], 1)
        self.top_logits, self.top_indices = _largest(*every, top)

    def count_from(self, largest: Tensor) -> None:
        """Count the sums from `largest`, (B,), at least as large as what they are counted from now."""
        share = rescaled(torch.ones_like(largest), self.largest, largest)
        fall = torch.where(torch.isfinite(self.largest), self.largest - largest, 0.0)
        self.weighted_logit = share * (self.weighted_logit + fall * self.weight)
        self.weight = share * self.weight
        self.weighted_image = share[:, None] * self.weighted_image
        self.weighted_norm = share * self.weighted_norm
        self.largest = largest

    def add(self, found: two_passes.Found) -> None:
        """Add what a chunk gave."""
        self.count_from(found.largest[0])
        self.weight += found.sums[0, 0]
        self.weighted_logit += found.sums[1, 0]
        self.weighted_norm += found.sums[2, 0]
        self.weighted_image += found.values[0]

    def merged(self) -> DeviceSums:
        """Those of all processes together."""
        self.count_from(merge_maxima(self.largest))
        logits, indices = torch.cat(gather(self.top_logits), 1), torch.cat(gather(self.top_indices), 1)
        return DeviceSums(
            self.largest,
            merge_sums(self.weight),
            merge_sums(self.weighted_image),
            merge_sums(self.weighted_logit),
            merge_sums(self.weighted_norm),
            *_largest(logits, indices, self.top_logits.shape[1]),
        )


class DeviceWholeImagePosterior:
    """Averages over the training images under the posterior of noisy images, on a device.

    Args:
        store: the training set there.

    Attributes:
        dimension: d = C·H·W.
    """

    def __init__(self, store: DeviceStore) -> None:
        self.store = store
        self.dimension = math.prod(store.images.image_shape)
        self._norms: Tensor | None = None
        self._norms_of: tuple[int, int] | None = None
        self._norms_known = np.zeros(0, dtype=bool)
        self._replays = Replays()

    def mean(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Posterior mean in [-1, 1], float64 (B, d), of noisy grey levels float64 (B, d) at sigma (B,) in grey levels."""
        pieces = zip(torch.split(noisy, MOST_ROWS), torch.split(sigma, MOST_ROWS), strict=True)
        return torch.cat([from_levels(self._mean(*rows)) for rows in pieces])

    def _mean(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Of at most `MOST_ROWS` noisy images, in grey levels."""
        if not self._on_matrix_units(noisy.device):
            return self.sums(noisy, sigma).mean
        held = two_passes.BYTES_PER_PAIR * two_passes.padded(len(noisy)) * self.store.images.stored
        if process_count() > 1 or not self.store.is_resident or held > _MOST_RECORDED_BYTES:
            return self._passed(noisy, sigma).merged().mean
        self.store.check()
        key = (len(noisy), self.store.placements)
        return self._replays(key, lambda *asked: self._passed(*asked).mean, noisy, sigma)

    def _on_matrix_units(self, device: torch.device) -> bool:
        return self.dimension <= two_passes.MOST_TERMS and attention.runs_on(device)

    def _passed(self, noisy: Tensor, sigma: Tensor, top: int = 0, *, moments: bool = False) -> DeviceSums:
        """One pass on matrix units, of this process; logits are short of ``−‖y‖²/2σ²``."""
        questions = two_passes.Questions(noisy, sigma)
        totals = DeviceSums.empty(len(noisy), self.dimension, top, noisy.device)
        per_image = questions.bytes_per_image + (self.dimension if self.store.images.flips else 0)
        most = min(self.store.chunk_images(per_image), two_passes.MOST_CHUNK_IMAGES)
        for start, images in self.store.chunks(most):
            norms, chunk = self._chunk_norms(start, images), images.reshape(len(images), -1).contiguous()
            found = questions.over(chunk, norms, totals.largest[None], moments=moments)
            if top:
                totals.keep_top(found.logits_of(len(noisy), len(images)), start)
            totals.add(found)
            del found  # before the next chunk's logits come
        return totals

    def sums(self, noisy: Tensor, sigma: Tensor, top: int = 0) -> DeviceSums:
        """One pass over the training set.

        Args:
            noisy: B noisy images as centred grey levels, float64 (B, d), on the device; at most `MOST_ROWS` of them keep
                within the memory that the store allows.
            sigma: noise levels in grey levels, float64 (B,), on the device.
            top: how many of the likeliest training images to keep for each.

        Returns:
            The sums; logits hold ``−‖y − x‖²/2σ²`` in full.
        """
        if self._on_matrix_units(noisy.device):
            return self._in_full(self._passed(noisy, sigma, top, moments=True), noisy, sigma)
        totals = DeviceSums.empty(len(noisy), self.dimension, top, noisy.device)
        digits, unit = to_bytes_and_digits(noisy)
        inverse = 0.5 / sigma**2
        for start, images in self.store.chunks(self._chunk_images(len(noisy))):
            norms = self._chunk_norms(start, images)
            chunk = images.reshape(len(images), -1)
            logits = _logits(digits, unit, inverse, chunk, norms)
            if top:
                totals.keep_top(logits, start)
            _add_chunk(totals, chunk, logits, norms)
        return self._in_full(totals, noisy, sigma)

    def _in_full(self, totals: DeviceSums, noisy: Tensor, sigma: Tensor) -> DeviceSums:
        """Those of all processes, with what all logits have in common."""
        constant = noisy.square().sum(1) * (0.5 / sigma**2)
        totals.largest -= constant
        totals.top_logits -= constant[:, None]
        return totals.merged()

    def log_evidence(self, sums: DeviceSums, sigma: Tensor) -> Tensor:
        """``log p_σ(y)`` (B,) in nats, y in units of [-1, 1]: the training set blurred by the noise, as a density."""
        spread = sigma / LEVELS_PER_UNIT
        density = -0.5 * self.dimension * (2 * math.pi * spread**2).log()
        return sums.log_normalizer - math.log(len(self.store.images)) + density

    def covariance_products(self, noisy: Tensor, sigma: Tensor, vectors: Tensor) -> Tensor:
        """Products of the posterior covariances ``Cov[x | y]`` with vectors, by a second pass over the training set.

        Args:
            noisy: as in `sums`.
            sigma: as in `sums`.
            vectors: M for each noisy image, float64 (B, M, d).

        Returns:
            In squared grey levels a unit of vector, float64 (B, M, d).
        """
        few = max(1, MOST_ROWS // vectors.shape[1])
        rows = zip(*(torch.split(each, few) for each in (noisy, sigma, vectors)), strict=True)
        return torch.cat([self._covariance_products(*each) for each in rows])

    def _covariance_products(self, noisy: Tensor, sigma: Tensor, vectors: Tensor) -> Tensor:
        sums = self.sums(noisy, sigma)
        mean, inverse = sums.mean, 0.5 / sigma**2
        batch, count, dimension = vectors.shape
        along = (vectors * mean[:, None]).sum(2)
        constant = noisy.square().sum(1) * inverse + sums.log_normalizer
        noisy_digits, unit = to_bytes_and_digits(noisy)
        vector_digits, vector_scale = to_digits(vectors.reshape(-1, dimension))
        total, weight = torch.zeros_like(vectors).reshape(-1, dimension), torch.zeros_like(vector_scale)
        for start, images in self.store.chunks(self._chunk_images(batch * (1 + count))):
            chunk = images.reshape(len(images), -1)
            norms = self._chunk_norms(start, images)
            logits = _logits(noisy_digits, unit, inverse, chunk, norms)
            weights = logits.sub_(constant[:, None]).exp_()  # (B, n)
            chosen = (weights.amax(0) > LEAST_WEIGHT).nonzero()[:, 0]
            if not len(chosen):
                continue
            chunk = chunk[chosen]
            projections = vector_scale[:, None] * from_digits(digit_products(vector_digits, chunk.T))
            deviations = projections.reshape(batch, count, -1) - along[:, :, None]  # (x − E x)·v
            weighted = (weights[:, None, chosen] * deviations).reshape(batch * count, -1)
            if self._on_matrix_units(noisy.device):  # which takes images as they lie, not as columns
                total += two_passes.weighted_sums(weighted, chunk)
                weight += weighted.sum(1)
                continue
            digits, scale = to_digits(weighted)
            total += scale[:, None] * from_digits(digit_products(digits, chunk))
            weight += scale * from_digits(digits.sum(2, dtype=torch.int64))
        total, weight = merge_sums(total), merge_sums(weight)
        return total.reshape(vectors.shape) - weight.reshape(batch, count, 1) * mean[:, None]

    def _chunk_images(self, rows: int) -> int:
        count = self.store.chunk_images(_BYTES_PER_PAIR * rows + _COPIES_OF_IMAGE * self.dimension)
        return min(count, _MOST_CHUNK_IMAGES)

    def _chunk_norms(self, start: int, images: Tensor) -> Tensor:
        """Squared norms of a chunk, float64 (n,), computed in the first pass and kept."""
        if self._norms is None or self._norms_of != self.store.part:
            first, last = self._norms_of = self.store.part
            self._norms = torch.empty(last - first, dtype=torch.float64, device=images.device)
            self._norms_known = np.zeros(last - first, dtype=bool)
        rows = self.store.rows(start, len(images))
        if not self._norms_known[rows].all():  # a square fits 16 bits
            flat, most = images.reshape(len(images), -1), max(1, _NORM_BYTES // self.dimension)
            found = [some.short().square_().sum(1, dtype=torch.int64) for some in torch.split(flat, most)]
            self._norms[rows] = torch.cat(found).double()
            self._norms_known[rows] = True
        return self._norms[rows]


def _logits(digits: Tensor, unit: Tensor, scale: Tensor, chunk: Tensor, norms: Tensor) -> Tensor:
    """``(2 y·x − ‖x‖²)/2σ²`` for noisy bytes and digits (4, B, d), 1/2σ² (B,) and images (n, d): float64 (B, n)."""
    products = digit_products(digits, chunk.T)
    logits = from_digits(products[1:]).mul_(unit[:, None]).add_(products[0])
    del products
    return logits.mul_(2).sub_(norms).mul_(scale[:, None])


def _add_chunk(totals: DeviceSums, chunk: Tensor, logits: Tensor, norms: Tensor) -> None:
    """Add images (n, d) by their logits (B, n)."""
    found = logits.amax(1)
    below = (logits - found[:, None]).float()
    whole = to_fixed_point(below.exp())
    # A chunk whose best image is e^-80 of the best so far leaves no trace.
    whole.masked_fill_((found < totals.largest - NEGLIGIBLE)[:, None], 0)
    chosen = whole.any(0).nonzero()[:, 0]
    if not len(chosen):
        return
    if 2 * len(chosen) < len(chunk):
        chunk, whole, below, norms = chunk[chosen], whole[:, chosen], below[:, chosen], norms[chosen]
    largest = torch.maximum(totals.largest, found)
    totals.count_from(largest)
    # The chunk's weights are counted from its own maximum, the totals from the largest of all.
    share, fall = (found - largest).exp() / WEIGHT_ONE, found - largest
    weights = whole.double()
    weight = weights.sum(1)
    totals.weight += share * weight
    totals.weighted_logit += share * ((weights * below).sum(1) + fall * weight)
    totals.weighted_norm += share * (weights * norms).sum(1)
    products = digit_products(split_digits(whole.int()), chunk)
    totals.weighted_image += share[:, None] * from_digits(products)


def _largest(logits: Tensor, indices: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The largest of logits (B, n) in descending order, and their indices."""
    kept, order = logits.sort(dim=1, descending=True, stable=True)
    return kept[:, :top], indices.gather(1, order[:, :top])
