"""Posterior means on matrix units in two passes over a chunk: all logits, then the weighted sum of what has weight.

Whole images, and parts so large that computing their logits once for every few hundred values averaged would cost more than
storing them (`attention` does that). The arithmetic is in `two_pass_kernels`. A chunk is a fixed row of launches, whatever
is found in it: nothing waits for the processor, and the row can be recorded and replayed (`replay`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scorescope.foundation.devices import made_current
from scorescope.posterior.device.digits import to_bytes_and_digits
from scorescope.posterior.device.parts import Parts

# Longer products of bytes can overflow 32 bits; see `integer_product.MOST_TERMS`.
MOST_TERMS = 2**17 - 1
# Noisy images, training images and values that a program handles at a time: at most, and of whole images and of parts.
_ROWS = 64
_IMAGES, _TERMS, _KEPT = (128, 64), (128, 64), (128, 128)
# In how many pieces a program takes a tile of training images when it averages.
PIECES = (2, 1)
_WARPS = 8
# Programs that keep every multiprocessor of a large device busy.
_PROGRAMS = 512
# Training images that one program adds up in float32, and that are one chunk, whose sums are float64. Where one image has
# nearly all weight, others are rounded to 2⁻²⁴ of its share at every step: so there are at most 64 such steps.
MOST_ADDED, MOST_CHUNK_IMAGES = 2**12, 2**17
# Tiles that `select` looks at together.
_BLOCK = 64
# Bytes of intermediate results for each pair of a row and a training image: the logit, and its tile's.
BYTES_PER_PAIR = 5
_BITS = math.log2(math.e)
# Weights are multiplied by this before they are float16, so that small ones keep their digits.
_WEIGHT_UNIT = 2.0**14


def row_tile(batch: int) -> int:
    """Noisy images of a program, a power of two from 16 on."""
    return min(_ROWS, max(16, 1 << (batch - 1).bit_length()))


def padded(batch: int) -> int:
    """Noisy images that programs handle where so many are asked for."""
    return -(-batch // row_tile(batch)) * row_tile(batch)


@dataclass(frozen=True)
class Found:
    """What one chunk of training images gave; rows are (part, noisy image) pairs.

    Attributes:
        largest: largest logit of every row, of the chunk and of what came before, in nats, float64 (parts, B).
        sums: of the weights w counted from there, of ``w (logit − largest)`` and of ``w ‖x‖²``, float64 (3, parts, B).
        values: weighted values, float64 (parts, B, V).
        logits: float32 (rows, padded images), in bits, counted from the largest of their tile.
        tops: largest logits of the tiles, in bits, float64 (rows, tiles).
    """

    largest: Tensor
    sums: Tensor
    values: Tensor
    logits: Tensor
    tops: Tensor

    def logits_of(self, rows: int, count: int) -> Tensor:
        """Of the first rows and training images, in nats, float64 (rows, count)."""
        tiled = self.logits[:rows].reshape(rows, self.tops.shape[1], -1).double() + self.tops[:rows, :, None]
        return tiled.flatten(1)[:, :count] / _BITS


class Questions:
    """Noisy images, or parts of them, as the kernels take them.

    Args:
        noisy: centred grey levels, float64 (B, d), on the device.
        sigma: noise levels in grey levels, float64 (B,).
        parts: what is compared and averaged; None for whole images.
    """

    def __init__(self, noisy: Tensor, sigma: Tensor, parts: Parts | None = None) -> None:
        self.whole = parts is None
        self.asked, self.dimension = len(noisy), noisy.shape[1]
        self.rows = row_tile(len(noisy))
        self.images, self.terms, self.kept_tile = (pair[not self.whole] for pair in (_IMAGES, _TERMS, _KEPT))
        # The last image is repeated: it has weight where the last one has, and no other tile is looked at for it.
        self._repeated = torch.arange(padded(len(noisy)), device=noisy.device)
        self._repeated.clamp_(max=len(noisy) - 1)
        noisy, sigma = noisy[self._repeated], sigma[self._repeated]
        self.batch = len(noisy)
        every, self.unit = to_bytes_and_digits(noisy)  # (4, B, d)
        self.scale = _BITS * 0.5 / sigma**2
        if parts is None:
            self.count, self.places, self.sizes, self.kept = 1, None, None, None
            self.values = self.dimension
            self.digits = functional.pad(every, (0, -self.dimension % self.terms)).contiguous()
        else:
            self.count, self.sizes = len(parts.places), parts.sizes
            self.places, self.kept = _widened(parts.places, self.terms), _widened(parts.kept, self.kept_tile)
            self.values = parts.kept.shape[1]
            where, inside = self.places.clamp(min=0).long(), self.places >= 0
            self.digits = (every[:, :, where] * inside).transpose(1, 2).contiguous()  # (4, parts, B, K)
        self.width = self.digits.shape[-1]
        self.kept_width = self.values + -self.values % self.kept_tile

    @property
    def bytes_per_image(self) -> int:
        """What a chunk takes for every training image: logits, and its share of sums that are not put together yet."""
        return self.batch * self.count * (BYTES_PER_PAIR + 8 * self.kept_width // MOST_ADDED)

    def over(self, images: Tensor, norms: Tensor | None, floor: Tensor, *, moments: bool = False) -> Found:
        """One chunk of training images.

        Args:
            images: bytes (n, d), contiguous.
            norms: their squared norms, float64 (n,), for whole images.
            floor: largest logits met before, in nats, float64 (parts, B); −inf where there are none.
            moments: whether `Found.sums` has all three, which whole images can have; else the last two are zeros.
        """
        from scorescope.posterior.device import two_pass_kernels as kernels

        count, device = len(images), images.device
        tiles, rows = -(-count // self.images), self.count * self.batch
        groups, blocks = rows // self.rows, self.kept_width // self.kept_tile
        logits = torch.empty(rows, tiles * self.images, device=device)
        tops = torch.empty(rows, tiles, dtype=torch.float64, device=device)
        sizes = {"ROWS": self.rows, "num_warps": _WARPS, "enable_fp_fusion": True, "WHOLE": self.whole}
        known = self.scale if norms is None else norms
        largest = torch.empty(rows, dtype=torch.float64, device=device)
        order = torch.empty(groups, tiles, dtype=torch.int32, device=device)
        found = torch.empty(groups, dtype=torch.int32, device=device)
        before = floor[:, self._repeated].flatten() * _BITS
        splits = max(1, min(_PROGRAMS // (groups * blocks), tiles), -(-count // MOST_ADDED))
        values = torch.empty(splits, rows, self.kept_width, device=device)
        sums = torch.zeros(3, splits, rows, dtype=torch.float64, device=device)
        with made_current(device):
            kernels.score[groups, tiles](
                images,
                self.places,
                self.sizes,
                known,
                self.digits,
                self.unit,
                self.scale,
                logits,
                tops,
                count,
                self.dimension,
                self.batch,
                self.width,
                tiles,
                IMAGES=self.images,
                TERMS=self.terms,
                num_stages=3 if self.whole and _has_room(device) else 2,
                **sizes,
            )
            kernels.select[(groups,)](
                tops, before, largest, order, found, tiles, ROWS=self.rows, BLOCK=_BLOCK, num_warps=_WARPS
            )
            kernels.average[groups * blocks, splits](
                images,
                self.kept,
                known,
                logits,
                tops,
                largest,
                order,
                found,
                values,
                sums,
                count,
                self.dimension,
                self.batch,
                self.kept_width,
                tiles,
                MOMENTS=moments,
                IMAGES=self.images // PIECES[not self.whole],
                PIECES=PIECES[not self.whole],
                KEPT=self.kept_tile,
                num_stages=2,
                **sizes,
            )
        shape = (self.count, self.batch)
        return Found(
            largest.reshape(shape)[:, : self.asked] / _BITS,
            sums.sum(1).reshape(3, *shape)[:, :, : self.asked],
            values.sum(0, dtype=torch.float64).reshape(*shape, -1)[:, : self.asked, : self.values],
            logits,
            tops,
        )


def weighted_sums(weights: Tensor, images: Tensor) -> Tensor:
    """Sums of images with any weights, also negative ones, known to 2⁻²² of a row's largest.

    Args:
        weights: float64 (R, n).
        images: bytes (n, d), contiguous.

    Returns:
        float64 (R, d).
    """
    from scorescope.posterior.device import two_pass_kernels as kernels

    (asked, count), (dimension, images_tile, kept_tile) = weights.shape, (images.shape[1], _IMAGES[0], _KEPT[0])
    rows = row_tile(asked)
    scale = weights.abs().amax(1, keepdim=True).clamp(min=1e-300) / _WEIGHT_UNIT
    scaled = functional.pad(weights / scale, (0, -count % images_tile, 0, padded(asked) - asked))
    high = scaled.half()
    low = (scaled - high.double()).half()
    tiles, programs = high.shape[1] // images_tile, len(high) // rows * -(-dimension // kept_tile)
    splits = max(1, min(_PROGRAMS // programs, tiles), -(-count // MOST_ADDED))
    values = torch.empty(splits, len(high), dimension, device=images.device)
    with made_current(images.device):
        kernels.combine[programs, splits](
            images,
            high,
            low,
            values,
            count,
            dimension,
            high.shape[1],
            len(high),
            splits,
            ROWS=rows,
            IMAGES=images_tile,
            KEPT=kept_tile,
            num_warps=_WARPS,
            num_stages=2,
            enable_fp_fusion=True,
        )
    return values.sum(0, dtype=torch.float64)[:asked] * scale


def _widened(places: Tensor, multiple: int) -> Tensor:
    return functional.pad(places, (0, -places.shape[1] % multiple), value=-1).contiguous()


def _has_room(device: torch.device) -> bool:
    """Whether a program can have 150 KiB of shared memory, which a third stage of loads ahead needs."""
    if device.type != "cuda":
        return False
    properties = torch.cuda.get_device_properties(device)
    return int(getattr(properties, "shared_memory_per_block_optin", 0)) >= 150 * 1024
