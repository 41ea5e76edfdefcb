"""A data set of the Hugging Face ``datasets`` library: a folder made by ``save_to_disk``, or a name on its hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scorescope.data.sources.base import BrokenImageError, Labels, Source
from scorescope.data.sources.decoding import decode
from scorescope.foundation import UserError

PREFIX = "hf:"


class HuggingFaceSource(Source):
    """The image column of a data set, decoded here so that a broken image is found like any other.

    Args:
        where: path or name as given.
        table: a ``datasets.Dataset``.

    Raises:
        UserError: no column, or several, of images.
    """

    def __init__(self, where: str, table: Any) -> None:
        import datasets

        columns = [name for name, kind in table.features.items() if isinstance(kind, datasets.Image)]
        if len(columns) != 1:
            found = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in table.features.items())
            raise UserError(f"{where}: one column of images is needed, {len(columns)} found among: {found}")
        self._column = columns[0]
        self._table = table.select_columns(columns).cast_column(self._column, datasets.Image(decode=False))
        labels, classes = _labels(table)
        licence = str(getattr(table.info, "license", "") or "")
        super().__init__(where, labels=labels, classes=classes, licence=licence)

    def __len__(self) -> int:
        return len(self._table)

    def load(self, index: int) -> Image.Image:
        cell = self._table[index][self._column]
        if cell is None:
            raise BrokenImageError("the cell is empty")
        if cell["bytes"] is not None:
            return decode(cell["bytes"])
        try:
            return decode(Path(cell["path"]).read_bytes())
        except OSError as error:
            raise BrokenImageError(f"{cell['path']} cannot be read ({error.strerror})") from error


def open_hugging_face(name: str, split: str) -> HuggingFaceSource:
    """A data set by name (``hf:OWNER/NAME``) or folder; no code that comes with it is ever run.

    Args:
        name: as given, with its prefix if it is a name.
        split: which split, where there are several.

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
    return HuggingFaceSource(name, table)


def is_hugging_face(text: str) -> bool:
    """Whether `text` is a hub name with its prefix, or a folder that ``save_to_disk`` made."""
    path = Path(text)
    saved = (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()
    return text.startswith(PREFIX) or saved


def _labels(table: Any) -> tuple[Labels | None, tuple[str, ...]]:
    """Labels of the first column of classes, if there is one without gaps."""
    import datasets

    for name, kind in table.features.items():
        if isinstance(kind, datasets.ClassLabel):
            values = table[name][:]
            if all(value is not None for value in values):
                return np.asarray(values, dtype=np.int64), tuple(kind.names or ())
    return None, ()
