"""Parts of an image as a device compares them: sums over every part at once, and the way back from parts to pixels.

`Windows` are all positions of one `posterior.windows.Window`. Their sums are box filters, a pooling operation along rows
and one along columns, which add and never subtract: differences of running sums would leave rounding errors at low noise.
`MaskMatrix` are any masks; sums over all of them are one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from scorescope.posterior.windows import Window


class Regions(Protocol):
    """A family of parts of an image; two that are equal compare the same parts and share one pass."""

    @property
    def grid(self) -> tuple[int, ...]:
        """Shape in which the parts are arranged."""

    @property
    def floats_per_pair(self) -> int:
        """Most float32 values alive at once for a noisy and a training image while sums or shares are computed."""

    def sums(self, field: Tensor) -> Tensor:
        """Sums over every part of per-pixel values: (…, H, W) -> (…, *grid)."""

    def shares(self, weights: Tensor) -> Tensor:
        """What every pixel is given, from the parts' weights: (…, *grid) -> (…, H, W)."""

    def coverage(self, device: torch.device) -> Tensor:
        """How many parts give something to each pixel, float64 (H, W)."""


@dataclass(frozen=True)
class Windows:
    """All positions of a window over images of height × width pixels.

    Args:
        window: the window.
        height: of the images, in pixels.
        width: of the images, in pixels.
    """

    window: Window
    height: int
    width: int

    @property
    def grid(self) -> tuple[int, ...]:
        """Rows and columns of windows."""
        return self.window.count(self.height, self.width)

    @property
    def floats_per_pair(self) -> int:
        """See `Regions`: padded on all sides for the way back, a field has up to four times the pixels."""
        return 6 * self.height * self.width

    def sums(self, field: Tensor) -> Tensor:
        """See `Regions`."""
        window = self.window
        return _slide(_slide(field, -1, window.width, window.pad_columns), -2, window.height, window.pad_rows)

    def shares(self, weights: Tensor) -> Tensor:
        """See `Regions`: a pixel gets the weights of all windows over it, or of the one around it."""
        if not self.window.spread:
            return weights
        height, width = self.window.height, self.window.width
        return _slide(_slide(weights, -1, width, width - 1), -2, height, height - 1)

    def coverage(self, device: torch.device) -> Tensor:
        """See `Regions`."""
        return self.shares(torch.ones(1, *self.grid, dtype=torch.float64, device=device))[0]


@dataclass(frozen=True, eq=False)
class MaskMatrix:
    """Masks over the pixels of an image, or over its pixel-channels; equal to itself only.

    Attributes:
        members: how much each place counts in each mask, float32 (masks, places).
        shape: rows and columns of the places; planes lie below each other.
    """

    members: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, members: npt.NDArray[Any] | Tensor, device: torch.device | str) -> MaskMatrix:
        """Put masks on a device.

        Args:
            members: bool or float (masks, planes, H, W), one plane for whole pixels, else one a channel.
            device: the engine's.
        """
        masks = torch.as_tensor(members).to(device, torch.float32)
        count, planes, height, width = masks.shape
        return cls(masks.reshape(count, -1).contiguous(), (planes * height, width))

    @property
    def grid(self) -> tuple[int, ...]:
        """One row of masks."""
        return 1, len(self.members)

    @property
    def floats_per_pair(self) -> int:
        """See `Regions`."""
        return self.members.shape[0] + 2 * self.members.shape[1]

    def sums(self, field: Tensor) -> Tensor:
        """See `Regions`."""
        flat = field.flatten(-2) @ self.members.to(field.dtype).T
        return flat.reshape(*field.shape[:-2], *self.grid)

    def shares(self, weights: Tensor) -> Tensor:
        """See `Regions`: a pixel gets the weights of all masks that it belongs to."""
        flat = weights.flatten(-2) @ self.members.to(weights.dtype)
        return flat.reshape(*weights.shape[:-2], *self.shape)

    def coverage(self, device: torch.device) -> Tensor:
        """See `Regions`."""
        return self.members.sum(0, dtype=torch.float64).reshape(self.shape).to(device)


def _slide(values: Tensor, axis: int, side: int, padding: int) -> Tensor:
    """Sums over `side` neighbours along axis −1 or −2 of (…, H, W), with so many zeros at both ends."""
    if side == 1:
        return values
    planes = values.reshape(-1, *values.shape[-2:])
    if 2 * padding > side:  # more than the pooling adds by itself
        ends = (padding, padding, 0, 0) if axis == -1 else (0, 0, padding, padding)
        planes, padding = functional.pad(planes, ends), 0
    kernel, margin = ((1, side), (0, padding)) if axis == -1 else ((side, 1), (padding, 0))
    summed = functional.avg_pool2d(planes, kernel, stride=1, padding=margin, divisor_override=1)
    return summed.reshape(*values.shape[:-2], *summed.shape[-2:])
