"""Where the bytes of a training set are while a device goes over them, and the most memory that takes, before any is taken.

As many images as allowed stay on the device; of those that do not fit, as many as allowed stay in page-locked memory of the
host, from where a device copies at full speed; the others are read again for every pass.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

# What the bytes may take of the device's free memory; the rest is for networks and intermediate results.
SHARE_OF_FREE_MEMORY = 0.5
# Page-locked memory is taken from all other programs: a share of what is free, and so much at most.
SHARE_OF_HOST_MEMORY = 0.25
MOST_LOCKED_BYTES = 16 * 2**30
# Streamed chunks are no larger than this, and page-locked blocks are of this size.
LARGEST_STREAMED_CHUNK = 128 * 2**20
# Chunks have so many images at least.
FEWEST_STREAMED_IMAGES = 64
# A squared norm an image is kept.
_BYTES_BESIDE = 8


@dataclass(frozen=True)
class Placement:
    """Where one process's training images are.

    Attributes:
        images: how many there are, mirror images not counted.
        image_bytes: of one.
        resident: how many stay on the device.
        locked: how many more stay in page-locked memory.
        flips: whether chunks are followed by their mirror images.
        work_bytes: what intermediate results of a pass may take.
    """

    images: int
    image_bytes: int
    resident: int
    locked: int
    flips: bool
    work_bytes: int

    @property
    def read(self) -> int:
        """How many images are read for every pass."""
        return self.images - self.resident - self.locked

    @property
    def is_resident(self) -> bool:
        """Whether all stay on the device."""
        return self.resident == self.images

    @property
    def device_bytes(self) -> int:
        """Most bytes on the device during a pass over all images, answers and networks not counted."""
        chunks = 0
        if not self.is_resident:
            # One in use, one arriving.
            chunks += 2 * self._chunk_bytes
        if self.flips:
            chunks += self._chunk_bytes
        return self.resident * self.image_bytes + self.images * _BYTES_BESIDE + chunks + self.work_bytes

    @property
    def host_bytes(self) -> int:
        """Most page-locked bytes, also those through which the images that are read pass."""
        blocks = -(-self.locked * self.image_bytes // LARGEST_STREAMED_CHUNK) * LARGEST_STREAMED_CHUNK
        return blocks + (2 * self._chunk_bytes if self.read else 0)

    def __str__(self) -> str:
        kept = [
            f"{count:,} {where}"
            for count, where in (
                (self.resident, "stay on the device"),
                (self.locked, "stay in page-locked memory"),
                (self.read, "are read for every pass"),
            )
            if count
        ]
        return (
            f"of {self.images:,} images of {self.image_bytes:,} bytes {', '.join(kept)}; at most"
            f" {self.device_bytes / 2**30:.2f} GiB on the device and {self.host_bytes / 2**30:.2f} GiB page-locked"
        )

    @property
    def _chunk_bytes(self) -> int:
        most = max(LARGEST_STREAMED_CHUNK, FEWEST_STREAMED_IMAGES * self.image_bytes)
        return min(most, self.images * self.image_bytes)


def placed(
    images: int,
    image_bytes: int,
    *,
    free_on_device: int,
    free_on_host: int,
    work_bytes: int,
    flips: bool = False,
    resident_bytes: int | None = None,
    locked_bytes: int | None = None,
) -> Placement:
    """Where to keep so many images.

    Args:
        images: of this process, mirror images not counted.
        image_bytes: of one.
        free_on_device: bytes that the device has free.
        free_on_host: bytes that the host has free.
        work_bytes: what intermediate results of a pass may take.
        flips: whether there are mirror images.
        resident_bytes: most bytes to keep on the device; a share of the free ones by default.
        locked_bytes: most bytes to keep in page-locked memory; a share of the free ones by default.
    """
    on_device = int(SHARE_OF_FREE_MEMORY * free_on_device) if resident_bytes is None else resident_bytes
    resident = min(images, on_device // image_bytes)
    if locked_bytes is None:
        locked_bytes = min(int(SHARE_OF_HOST_MEMORY * free_on_host), MOST_LOCKED_BYTES)
    in_blocks = locked_bytes // LARGEST_STREAMED_CHUNK * (LARGEST_STREAMED_CHUNK // image_bytes)
    return Placement(images, image_bytes, resident, min(images - resident, in_blocks), flips, work_bytes)


def free_host_memory() -> int:
    """Bytes that a program could still take without others being swapped out; 0 where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            available = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(available.split()[1]) * 1024
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 0
