"""Classes given in a file of their own: ``.npy``, IDX, or a text file with one whole number a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scorescope.data.sources.arrays import class_numbers, map_npy
from scorescope.data.sources.base import Labels, check_class
from scorescope.data.sources.idx import class_labels, is_idx
from scorescope.foundation import UserError


def read_labels(path: Path, count: int) -> Labels:
    """Labels of `count` images in the order of the source, int64 (count,).

    Raises UserError if the file is missing, of another form, or has another number of labels.
    """
    if not path.is_file():
        raise UserError(f"there is no file of labels at {path}")
    if is_idx(path):
        labels = class_labels(path)
    elif path.suffix == ".npy":
        labels = class_numbers(str(path), map_npy(path, str(path)))
    else:
        labels = _from_text(path)
    if len(labels) != count:
        raise UserError(f"{path} has {len(labels)} labels, the source has {count} images")
    return labels


def _from_text(path: Path) -> Labels:
    try:
        lines = path.read_text(encoding="utf-8").rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is neither .npy, IDX nor text with one whole number a line") from error
    labels = [_class(f"{path}, line {number}", line.strip(), number - 1) for number, line in enumerate(lines, start=1)]
    return np.array(labels, dtype=np.int64)


def _class(where: str, word: str, index: int) -> int:
    try:
        label = int(word)
    except ValueError as error:
        shown = word if len(word) <= 40 else f"{word[:40]}…"
        raise UserError(f"{where}: {shown!r} is not a whole number") from error
    check_class(where, label, index)
    return label
