"""A data set of the Hugging Face ``datasets`` library: a folder made by ``save_to_disk``, or a name on its hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scorescope.data.sources.base import BrokenImageError, Decoded, Labels, Source
from scorescope.data.sources.decoding import decode
from scorescope.foundation import UserError

PREFIX = "hf:"


class HuggingFaceSource(Source):
    """The image column of a data set, decoded here so that a broken image is found like any other.

    Args:
        where: path or name as given.
        table: a ``datasets.Dataset``.
        white: the value that is white in grey images of more than 8 bits.

    Raises:
        UserError: no column, or several, of images.
    """

    def __init__(self, where: str, table: Any, white: float | None = None) -> None:
        import datasets

        columns = [name for name, kind in table.features.items() if isinstance(kind, datasets.Image)]
        if len(columns) != 1:
            found = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in table.features.items())
            raise UserError(f"{where}: one column of images is needed, {len(columns)} found among: {found}")
        self._column = columns[0]
        self._table = table.select_columns(columns).cast_column(self._column, datasets.Image(decode=False))
        labels, classes, notes = _labels(table)
        self._white = white
        licence = str(getattr(table.info, "license", "") or "")
        super().__init__(where, labels=labels, classes=classes, notes=notes, licence=licence)

    def __len__(self) -> int:
        return len(self._table)

    def decoded(self, index: int) -> Decoded:
        try:
            cell = self._table[index][self._column]
        except Exception as error:  # a damaged Arrow file
            raise BrokenImageError(f"the row cannot be read: {error}") from error
        return decode_cell(cell, self._white)


def decode_cell(cell: Any, white: float | None) -> Decoded:
    """An image of a column of images: bytes, or the path of a file. Raises BrokenImageError."""
    if not isinstance(cell, dict) or not (cell.get("bytes") or cell.get("path")):
        raise BrokenImageError("the cell is empty")
    if cell.get("bytes"):
        return decode(cell["bytes"], white)
    try:
        return decode(Path(cell["path"]).read_bytes(), white)
    except OSError as error:
        raise BrokenImageError(f"{cell['path']} cannot be read ({error.strerror})") from error


def known_classes(
    values: Sequence[Any], names: Sequence[str]
) -> tuple[Labels | None, tuple[str, ...], tuple[str, ...]]:
    """Labels, names of classes, notes: Hugging Face data sets mark images without a class by -1 or nothing."""
    unknown = sum(value is None or value < 0 for value in values)
    if unknown:
        return None, (), (f"{unknown} of {len(values)} images have no class, so none was kept",)
    return np.asarray(values, dtype=np.int64), tuple(names), ()


def open_hugging_face(name: str, split: str, white: float | None = None) -> HuggingFaceSource:
    """A data set by name (``hf:OWNER/NAME``) or folder; no code that comes with it is ever run.

    Args:
        name: as given, with its prefix if it is a name.
        split: which split, where there are several.
        white: the value that is white in grey images of more than 8 bits.

    Raises:
        UserError: the library is not installed, there is no such data set or split, or it cannot be reached.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"{name} needs the Hugging Face library: pip install 'scorescope[datasets]' (or pip install datasets)"
        ) from error
    try:
        if name.startswith(PREFIX):
            table = datasets.load_dataset(name.removeprefix(PREFIX), split=split)
        else:
            table = datasets.load_from_disk(name)
    except Exception as error:  # the library raises its own, the hub's, pyarrow's and the network's exceptions
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name} (split {split!r}) cannot be loaded by the datasets library: {reason}") from error
    if isinstance(table, datasets.DatasetDict):
        if split not in table:
            raise UserError(f"{name} has no split {split!r}: pass --split with one of {', '.join(table)}")
        table = table[split]
    return HuggingFaceSource(name, table, white)


def is_hugging_face(text: str) -> bool:
    """Whether `text` is a hub name with its prefix, or a folder that ``save_to_disk`` made."""
    path = Path(text)
    saved = (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()
    return text.startswith(PREFIX) or saved


def _labels(table: Any) -> tuple[Labels | None, tuple[str, ...], tuple[str, ...]]:
    """Labels of the first column of classes, their names and notes; see `known_classes`."""
    import datasets

    for name, kind in table.features.items():
        if isinstance(kind, datasets.ClassLabel):
            return known_classes(table[name][:], kind.names or ())
    return None, (), ()
