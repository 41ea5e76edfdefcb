"""Weights of training images at the pixels of an estimate, gathered a few images at a time: shares, largest, entropy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorescope.posterior.processes import gather, merge_sums

Floats = npt.NDArray[np.float64]
Entries = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Contributions:
    """Who one estimate is made of.

    Attributes:
        share: of every training image, mean over pixels, (N,); they sum to one.
        entries: the k images with the largest weight at each pixel, descending, int64 (H, W, k); −1 where there are fewer.
        weights: theirs, (H, W, k).
        effective_number: of images behind each pixel, (H, W).
        mean: the estimate itself, in [-1, 1], (C, H, W).
    """

    share: Floats
    entries: Entries
    weights: Floats
    effective_number: Floats
    mean: Floats

    @property
    def effective_images(self) -> float:
        """``exp`` of the entropy of the shares: how many images the whole estimate is made of."""
        share = self.share[self.share > 0]
        return float(np.exp(-(share * np.log(share)).sum()))


@dataclass
class Gathered:
    """What is known of an estimate of P pixels after some of the training images.

    Attributes:
        mass: sum over pixels of every image's weight, (N,).
        entropy: ``−Σ m log m`` at every pixel, (P,).
        weights: the largest so far, descending, (P, k).
        entries: whose they are, int64 (P, k).
    """

    mass: Floats
    entropy: Floats
    weights: Floats
    entries: Entries

    @classmethod
    def empty(cls, images: int, pixels: int, top: int) -> Gathered:
        """Of no images."""
        return cls(np.zeros(images), np.zeros(pixels), np.zeros((pixels, top)), np.full((pixels, top), -1, np.int64))

    def add(self, weights: Floats, start: int) -> None:
        """Add some training images, `start` and following, by their weights (n, H, W)."""
        flat = weights.reshape(len(weights), -1).astype(np.float64)
        self.mass[start : start + len(flat)] += flat.sum(1)
        self.entropy -= (flat * np.log(np.where(flat > 0, flat, 1.0))).sum(0)
        entries = np.broadcast_to(np.arange(start, start + len(flat)), (flat.shape[1], len(flat)))
        self._keep(np.hstack([self.weights, flat.T]), np.hstack([self.entries, entries]))

    def merged(self) -> Gathered:
        """That of all processes together."""
        whole = Gathered(merge_sums(self.mass), merge_sums(self.entropy), self.weights, self.entries)
        whole._keep(np.hstack(gather(self.weights)), np.hstack(gather(self.entries)))
        return whole

    def contributions(self, mean: Floats) -> Contributions:
        """As an estimate's contributions, that estimate being `mean`, (C, H, W) in [-1, 1]."""
        _, height, width = mean.shape
        top = self.weights.shape[1]
        entries = np.where(self.weights > 0, self.entries, -1)
        return Contributions(
            self.mass / len(self.entropy),
            entries.reshape(height, width, top),
            self.weights.reshape(height, width, top),
            np.exp(self.entropy).reshape(height, width),
            mean,
        )

    def _keep(self, weights: Floats, entries: Entries) -> None:
        order = np.argsort(-weights, axis=1, kind="stable")[:, : self.weights.shape[1]]
        self.weights, self.entries = np.take_along_axis(weights, order, 1), np.take_along_axis(entries, order, 1)
