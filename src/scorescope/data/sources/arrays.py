"""NumPy's ``.npy`` and ``.npz``: one array of images, uint8, booleans, floats in [0, 1] or [-1, 1], any usual layout.

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

from scorescope.data.sources.base import Decoded, Labels, Source, check_class
from scorescope.data.sources.decoding import from_array
from scorescope.foundation import UserError
from scorescope.foundation.files import is_out_of_space

Array = npt.NDArray[Any]
IMAGE_KEYS = ("images", "train_images", "x_train", "x", "data", "arr_0")
LABEL_KEYS = ("labels", "train_labels", "y_train", "y", "labels", "arr_1")  # at the place of their images


class Scale(NamedTuple):
    """How values become 0…255: ``round((value − low) · factor)``; said in the store's notes."""

    low: float
    factor: float
    said: str


class ArraySource(Source):
    """Images in one array.

    Args:
        where: path as given.
        array: uint8, bool or floating (N, H, W), (N, H, W, C) or (N, C, H, W), C = 1 or 3; or one image (H, W, C).
        labels: int64 (N,) or None.
        classes: names of the classes.
        white: the value that is white, for numbers of any type from 0 to it; by default it is told from type and range.
        notes: what was assumed before.

    Raises:
        UserError: another dtype, shape or range of values, or no images.
    """

    def __init__(
        self,
        where: str,
        array: Array,
        labels: Labels | None = None,
        classes: tuple[str, ...] = (),
        *,
        white: float | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._array, layout = _channels_last(where, array, None if labels is None else len(labels))
        self._scale = _scale_of(where, self._array, white)
        said = tuple(note for note in (layout, self._scale.said) if note)
        if labels is not None and len(labels) != len(self._array):
            raise UserError(f"{where}: {len(self._array)} images have {len(labels)} labels: they must be as many")
        super().__init__(where, labels=labels, classes=classes, notes=(*notes, *said))

    def __len__(self) -> int:
        return len(self._array)

    def decoded(self, index: int) -> Decoded:
        image = self._array[index]
        if image.dtype != np.uint8 or self._scale.factor != 1:
            levels = (np.asarray(image, dtype=np.float64) - self._scale.low) * self._scale.factor
            image = np.rint(levels.clip(0, 255)).astype(np.uint8)
        return Decoded(from_array(np.ascontiguousarray(image)))


def open_npy(path: Path, white: float | None = None) -> ArraySource:
    """The array of a ``.npy`` file. Raises UserError if it is damaged, holds Python objects or is not of images."""
    return ArraySource(str(path), map_npy(path, str(path)), white=white)


def open_npz(path: Path, white: float | None = None) -> ArraySource:
    """The images and labels of a ``.npz`` file, by the usual names or as its only array that fits.

    Raises UserError if it is damaged, no array can be told to be the images, or that one is refused by `ArraySource`.
    """
    folder = tempfile.TemporaryDirectory(prefix="scorescope-")
    try:
        with zipfile.ZipFile(path) as packed:
            keys = [name.removesuffix(".npy") for name in packed.namelist() if name.endswith(".npy")]
            key = _images_key(path, keys)
            _check_room(path, packed, key, Path(folder.name))
            array = _unpack(path, packed, key, Path(folder.name))
            labels = None
            label_key = LABEL_KEYS[IMAGE_KEYS.index(key)] if key in IMAGE_KEYS else "labels"
            if label_key in keys:
                labels = class_numbers(
                    f"{path}, array {label_key!r}", _unpack(path, packed, label_key, Path(folder.name))
                )
        source = ArraySource(str(path), array, labels, white=white)
    except UserError:
        folder.cleanup()
        raise
    except Exception as error:  # whatever zipfile and its decompressors raise on a damaged file
        folder.cleanup()
        if is_out_of_space(error):
            raise
        raise UserError(f"{path} is not a readable .npz ({error}): was it cut short?") from error
    except BaseException:
        folder.cleanup()
        raise
    source.hold(folder)
    return source


def _images_key(path: Path, keys: list[str]) -> str:
    if len(keys) == 1:
        return keys[0]
    for key in IMAGE_KEYS:
        if key in keys:
            return key
    raise UserError(
        f"{path} holds the arrays {', '.join(keys) or '(none)'}: name the one of images 'images', its classes 'labels'"
    )


def _check_room(path: Path, packed: zipfile.ZipFile, key: str, folder: Path) -> None:
    size, free = packed.getinfo(f"{key}.npy").file_size, shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"{path} unpacks to {size:,} bytes, and {folder.parent} has {free:,} left: set TMPDIR to a place with more"
        )


def _unpack(path: Path, packed: zipfile.ZipFile, key: str, folder: Path) -> Array:
    target = folder / f"{key.replace('/', '_')}.npy"
    with packed.open(f"{key}.npy") as read, target.open("wb") as write:
        shutil.copyfileobj(read, write, 1 << 20)
    return map_npy(target, f"{path}, array {key!r}")


def map_npy(path: Path, where: str) -> Array:
    """The array of a ``.npy`` file, mapped. Raises UserError, which calls it `where`, if there is none or it is damaged."""
    try:
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a header is parsed as Python, which has many ways to fail
        said = " ".join(str(error).split())
        if "allow_pickle" in said:
            said = "it holds Python objects, which can run code when read"
        raise UserError(f"{where} cannot be read: {said or type(error).__name__}") from error
    if not isinstance(array, np.ndarray):  # np.load opens a zip by its first bytes, whatever its name
        array.close()
        raise UserError(f"{where} is an .npz under another name: rename it")
    return np.asarray(array)


def _channels_last(where: str, array: Array, labels: int | None) -> tuple[Array, str]:
    """The same memory as (N, H, W) or (N, H, W, C), and what was assumed of its layout."""
    good = "(N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3"
    shape = array.shape
    if 0 in shape:
        raise UserError(f"{where}: there are no images in the array of shape {shape}")
    if array.ndim == 3:
        return (array, "") if labels == len(array) else _of_three_axes(where, array)
    if array.ndim != 4:
        one = f"; one image is {(1, *shape)}" if array.ndim == 2 else ""
        raise UserError(f"{where}: the array has shape {shape}; images need {good}{one}")
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        problem = "could have its channels first or last" if first else "has no axis of 1 or 3 channels"
        raise UserError(f"{where}: the array of shape {shape} {problem}; images need {good}")
    return (np.moveaxis(array, 1, -1) if first else array), ""


def _of_three_axes(where: str, array: Array) -> tuple[Array, str]:
    """Grey images, or one image: a height and a width are rarely 1 or 3 where there is something to see."""
    first, _, last = array.shape
    kind = {1: "grey", 3: "colour"}
    if last in kind and first not in kind:
        height, width = array.shape[:2]
        return array[
            None
        ], f"the array of shape {array.shape} was taken to be one {kind[last]} image of {width}×{height}"
    if first == 3:
        raise UserError(
            f"{where}: the array of shape {array.shape} could be one colour image or three grey ones: save it as"
            f" {(1, *array.shape)} or {(3, 1, *array.shape[1:])}"
        )
    return array, ""


def _scale_of(where: str, array: Array, white: float | None) -> Scale:
    """How to bring the values to 0…255, from their dtype and range; reads all but bytes once, in pieces."""
    kind = array.dtype.kind
    if white is None and array.dtype == np.uint8:
        return Scale(0.0, 1.0, "")
    if white is None and kind == "b":
        return Scale(0.0, 255.0, "booleans taken to be black and white")
    if kind not in "fiub" or (white is None and kind != "f"):
        mend = ": say which value is white with --white" if kind in "iu" else ""
        raise UserError(
            f"{where}: images of dtype {array.dtype}; uint8, or floats in [0, 1] or [-1, 1], are read{mend}"
        )
    low, high = _range(where, array)
    if white is not None:
        if low < 0 or high > white * (1 + 1e-6):
            raise UserError(f"{where}: values from {low:g} to {high:g}, which are not within 0 and --white {white:g}")
        if high * 255 < white / 2:
            raise UserError(f"{where}: with --white {white:g} all is black, as the brightest value is {high:g}")
        return Scale(0.0, 255.0 / white, f"values from {low:g} to {high:g}, {white:g} taken to be white")
    # Half a level of 8 bits beyond a range is what rounding hides anyway: sums of float32 overshoot by far less.
    for bottom in (0.0, -1.0):
        span = 1.0 - bottom
        beyond = max(bottom - low, high - 1.0)
        if beyond <= span / 510:
            said = f"floats taken to be in [{bottom:g}, 1], rounded to 8 bits"
            clipped = f"; values as far as {beyond:.1e} beyond were clipped" if beyond > 0 else ""
            return Scale(bottom, 255.0 / span, said + clipped)
    mend = "" if low < 0 else ", or say which value is white with --white"
    raise UserError(f"{where}: floats from {low:g} to {high:g}; uint8, or floats in [0, 1] or [-1, 1], are read{mend}")


def _range(where: str, array: Array) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    step = max(1, (1 << 22) // int(np.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        piece = array[start : start + step]
        if not np.isfinite(piece).all():
            raise UserError(f"{where}: NaN or infinite values among images {start} to {start + len(piece) - 1}")
        low, high = min(low, float(piece.min())), max(high, float(piece.max()))
    return low, high


def class_numbers(where: str, array: Array) -> Labels:
    """Labels of any whole-number dtype, (N,) or (N, 1), as int64 (N,).

    Raises UserError for another shape or dtype, for a negative class, and for one that int64 does not hold.
    """
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.ndim != 1 or not np.issubdtype(flat.dtype, np.integer):
        raise UserError(f"{where}: labels must be whole numbers of shape (N,), found {array.dtype} {array.shape}")
    if len(flat):
        check_class(where, int(flat[flat.argmin()]), int(flat.argmin()))
        check_class(where, int(flat[flat.argmax()]), int(flat.argmax()))
    return flat.astype(np.int64)
