"""Posteriors over parts of training images on a device: windows, masks, anything with sums over parts (`regions`).

For a part C the logits are ``−‖C(y − x_i)‖²/2σ²``. Two passes over the store: the first finds every part's normalizer
with a maximum that grows as needed, the second adds up training images, each pixel weighted by the parts that use it.
Logits of the first pass that matter are kept for the second where there is memory for them, and computed again where
there is not; training images to which no part gives weight above e^-30 are not looked at again.

A pixel contributes ``(x − y)² − (y − a)²`` with a near y at low noise and near 0 at high noise: the second term changes no
weight, and without it sums at high noise would be so large that float32 rounds off the differences between images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from scorescope.posterior.device.reductions import merge_normalizers, rescaled
from scorescope.posterior.device.regions import Regions
from scorescope.posterior.device.store import DeviceStore

# A part's weight below e^-30 of the whole is left out: a million of them are 1e-7.
NEGLIGIBLE = -30.0
# The spread of pixel values around mid-grey, in grey levels: only steers which numerically equal form of a sum is used.
_PIXEL_SPREAD = 64.0

R = TypeVar("R", bound=Regions)


@dataclass
class _Found:
    """What the first pass remembers of one chunk: which images matter, how many, and their logits if there was room."""

    matter: Tensor
    count: int
    logits: Tensor | None = None


@dataclass
class Group(Generic[R]):
    """Noisy images that are compared in the same parts.

    Attributes:
        rows: which of the batch they are.
        regions: the parts.
        noisy: grey levels, float32 (G, C, H, W).
        offset: ``−Σ_channels (y − a)²``, float32 (G, H, W).
        scale: ``1 / 2σ²``, float32 (G,).
        largest: largest logit of every part so far, float32 (G, *grid).
        total: sums of exp(logit − largest), float64 (G, *grid).
    """

    rows: list[int]
    regions: R
    noisy: Tensor
    offset: Tensor
    scale: Tensor
    largest: Tensor
    total: Tensor
    found: list[_Found] = field(default_factory=list)

    @classmethod
    def of(cls, rows: list[int], regions: R, noisy: Tensor, sigma: Tensor) -> Group[R]:
        """From noisy grey levels, float64 (B, C, H, W), and noise levels (B,) of the whole batch."""
        chosen, spread = noisy[rows], sigma[rows]
        kept = sigma.new_tensor(_PIXEL_SPREAD**2) / (_PIXEL_SPREAD**2 + spread**2)
        left = chosen * (1 - kept)[:, None, None, None]  # y − a
        grid = (len(rows), *regions.grid)
        return cls(
            rows,
            regions,
            chosen.float(),
            -left.square().sum(1).float(),
            (0.5 / spread**2).float(),
            torch.full(grid, -math.inf, dtype=torch.float32, device=noisy.device),
            torch.zeros(grid, dtype=torch.float64, device=noisy.device),
        )

    def logits(self, images: Tensor) -> Tensor:
        """Of bytes (n, C, H, W) in every part, up to a constant a part, float32 (G, n, *grid)."""
        gap = images[None, :, 0] - self.noisy[:, None, 0]  # (G, n, H, W), float32
        differences = torch.addcmul(self.offset[:, None], gap, gap)
        for channel in range(1, images.shape[1]):
            gap = images[None, :, channel] - self.noisy[:, None, channel]
            differences.addcmul_(gap, gap)
        sums = self.regions.sums(differences)
        return sums.mul_(-self.scale.reshape(-1, *[1] * (sums.ndim - 1)))

    def weights(self, images: Tensor, logits: Tensor | None) -> Tensor:
        """Posterior weights of bytes (n, C, H, W) in every part, after `normalize`, float32 (G, n, *grid)."""
        known = self.logits(images) if logits is None else logits
        return (known - self.largest[:, None]).exp_().mul_(self.total.reciprocal().float()[:, None])

    def add(self, images: Tensor, room: int) -> int:
        """Add bytes (n, C, H, W) to the normalizers.

        Args:
            images: the bytes.
            room: bytes that are free for logits to be kept.

        Returns:
            How many of them are taken now.
        """
        logits = self.logits(images)
        largest = torch.maximum(self.largest, logits.amax(1))
        below = logits - largest[:, None]
        matter = below.amax((0, *range(2, below.ndim))) >= NEGLIGIBLE
        self.total = rescaled(self.total, self.largest, largest) + below.exp_().sum(1)
        self.largest = largest
        found = _Found(matter, int(matter.sum()))
        size = found.count * logits[:, :1].nbytes
        if 0 < size <= room:
            found.logits = logits if found.count == len(images) else logits[:, matter]
        self.found.append(found)
        return 0 if found.logits is None else size

    def normalize(self) -> None:
        """Merge the normalizers with those of all processes."""
        largest, self.total = merge_normalizers(self.largest.double(), self.total)
        self.largest = largest.float()


class LocalPasses(Generic[R]):
    """Two passes over the training set for a few noisy images.

    Args:
        store: the training set.
        noisy: B noisy images as centred grey levels, float64 (B, d), on the device.
        sigma: noise levels in grey levels, float64 (B,), on the device.
        regions: the parts in which each of them is compared.
        kept_bytes: what logits kept between the passes may take.

    Attributes:
        groups: noisy images that share their parts.
    """

    def __init__(
        self, store: DeviceStore, noisy: Tensor, sigma: Tensor, regions: list[R], *, kept_bytes: int | None = None
    ) -> None:
        self.store = store
        images = noisy.reshape(-1, *store.images.image_shape)
        self.groups, self.chunk_images = grouped(store, images, sigma, regions)
        self._normalize(store.spare_bytes() if kept_bytes is None else kept_bytes)

    def _normalize(self, room: int) -> None:
        for _, images in self.store.chunks(self.chunk_images):
            for group in self.groups:
                room -= group.add(images, room)
        for group in self.groups:
            group.normalize()

    def weighed(self) -> Iterator[tuple[Group[R], Tensor, Tensor, Tensor]]:
        """The second pass: for every group the images that have any weight, chunk by chunk.

        Yields (group, entries of the images (m,), their bytes (m, C, H, W), their weights (G, m, *grid)).
        """
        for number, (start, images) in enumerate(self.store.chunks(self.chunk_images)):
            for group in self.groups:
                found = group.found[number]
                if not found.count:
                    continue
                entries = found.matter.nonzero()[:, 0]
                chosen = images if found.count == len(images) else images[entries]
                yield group, entries + start, chosen, group.weights(chosen, found.logits)
                found.logits = None  # room for what follows

    def mean(self) -> Tensor:
        """Sums over the parts of what their posterior means give each pixel, this process's share: grey levels (B, C, H, W)."""
        batch = sum(len(group.rows) for group in self.groups)
        shape = (batch, *self.store.images.image_shape)
        total = torch.zeros(shape, dtype=torch.float64, device=self.store.device)
        for group, _, images, weights in self.weighed():
            shares = group.regions.shares(weights)
            for channel in range(images.shape[1]):
                total[group.rows, channel] += (shares * images[None, :, channel]).sum(1)
        return total


def grouped(store: DeviceStore, noisy: Tensor, sigma: Tensor, regions: list[R]) -> tuple[list[Group[R]], int]:
    """Put noisy images with the same parts together, as many as the memory for intermediate results allows.

    Args:
        store: the training set.
        noisy: grey levels, float64 (B, C, H, W).
        sigma: noise levels in grey levels, float64 (B,).
        regions: the parts of each.

    Returns:
        The groups, and how many training images to compare them with at a time.
    """
    alike: dict[R, list[int]] = {}
    for row, each in enumerate(regions):
        alike.setdefault(each, []).append(row)
    largest = max(_bytes_per_pair(each, noisy) for each in alike)
    # Processes merge group by group, and so must all have the same groups, also where only some of them stream.
    count, affordable = store.chunk_images(largest), store.affordable_images(largest)
    groups = []
    for each, rows in alike.items():
        images_bytes = min(affordable, store.images.stored) * _bytes_per_pair(each, noisy)
        together = max(1, store.work_bytes // images_bytes)
        for first in range(0, len(rows), together):
            groups.append(Group.of(rows[first : first + together], each, noisy, sigma))
    return groups, count


def _bytes_per_pair(regions: Regions, images: Tensor) -> int:
    return 4 * (regions.floats_per_pair + 2 * math.prod(regions.grid) + 3 * math.prod(images.shape[2:]))
