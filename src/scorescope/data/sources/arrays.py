"""NumPy's ``.npy`` and ``.npz``: one array of images, uint8 or floats in [0, 1] or [-1, 1], any usual layout.

Nothing is unpickled. A ``.npy`` is mapped; an array in a ``.npz`` is unpacked to a temporary file and mapped.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from scorescope.data.sources.base import Labels, Source
from scorescope.data.sources.decoding import from_array
from scorescope.foundation import UserError

Array = npt.NDArray[Any]
_IMAGE_KEYS = ("images", "train_images", "x_train", "x", "data", "arr_0")
_LABEL_KEYS = ("labels", "train_labels", "y_train", "y", "labels", "arr_1")  # at the place of their images


class Scale(NamedTuple):
    """How values become 0…255: ``round((value − low) · factor)``; said in the store's notes."""

    low: float
    factor: float
    said: str


class ArraySource(Source):
    """Images in one array.

    Args:
        where: path as given.
        array: uint8 or floating (N, H, W), (N, H, W, C) or (N, C, H, W), C = 1 or 3.
        labels: int64 (N,) or None.
        classes: names of the classes.

    Raises:
        UserError: another dtype, shape or range of values, or no images.
    """

    def __init__(self, where: str, array: Array, labels: Labels | None = None, classes: tuple[str, ...] = ()) -> None:
        self._array = _channels_last(where, array)
        self._scale = _scale_of(where, self._array)
        notes = (self._scale.said,) if self._scale.said else ()
        super().__init__(where, labels=labels, classes=classes, notes=notes)

    def __len__(self) -> int:
        return len(self._array)

    def load(self, index: int) -> Image.Image:
        image = self._array[index]
        if image.dtype != np.uint8:
            image = np.rint((image - self._scale.low) * self._scale.factor).astype(np.uint8)
        return from_array(np.ascontiguousarray(image))


def open_npy(path: Path) -> ArraySource:
    """The array of a ``.npy`` file. Raises UserError if it is damaged, holds Python objects or is not of images."""
    return ArraySource(str(path), _map_npy(path, str(path)))


def open_npz(path: Path) -> ArraySource:
    """The images and labels of a ``.npz`` file, by the usual names or as its only array that fits.

    Raises UserError if it is damaged, no array can be told to be the images, or that one is refused by `ArraySource`.
    """
    folder = tempfile.TemporaryDirectory(prefix="scorescope-")
    try:
        with zipfile.ZipFile(path) as packed:
            keys = [name.removesuffix(".npy") for name in packed.namelist() if name.endswith(".npy")]
            key = _images_key(path, keys)
            array = _unpack(path, packed, key, Path(folder.name))
            labels = None
            label_key = _LABEL_KEYS[_IMAGE_KEYS.index(key)] if key in _IMAGE_KEYS else "labels"
            if label_key in keys:
                labels = _whole_numbers(
                    f"{path}, array {label_key!r}", _unpack(path, packed, label_key, Path(folder.name))
                )
        source = ArraySource(str(path), array, labels)
    except (zipfile.BadZipFile, EOFError) as error:
        folder.cleanup()
        raise UserError(f"{path} is not a readable .npz ({error}): was it cut short?") from error
    except BaseException:
        folder.cleanup()
        raise
    source.hold(folder)
    return source


def _images_key(path: Path, keys: list[str]) -> str:
    if len(keys) == 1:
        return keys[0]
    for key in _IMAGE_KEYS:
        if key in keys:
            return key
    raise UserError(
        f"{path} holds the arrays {', '.join(keys) or '(none)'}: name the one of images 'images', its classes 'labels'"
    )


def _unpack(path: Path, packed: zipfile.ZipFile, key: str, folder: Path) -> Array:
    target = folder / f"{key.replace('/', '_')}.npy"
    with packed.open(f"{key}.npy") as read, target.open("wb") as write:
        shutil.copyfileobj(read, write, 1 << 20)
    return _map_npy(target, f"{path}, array {key!r}")


def _map_npy(path: Path, where: str) -> Array:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{where} cannot be read: {error}") from error
    return np.asarray(array)


def _channels_last(where: str, array: Array) -> Array:
    """The same memory as (N, H, W) or (N, H, W, C)."""
    good = "(N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3"
    if array.ndim == 3:
        first, last = False, False
    elif array.ndim == 4:
        first, last = array.shape[1] in (1, 3), array.shape[3] in (1, 3)
    else:
        raise UserError(f"{where}: the array has shape {array.shape}; images need {good}")
    if array.ndim == 4 and first == last:
        problem = "could have its channels first or last" if first else "has no axis of 1 or 3 channels"
        raise UserError(f"{where}: the array of shape {array.shape} {problem}; images need {good}")
    if 0 in array.shape:
        raise UserError(f"{where}: there are no images in the array of shape {array.shape}")
    return np.moveaxis(array, 1, -1) if first else array


def _scale_of(where: str, array: Array) -> Scale:
    """How to bring the values to 0…255, from their dtype and range; reads floating arrays once, in pieces."""
    if array.dtype == np.uint8:
        return Scale(0.0, 1.0, "")
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"{where}: images of dtype {array.dtype}; uint8, or floats in [0, 1] or [-1, 1], are read")
    low, high = np.inf, -np.inf
    step = max(1, (1 << 22) // int(np.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        piece = array[start : start + step]
        if not np.isfinite(piece).all():
            raise UserError(f"{where}: NaN or infinite values among images {start} to {start + len(piece) - 1}")
        low, high = min(low, float(piece.min())), max(high, float(piece.max()))
    if low >= 0 and high <= 1:
        return Scale(0.0, 255.0, "floats taken to be in [0, 1], rounded to 8 bits")
    if low >= -1 and high <= 1:
        return Scale(-1.0, 127.5, "floats taken to be in [-1, 1], rounded to 8 bits")
    raise UserError(f"{where}: floats from {low:g} to {high:g}; uint8, or floats in [0, 1] or [-1, 1], are read")


def _whole_numbers(where: str, array: Array) -> Labels:
    """Labels of any whole-number dtype, (N,) or (N, 1), as int64 (N,). Raises UserError otherwise."""
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.ndim != 1 or not np.issubdtype(flat.dtype, np.integer):
        raise UserError(f"{where}: labels must be whole numbers of shape (N,), found {array.dtype} {array.shape}")
    return flat.astype(np.int64)
