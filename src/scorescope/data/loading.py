"""Images by what a person writes after ``--data``: a store's folder, or the name of a built-in data set.

``load_images("digits")``, ``load_images("c-alpha:alpha=3,n=1000")`` or ``load_images("c-alpha", alpha=3, n=1000)``. A
built-in data set is made on first use as two stores in a cache folder and opened from there ever after; the cache is
keyed by its options. The folder is ``$SCORESCOPE_CACHE``, or ``~/.cache/scorescope``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from scorescope.data.builtin import BLOCK, BuiltinDataset, DrawnOptions, Options, Stream, builtin_datasets
from scorescope.data.images import ImageSet
from scorescope.data.store import ImageStore, Provenance, is_store, writing_store
from scorescope.foundation import UserError, new_folder, track
from scorescope.foundation.files import user_path
from scorescope.foundation.names import unknown_name

CACHE_VARIABLE = "SCORESCOPE_CACHE"
_TRAIN, _TEST = "train", "test"
_NOT_WRITABLE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


class DataSplit(NamedTuple):
    """Images to train on, and images that were kept from them.

    Attributes:
        train: training images; everything, for a store that the user made.
        test: test images, or None if there are none.
    """

    train: ImageSet
    test: ImageSet | None


class BuiltinRequest(NamedTuple):
    """A built-in data set and checked options.

    Attributes:
        name: in `builtin_datasets`.
        options: of the entry's own model.
    """

    name: str
    options: Options

    @property
    def said(self) -> str:
        """The request as ``--data`` takes it, with every option that is not the default."""
        changed = self.options.model_dump(mode="json", exclude_defaults=True)
        return self.name + (":" + ",".join(f"{key}={value}" for key, value in changed.items()) if changed else "")


def load_images(data: str | Path, *, cache: Path | None = None, **options: Any) -> DataSplit:
    """Open the images that `data` names.

    Args:
        data: a store's folder; a folder with stores ``train`` and, maybe, ``test``; or a built-in name, with options
            after a colon (``natural-patches:size=40,color=true``). A name wins over a folder of the same name: write
            ``./digits`` for the folder.
        cache: where built-in data sets are kept; see `cache_folder`.
        options: of a built-in data set; they add to those in `data`.

    Raises:
        UserError: no such name (the nearest is said) and no folder there; images that need an import first; an unknown
            or bad option; a damaged store; what the data set needs is missing; the cache cannot be written.
    """
    request = parse_builtin(data, **options)
    if request is not None:
        return _load_builtin(request, cache or cache_folder())
    if options:
        raise UserError(f"{data} is a path, which has no options: {', '.join(options)} given")
    path = user_path(data)
    if not path.exists():
        unknown = unknown_name("data set", str(data).partition(":")[0], list(builtin_datasets))
        raise UserError(f"{unknown}; and there is no store at {data}")
    if is_store(path):
        return DataSplit(ImageStore.open(path), None)
    if is_store(path / _TRAIN):
        test = ImageStore.open(path / _TEST, f"{path.name} test") if is_store(path / _TEST) else None
        return DataSplit(ImageStore.open(path / _TRAIN, path.name), test)
    raise UserError(
        f"{path} is not a store: import it first, `scorescope data import {path} --out DIR`, then --data DIR"
    )


def parse_builtin(data: str | Path, **options: Any) -> BuiltinRequest | None:
    """The built-in data set that `data` names, or None if it names none.

    Raises UserError for an option that the data set has not, or a value that it refuses.
    """
    name, _, text = str(data).partition(":")
    if name not in builtin_datasets:
        return None
    entry = builtin_datasets[name]
    known = ", ".join(entry.options.model_fields) or "none"
    given: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise UserError(f"{data}: {part!r} is not of the form option=value; options of {name}: {known}")
        given[key.strip()] = value.strip()
    given |= options
    try:
        return BuiltinRequest(name, entry.options.model_validate(given))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise UserError(f"{name} has no option {key!r}; its options: {known}") from error
        raise UserError(f"{name}: option {key}={first['input']!r}: {first['msg']}; its options: {known}") from error


def cache_folder() -> Path:
    """Where built-in data sets are kept: ``$SCORESCOPE_CACHE``, or ``~/.cache/scorescope``."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "scorescope"


def _load_builtin(request: BuiltinRequest, cache: Path) -> DataSplit:
    entry = builtin_datasets[request.name]
    key = f"{entry.revision} {request.options.model_dump_json()}"
    folder = cache / "datasets" / f"{request.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not folder.exists():
        _make(request, entry, folder)
    try:
        train = ImageStore.open(folder / _TRAIN, request.name)
        return DataSplit(train, ImageStore.open(folder / _TEST, f"{request.name} test"))
    except UserError as error:
        seen = str(error).partition(";")[0]
        raise UserError(
            f"the cached {request.name} cannot be used: {seen}; delete {folder} to have it made again"
        ) from error


def _make(request: BuiltinRequest, entry: BuiltinDataset[Any], folder: Path) -> None:
    """Make both stores and put them at `folder` at once; another process that was faster is no error."""
    _check_room(request, folder)
    parts = dict(zip((_TRAIN, _TEST), entry.make(request.options), strict=True))
    try:
        with new_folder(folder) as unfinished:
            for part, stream in parts.items():
                _write(request, entry, stream, unfinished / part)
    except (OSError, UserError) as error:
        if folder.exists():
            return
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NOT_WRITABLE:
            raise UserError(f"{folder.parent} cannot be written: set {CACHE_VARIABLE} to a folder that can") from error
        raise


def _check_room(request: BuiltinRequest, folder: Path) -> None:
    """Raise UserError if images that are to be drawn would not fit onto the disk: finding out by drawing takes long."""
    options = request.options
    if not isinstance(options, DrawnOptions):
        return
    needed = (options.n + options.test_n) * options.size**2
    place = next(parent for parent in folder.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"{request.said} takes {needed:,} bytes and {place} has {free:,} left: ask for fewer images, or set"
            f" {CACHE_VARIABLE} to a folder with more room"
        )


def _write(request: BuiltinRequest, entry: BuiltinDataset[Any], stream: Stream, path: Path) -> None:
    with writing_store(path) as writer:
        total = -(-stream.length // BLOCK)
        channels = 1
        for block in track(stream.blocks, f"making {request.name} ({path.name})", total=total):
            writer.append(block.pixels, block.labels)
            channels = block.pixels.shape[1]
        writer.provenance = Provenance(
            source=f"built-in {request.said}, {path.name}; {entry.source}",
            colour="grey" if channels == 1 else "colour",
            licence=entry.licence,
            classes=entry.classes,
        )
