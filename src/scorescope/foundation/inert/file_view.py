"""A file's bytes without reading them: the system brings in only the pages that are looked at."""

from __future__ import annotations

import mmap
from pathlib import Path

from scorescope.foundation import UserError


def viewed(path: Path) -> memoryview:
    """The bytes of a file, read-only, mapped into memory for as long as the view lives.

    Raises UserError if it is no ordinary file, cannot be read, or is empty.
    """
    if not path.is_file():
        raise UserError("it is not an ordinary file: copy the checkpoint to a local disk")
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise UserError("it is empty: copy or download it again")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise UserError(f"it cannot be read ({error.strerror}): check its permissions") from error
