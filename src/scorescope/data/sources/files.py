"""A folder or a zip of image files: nested class folders become labels, EDM's ``dataset.json`` is honoured.

Files are taken in the natural order of their names; `file_names` says what else the names mean.
"""

from __future__ import annotations

import os
import stat
import zipfile
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from scorescope.data.sources.base import BrokenImageError, Decoded, Source
from scorescope.data.sources.decoding import IMAGE_SUFFIXES, decode
from scorescope.data.sources.file_names import (
    EDM_LABELS,
    classes_from_folders,
    edm_classes,
    edm_file,
    in_order,
    of_split,
)
from scorescope.foundation import UserError

LARGEST_FILE = 1 << 29  # bytes of one image; what claims more would be read into memory whole


class FilesSource(Source):
    """Image files by name, wherever they lie; subclasses say how to read one.

    Args:
        where: path as given.
        members: all file names, with forward slashes, relative to the top.
        read: gives the bytes of a member; raises UserError.
        split: which of folders such as ``train`` and ``test`` to take, where there are both.
        white: the value that is white in grey images of more than 8 bits.
        notes: what was left aside before.

    Raises:
        UserError: no image among `members`, or none of that split, or a ``dataset.json`` that does not fit them.
    """

    def __init__(
        self,
        where: str,
        members: Sequence[str],
        read: Callable[[str], bytes],
        *,
        split: str = "train",
        white: float | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        found = [name for name in members if is_image_name(name)]
        if not found:
            kinds = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
            raise UserError(f"there are no images in {where}: looked for {kinds} among {len(members)} files")
        kept, of_splits = of_split(where, found, split)
        names, order = in_order(kept)
        labels_file = edm_file(where, [name for name in members if PurePosixPath(name).name == EDM_LABELS])
        if labels_file is None:
            classes = classes_from_folders(names)
        else:
            classes = edm_classes(where, names, labels_file, read(labels_file))
        others = len(members) - len(found) - (labels_file is not None)
        aside = f"{others} files that are not images were left aside" if others else ""
        said = [note for note in (of_splits, order, classes.note, aside) if note]
        super().__init__(where, labels=classes.labels, names=names, classes=classes.names, notes=[*notes, *said])
        self._files = names
        self._white = white

    def __len__(self) -> int:
        return len(self._files)

    def decoded(self, index: int) -> Decoded:
        return decode(self._read(self._files[index]), self._white)

    @abstractmethod
    def _read(self, name: str) -> bytes:
        """The bytes of a member. Raises BrokenImageError."""


class FolderSource(FilesSource):
    """Images in a folder and the folders below it; a file that several links lead to counts once.

    Raises UserError if there are none, or a folder cannot be read.
    """

    def __init__(self, path: Path, split: str = "train", white: float | None = None) -> None:
        self._top = path
        members, repeated = _files_below(path)
        notes = [f"{repeated} links to files that are there under another name were left aside"] if repeated else []

        def read(name: str) -> bytes:
            try:
                return (path / name).read_bytes()
            except OSError as error:
                raise UserError(f"{path / name} cannot be read ({error.strerror})") from error

        super().__init__(str(path), members, read, split=split, white=white, notes=notes)

    def _read(self, name: str) -> bytes:
        try:
            with (self._top / name).open("rb") as file:
                _check_size(os.fstat(file.fileno()).st_size)
                return file.read()
        except OSError as error:
            raise BrokenImageError(f"cannot be read ({error.strerror})") from error


class ZipSource(FilesSource):
    """Images in a zip. Raises UserError if it is not a zip, is cut, or holds no images."""

    def __init__(self, path: Path, split: str = "train", white: float | None = None) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except Exception as error:  # a damaged directory is met with more than BadZipFile
            raise UserError(f"{path} is not a readable zip ({error}): was its download cut short?") from error
        try:
            # Some programs for Windows write back slashes, against the format.
            entries = [(info.filename.replace("\\", "/"), info) for info in self._zip.infolist()]
            self._entries = {name: info for name, info in entries if _is_wanted(name)}
            repeated = sum(_is_wanted(name) for name, _ in entries) - len(self._entries)
            notes = [f"{repeated} files that a later one of the same name replaces were left aside"] if repeated else []

            def read(name: str) -> bytes:
                try:
                    return self._read(name)
                except BrokenImageError as error:
                    raise UserError(f"{path}: {name} in it is {error}") from error

            super().__init__(str(path), list(self._entries), read, split=split, white=white, notes=notes)
        except BaseException:
            self._zip.close()
            raise
        self.hold(self._zip)

    def _read(self, name: str) -> bytes:
        info = self._entries[name]
        _check_size(info.file_size)
        try:
            return self._zip.read(info)
        except RuntimeError as error:  # zipfile's way to say that a password is needed
            raise BrokenImageError(f"cannot be unpacked: {error}") from error
        except Exception as error:  # each decompressor has errors of its own
            raise BrokenImageError(f"damaged in the zip: {error}") from error


def is_image_name(name: str) -> bool:
    """Whether a file's name ends as images' names do."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _files_below(top: Path) -> tuple[list[str], int]:
    """Names of all regular files, relative to the top, and how many more names there are for the same files."""
    named: dict[tuple[int, int], str] = {}
    members, seen = [], set()
    repeated = 0

    def refuse(error: OSError) -> None:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}): import what can, or change its permissions"
        )

    for folder, below, files in os.walk(top, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        below[:] = sorted(name for name in below if not name.startswith(".")) if real not in seen else []
        if real in seen:  # a link that leads back up
            continue
        seen.add(real)
        inside = Path(folder).relative_to(top)
        for name in sorted(files):
            if name.startswith("."):
                continue
            member = (inside / name).as_posix()
            try:
                status = os.stat(os.path.join(folder, name))
            except OSError:  # a link that leads nowhere: a broken image, if its name is one's
                members.append(member)
                continue
            if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
                continue
            place = (status.st_dev, status.st_ino)
            if place not in named:
                named[place] = member
                continue
            repeated += 1
            if os.path.islink(top / named[place]) and not os.path.islink(os.path.join(folder, name)):
                named[place] = member  # the file itself rather than a link to it
    return [*members, *named.values()], repeated


def _check_size(size: int) -> None:
    if size > LARGEST_FILE:
        raise BrokenImageError(f"it is {size:,} bytes, more than the {LARGEST_FILE:,} that one image may have")


def _is_wanted(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not name.endswith("/") and "__MACOSX" not in parts and not any(part.startswith(".") for part in parts)
