"""Plain values on disk: strict JSON, compressed arrays and tables, all atomic, none of them able to run code.

JSON has no NaN and no infinity, and a reader that meets one may refuse the whole file; here they become null. Arrays go
into an ``.npz`` that is read with pickling off. Tables are CSV files for people and spreadsheets, with the dtype of each
column kept aside so that they come back as they were.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scorescope.foundation import UserError, new_file
from scorescope.foundation.files import write_json

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]


def strict(value: Any) -> Any:
    """`value` as JSON has it: plain dicts, lists, strings, numbers, booleans and None.

    NumPy scalars become Python's, arrays and tuples lists, keys strings; NaN and infinities become None.
    Raises TypeError for anything else, rather than store a text that nothing can read back.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return strict(value.tolist())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")


def write_strict_json(path: Path, value: Any) -> None:
    """Write `value`, made strict, to `path`. Raises UserError if the disk is full."""
    write_json(path, strict(value))


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises UserError if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: this is not a run folder, or not all of it was copied") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}): run the study again into another folder") from error


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write named arrays to a compressed ``.npz``. Raises ValueError for arrays of Python objects."""
    # np.savez takes the names as keyword arguments, and so cannot store one that is called "file".
    with new_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def read_arrays(path: Path) -> dict[str, Array]:
    """All arrays of an ``.npz``, in the order they were written. Raises UserError if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: not all of the run folder was copied") from error
    except (ValueError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): run the study again into another folder") from error


def frame_dtypes(frame: pd.DataFrame) -> dict[str, str]:
    """The dtype of each column, as `read_frame` needs it; everything that is no number or boolean is text."""
    return {
        str(name): dtype.name if isinstance(dtype, np.dtype) and dtype.kind in "iufb" else "str"
        for name, dtype in ((name, frame[name].dtype) for name in frame.columns)
    }


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write the columns of a table, without its index, as CSV with full precision."""
    text = io.StringIO()
    frame.to_csv(text, index=False, lineterminator="\n")
    with new_file(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


def read_frame(path: Path, dtypes: Mapping[str, str]) -> pd.DataFrame:
    """The table that `write_frame` wrote; missing text comes back empty.

    Raises UserError if it is missing or does not have these columns.
    """
    import pandas as pd

    try:
        # Read as text first: Python's conversion of each number gives back the very one that was written.
        texts = pd.read_csv(path, dtype=str, keep_default_na=False)
        return pd.DataFrame({name: _converted(texts[name], dtype) for name, dtype in dtypes.items()})
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: not all of the run folder was copied") from error
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}): run the study again into another folder") from error


def _converted(texts: pd.Series[str], dtype: str) -> list[str] | Array:
    if dtype == "str":
        return list(texts)
    if dtype == "bool":
        return np.array([{"True": True, "False": False}[text] for text in texts], dtype=bool)
    return np.array([float(text or "nan") if dtype.startswith("float") else int(text) for text in texts], dtype=dtype)
