"""Files and folders that are either complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scorescope.foundation.errors import UserError


@contextlib.contextmanager
def new_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, rename it to `path`, else delete it.

    An existing file at `path` is replaced. Raises UserError if the disk is full or the folder cannot be written.
    """
    path = Path(path)
    with _clear_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; when the block ends well, rename it to `path`, else delete it.

    Raises UserError if `path` exists, the disk is full or the parent cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path} already exists: choose another folder, or delete it first")
    with _clear_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically. Raises UserError if the disk is full."""
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically. Raises UserError if the disk is full."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def _clear_disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if is_out_of_space(error):
            raise UserError(
                f"the disk is full: {path} was not written; free some space and run the same command again"
            ) from error
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR):
            raise UserError(f"{path} cannot be written ({error.strerror}): choose another place with --out") from error
        raise


def is_out_of_space(error: BaseException) -> bool:
    """Whether an error says that the disk, or the user's share of it, is full.

    Libraries wrap the system's error in their own (safetensors, `shutil.Error`), or say only that less was written than
    asked for (NumPy), and then words are all that is left.
    """
    full = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError) and error.errno in full:
        return True
    said = str(error)
    return (
        any(os.strerror(code) in said for code in full) or re.search(r"\d+ requested and \d+ written", said) is not None
    )


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
