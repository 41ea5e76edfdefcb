"""IDX, the format of MNIST and its family: ``train-images-idx3-ubyte`` and its labels beside it, gzipped or not.

A file is two zero bytes, one for the type (8 is uint8), one for the number of axes, their lengths as big-endian uint32,
then the values. Source: Y. LeCun, "The MNIST database of handwritten digits", section "File formats".
"""

from __future__ import annotations

import gzip
import math
import tempfile
import zlib
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
import numpy.typing as npt

from scorescope.data.sources.arrays import ArraySource
from scorescope.data.sources.base import Labels
from scorescope.foundation import UserError
from scorescope.foundation.files import is_out_of_space

_UINT8 = 8


def is_idx(path: Path) -> bool:
    """Whether a file, gzipped or not, starts as an IDX file of uint8 values does."""
    try:
        with _open(path) as file:
            start = file.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(start) == 4 and start[:3] == bytes((0, 0, _UINT8)) and 1 <= start[3] <= 4


def open_idx(path: Path, white: float | None = None) -> ArraySource:
    """The images of an IDX file with the labels that lie beside it, if any.

    Raises UserError if either file is cut or of another type, or if there are not as many labels as images.
    """
    images = read_idx(path)
    if images.ndim != 3:
        raise UserError(
            f"{path} is an IDX file of {images.ndim} axes; one of images has 3 (as train-images-idx3-ubyte)"
        )
    beside = labels_beside(path)
    # Always images, also where the sides are 1 or 3: the format says so.
    return ArraySource(str(path), images[:, None], None if beside is None else class_labels(beside), white=white)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The array of an IDX file, mapped: gzipped ones through a temporary file that vanishes when the array does.

    Raises UserError if it is cut, longer than its header says, or not of uint8.
    """
    with tempfile.TemporaryFile(prefix="scorescope-") as unpacked:
        try:
            with _open(path) as file:
                start = file.read(4)
                if len(start) < 4 or start[:3] != bytes((0, 0, _UINT8)) or not 1 <= start[3] <= 4:
                    said = start.hex() or "nothing"
                    raise UserError(f"{path} is not an IDX file of uint8 values: it starts with {said}")
                axes = start[3]
                sizes = file.read(4 * axes)
                shape = tuple(int(length) for length in np.frombuffer(sizes[: len(sizes) // 4 * 4], dtype=">u4"))
                expected = 4 + 4 * axes + math.prod(shape)
                unpacked.write(start + sizes)
                # Not a byte more than announced: what unpacks to more than it says could unpack to anything.
                _copy(file, unpacked, expected + 1 - unpacked.tell())
        except (OSError, EOFError, zlib.error) as error:
            if is_out_of_space(error):
                raise
            raise UserError(f"{path} cannot be unpacked ({error}): was its download cut short?") from error
        size = unpacked.tell()
        if len(shape) < axes or size != expected:
            more = "or more " if size > expected else ""
            raise UserError(
                f"{path} holds {size:,} bytes {more}where its header says {expected:,}: was its download cut short?"
            )
        if 0 in shape:
            raise UserError(f"{path}: there is nothing in it, its shape is {shape}")
        unpacked.flush()
        return np.asarray(np.memmap(unpacked, dtype=np.uint8, mode="r", offset=4 + 4 * axes, shape=shape))


def _copy(read: BinaryIO | gzip.GzipFile, write: IO[bytes], most: int) -> None:
    while most > 0 and (piece := read.read(min(most, 1 << 20))):
        write.write(piece)
        most -= len(piece)


def labels_beside(path: Path) -> Path | None:
    """The file of labels that belongs to a file of images, gzipped or not: ``…labels-idx1-ubyte`` in the same folder."""
    name = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    found = [path.with_name(name), path.with_name(f"{name}.gz")]
    return next((other for other in found if other.is_file() and other.name != path.name), None)


def idx_images_in(folder: Path) -> list[Path]:
    """Files of images in a folder, by their names: MNIST's own, ``…-idx3-ubyte`` or ``….idx3-ubyte``, with ``.gz`` or not."""
    return sorted(file for file in folder.iterdir() if "idx3-ubyte" in file.name and file.is_file())


def class_labels(path: Path) -> Labels:
    """Labels in an IDX file, int64 (N,). Raises UserError if it is not one, or not of one axis."""
    labels = read_idx(path)
    if labels.ndim != 1:
        raise UserError(f"{path} is an IDX file of {labels.ndim} axes; one of labels has 1")
    return labels.astype(np.int64)


def _open(path: Path) -> gzip.GzipFile | BinaryIO:
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if gzipped else path.open("rb")
