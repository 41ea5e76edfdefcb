"""The two file formats of ``torch.save``, opened without PyTorch's own reader.

Since 2020 an archive is a zip whose records are stored as they are: ``NAME/data.pkl`` describes, ``NAME/data/KEY`` holds
the bytes of one storage. Before, and still inside EDM's pickles, it was five pickles in a row (magic number, protocol,
machine, value, keys) followed by every storage as a count and its bytes. Both are read through the restricted unpickler.

``torch.load(weights_only=True)`` makes the same promise, and the tests compare with it number by number. It is not used
because the promise was broken in releases that we run on (CVE-2025-32434, up to PyTorch 2.5.1), because it reserves what
a file claims to need, and because one reader for every pickle can be tested harder than three.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from scorescope.foundation import UserError
from scorescope.foundation.inert.restricted_unpickler import (
    Budget,
    Known,
    Persistent,
    Pickle,
    read_pickle,
)
from scorescope.foundation.inert.stored_tensor import STORAGES, Storage
from scorescope.foundation.inert.zip_directory import ZIP_MAGIC, ZipRecord, read_directory

LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
LEGACY_PROTOCOL = 1001


@dataclass(frozen=True)
class Archive:
    """What ``torch.save`` wrote.

    Attributes:
        value: the object, as records.
        storage_of: finds the storage of a `Persistent` record; raises UserError if there is none.
    """

    value: Any
    storage_of: Callable[[Any], Storage]


def is_archive(data: memoryview) -> bool:
    """Whether a file begins like one of the two formats."""
    return data[: len(LEGACY_MAGIC)] == LEGACY_MAGIC or data[: len(ZIP_MAGIC)] == ZIP_MAGIC


def read_archive(data: memoryview, known: frozenset[str] | None, budget: Budget) -> Archive:
    """Open an archive of either format.

    Args:
        data: the whole archive.
        known: the only names that may occur in its pickles; None for any that are not forbidden.
        budget: instructions that may be executed.

    Raises:
        UserError: it is neither format, damaged, compressed, or asks for a name that is not known.
    """
    if data[: len(ZIP_MAGIC)] == ZIP_MAGIC:
        return _read_zip(data, known, budget)
    if data[: len(LEGACY_MAGIC)] == LEGACY_MAGIC:
        return _read_legacy(data, known, budget)
    raise UserError("it is not a file of torch.save (wrong first bytes): copy or download it again")


def _read_zip(data: memoryview, known: frozenset[str] | None, budget: Budget) -> Archive:
    records = read_directory(data, budget)
    pickles = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise UserError(
            "it is a zip file but not one of torch.save (it has no NAME/data.pkl): give the file that torch.save wrote"
        )
    folder = pickles[0].removesuffix("data.pkl")
    order = records.get(folder + "byteorder")
    if order is not None and bytes(checked(data, order)) != b"little":
        raise UserError("it was written on a big-endian machine: load it there and save it with safetensors")
    pickle = read_pickle(checked(data, records[pickles[0]]), 0, known, budget)
    sound: dict[str, memoryview] = {}

    def storage_of(reference: Any) -> Storage:
        dtype, key, count = _reference(reference)
        record = records.get(f"{folder}data/{key}")
        if record is None or record.size != count * dtype.itemsize:
            raise UserError("a tensor's bytes are missing or of another length: copy or download it again")

        def content() -> memoryview:
            if key not in sound:
                sound[key] = checked(data, record)
            return sound[key]

        return Storage(dtype, record.size, content)

    return Archive(pickle.value, storage_of)


def checked(data: memoryview, record: ZipRecord) -> memoryview:
    """The bytes of a record. Raises UserError if they do not have the recorded checksum (0 means that none was made)."""
    content = data[record.start : record.start + record.size]
    if record.checksum and zlib.crc32(content) != record.checksum:
        raise UserError("a checksum does not match: the file is damaged, copy or download it again")
    return content


def _read_legacy(data: memoryview, known: frozenset[str] | None, budget: Budget) -> Archive:
    def part(start: int) -> Pickle:
        return read_pickle(data, start, known, budget)

    protocol = part(len(LEGACY_MAGIC))
    machine = part(protocol.end)
    if protocol.value != LEGACY_PROTOCOL or not isinstance(machine.value, dict):
        raise UserError("it is not a file of torch.save (unknown version): copy or download it again")
    if machine.value.get("little_endian") is not True:
        raise UserError("it was written on a big-endian machine: load it there and save it with safetensors")
    value = part(machine.end)
    keys = part(value.end)
    sizes: dict[str, tuple[torch.dtype, int]] = {}
    for reference in value.references:
        dtype, key, count = _reference(reference)
        if sizes.setdefault(key, (dtype, count)) != (dtype, count):
            raise UserError("a storage is described twice, differently: copy or download it again")
    contents = _legacy_contents(data, keys, sizes)

    def storage_of(reference: Any) -> Storage:
        dtype, key, _ = _reference(reference)
        content = contents[key]
        return Storage(dtype, len(content), lambda: content)

    return Archive(value.value, storage_of)


def _legacy_contents(
    data: memoryview, keys: Pickle, sizes: dict[str, tuple[torch.dtype, int]]
) -> dict[str, memoryview]:
    if not isinstance(keys.value, list) or not all(isinstance(key, str) for key in keys.value):
        raise UserError("the list of its storages is damaged: copy or download it again")
    if set(keys.value) != sizes.keys() or len(keys.value) != len(sizes):
        raise UserError("the list of its storages does not fit its contents: copy or download it again")
    contents = {}
    position = keys.end
    for key in keys.value:
        dtype, count = sizes[key]
        start, end = position + 8, position + 8 + count * dtype.itemsize
        if end > len(data):
            raise UserError(f"it is cut short: {end:,} bytes are needed, {len(data):,} are there: download it again")
        if int.from_bytes(data[position:start], "little") != count:
            raise UserError("a storage does not have the announced length: copy or download it again")
        contents[key] = data[start:end]
        position = end
    return contents


def _reference(reference: Any) -> tuple[torch.dtype, str, int]:
    """Type, key and number of elements of ``("storage", type, key, location, count)``, with a view in the old format."""
    identifier = reference.identifier if isinstance(reference, Persistent) else None
    if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
        raise UserError("it holds more than tensors (a whole module?): save the network's state dict alone")
    _, kind, key, _, count = identifier[:5]
    if not isinstance(kind, Known) or str(kind) not in STORAGES or not isinstance(key, str):
        named = str(kind)[:40] if isinstance(kind, Known) else "an unnamed type"
        raise UserError(f"a storage is of {named}: save the weights as float32, float16 or bfloat16")
    if not isinstance(count, int) or not 0 <= count < 1 << 40 or any(part is not None for part in identifier[5:]):
        raise UserError("a storage is described in a way that is not supported: save it with a newer PyTorch")
    return STORAGES[str(kind)], key, count
