"""The table of contents of a zip file whose records are stored as they are, which is all that ``torch.save`` writes.

A zip bomb needs compression or overlapping records. Here a compressed record is refused by name, whatever size it
claims, so that a file can never hold more than its own length; nothing is decompressed at all.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from scorescope.foundation import UserError
from scorescope.foundation.inert.restricted_unpickler import Budget

ZIP_MAGIC = b"PK\x03\x04"
_END, _END_SIZE = b"PK\x05\x06", 22
_END64_LOCATOR, _END64, _ENTRY = b"PK\x06\x07", b"PK\x06\x06", b"PK\x01\x02"
_LONGEST_COMMENT = 0xFFFF
_IN_EXTRA = 0xFFFFFFFF
_ENCRYPTED = 1


@dataclass(frozen=True, slots=True)
class ZipRecord:
    """One record.

    Attributes:
        start: where its bytes begin in the file.
        size: how many there are.
        checksum: their CRC-32; 0 if none was made.
    """

    start: int
    size: int
    checksum: int


def read_directory(data: memoryview, budget: Budget) -> dict[str, ZipRecord]:
    """All records by name.

    Args:
        data: the whole file.
        budget: every record costs one unit.

    Raises:
        UserError: the file is damaged or cut short, or a record is compressed or encrypted.
    """
    count, position = _end_of_directory(data)
    records: dict[str, ZipRecord] = {}
    for _ in range(count):
        budget.spend()
        name, record, position = _entry(data, position)
        if name in records:
            raise _damaged(f"{name!r} occurs twice")
        records[name] = record
    return records


def _end_of_directory(data: memoryview) -> tuple[int, int]:
    """Number of records and position of the first entry, from the end of the file."""
    tail_start = max(0, len(data) - _END_SIZE - _LONGEST_COMMENT)
    found = bytes(data[tail_start:]).rfind(_END)
    if found < 0 or tail_start + found + _END_SIZE > len(data):
        raise UserError("it is cut short (a zip file without its table of contents): copy or download it again")
    end = tail_start + found
    count, _, start = struct.unpack("<HII", data[end + 10 : end + 20])
    locator = end - 20
    if locator >= 0 and data[locator : locator + 4] == _END64_LOCATOR:
        (end64,) = struct.unpack("<Q", data[locator + 8 : locator + 16])
        if end64 + 56 > len(data) or data[end64 : end64 + 4] != _END64:
            raise _damaged("its table of contents is not where it should be")
        count, _, start = struct.unpack("<QQQ", data[end64 + 32 : end64 + 56])
    return count, start


def _entry(data: memoryview, position: int) -> tuple[str, ZipRecord, int]:
    """Name and record of the entry at `position`, and the position of the next."""
    header = data[position : position + 46]
    if len(header) < 46 or header[:4] != _ENTRY:
        raise _damaged("an entry of its table of contents is broken")
    flags, method = struct.unpack("<HH", header[8:12])
    checksum, packed, size, name_length, extra_length, comment_length = struct.unpack("<IIIHHH", header[16:34])
    (offset,) = struct.unpack("<I", header[42:46])
    end = position + 46 + name_length + extra_length
    if end + comment_length > len(data):
        raise _damaged("an entry of its table of contents is cut short")
    name = str(data[position + 46 : position + 46 + name_length], "utf-8", "replace")
    wide = _wide_numbers(data[end - extra_length : end])
    size, packed, offset = (wide.pop(0) if value == _IN_EXTRA and wide else value for value in (size, packed, offset))
    shown = name[-40:]
    if flags & _ENCRYPTED:
        raise UserError(f"its record {shown!r} is encrypted: torch.save writes none such; get the original file")
    if method != 0 or packed != size:
        raise UserError(
            f"its record {shown!r} is compressed ({packed:,} bytes claim to become {size:,}), which torch.save never does:"
            " refused as a possible zip bomb; get the original file"
        )
    return name, ZipRecord(_content_start(data, offset, size), size, checksum), end + comment_length


def _wide_numbers(extra: memoryview) -> list[int]:
    """The 64-bit numbers of an entry whose 32-bit fields are too small."""
    position = 0
    while position + 4 <= len(extra):
        tag, length = struct.unpack("<HH", extra[position : position + 4])
        block = extra[position + 4 : position + 4 + length]
        if tag == 1:
            return [int.from_bytes(block[place : place + 8], "little") for place in range(0, len(block) - 7, 8)]
        position += 4 + length
    return []


def _content_start(data: memoryview, offset: int, size: int) -> int:
    local = data[offset : offset + 30]
    if len(local) < 30 or local[:4] != ZIP_MAGIC:
        raise _damaged("a record is not where its table of contents says")
    name_length, extra_length = struct.unpack("<HH", local[26:30])
    start = offset + 30 + int(name_length) + int(extra_length)
    if start + size > len(data):
        raise _damaged("a record goes beyond the end of the file")
    return start


def _damaged(what: str) -> UserError:
    return UserError(f"its zip structure is damaged ({what}): copy or download it again")
