"""Files and folders that are either complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from scorescope.foundation.errors import UserError

T = TypeVar("T")


@contextlib.contextmanager
def new_file(path: Path | str, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, rename it to `path`, else delete it.

    Args:
        path: of the file.
        replace: whether a file that is there is replaced; else it stays as it is, even one that appeared meanwhile.

    Raises:
        UserError: something is at `path` that must stay; the disk is full; the folder cannot be written.
    """
    path = Path(path)
    if not replace and os.path.lexists(path):
        raise UserError(f"{path} already exists: choose another name, or delete it first")
    with _clear_disk_errors(path):
        handle, name = _made_beside(path, tempfile.mkstemp)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            if replace:
                temporary.replace(path)
            else:
                _move_to_free(temporary, path)
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
        temporary = Path(_made_beside(path, tempfile.mkdtemp))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _made_beside(path: Path, make: Callable[..., T]) -> T:
    """What `make` of `tempfile` gives for a temporary name beside `path`, whose folder is made if it is not there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return make(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except FileNotFoundError as error:  # /proc is there, and says of what is to be made in it that it is not
        said = f"{path} cannot be written ({error.strerror}): choose another place with --out"
        raise UserError(said) from error


def check_writable(path: Path | str, *, replace: bool = False) -> None:
    """Find out before long work, without leaving a trace, whether a file can be written at `path`.

    Raises UserError if a folder or a device is there, a file is there and `replace` is not set, or no file can be made there.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder: name a file to write, such as {path / 'samples.png'}")
        if os.path.lexists(path) and not (path.is_file() or path.is_symlink()):
            raise UserError(f"{path} is not a file: name a new one")
        if os.path.lexists(path) and not replace:
            raise UserError(f"{path} already exists: choose another name, or pass --force to replace it")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
    except OSError as error:
        raise UserError(f"{_shortened(path)} cannot be written ({error.strerror}): choose another place") from error
    if not folder.is_dir():
        raise UserError(f"{path} cannot be written: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written ({os.strerror(errno.EACCES)}): choose another place with --out")


def user_path(text: Path | str) -> Path:
    """A path as a person writes it, with ``~`` for a home folder.

    Raises UserError if it is empty, there is no such person, or the system takes no such path.
    """
    if not str(text):
        raise UserError("a name is empty: say which file or folder is meant")
    try:
        path = Path(text).expanduser()
        path.exists()
    except (RuntimeError, OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{_shortened(Path(text))} is no path that can be used: {said}") from error
    return path


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
        if isinstance(error, OSError) and error.errno in (
            errno.EACCES,
            errno.EROFS,
            errno.EPERM,
            errno.ENOTDIR,
            errno.ENOTEMPTY,
            errno.ENAMETOOLONG,
            errno.EEXIST,
            errno.EISDIR,
            errno.ELOOP,
        ):
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


def _move_to_free(temporary: Path, path: Path) -> None:
    """Give a finished file its name, unless something has that name by now."""
    try:
        os.link(temporary, path)  # unlike a renaming, fails where something is
    except FileExistsError as error:
        raise UserError(f"{path} appeared meanwhile and is left as it is: choose another name") from error
    except OSError as error:
        if os.path.lexists(path):  # a file system without links
            raise UserError(f"{path} appeared meanwhile and is left as it is: choose another name") from error
        temporary.replace(path)


def _shortened(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that more memory was asked for than there is, in Python, NumPy or PyTorch, on any device."""
    words = ("can't allocate memory", "not enough memory", "out of memory", "Unable to allocate")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(said in str(error) for said in words)
    )


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
