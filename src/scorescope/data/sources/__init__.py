"""Where images can come from: one module a format, and `open_source`, which tells which one it is.

Every source is a `Source`: a number of images, any one of which can be decoded, with labels and names where it has them.
No source runs code from a file.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from scorescope.data.sources.arrays import ArraySource, open_npy, open_npz
from scorescope.data.sources.base import BrokenImageError, Source
from scorescope.data.sources.cifar import CifarSource, is_cifar_file, is_cifar_folder, open_cifar, open_cifar_archive
from scorescope.data.sources.files import FolderSource, ZipSource, is_image_name
from scorescope.data.sources.hugging_face import HuggingFaceSource, is_hugging_face, open_hugging_face
from scorescope.data.sources.idx import idx_images_in, is_idx, open_idx
from scorescope.data.sources.parquet import ParquetSource, open_parquet, parquet_files
from scorescope.data.sources.tensors import open_tensor
from scorescope.foundation import UserError
from scorescope.foundation.files import user_path

__all__ = [
    "ArraySource",
    "BrokenImageError",
    "CifarSource",
    "FolderSource",
    "HuggingFaceSource",
    "ParquetSource",
    "Source",
    "ZipSource",
    "open_source",
]

ACCEPTED = (
    "a folder or zip of images, .npy, .npz, .pt of one tensor, IDX (MNIST, gzipped or not), CIFAR (both versions), "
    "Hugging Face parquet files or folder, or hf:NAME"
)
_PICKLES = (".pkl", ".pickle")
_TENSORS = (".pt", ".pth")
_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_PACKED = (".7z", ".rar")


def open_source(text: str | Path, split: str = "train", *, white: float | None = None) -> Source:
    """Recognise a source of images by what is there and open it.

    Args:
        text: a path, or ``hf:NAME``.
        split: which split, where there are several: of a Hugging Face data set, or of folders ``train`` and ``test``.
        white: the value that is white, where values have more than 8 bits; by default told from their type.

    Raises:
        UserError: nothing there, nothing known, no images, a damaged container, one that could run code, or a white value
            that is not positive and finite.
    """
    text = str(text)
    if white is not None and not (math.isfinite(white) and white > 0):
        raise UserError(f"--white {white:g}: the value that is white is positive and finite, such as 4095 or 255")
    path = user_path(text)
    if is_hugging_face(text):
        return open_hugging_face(text, split, white)
    if not path.exists():
        raise UserError(f"there is nothing at {text}: a source is {ACCEPTED}")
    if not path.is_dir():
        return _open_file(path, split, white)
    return _open_folder(path, split, white)


def _open_folder(path: Path, split: str, white: float | None) -> Source:
    if (path / "store.json").is_file():
        raise UserError(f"{path} is a store already and needs no import: pass it as --data {path}")
    if is_cifar_folder(path):
        return open_cifar(path)
    idx = idx_images_in(path)
    if len(idx) > 1:
        raise UserError(
            f"{path} holds {len(idx)} files of images: import one, {' or '.join(str(file) for file in idx)}"
        )
    if idx:
        return open_idx(idx[0], white)
    tables = parquet_files(path)
    if tables and not any(is_image_name(name) for _, _, names in os.walk(path) for name in names):
        return open_parquet(path, tables, split, white)
    return FolderSource(path, split, white)


def _open_file(path: Path, split: str, white: float | None) -> Source:
    name = path.name.lower()
    if not path.is_file():
        raise UserError(f"{path} is neither a file nor a folder: a source is {ACCEPTED}")
    if name.endswith(".zip"):
        return ZipSource(path, split, white)
    if name.endswith(".npz"):
        return open_npz(path, white)
    if name.endswith(".npy"):
        return open_npy(path, white)
    if is_idx(path):
        return open_idx(path, white)
    if name.endswith(".parquet"):
        return open_parquet(path, [path], split, white)
    if is_cifar_file(path):
        return open_cifar(path)
    if name.endswith(_TENSORS):
        return open_tensor(path, white)
    if name.endswith(_TARS):
        return open_cifar_archive(path)
    if name.endswith(_PICKLES):
        raise UserError(f"{path} is a pickle, which can run code when read, and is not opened: a source is {ACCEPTED}")
    if name.endswith(_PACKED):
        raise UserError(f"{path} is packed: unpack it first and import what was in it")
    if is_image_name(name):
        raise UserError(f"{path} is a single image: put the images in a folder and import the folder")
    raise UserError(f"{path} is of no known kind: a source is {ACCEPTED}")
