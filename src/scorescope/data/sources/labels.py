"""Classes given in a file of their own: ``.npy``, IDX, or a text file with one whole number a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scorescope.data.sources.base import Labels
from scorescope.data.sources.idx import class_labels, is_idx
from scorescope.foundation import UserError


def read_labels(path: Path, count: int) -> Labels:
    """Labels of `count` images in the order of the source, int64 (count,).

    Raises UserError if the file is missing, of another form, or has another number of labels.
    """
    if not path.is_file():
        raise UserError(f"there is no file of labels at {path}")
    labels = class_labels(path) if is_idx(path) else _from_npy(path) if path.suffix == ".npy" else _from_text(path)
    if len(labels) != count:
        raise UserError(f"{path} has {len(labels)} labels, the source has {count} images")
    return labels


def _from_npy(path: Path) -> Labels:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"{path}: labels must be whole numbers of shape (N,), found {array.dtype} {array.shape}")
    return np.asarray(array, dtype=np.int64)


def _from_text(path: Path) -> Labels:
    labels = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    labels.append(int(line))
                except ValueError as error:
                    raise UserError(f"{path}, line {number}: {line.strip()!r} is not a whole number") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is neither .npy, IDX nor text with one whole number a line") from error
    return np.array(labels, dtype=np.int64)
