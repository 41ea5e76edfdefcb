"""The binary version of CIFAR-10 and CIFAR-100: records of label bytes and 3·32·32 pixels, channels first.

The other version that its authors offer is a Python pickle, which can run code when it is read: it is refused.
Source: A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scorescope.data.sources.base import Decoded, Source
from scorescope.data.sources.decoding import from_array
from scorescope.foundation import UserError

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_BINARY = "get the one called 'binary version' from https://www.cs.toronto.edu/~kriz/cifar.html"


class CifarSource(Source):
    """Images of one or several CIFAR binary files, in the order given.

    Args:
        where: path as given.
        files: files of one kind.
        label_bytes: 1 for CIFAR-10; 2 for CIFAR-100, whose second byte is the class that is kept.

    Raises:
        UserError: a file is empty or not made of whole records.
    """

    def __init__(self, where: str, files: list[Path], label_bytes: int) -> None:
        record = label_bytes + _PIXELS
        self._files = []
        for file in files:
            size = file.stat().st_size
            if size == 0 or size % record:
                raise UserError(
                    f"{file} has {size:,} bytes, not whole records of {record:,}: was its download cut short?"
                )
            self._files.append(np.asarray(np.memmap(file, dtype=np.uint8, mode="r").reshape(-1, record)))
        self._label_bytes = label_bytes
        self._starts = np.cumsum([0, *(len(rows) for rows in self._files)])
        labels = np.concatenate([rows[:, label_bytes - 1] for rows in self._files]).astype(np.int64)
        super().__init__(where, labels=labels, classes=_class_names(files[0].parent, label_bytes))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def decoded(self, index: int) -> Decoded:
        file = int(np.searchsorted(self._starts, index, side="right")) - 1
        pixels = self._files[file][index - self._starts[file], self._label_bytes :].reshape(_SHAPE)
        return Decoded(from_array(np.ascontiguousarray(pixels.transpose(1, 2, 0))))


def open_cifar(path: Path) -> CifarSource:
    """A ``.bin`` file, or a folder's training images (``data_batch_*.bin``, or CIFAR-100's ``train.bin``).

    Raises UserError if the files are of the Python version or cut.
    """
    if path.is_file():
        return CifarSource(str(path), [path], _label_bytes(path))
    batches = sorted(path.glob("data_batch_*.bin")) or [path / "train.bin"]
    return CifarSource(str(path), batches, _label_bytes(batches[0]))


def is_cifar_folder(path: Path) -> bool:
    """Whether a folder is of the binary version. Raises UserError if it is of the Python (pickle) version."""
    if any(path.glob("data_batch_*.bin")) or (path / "train.bin").is_file():
        return True
    if (path / "data_batch_1").is_file() or (path / "batches.meta").is_file():
        raise UserError(f"{path} is CIFAR's Python version, pickles that can run code when read: {_BINARY}")
    return False


def _label_bytes(file: Path) -> int:
    """1 or 2, from the file's size: no file is whole records of both kinds unless it has millions of them."""
    size = file.stat().st_size
    return 2 if size % (1 + _PIXELS) and size % (2 + _PIXELS) == 0 else 1


def _class_names(folder: Path, label_bytes: int) -> tuple[str, ...]:
    file = folder / ("batches.meta.txt" if label_bytes == 1 else "fine_label_names.txt")
    return tuple(file.read_text(encoding="utf-8").split()) if file.is_file() else ()
