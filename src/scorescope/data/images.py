"""A set of images as everything reads it: uint8, mapped or in memory, possibly a subset, possibly with flips.

The array is never copied: a subset is an index list, and horizontal flips are entries that are turned when read. A set
of n images `.with_flips()` has 2n entries, entry i + n being the mirror image of entry i.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scorescope.foundation import UserError

if TYPE_CHECKING:
    from torch import Tensor

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


class ImageSet:
    """Images of one shape, uint8 (N, C, H, W), read in pieces.

    Args:
        pixels: uint8 array (N, C, H, W); a memory map stays on disk.
        labels: int array (N,) of classes, or None.
        indices: which images of `pixels` belong to the set, in order; all by default.
        flips: whether the mirror images follow the images.
        name: what reports call it.
        check: called before pixels are read; raises UserError if what they are mapped from was changed meanwhile.
        names: where image i of `pixels` came from, as text; None if that is not known.

    Raises:
        UserError: no images, a wrong dtype or shape, as many labels as images not given, an index out of range.
    """

    def __init__(
        self,
        pixels: Pixels,
        labels: npt.NDArray[np.integer] | None = None,
        *,
        indices: Sequence[int] | npt.NDArray[np.integer] | None = None,
        flips: bool = False,
        name: str = "images",
        check: Callable[[], None] | None = None,
        names: Callable[[int], str] | None = None,
    ) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 4:
            raise UserError(f"{name}: images must be uint8 (N, C, H, W), found {pixels.dtype} {pixels.shape}")
        if labels is not None and labels.shape != (len(pixels),):
            raise UserError(f"{name}: {len(pixels)} images need labels of shape ({len(pixels)},), found {labels.shape}")
        self.pixels = pixels
        self.labels = labels
        self.flips = flips
        self.name = name
        self.check = check
        self.names = names
        self.indices: Indices | None = None if indices is None else np.asarray(indices, dtype=np.int64)
        if self.indices is not None and self.indices.size:
            low, high = int(self.indices.min()), int(self.indices.max())
            if low < 0 or high >= len(pixels):
                raise UserError(f"{name}: indices {low} to {high} are outside the {len(pixels)} images there are")
        if len(self) == 0 or 0 in pixels.shape[1:]:
            raise UserError(f"{name}: there are no images in it")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    @property
    def stored(self) -> int:
        """How many images there are without their mirror images."""
        return len(self.pixels) if self.indices is None else len(self.indices)

    def __len__(self) -> int:
        return self.stored * (2 if self.flips else 1)

    def read(self, start: int, stop: int) -> Pixels:
        """Entries start to stop (a half-open range), uint8 (stop − start, C, H, W); a view of the store where it can be.

        A range that goes past the end is cut there. Raises IndexError if it starts before the first entry.
        """
        if start < 0:
            raise IndexError(f"{self.name}: entries are counted from 0, asked to read from {start}")
        stop = min(stop, len(self))
        if start >= self.stored:
            return self._stored(start - self.stored, stop - self.stored)[..., ::-1]
        if stop > self.stored:
            return np.concatenate([self.read(start, self.stored), self.read(self.stored, stop)])
        return self._stored(start, stop)

    def take(self, entries: Sequence[int] | npt.NDArray[np.integer]) -> Pixels:
        """Chosen entries in the given order, uint8 (n, C, H, W), always a copy.

        Raises IndexError for an entry below 0 or not below len(self).
        """
        chosen = np.asarray(entries, dtype=np.int64)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(f"{self.name}: entries {chosen.min()} to {chosen.max()} are outside 0 to {len(self) - 1}")
        if self.check:
            self.check()
        rows = chosen % self.stored
        images: Pixels = self.pixels[rows if self.indices is None else self.indices[rows]]
        mirrored = chosen >= self.stored
        if mirrored.any():
            images[mirrored] = images[mirrored][..., ::-1]
        return images

    def chunks(self, size: int) -> Iterator[tuple[int, Pixels]]:
        """All entries in order as (index of the first, uint8 (≤ size, C, H, W))."""
        for start in range(0, len(self), size):
            yield start, self.read(start, start + size)

    def tensor(self, entries: Sequence[int] | npt.NDArray[np.integer] | None = None) -> Tensor:
        """Chosen entries (all by default) as float32 (n, C, H, W) in [-1, 1]."""
        return to_float(self.read(0, len(self)) if entries is None else self.take(entries))

    def subset(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> ImageSet:
        """The images at `indices` (counted within this set, without mirror images), in that order.

        Raises UserError for an index that is not there, or if there are no indices.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= self.stored):
            seen = f"{chosen.min()} to {chosen.max()}"
            raise UserError(
                f"{self.name}: images {seen} asked for, the {self.stored} there are go from 0 to {self.stored - 1}"
            )
        rows = chosen if self.indices is None else self.indices[chosen]
        return self._part(rows, self.flips)

    def joined(self, other: ImageSet) -> ImageSet:
        """The images of this set and of another part of the same images, each once, in the order of those."""
        if other.pixels is not self.pixels:
            raise ValueError(f"{self.name} and {other.name} are not parts of the same images")
        if self.indices is None or other.indices is None:
            return self._part(None, self.flips)
        return self._part(np.union1d(self.indices, other.indices), self.flips)

    def with_flips(self) -> ImageSet:
        """The same images followed by their horizontal mirror images."""
        return self._part(self.indices, True)

    def without_flips(self) -> ImageSet:
        """The same images without mirror images."""
        return self._part(self.indices, False)

    def of_class(self, label: int) -> ImageSet:
        """The images of one class. Raises UserError if there are no labels or none of that class."""
        labels = self.own_labels()
        chosen = np.flatnonzero(labels == label)
        if not chosen.size:
            raise UserError(f"{self.name}: no image has class {label}; classes are {sorted(set(labels.tolist()))}")
        return self.subset(chosen)

    def own_labels(self) -> npt.NDArray[np.integer]:
        """Classes of the images, int (stored,). Raises UserError if the set has none."""
        if self.labels is None:
            raise UserError(f"{self.name} has no class labels: import it from class folders, or leave classes out")
        return np.asarray(self.labels if self.indices is None else self.labels[self.indices])

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the pixels in order and of the flips: what caches of computed things are keyed by."""
        digest = hashlib.sha256(f"{self.image_shape} flips={self.flips} ".encode())
        for start in range(0, self.stored, 4096):
            digest.update(np.ascontiguousarray(self._stored(start, min(start + 4096, self.stored))).data)
        return digest.hexdigest()

    def _part(self, rows: Indices | None, flips: bool) -> ImageSet:
        return ImageSet(
            self.pixels, self.labels, indices=rows, flips=flips, name=self.name, check=self.check, names=self.names
        )

    def _stored(self, start: int, stop: int) -> Pixels:
        if self.check:
            self.check()
        if self.indices is None:
            return self.pixels[start:stop]
        rows: Pixels = self.pixels[self.indices[start:stop]]
        return rows


def to_float(pixels: Pixels) -> Tensor:
    """uint8 0…255 to float32 in [-1, 1]: ``u8 / 127.5 − 1``; any shape."""
    import torch

    # A store's map is read-only, which torch.from_numpy warns about: numpy makes the copy.
    return torch.from_numpy(pixels.astype(np.float32, order="C")).div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Pixels:
    """Floats in [-1, 1] to uint8, rounded, values outside clipped; any shape."""
    import torch

    scaled = images.detach().to("cpu", torch.float32).add(1.0).mul(127.5).round().clamp(0, 255)
    return np.asarray(scaled.to(torch.uint8).numpy())
