"""Copied regions: window by window, is a sample nearer to a training image there than to any control image?

Windows have half and a quarter of the image's sides and overlap by half. A window loses its own mean (brightness does not
count) and is compared with the same window of all images; large ones are averaged down to 8×8 pixels first, so that the cost
does not grow with resolution. Its statistic is the margin ``log(d_C² + e) − log(d_T² + e)``, d² the mean squared difference to
the nearest training and control window and e what an 8-bit file with mild compression differs by. Windows in which all images
are alike have a margin near 0, so no window has to be chosen by hand; the image's statistic is the largest margin, and
calibration images go through the same search. Which window it is says where, and the nearest training window says whose.

A region that was moved to another place by more than about a pixel is not found; its mirror image is where mirror images are
searched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from scorescope.data.images import ImageSet, to_float
from scorescope.foundation import track
from scorescope.probes.audit.search import AT_ONCE, Floats, Vectors, search

SIDES = (0.5, 0.25)
PIXELS = 8
"""Side to which larger windows are averaged down."""
FEWEST = 4
"""Side below which a window holds too little to be recognised."""
SMALLEST = 0.03**2


@dataclass(frozen=True)
class Window:
    """A square part of images at a reduced size.

    Attributes:
        side: in shares of the image's sides.
        size: (height, width) to which whole images are averaged down for it.
        rows: first and last of its rows there, half-open.
        columns: first and last of its columns.
    """

    side: float
    size: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, bottom, left and right in an image of `height` × `width` pixels, half-open."""
        down, across = height / self.size[0], width / self.size[1]
        return (
            round(self.rows[0] * down),
            round(self.rows[1] * down),
            round(self.columns[0] * across),
            round(self.columns[1] * across),
        )


@dataclass(frozen=True)
class LocalMargins:
    """Margins of n images in W windows.

    Attributes:
        margin: the margin over control images, float32 (n, W).
        index: place of the nearest training window's image, int32 (n, W).
    """

    margin: Vectors
    index: npt.NDArray[np.int32]

    @property
    def statistic(self) -> Floats:
        """The largest margin of every image, (n,)."""
        return np.asarray(self.margin.max(1).astype(np.float64))

    @property
    def window(self) -> npt.NDArray[np.int64]:
        """The window of the largest margin, (n,)."""
        return np.asarray(self.margin.argmax(1))


def windows_of(height: int, width: int, sides: tuple[float, ...] = SIDES) -> list[Window]:
    """The windows of images of `height` × `width` pixels; sides that would leave fewer than `FEWEST` pixels are left out."""
    found = []
    for side in sides:
        size = (min(height, round(PIXELS / side)), min(width, round(PIXELS / side)))
        tall, wide = round(size[0] * side), round(size[1] * side)
        if min(tall, wide) < FEWEST:
            continue
        for top in _starts(size[0], tall):
            for left in _starts(size[1], wide):
                found.append(Window(side, size, (top, top + tall), (left, left + wide)))
    return found


def reduced(images: Tensor, windows: list[Window]) -> dict[tuple[int, int], Tensor]:
    """Images averaged down to every size that windows want: size -> (n, C, H', W') in half precision."""
    return {size: adaptive_avg_pool2d(images, size).half() for size in {window.size for window in windows}}


def local_margins(queries: Tensor, training: ImageSet, control: ImageSet, windows: list[Window]) -> LocalMargins:
    """The margin of every image in every window.

    Args:
        queries: (n, C, H, W) in [-1, 1].
        training: T, with mirror images where they count.
        control: C.
        windows: of `windows_of`.
    """
    mine = reduced(queries, windows)
    near, far = (_all_reduced(images, windows) for images in (training, control))
    margin = np.empty((len(queries), len(windows)), np.float32)
    index = np.empty((len(queries), len(windows)), np.int32)
    for place, window in enumerate(track(windows, "searching copied regions")):
        asked = _patches(mine[window.size], window)
        squared = (asked**2).sum(1)
        to_training = search(_query(asked), _blocks(near[window.size], window))
        to_control = search(_query(asked), _blocks(far[window.size], window))
        d_training, d_control = (
            np.maximum(squared - 2 * found.similarity[:, 0], 0) / asked.shape[1] for found in (to_training, to_control)
        )
        margin[:, place] = np.log(d_control + SMALLEST) - np.log(d_training + SMALLEST)
        index[:, place] = to_training.index[:, 0]
    return LocalMargins(margin, index)


def copied_boxes(margins: npt.ArrayLike, level: float, windows: list[Window], height: int, width: int) -> Tensor:
    """Where an image is copied: the windows (W,) whose margin is above a level, as a mask bool (height, width)."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    for value, window in zip(np.asarray(margins), windows, strict=True):
        if value > level:
            top, bottom, left, right = window.box(height, width)
            mask[top:bottom, left:right] = True
    return mask


def _starts(length: int, side: int) -> list[int]:
    step = max(1, side // 2)
    starts = list(range(0, length - side + 1, step))
    return starts if starts[-1] == length - side else [*starts, length - side]


def _all_reduced(images: ImageSet, windows: list[Window]) -> dict[tuple[int, int], Tensor]:
    parts = [reduced(to_float(pixels), windows) for _, pixels in images.chunks(AT_ONCE)]
    return {size: torch.cat([part[size] for part in parts]) for size in parts[0]}


def _patches(images: Tensor, window: Window) -> Vectors:
    (top, bottom), (left, right) = window.rows, window.columns
    flat = images[..., top:bottom, left:right].float().flatten(1)
    return np.asarray((flat - flat.mean(1, keepdim=True)).numpy())


def _query(patches: Vectors) -> Vectors:
    """With one more entry, so that a product with `_blocks` is largest for the smallest distance."""
    return np.hstack([patches, np.ones((len(patches), 1), np.float32)])


def _blocks(images: Tensor, window: Window) -> Iterator[tuple[int, Vectors]]:
    for start in range(0, len(images), AT_ONCE):
        patches = _patches(images[start : start + AT_ONCE], window)
        yield start, np.hstack([patches, -0.5 * (patches**2).sum(1, keepdims=True)])
