"""A Hugging Face data set as it is downloaded: ``data/train-00000-of-00002.parquet``, images as bytes in a column.

Files are read one group of rows at a time, of which a few are kept, so memory does not grow with their number.
"""

from __future__ import annotations

import bisect
import itertools
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scorescope.data.sources.base import BrokenImageError, Decoded, Labels, Source
from scorescope.data.sources.file_names import in_order
from scorescope.data.sources.hugging_face import decode_cell, known_classes
from scorescope.foundation import UserError

_KEPT = 3  # groups of rows in memory
_SUFFIX = ".parquet"


class ParquetSource(Source):
    """The column of images of some parquet files, in their order.

    Args:
        where: path as given.
        files: of one split.
        white: the value that is white in grey images of more than 8 bits.
        notes: what was left aside before.

    Raises:
        UserError: pyarrow is not installed; a file is damaged; no column of images, or several.
    """

    def __init__(self, where: str, files: Sequence[Path], white: float | None, notes: Sequence[str]) -> None:
        pyarrow = _pyarrow(where)
        self._files: list[Any] = []
        self._groups: list[tuple[int, int]] = []
        starts = [0]
        for file in files:
            try:
                opened = pyarrow.ParquetFile(file)
            except Exception as error:  # pyarrow's own exceptions
                raise UserError(f"{file} is not a readable parquet file ({_line(error)}): was it cut short?") from error
            for group in range(opened.num_row_groups):
                self._groups.append((len(self._files), group))
                starts.append(starts[-1] + opened.metadata.row_group(group).num_rows)
            self._files.append(opened)
        self._starts = starts
        features = _features(self._files[0].schema_arrow)
        columns = [name for name, kind in features.items() if kind.get("_type") == "Image"] or [
            field.name for field in self._files[0].schema_arrow if _holds_bytes(field.type)
        ]
        if len(columns) != 1:
            found = ", ".join(self._files[0].schema_arrow.names)
            raise UserError(f"{where}: one column of images is needed, {len(columns)} found among: {found}")
        self._column = columns[0]
        self._white = white
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()
        label = next((name for name, kind in features.items() if kind.get("_type") == "ClassLabel"), None)
        labels, classes, said = self._classes(label, features[label].get("names") or ()) if label else (None, (), ())
        super().__init__(where, labels=labels, classes=classes, notes=(*notes, *said))
        if not len(self):
            raise UserError(f"there are no images in {where}: its tables have no rows")

    def __len__(self) -> int:
        return self._starts[-1]

    def decoded(self, index: int) -> Decoded:
        group = bisect.bisect_right(self._starts, index) - 1
        try:
            cell = self._rows(group)[index - self._starts[group]].as_py()
        except Exception as error:  # pyarrow's own exceptions
            raise BrokenImageError(f"the row cannot be read: {_line(error)}") from error
        return decode_cell(cell if isinstance(cell, dict) else {"bytes": cell}, self._white)

    def _classes(self, column: str, names: Sequence[str]) -> tuple[Labels | None, tuple[str, ...], tuple[str, ...]]:
        values = list(itertools.chain.from_iterable(file.read([column])[column].to_pylist() for file in self._files))
        return known_classes(values, names)

    def _rows(self, group: int) -> Any:
        with self._lock:
            if group not in self._kept:
                file, number = self._groups[group]
                self._kept[group] = self._files[file].read_row_group(number, [self._column])[self._column]
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(group)
            return self._kept[group]


def parquet_files(path: Path) -> list[Path]:
    """The parquet files that a path is or holds, at its top or in the folders that a hub's repository has below it."""
    if path.is_file():
        return [path] if path.name.lower().endswith(_SUFFIX) else []
    found = [file for pattern in ("*", "*/*", "*/*/*") for file in path.glob(pattern + _SUFFIX) if file.is_file()]
    return [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]


def open_parquet(path: Path, files: Sequence[Path], split: str, white: float | None = None) -> ParquetSource:
    """The images of one split of some parquet files.

    Raises UserError if there is no such split, if the files are of several folders, and as `ParquetSource`.
    """
    if path.is_file():
        return ParquetSource(str(path), files, white, ())
    folders = sorted({str(file.parent) for file in files})
    if len(folders) > 1:
        raise UserError(f"{path} holds several data sets: import one of the folders {', '.join(folders)}")
    splits = {file.name.split("-")[0].removesuffix(_SUFFIX) for file in files}
    kept = [file for file in files if file.name.split("-")[0].removesuffix(_SUFFIX) == split]
    if not kept:
        if len(splits) > 1 or split != "train":
            raise UserError(f"{path} has no split {split!r}: pass --split with one of {', '.join(sorted(splits))}")
        kept = list(files)
    names = {file.name: file for file in kept}
    aside = f"of the splits {', '.join(sorted(splits))} only {split} was taken (--split chooses)"
    notes = [aside] if len(kept) < len(files) else []
    return ParquetSource(str(path), [names[name] for name in in_order(list(names)).names], white, notes)


def _pyarrow(where: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"{where} holds parquet files, which need pyarrow: pip install 'scorescope[datasets]' (or pip install pyarrow)"
        ) from error
    return pyarrow.parquet


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What the Hugging Face library wrote about the columns; nothing where another program wrote the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    kinds = features if isinstance(features, dict) else {}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, dict) and name in schema.names}


def _holds_bytes(kind: Any) -> bool:
    """Whether a column is of bytes, or of the pairs of bytes and path that images are written as."""
    import pyarrow

    if pyarrow.types.is_struct(kind):
        return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
