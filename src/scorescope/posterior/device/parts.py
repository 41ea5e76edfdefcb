"""Parts of an image as lists of places, for kernels that gather: windows cut at borders, masks, what of a part is kept."""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.posterior.device.regions import MaskMatrix, Windows

# Lists of so many windows are kept: to make one takes as long as small windows take.
_KEPT_WINDOWS = 32


@dataclass(frozen=True)
class Parts:
    """Which values of an image each part compares, and which it averages.

    Attributes:
        places: int32 (parts, K), positions in an image of C·H·W values, −1 behind the last of a part.
        sizes: int32 (parts,): how many places each part has.
        kept: int32 (parts, V), the same for the values that are averaged.
    """

    places: Tensor
    sizes: Tensor
    kept: Tensor

    @classmethod
    def of_windows(cls, windows: Windows, channels: int, device: torch.device) -> Parts:
        """Of all positions of a window; all its values are kept, or those of its centre where it is not spread."""
        return _of_windows(windows, channels, device)

    @classmethod
    def of_masks(cls, masks: MaskMatrix, channels: int) -> Parts:
        """Of masks of 0 and 1 over whole pixels, all of which are kept."""
        known = _of_matrices.setdefault(masks, {})
        if channels not in known:
            pixels = _indices(masks.members)
            places, sizes = _packed(_of_channels(pixels, channels, masks.members.shape[1]))
            known[channels] = cls(places, sizes, places)
        return known[channels]

    @classmethod
    def of_entries(cls, masks: MaskMatrix) -> Parts:
        """Of masks of 0 and 1 over pixel-channels, mask m keeping value m."""
        known, members = _of_matrices.setdefault(masks, {}), masks.members
        if None not in known:
            places, sizes = packed_indices(members)
            known[None] = cls(
                places, sizes, torch.arange(len(members), dtype=torch.int32, device=members.device)[:, None]
            )
        return known[None]


# Parts of masks live as long as the masks do: by channels, None for masks over pixel-channels.
_of_matrices: weakref.WeakKeyDictionary[MaskMatrix, dict[int | None, Parts]] = weakref.WeakKeyDictionary()


@functools.lru_cache(_KEPT_WINDOWS)
def _of_windows(windows: Windows, channels: int, device: torch.device) -> Parts:
    window, height, width = windows.window, windows.height, windows.width
    rows, columns = windows.grid
    top = torch.arange(rows, device=device) - window.pad_rows
    left = torch.arange(columns, device=device) - window.pad_columns
    y = top[:, None, None, None] + torch.arange(window.height, device=device)[:, None]
    x = left[:, None, None] + torch.arange(window.width, device=device)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    pixels = torch.where(inside, y * width + x, -1).reshape(rows * columns, -1)
    places = _of_channels(pixels, channels, height * width)
    kept = places
    if not window.spread:
        centres = torch.arange(height * width, device=device)[:, None]
        kept = _of_channels(centres, channels, height * width)
    return Parts(*_packed(places), kept.int() if kept is not places else _packed(places)[0])


def is_binary(masks: MaskMatrix) -> bool:
    """Whether the masks hold nothing but 0 and 1."""
    return bool(((masks.members == 0) | (masks.members == 1)).all())


def _of_channels(pixels: Tensor, channels: int, plane: int) -> Tensor:
    """Places of pixels (parts, n), −1 for none, in all channels: (parts, C·n)."""
    planes = plane * torch.arange(channels, device=pixels.device)[:, None]
    return torch.where(pixels[:, None] >= 0, pixels[:, None] + planes, -1).flatten(1)


def packed_indices(members: Tensor) -> tuple[Tensor, Tensor]:
    """Where each row (places,) is not 0, int32 (rows, most), −1 behind the last, and how often, int32 (rows,)."""
    return _packed(_indices(members))


def _packed(places: Tensor) -> tuple[Tensor, Tensor]:
    """Places with those that are none at the end, and how many there are of each part."""
    sizes = (places >= 0).sum(1)
    far = torch.iinfo(torch.int64).max
    ordered = torch.where(places >= 0, places, far).sort(1).values[:, : max(1, int(sizes.max()))]
    return torch.where(ordered == far, -1, ordered).int(), sizes.int()


def _indices(members: Tensor) -> Tensor:
    """Where each row (places,) is not 0, (rows, most), −1 behind the last."""
    every = torch.arange(members.shape[1], device=members.device).expand_as(members)
    return torch.where(members != 0, every, -1)
