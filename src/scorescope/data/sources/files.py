"""A folder or a zip of image files: nested class folders become labels, EDM's ``dataset.json`` is honoured.

Files are taken in the order of their names. If every image lies in a folder, and there are several folders, each
folder is a class, named by its path below what all of them share. A ``dataset.json`` at the top, as EDM and StyleGAN
write it (``{"labels": [[file, class], ...]}``, or ``null`` for none), says the classes instead.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from scorescope.data.sources.base import BrokenImageError, Labels, Source
from scorescope.data.sources.decoding import IMAGE_SUFFIXES, decode
from scorescope.foundation import UserError

EDM_LABELS = "dataset.json"


class FilesSource(Source):
    """Image files by name, wherever they lie; subclasses say how to read one.

    Args:
        where: path as given.
        members: all file names, with forward slashes, relative to the top.
        labels_json: text of ``dataset.json``, or None if there is none.

    Raises:
        UserError: no image among `members`, or a ``dataset.json`` that does not fit them.
    """

    def __init__(self, where: str, members: Sequence[str], labels_json: str | bytes | None) -> None:
        names = sorted(name for name in members if is_image_name(name))
        if not names:
            kinds = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
            raise UserError(f"there are no images in {where}: looked for {kinds} among {len(members)} files")
        if labels_json is None:
            labels, classes = labels_from_folders(names)
        else:
            labels, classes = _edm_labels(where, names, labels_json), ()
        others = len(members) - len(names) - (labels_json is not None)
        notes = (f"{others} files that are not images were left aside",) if others else ()
        super().__init__(where, labels=labels, names=names, classes=classes, notes=notes)
        self._files = names

    def __len__(self) -> int:
        return len(self._files)

    def load(self, index: int) -> Image.Image:
        return decode(self._read(self._files[index]))

    @abstractmethod
    def _read(self, name: str) -> bytes:
        """The bytes of a member. Raises BrokenImageError."""


class FolderSource(FilesSource):
    """Images in a folder and the folders below it. Raises UserError if there are none."""

    def __init__(self, path: Path) -> None:
        self._top = path
        members = []
        seen: set[str] = set()
        for folder, below, files in os.walk(path, followlinks=True):
            real = os.path.realpath(folder)
            below[:] = [name for name in below if not name.startswith(".")] if real not in seen else []
            if real in seen:  # a link that leads back up
                continue
            seen.add(real)
            inside = Path(folder).relative_to(path)
            members += [(inside / name).as_posix() for name in files if not name.startswith(".")]
        labels_file = path / EDM_LABELS
        super().__init__(str(path), members, labels_file.read_bytes() if labels_file.is_file() else None)

    def _read(self, name: str) -> bytes:
        try:
            return (self._top / name).read_bytes()
        except OSError as error:
            raise BrokenImageError(f"cannot be read ({error.strerror})") from error


class ZipSource(FilesSource):
    """Images in a zip. Raises UserError if it is not a zip, is cut, or holds no images."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{path} is not a readable zip ({error}): was its download cut short?") from error
        try:
            members = [name for name in self._zip.namelist() if _is_wanted(name)]
            labels_json = self._zip.read(EDM_LABELS) if EDM_LABELS in members else None
            super().__init__(str(path), members, labels_json)
        except (zipfile.BadZipFile, zlib.error) as error:
            self._zip.close()
            raise UserError(f"{path}: {EDM_LABELS} in it is damaged ({error})") from error
        except BaseException:
            self._zip.close()
            raise
        self.hold(self._zip)

    def _read(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError) as error:
            raise BrokenImageError(f"damaged in the zip: {error}") from error
        except RuntimeError as error:  # zipfile's way to say that a password is needed
            raise BrokenImageError(f"cannot be unpacked: {error}") from error


def is_image_name(name: str) -> bool:
    """Whether a file's name ends as images' names do."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def labels_from_folders(names: Sequence[str]) -> tuple[Labels | None, tuple[str, ...]]:
    """Classes from the folders that files lie in: (labels (N,), class names), or (None, ()) where folders say nothing."""
    folders = [PurePosixPath(name).parent.parts for name in names]
    distinct = sorted(set(folders))
    shared = 0
    while len({folder[: shared + 1] for folder in distinct}) == 1 and all(len(folder) > shared for folder in distinct):
        shared += 1
    if len(distinct) < 2 or any(len(folder) == shared for folder in distinct):
        return None, ()
    number = {folder: index for index, folder in enumerate(distinct)}
    labels = np.array([number[folder] for folder in folders], dtype=np.int64)
    return labels, tuple("/".join(folder[shared:]) for folder in distinct)


def _is_wanted(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not name.endswith("/") and "__MACOSX" not in parts and not any(part.startswith(".") for part in parts)


def _edm_labels(where: str, names: Sequence[str], text: str | bytes) -> Labels | None:
    """Labels of EDM's ``dataset.json``. Raises UserError if it is not of that form or leaves an image out."""
    try:
        held: Any = json.loads(text)
        pairs = held["labels"]
        if pairs is None:
            return None
        classes = {str(name): int(label) for name, label in pairs}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f'{where}: {EDM_LABELS} is not of the form {{"labels": [["name", class], ...]}} with whole numbers: '
            "mend it, or take it out to have classes from folders"
        ) from error
    missing = [name for name in names if name not in classes]
    if missing:
        raise UserError(
            f"{where}: {EDM_LABELS} has no label for {len(missing)} of {len(names)} images, as {missing[0]}"
        )
    return np.array([classes[name] for name in names], dtype=np.int64)
