"""The posterior over square windows of training images on a device: `posterior.windows` in tensors.

All windows of a noisy image against a chunk of training images are a few operations on whole arrays: squared differences,
a box filter, exponentials, and a box filter back. Noisy images with the same window go together where training sets are small.
Where the device has matrix units and Triton, means are computed as attention instead (`attention`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorescope.posterior.device import attention
from scorescope.posterior.device.centred import centre_means
from scorescope.posterior.device.local import NEGLIGIBLE, Group, LocalPasses
from scorescope.posterior.device.parts import Parts
from scorescope.posterior.device.reductions import gather, merge_sums
from scorescope.posterior.device.regions import Windows
from scorescope.posterior.device.store import DeviceStore
from scorescope.posterior.device.units import from_levels
from scorescope.posterior.units import LEVELS_PER_UNIT
from scorescope.posterior.windows import Window, WindowDescription

MOST_ROWS = 32


class DeviceWindowPosterior:
    """Posterior means of all windows of noisy images under a training set, on a device.

    Args:
        store: the training set there.
        kept_bytes: what logits kept between the two passes may take; a share of the free memory by default.
    """

    def __init__(self, store: DeviceStore, *, kept_bytes: int | None = None) -> None:
        self.store = store
        self._kept_bytes = kept_bytes

    def mean(self, noisy: Tensor, sigma: Tensor, windows: list[Window]) -> Tensor:
        """Average the windows' posterior means into images.

        Args:
            noisy: B noisy images as centred grey levels, float64 (B, d), on the device.
            sigma: noise levels in grey levels, float64 (B,), on the device.
            windows: B windows, one an image.

        Returns:
            Images in [-1, 1], float64 (B, d).
        """
        means = torch.empty_like(noisy)
        for spread in (True, False):
            rows = [row for row, window in enumerate(windows) if window.spread == spread]
            if attention.runs_on(noisy.device):
                rows = self._attend(noisy, sigma, windows, rows, means)
            for first in range(0, len(rows), MOST_ROWS):
                some = rows[first : first + MOST_ROWS]
                mean = self._composites if spread else self._centres
                means[some] = mean(noisy[some], sigma[some], self._regions([windows[row] for row in some]))
        return from_levels(means)

    def _attend(self, noisy: Tensor, sigma: Tensor, windows: list[Window], rows: list[int], means: Tensor) -> list[int]:
        """Write the means of these rows, in grey levels, those with the same window together; returns rows that do not fit."""
        alike: dict[Window, list[int]] = {}
        for row in rows:
            alike.setdefault(windows[row], []).append(row)
        left: list[int] = []
        for window, some in alike.items():
            parts = self._parts(window, noisy.device)
            if not attention.fits(parts):
                left += some
                continue
            together = attention.composite if window.spread else attention.entries
            means[some] = together(self.store, noisy[some], sigma[some], parts)
        return left

    def _parts(self, window: Window, device: torch.device) -> Parts:
        channels, height, width = self.store.images.image_shape
        return Parts.of_windows(Windows(window, height, width), channels, device)

    def patch_means(self, noisy: Tensor, sigma: Tensor, window: Window) -> Tensor:
        """Posterior means of every window by itself, not put together into images.

        Args:
            noisy: as in `mean`.
            sigma: as in `mean`.
            window: the same for all of them, spread, inside the image.

        Returns:
            Patches in [-1, 1], float64 (B, rows, columns, C, height, width).
        """
        channels, height, width = self.store.images.image_shape
        regions = Windows(window, height, width)
        shape = (*regions.grid, channels, window.height, window.width)
        if attention.runs_on(noisy.device) and attention.fits(self._parts(window, noisy.device)):
            found = attention.part_means(self.store, noisy, sigma, self._parts(window, noisy.device))
            return from_levels(found).reshape(len(noisy), *shape)
        total = torch.zeros(len(noisy), *shape, dtype=torch.float64, device=noisy.device)
        for first in range(0, len(noisy), MOST_ROWS):
            rows = slice(first, first + MOST_ROWS)
            passes = self._passes(noisy[rows], sigma[rows], [regions] * len(noisy[rows]))
            for group, _, images, weights in passes.weighed():
                together = max(1, self.store.work_bytes // (8 * math.prod(shape)))
                for some, share in zip(torch.split(images, together), torch.split(weights, together, 1), strict=True):
                    views = some.unfold(2, window.height, 1).unfold(3, window.width, 1).float()  # (m, C, R, K, h, w)
                    those = [first + row for row in group.rows]
                    total[those] += torch.einsum("gmrk,mcrkhw->grkchw", share, views)
        return from_levels(merge_sums(total))

    def describe(self, noisy: Tensor, sigma: Tensor, windows: list[Window], top: int) -> list[WindowDescription]:
        """Name the likeliest training images of every window, and how many share the weight; arguments as in `mean`."""
        found: dict[int, WindowDescription] = {}
        for first in range(0, len(noisy), MOST_ROWS):
            rows = slice(first, first + MOST_ROWS)
            passes = self._passes(noisy[rows], sigma[rows], self._regions(windows[rows]))
            collected = [_Collected(group, top) for group in passes.groups]
            which = {id(group): each for group, each in zip(passes.groups, collected, strict=True)}
            for group, entries, _, weights in passes.weighed():
                which[id(group)].add(entries, weights)
            for each in collected:
                members = [first + row for row in each.group.rows]
                found |= dict(zip(members, each.descriptions(sigma[members], len(self.store.images)), strict=True))
        return [found[row] for row in range(len(noisy))]

    def _composites(self, noisy: Tensor, sigma: Tensor, regions: list[Windows]) -> Tensor:
        """Averages of all windows over each pixel, grey levels (B, d)."""
        passes = self._passes(noisy, sigma, regions)
        total = merge_sums(passes.mean())
        for group in passes.groups:
            total[group.rows] /= group.regions.coverage(total.device)
        return total.flatten(1)

    def _centres(self, noisy: Tensor, sigma: Tensor, regions: list[Windows]) -> Tensor:
        """The window around each pixel, grey levels (B, d)."""
        images = noisy.reshape(-1, *self.store.images.image_shape)
        return centre_means(self.store, images, sigma, regions).flatten(1)

    def _regions(self, windows: list[Window]) -> list[Windows]:
        _, height, width = self.store.images.image_shape
        return [Windows(window, height, width) for window in windows]

    def _passes(self, noisy: Tensor, sigma: Tensor, regions: list[Windows]) -> LocalPasses[Windows]:
        return LocalPasses(self.store, noisy, sigma, regions, kept_bytes=self._kept_bytes)


class _Collected:
    """Entropy, largest weights and whose they are, for every window of a group of noisy images."""

    def __init__(self, group: Group[Windows], top: int) -> None:
        self.group = group
        self.entropy = torch.zeros_like(group.total)
        self.weights = torch.zeros(len(group.rows), top, *group.regions.grid, device=group.total.device)
        self.entries = torch.full(self.weights.shape, -1, dtype=torch.int64, device=group.total.device)

    def add(self, entries: Tensor, weights: Tensor) -> None:
        """Add training images (m,) and their weights (G, m, *grid)."""
        seen = weights * self.group.total[:, None] >= math.exp(NEGLIGIBLE)
        weights = torch.where(seen, weights, 0.0)
        self.entropy -= torch.special.xlogy(weights, weights).sum(1)
        found, places = weights.topk(min(self.weights.shape[1], weights.shape[1]), dim=1)
        self._keep([self.weights, found], [self.entries, torch.where(found > 0, entries[places], -1)])

    def descriptions(self, sigma: Tensor, count: int) -> list[WindowDescription]:
        """One for each noisy image of the group, of all processes together."""
        entropy = merge_sums(self.entropy)
        self._keep(gather(self.weights), gather(self.entries))
        evidence = self._log_evidence(sigma, count)
        entries, weights = self.entries.movedim(1, -1), self.weights.movedim(1, -1).double()
        arrays = (each.cpu().numpy() for each in (entries, weights, entropy.exp(), evidence))
        return [WindowDescription(*each) for each in zip(*arrays, strict=True)]

    def _keep(self, weights: list[Tensor], entries: list[Tensor]) -> None:
        top = self.weights.shape[1]
        self.weights, order = torch.cat(weights, 1).sort(dim=1, descending=True, stable=True)
        self.weights = self.weights[:, :top]
        self.entries = torch.cat(entries, 1).gather(1, order[:, :top])

    def _log_evidence(self, sigma: Tensor, count: int) -> Tensor:
        group, channels = self.group, self.group.noisy.shape[1]
        pixels = torch.full_like(group.offset, channels, dtype=torch.float64)
        spread = (sigma / LEVELS_PER_UNIT).reshape(-1, 1, 1)
        normalization = -0.5 * (2 * math.pi * spread**2).log() * group.regions.sums(pixels)
        # Logits are short of −(y − a)² / 2σ², which is the same for all training images.
        left_out = group.regions.sums(group.offset.double()) * group.scale.double().reshape(-1, 1, 1)
        return group.largest.double() + group.total.log() + normalization + left_out - math.log(count)
