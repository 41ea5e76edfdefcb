"""CIFAR-10 and CIFAR-100 as their authors offer them: the binary version, the Python version, and the archives of either.

The binary version is records of label bytes and 3·32·32 pixels, channels first. The Python version is pickles, which are
read as inert records: nothing in them is run. Source: A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from scorescope.data.images import Pixels
from scorescope.data.sources.base import Decoded, Labels, Source
from scorescope.data.sources.decoding import from_array
from scorescope.foundation import UserError

if TYPE_CHECKING:
    from scorescope.foundation.inert.restricted_unpickler import Call

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_LARGEST_MEMBER = 1 << 28
_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_PYTHON = (*_BATCHES, "test_batch", "batches.meta", "train", "test", "meta")
_BINARY = (
    *(f"{name}.bin" for name in (*_BATCHES, "test_batch", "train", "test")),
    "batches.meta.txt",
    "fine_label_names.txt",
)
_NUMPY = frozenset(
    f"numpy.{core}multiarray.{name}" for core in ("core.", "_core.") for name in ("_reconstruct", "scalar")
) | {"numpy.ndarray", "numpy.dtype", "_codecs.encode"}


class CifarSource(Source):
    """Images of 32×32 pixels in colour.

    Args:
        where: path as given.
        parts: uint8 (n, 3·32·32) each, channels first, in order.
        labels: int64 of all of them.
        classes: their names.
    """

    def __init__(self, where: str, parts: Sequence[Pixels], labels: Labels, classes: tuple[str, ...]) -> None:
        self._parts = list(parts)
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        super().__init__(where, labels=labels, classes=classes)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def decoded(self, index: int) -> Decoded:
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        pixels = self._parts[part][index - self._starts[part]].reshape(_SHAPE)
        return Decoded(from_array(np.ascontiguousarray(pixels.transpose(1, 2, 0))))


def open_cifar(path: Path, where: str | None = None) -> CifarSource:
    """One file of either version, or a folder's training images, five batches or CIFAR-100's one file.

    Raises UserError if a file is cut, damaged or of another form.
    """
    where = where or str(path)
    if path.is_file():
        return _opened(where, [path])
    binary = sorted(path.glob("data_batch_*.bin")) or [path / "train.bin"]
    if binary[0].is_file():
        return _opened(where, binary)
    return _opened(where, [file for name in _BATCHES if (file := path / name).is_file()] or [path / "train"])


def is_cifar_folder(path: Path) -> bool:
    """Whether a folder is of the binary or of the Python version."""
    binary = any(path.glob("data_batch_*.bin")) or (path / "train.bin").is_file()
    python = any((path / name).is_file() for name in _BATCHES) or (
        (path / "train").is_file() and (path / "meta").is_file()
    )
    return binary or python


def is_cifar_file(path: Path) -> bool:
    """Whether a file has a name that the authors give, and begins as a pickle does where it should be one."""
    if path.suffix == ".bin":
        return True
    if path.name not in _PYTHON:
        return False
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def open_cifar_archive(path: Path) -> CifarSource:
    """``cifar-10-python.tar.gz`` and its like, unpacked to a temporary folder.

    Raises UserError if it is cut, or holds other things.
    """
    folder = tempfile.TemporaryDirectory(prefix="scorescope-")
    try:
        top = Path(folder.name)
        with tarfile.open(path) as packed:
            for member in packed:
                name = PurePosixPath(member.name).name
                if member.isfile() and name in (*_PYTHON, *_BINARY) and member.size <= _LARGEST_MEMBER:
                    content = packed.extractfile(member)
                    assert content is not None  # it is a file
                    (top / name).write_bytes(content.read())
        if not is_cifar_folder(top):
            raise UserError(f"{path} is packed and not CIFAR: unpack it first and import what was in it")
        source = open_cifar(top, str(path))
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        folder.cleanup()
        raise UserError(f"{path} cannot be unpacked ({error}): was its download cut short?") from error
    except BaseException:
        folder.cleanup()
        raise
    source.hold(folder)
    return source


def _opened(where: str, files: Sequence[Path]) -> CifarSource:
    read = [_binary(file) if file.suffix == ".bin" else _python(file) for file in files]
    labels = np.concatenate([labels for _, labels in read])
    return CifarSource(where, [pixels for pixels, _ in read], labels, _class_names(files[0]))


def _binary(file: Path) -> tuple[Pixels, Labels]:
    size = file.stat().st_size
    # CIFAR-100 has two labels a record; no file is whole records of both kinds unless it has millions of them.
    label_bytes = 2 if size % (1 + _PIXELS) and size % (2 + _PIXELS) == 0 else 1
    record = label_bytes + _PIXELS
    if size == 0 or size % record:
        raise UserError(f"{file} has {size:,} bytes, not whole records of {record:,}: was its download cut short?")
    rows = np.asarray(np.memmap(file, dtype=np.uint8, mode="r").reshape(-1, record))
    return rows[:, label_bytes:], rows[:, label_bytes - 1].astype(np.int64)


def _python(file: Path) -> tuple[Pixels, Labels]:
    entries = _entries(file)
    labels = entries.get("labels", entries.get("fine_labels"))
    pixels = _array(entries.get("data"))
    if pixels is None or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise UserError(f"{file} is not a batch of CIFAR: it has no array 'data' of uint8 (N, {_PIXELS:,})")
    whole = isinstance(labels, list) and all(isinstance(label, int) and 0 <= label < 1000 for label in labels)
    if not whole or len(labels or ()) != len(pixels):
        raise UserError(f"{file} is not a batch of CIFAR: its labels are not {len(pixels)} classes")
    return pixels, np.array(labels, dtype=np.int64)


def _entries(file: Path) -> dict[Any, Any]:
    """What a pickle of the Python version holds, by name."""
    from scorescope.foundation.inert.file_view import viewed
    from scorescope.foundation.inert.restricted_unpickler import Budget, entries_of, read_pickle

    try:
        entries = entries_of(read_pickle(viewed(file), 0, _NUMPY, Budget()).value)
    except UserError as error:
        raise UserError(f"{file} was not read: {error}") from error
    if entries is None:
        raise UserError(f"{file} is not a batch of CIFAR: it holds no dictionary")
    return {_text(name): value for name, value in entries.items()}


def _array(record: Any) -> Pixels | None:
    """A uint8 array from the record of one, a view of the file; None if the record is none."""
    from scorescope.foundation.inert.restricted_unpickler import Call

    if not isinstance(record, Call) or record.function.name != "_reconstruct" or not isinstance(record.state, tuple):
        return None
    if len(record.state) != 5:
        return None
    _, shape, kind, fortran, content = record.state
    if isinstance(content, Call):
        content = _encoded(content)
    is_bytes = isinstance(kind, Call) and kind.arguments[:1] and _text(kind.arguments[0]) in ("u1", "|u1", "uint8")
    if not is_bytes or fortran or not isinstance(shape, tuple) or not isinstance(content, memoryview | bytes):
        return None
    if not all(isinstance(side, int) and side > 0 for side in shape) or int(np.prod(shape)) != len(content):
        return None
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _encoded(call: Call) -> bytes | None:
    """Bytes that Python 3 wrote for Python 2, as text that is to be encoded."""
    if call.function.name != "encode" or not call.arguments or not isinstance(call.arguments[0], str):
        return None
    return call.arguments[0].encode("latin-1", "replace")


def _text(value: Any) -> Any:
    return bytes(value).decode("latin-1") if isinstance(value, memoryview | bytes) else value


def _class_names(file: Path) -> tuple[str, ...]:
    names = file.parent / ("batches.meta.txt" if "batch" in file.name else "fine_label_names.txt")
    if names.is_file():
        return tuple(names.read_text(encoding="utf-8", errors="replace").split())
    meta = file.parent / ("batches.meta" if "batch" in file.name else "meta")
    if file.suffix == ".bin" or not meta.is_file():
        return ()
    entries = _entries(meta)
    listed = entries.get("label_names", entries.get("fine_label_names"))
    return tuple(str(_text(name)) for name in listed) if isinstance(listed, list) else ()
