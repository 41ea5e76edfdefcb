"""Features of a convolutional network that are zero outside of a window, and convolutions that only look there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Window(NamedTuple):
    """A rectangle of a grid of features: rows [top, bottom), columns [left, right)."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.bottom - self.top, self.right - self.left

    def grown(self, by: int, height: int, width: int) -> Window:
        """With `by` more on every side, as far as the grid of height × width reaches."""
        return Window(
            max(self.top - by, 0), min(self.bottom + by, height), max(self.left - by, 0), min(self.right + by, width)
        )

    def halved(self) -> Window:
        """The window of the half as fine grid that covers it."""
        return Window(self.top // 2, -(-self.bottom // 2), self.left // 2, -(-self.right // 2))

    def doubled(self) -> Window:
        """The same window on the grid that is twice as fine."""
        return Window(2 * self.top, 2 * self.bottom, 2 * self.left, 2 * self.right)

    def of(self, values: Tensor) -> Tensor:
        """What lies in it, of values on the whole grid, (..., H, W)."""
        return values[..., self.top : self.bottom, self.left : self.right]


class Local(NamedTuple):
    """Features on a window of a grid, zero elsewhere.

    Attributes:
        values: (K, C, h, w).
        window: of h × w.
    """

    values: Tensor
    window: Window

    def on(self, window: Window) -> Local:
        """The same on a window that contains this one."""
        if window == self.window:
            return self
        here = self.window
        margins = (
            here.left - window.left,
            window.right - here.right,
            here.top - window.top,
            window.bottom - here.bottom,
        )
        return Local(functional.pad(self.values, margins), window)

    def inside(self, window: Window) -> Tensor:
        """The values on a window within this one, (K, C, h, w)."""
        top, left = self.window.top, self.window.left
        return Window(window.top - top, window.bottom - top, window.left - left, window.right - left).of(self.values)

    def times(self, factors: Tensor) -> Local:
        """Times factors given on the whole grid, (1, C, H, W)."""
        return Local(self.values * self.window.of(factors), self.window)

    def plus(self, other: Local) -> Local:
        """The sum; this window must contain the other."""
        return Local(self.values + other.on(self.window).values, self.window)

    def channels(self, start: int, stop: int) -> Local:
        """Some of the channels."""
        return Local(self.values[:, start:stop], self.window)


def convolved(features: Local, weight: Tensor, height: int, width: int) -> Local:
    """A 3×3 convolution with zero padding on a grid of height × width, computed where it is not zero.

    Args:
        features: what is convolved, (K, inputs, h, w).
        weight: (outputs, inputs, 3, 3).
        height: of the grid.
        width: of the grid.
    """
    here = features.window
    if here.size == (height, width):
        return Local(functional.conv2d(features.values, weight, padding=1), here)
    reached = Window(here.top - 1, here.bottom + 1, here.left - 1, here.right + 1)
    found = Local(functional.conv2d(features.values, weight, padding=2), reached)
    kept = here.grown(1, height, width)
    return Local(found.inside(kept), kept)


def pooled(features: Local) -> Local:
    """Means of 2×2 values."""
    even = features.on(features.window.halved().doubled())
    return Local(functional.avg_pool2d(even.values, 2), even.window.halved())


def unpooled(features: Local) -> Local:
    """The adjoint of `pooled`: a quarter of each value at each of its four places."""
    return Local(functional.interpolate(features.values / 4, scale_factor=2.0), features.window.doubled())


def downsampled(features: Local, weight: Tensor) -> Local:
    """The adjoint of a transposed 2×2 convolution of stride 2 with that weight, (inputs, outputs, 2, 2)."""
    even = features.on(features.window.halved().doubled())
    return Local(functional.conv2d(even.values, weight, stride=2), even.window.halved())


def upsampled(features: Local, weight: Tensor) -> Local:
    """A transposed 2×2 convolution of stride 2 with that weight, (inputs, outputs, 2, 2)."""
    return Local(functional.conv_transpose2d(features.values, weight, stride=2), features.window.doubled())


def joined(first: Local, second: Local) -> Local:
    """Channels of both, one after the other, on the same window."""
    return Local(torch.cat([first.values, second.values], 1), first.window)
