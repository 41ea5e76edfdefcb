"""Keep freed memory for the next tensor instead of returning it to the system after every operation."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def reuse_freed_memory() -> None:
    """Tell glibc's allocator to serve large blocks from its heap; does nothing where there is no glibc.

    By default every tensor above 32 MiB, and many below, is mapped, zeroed page by page and unmapped again, which costs
    a third of a training step of a small convolutional network on the CPU. It holds for the whole process.
    """
    if not sys.platform.startswith("linux"):
        return
    allocator = getattr(ctypes.CDLL(None), "mallopt", None)
    if allocator is None:
        return
    allocator(_MMAP_THRESHOLD, 1 << 30)
    allocator(_TRIM_THRESHOLD, (1 << 31) - 1)
    allocator(_TOP_PAD, 64 << 20)
