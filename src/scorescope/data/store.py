"""Images on disk: a folder that is written once, checked whenever it is opened, and read through a memory map.

A store holds

- ``images.npy``: uint8 (N, C, H, W);
- ``labels.npy``: int64 (N,), if the images have classes;
- ``names.jsonl``: one JSON string a line, where each image came from, if the source names its images;
- ``store.json``: a `StoreRecord`: where the images came from, what was done to them, and the SHA-256 of the arrays.

The folder is complete or absent: `StoreWriter` streams into a temporary folder that is renamed at the end.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from scorescope.data.images import ImageSet, Pixels
from scorescope.foundation import UserError, new_folder, track

IMAGES, LABELS, NAMES, RECORD = "images.npy", "labels.npy", "names.jsonl", "store.json"
SCHEMA_VERSION: Literal[1] = 1
_HASH_BYTES = 1 << 24


class Skipped(pydantic.BaseModel):
    """An image of the source that is not in the store.

    Attributes:
        name: its name in the source.
        reason: what was wrong with it.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: str
    reason: str


class Provenance(pydantic.BaseModel):
    """Where images came from and what was done to them.

    Attributes:
        source: what was imported, or which built-in data set with which options.
        colour: ``grey`` (one channel) or ``colour`` (red, green, blue).
        size: side in pixels that every image was brought to, or None if they were stored as they were.
        resize: how they were brought to `size`, in words; empty if they were not.
        licence: under what terms the images may be used; empty if not known.
        classes: name of every class, at the index that labels use; empty if not known.
        notes: whatever else was done or assumed, in sentences.
        skipped: broken images that were left out.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    source: str
    colour: Literal["grey", "colour"]
    size: int | None = None
    resize: str = ""
    licence: str = ""
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()


class StoreRecord(pydantic.BaseModel):
    """What ``store.json`` holds.

    Attributes:
        schema_version: of this file.
        count: N, how many images.
        image_shape: (C, H, W).
        sha256: of the N·C·H·W bytes of the images in order, hex.
        labels_sha256: of the labels as little-endian int64, or None if there are no labels.
        has_names: whether there is a ``names.jsonl``.
        provenance: where the images came from.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    count: pydantic.PositiveInt
    image_shape: tuple[pydantic.PositiveInt, pydantic.PositiveInt, pydantic.PositiveInt]
    sha256: str = pydantic.Field(pattern="^[0-9a-f]{64}$")
    labels_sha256: str | None = pydantic.Field(default=None, pattern="^[0-9a-f]{64}$")
    has_names: bool = False
    provenance: Provenance


class ImageStore(ImageSet):
    """A stored set of images; open one with `ImageStore.open`.

    Attributes:
        path: the folder.
        record: its ``store.json``.
    """

    def __init__(
        self, path: Path, record: StoreRecord, pixels: Pixels, labels: npt.NDArray[np.integer] | None, name: str
    ) -> None:
        names = self.source_name if record.has_names else None
        super().__init__(pixels, labels, name=name, check=_Unchanged(path / IMAGES), names=names)
        self.path = path
        self.record = record

    @classmethod
    def open(cls, path: Path | str, name: str | None = None) -> ImageStore:
        """Map the store at `path`, after checks that cost no reading of images.

        Args:
            path: the folder.
            name: what reports call the images; the folder's name by default.

        Raises:
            UserError: no store there; ``store.json`` is not one or of another version; an array file is missing,
                truncated, resized, or of another shape than ``store.json`` says.
        """
        path = Path(path)
        record = _read_record(path)
        pixels = _map_array(path / IMAGES, np.dtype(np.uint8), (record.count, *record.image_shape))
        labels = _map_array(path / LABELS, np.dtype("<i8"), (record.count,)) if record.labels_sha256 else None
        if record.has_names and not (path / NAMES).is_file():
            raise _damaged(path / NAMES, "it is missing")
        return cls(path.resolve(), record, pixels, labels, name or path.resolve().name)

    def verify(self) -> None:
        """Read every byte and compare with the SHA-256 in ``store.json``. Raises UserError if anything changed."""
        blocks = range(0, self.pixels.nbytes, _HASH_BYTES)
        flat = self.pixels.reshape(-1)
        digest = hashlib.sha256()
        for start in track(blocks, "verifying images"):
            digest.update(flat[start : start + _HASH_BYTES].data)
        if digest.hexdigest() != self.record.sha256:
            raise _damaged(self.path / IMAGES, f"its SHA-256 is {digest.hexdigest()}, not {self.record.sha256}")
        if self.labels is not None:
            found = hashlib.sha256(np.ascontiguousarray(self.labels).data).hexdigest()
            if found != self.record.labels_sha256:
                raise _damaged(self.path / LABELS, f"its SHA-256 is {found}, not {self.record.labels_sha256}")
        if self.record.has_names and len(self._names) != self.record.count:
            raise _damaged(self.path / NAMES, f"it has {len(self._names)} lines, not {self.record.count}")

    def source_name(self, index: int) -> str:
        """Where stored image `index` came from: the file's name, or the source and the place in it."""
        if not 0 <= index < self.stored:
            raise IndexError(f"{self.name}: image {index} is outside 0 to {self.stored - 1}")
        if self.record.has_names and index < len(self._names):
            return self._names[index]
        return f"{self.record.provenance.source}[{index}]"

    def class_name(self, label: int) -> str:
        """The name of a class, or its number where names are not known."""
        classes = self.record.provenance.classes
        return classes[label] if 0 <= label < len(classes) else str(label)

    def __reduce__(self) -> tuple[Callable[[Path, str], ImageStore], tuple[Path, str]]:
        # Sent to another process as its path: the map is opened there, no image is copied.
        return ImageStore.open, (self.path, self.name)

    @functools.cached_property
    def _names(self) -> list[str]:
        with (self.path / NAMES).open(encoding="utf-8") as file:
            try:
                return [str(json.loads(line)) for line in file]
            except (ValueError, RecursionError) as error:
                raise _damaged(self.path / NAMES, "it is not one JSON string a line") from error


class _Unchanged:
    """Raises UserError once a mapped file was cut, written to or replaced; reading on would give wrong pixels or a crash."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = self._now()

    def __call__(self) -> None:
        if self._now() != self.state:
            raise UserError(
                f"{self.path} was changed while it was in use: run scorescope data verify {self.path.parent}, and start again"
            )

    def _now(self) -> tuple[int, int, int] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns


class StoreWriter:
    """Streams images into a store; made by `writing_store`, which finishes it.

    Args:
        folder: an empty folder to write into.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: BinaryIO = (folder / IMAGES).open("wb")
        self._names = (folder / NAMES).open("w", encoding="utf-8")
        self._digest = hashlib.sha256()
        self._labels: list[npt.NDArray[np.int64]] = []
        self._shape: tuple[int, int, int] | None = None
        self._named = 0
        self.count = 0
        self.provenance: Provenance | None = None

    def append(
        self,
        pixels: Pixels,
        labels: npt.NDArray[np.integer] | None = None,
        names: list[str] | None = None,
    ) -> None:
        """Write images to disk.

        Args:
            pixels: uint8 (n, C, H, W), the same (C, H, W) at every call.
            labels: int (n,); given at every call or at none.
            names: n source names; given at every call or at none.

        Raises:
            ValueError: another dtype or shape than before, or labels or names that do not fit.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4:
            raise ValueError(f"a store holds uint8 (N, C, H, W), given {pixels.dtype} {pixels.shape}")
        shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
        if self._shape is None:
            self._shape = shape
            self._images.write(_header(0, shape))
        if shape != self._shape:
            raise ValueError(f"the store's images are {self._shape}, given {shape}")
        for kind, given in (("labels", labels), ("names", names)):
            if given is not None and len(given) != len(pixels):
                raise ValueError(f"{len(pixels)} images are given with {len(given)} {kind}")
        block = np.ascontiguousarray(pixels)
        self._images.write(block.data)
        self._digest.update(block.data)
        if labels is not None:
            self._labels.append(np.asarray(labels, dtype=np.int64))
        for name in names or ():
            self._names.write(json.dumps(name) + "\n")
        self._named += len(names or ())
        self.count += len(pixels)

    def finish(self) -> None:
        """Complete the arrays and write ``store.json``. Raises ValueError without images or provenance."""
        if self._shape is None or self.count == 0 or self.provenance is None:
            raise ValueError("a store needs at least one image and its provenance")
        labels = np.concatenate(self._labels).astype("<i8") if self._labels else None
        if (labels is not None and len(labels) != self.count) or self._named not in (0, self.count):
            raise ValueError("labels and names are given for every image or for none")
        self._images.seek(0)
        self._images.write(_header(self.count, self._shape))
        for file in (self._images, self._names):
            file.flush()
            os.fsync(file.fileno())
        self.close()
        if self._named == 0:
            (self._folder / NAMES).unlink()
        if labels is not None:
            np.save(self._folder / LABELS, labels)
        record = StoreRecord(
            count=self.count,
            image_shape=self._shape,
            sha256=self._digest.hexdigest(),
            labels_sha256=None if labels is None else hashlib.sha256(labels.data).hexdigest(),
            has_names=self._named > 0,
            provenance=self.provenance,
        )
        (self._folder / RECORD).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def close(self) -> None:
        """Close the files, whatever was written."""
        self._images.close()
        self._names.close()


@contextlib.contextmanager
def writing_store(path: Path | str) -> Iterator[StoreWriter]:
    """A `StoreWriter` whose store appears at `path` when the block ends well; set its `provenance` within the block.

    Raises UserError if `path` exists, the disk is full or the place cannot be written; nothing is left then.
    """
    with new_folder(path) as folder:
        writer = StoreWriter(folder)
        try:
            yield writer
            writer.finish()
        finally:
            # After a full disk, closing flushes and fails again: the first error is the one to tell.
            with contextlib.suppress(OSError):
                writer.close()


BUILT_IN = "built-in "
"""How the source of a data set begins that comes with the package; its name says more of an image than all of it."""


def name_of(images: ImageSet, place: int) -> str:
    """Where image `place` of a set came from, as far as that is known, or its number."""
    row = place if images.indices is None else int(images.indices[place])
    if isinstance(images, ImageStore) and not images.record.provenance.source.startswith(BUILT_IN):
        return images.source_name(row)
    return f"{images.name}[{row}]" if images.names is None else images.names(row)


def is_store(path: Path | str) -> bool:
    """Whether `path` is a folder with a ``store.json``."""
    return (Path(path) / RECORD).is_file()


def _read_record(path: Path) -> StoreRecord:
    if not path.exists():
        raise UserError(f"there is no store at {path}: make one with `scorescope data import SOURCE --out {path}`")
    if not is_store(path):
        raise UserError(
            f"{path} is not a store (no {RECORD} in it): import it first, `scorescope data import {path} --out DIR`"
        )
    try:
        values: Any = json.loads((path / RECORD).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path / RECORD, "it is not JSON") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UserError(
            f"{path} was made by a newer scorescope (store version {version}, this one reads {SCHEMA_VERSION}): update"
        )
    try:
        return StoreRecord.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise _damaged(path / RECORD, f"{where}: {first['msg']}") from error


def _map_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Map a .npy file read-only after comparing its header and size with what ``store.json`` says."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            found_shape, fortran, found_dtype = read(file)
            offset = file.tell()
    except FileNotFoundError as error:
        raise _damaged(path, "it is missing") from error
    except ValueError as error:
        raise _damaged(path, "its header is not that of a .npy file") from error
    if found_shape != shape or found_dtype != dtype or fortran:
        raise _damaged(path, f"it holds {found_dtype} {found_shape}, {RECORD} says {dtype} {shape}")
    expected, size = offset + int(np.prod(shape)) * dtype.itemsize, path.stat().st_size
    if size != expected:
        change = "truncated" if size < expected else "longer than it was"
        raise _damaged(path, f"it is {change}: {size:,} bytes instead of {expected:,}")
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape))


def _header(count: int, shape: tuple[int, int, int]) -> bytes:
    """A .npy 1.0 header of 128 bytes whatever `count` is, so that it can be rewritten in place at the end."""
    fields = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    text = repr(fields).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("ascii")


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} is damaged: {what}; delete the store and import it again")
