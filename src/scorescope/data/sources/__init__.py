"""Where images can come from: one module a format, and `open_source`, which tells which one it is.

Every source is a `Source`: a number of images, any one of which can be decoded, with labels and names where it has them.
No source runs code from a file.
"""

from __future__ import annotations

from pathlib import Path

from scorescope.data.sources.arrays import ArraySource, open_npy, open_npz
from scorescope.data.sources.base import BrokenImageError, Source
from scorescope.data.sources.cifar import CifarSource, is_cifar_folder, open_cifar
from scorescope.data.sources.files import FolderSource, ZipSource, is_image_name
from scorescope.data.sources.hugging_face import HuggingFaceSource, is_hugging_face, open_hugging_face
from scorescope.data.sources.idx import idx_images_in, is_idx, open_idx
from scorescope.foundation import UserError

__all__ = [
    "ArraySource",
    "BrokenImageError",
    "CifarSource",
    "FolderSource",
    "HuggingFaceSource",
    "Source",
    "ZipSource",
    "open_source",
]

ACCEPTED = (
    "a folder or zip of images, .npy, .npz, IDX (MNIST, gzipped or not), CIFAR's binary version (.bin), "
    "a Hugging Face folder or hf:NAME"
)
_PICKLES = (".pkl", ".pickle", ".pt", ".pth")
_PACKED = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")


def open_source(text: str | Path, split: str = "train") -> Source:
    """Recognise a source of images by what is there and open it.

    Args:
        text: a path, or ``hf:NAME``.
        split: which split of a Hugging Face data set; other sources have none.

    Raises:
        UserError: nothing there, nothing known, no images, a damaged container, or one that could run code.
    """
    text = str(text)
    if is_hugging_face(text):
        return open_hugging_face(text, split)
    path = Path(text).expanduser()
    if not path.exists():
        raise UserError(f"there is nothing at {text}: a source is {ACCEPTED}")
    return _open_folder(path) if path.is_dir() else _open_file(path)


def _open_folder(path: Path) -> Source:
    if (path / "store.json").is_file():
        raise UserError(f"{path} is a store already and needs no import: pass it as --data {path}")
    if is_cifar_folder(path):
        return open_cifar(path)
    idx = idx_images_in(path)
    if len(idx) > 1:
        raise UserError(
            f"{path} holds {len(idx)} files of images: import one, {' or '.join(str(file) for file in idx)}"
        )
    if idx:
        return open_idx(idx[0])
    return FolderSource(path)


def _open_file(path: Path) -> Source:
    name = path.name.lower()
    if name.endswith(".zip"):
        return ZipSource(path)
    if name.endswith(".npz"):
        return open_npz(path)
    if name.endswith(".npy"):
        return open_npy(path)
    if is_idx(path):
        return open_idx(path)
    if name.endswith(".bin"):
        return open_cifar(path)
    if name.endswith(_PICKLES) or path.name.startswith("data_batch"):
        raise UserError(f"{path} is a pickle, which can run code when read, and is not opened: a source is {ACCEPTED}")
    if name.endswith(_PACKED):
        raise UserError(f"{path} is packed: unpack it first and import what was in it")
    if is_image_name(name):
        raise UserError(f"{path} is a single image: put the images in a folder and import the folder")
    raise UserError(f"{path} is of no known kind: a source is {ACCEPTED}")
