"""The training set where a device can reach it: its bytes resident there, or streamed while the device computes.

Bytes stay bytes: an image of d values takes d bytes on the device and on the way to it, and is widened only inside the
operation that uses it. A set that fits into a stated share of the device's free memory is copied once and stays. A larger one
is read chunk by chunk: a thread reads the next chunk into page-locked memory and a second stream of the device copies it
while the chunk before is in use, so that reading, copying and computing overlap. Mirror images are turned on the device and
are neither stored nor copied.

Under several processes each keeps or streams its own part of the images (`posterior.processes.own_part`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.posterior.processes import own_part

# What the bytes may take of the device's free memory; the rest is for networks and intermediate results.
SHARE_OF_FREE_MEMORY = 0.5
# What intermediate results of a pass may take. Large enough that starting an operation costs little beside running it.
WORK_BYTES = 2**30
# What a pass may keep for the next one, of the free memory and at most.
SHARE_KEPT = 0.25
MOST_KEPT_BYTES = 4 * 2**30
# Chunks begin at multiples of so many images, which keeps them aligned for the device's byte products.
CHUNK_MULTIPLE = 64
# Page-locked memory is taken from all other programs: streamed chunks, of which two exist, are no larger than this.
LARGEST_STREAMED_CHUNK = 128 * 2**20


@dataclass
class _Staging:
    """One of two page-locked buffers: its bytes, and the event after which they may be overwritten."""

    buffer: Tensor
    copied: torch.cuda.Event | None = None


class DeviceStore:
    """Training images as bytes on a device.

    Args:
        images: the training set.
        device: where to.
        resident_bytes: most bytes to keep there; half of the device's free memory, at the first use, by default. A set
            that needs more is streamed.
        work_bytes: what intermediate results of one pass may take, in bytes.

    Attributes:
        images: the training set.
        device: where to.
        work_bytes: see above.
    """

    def __init__(
        self,
        images: ImageSet,
        device: torch.device | str,
        *,
        resident_bytes: int | None = None,
        work_bytes: int = WORK_BYTES,
    ) -> None:
        self.images = images
        self.device = torch.device(device)
        self.work_bytes = work_bytes
        self._resident_bytes = resident_bytes
        self._part: tuple[int, int] | None = None
        self._fits = False
        self._resident: Tensor | None = None

    @property
    def part(self) -> tuple[int, int]:
        """The half-open range of stored images, mirror images not counted, that this process goes over."""
        return own_part(self.images.stored)

    @property
    def is_resident(self) -> bool:
        """Whether the bytes stay on the device; decided when first asked, and again if the part of the process changes."""
        if self._part != self.part:
            self._resident = None
            first, last = self._part = self.part
            allowed = self._resident_bytes
            if allowed is None:
                allowed = int(SHARE_OF_FREE_MEMORY * free_memory(self.device))
            self._fits = (last - first) * self._image_bytes <= allowed
        return self._fits

    def chunk_images(self, bytes_per_image: int) -> int:
        """How many images a chunk may have where each needs so many bytes of intermediate results; at least 64."""
        count = max(CHUNK_MULTIPLE, self.work_bytes // max(1, bytes_per_image))
        if not self.is_resident:
            count = min(count, max(CHUNK_MULTIPLE, LARGEST_STREAMED_CHUNK // self._image_bytes))
        return count // CHUNK_MULTIPLE * CHUNK_MULTIPLE

    def chunks(self, count: int) -> Iterator[tuple[int, Tensor]]:
        """This process's images, at most `count` at a time, every chunk of stored ones followed by its mirror images.

        Returns:
            (entry of the first in the image set, grey levels centred at 128, int8 (n, C, H, W)) pairs. A chunk must not be
            written to.

        Raises:
            UserError: the store was changed on disk since it was opened.
        """
        self.check()
        first, last = self.part
        for start, chunk in (
            self._from_device(first, last, count) if self.is_resident else self._streamed(first, last, count)
        ):
            yield start, chunk
            if self.images.flips:
                yield start + self.images.stored, chunk.flip(3)

    def check(self) -> None:
        """Raise UserError if the store was changed on disk since it was opened."""
        if self.images.check:
            self.images.check()

    def rows(self, start: int, count: int) -> slice:
        """Where entries start to start + count of one chunk lie among the stored images of this process."""
        first = start % self.images.stored - self.part[0]
        return slice(first, first + count)

    def spare_bytes(self) -> int:
        """What a pass may keep on the device for the next one, in bytes."""
        return min(int(SHARE_KEPT * free_memory(self.device)), MOST_KEPT_BYTES)

    @property
    def _image_bytes(self) -> int:
        channels, height, width = self.images.image_shape
        return channels * height * width

    def _from_device(self, first: int, last: int, count: int) -> Iterator[tuple[int, Tensor]]:
        if self._resident is None:
            resident = torch.empty(last - first, *self.images.image_shape, dtype=torch.int8, device=self.device)
            size = max(1, LARGEST_STREAMED_CHUNK // self._image_bytes)
            for start, chunk in self._streamed(first, last, size):
                resident[start - first : start - first + len(chunk)] = chunk
            if self.device.type == "cuda":
                torch.cuda.current_stream(self.device).synchronize()  # later passes may run in other streams
            self._resident = resident
        for start in range(first, last, count):
            yield start, self._resident[start - first : min(start + count, last) - first]

    def _streamed(self, first: int, last: int, count: int) -> Iterator[tuple[int, Tensor]]:
        """Chunks of stored images, each copied while the one before is in use."""
        starts = range(first, last, count)
        if not starts:
            return
        size, on_cuda = min(count, last - first), self.device.type == "cuda"
        shape = (size, *self.images.image_shape)
        slots = [_Staging(torch.empty(shape, dtype=torch.uint8, pin_memory=on_cuda)) for _ in starts[:2]]
        copying = torch.cuda.Stream(self.device) if on_cuda else None  # type: ignore[no-untyped-call]

        def fetch(number: int) -> tuple[Tensor, torch.cuda.Event | None]:
            start = starts[number]
            return self._copied(start, min(start + count, last), slots[number % 2], copying)

        with ThreadPoolExecutor(1, thread_name_prefix="store") as reader:
            pending = reader.submit(fetch, 0)
            for number, start in enumerate(starts):
                chunk, arrived = pending.result()
                if number + 1 < len(starts):
                    pending = reader.submit(fetch, number + 1)
                if arrived is not None:
                    computing = torch.cuda.current_stream(self.device)
                    computing.wait_event(arrived)
                    # The allocator must not hand its memory to the next copy before this stream is done with it.
                    chunk.record_stream(computing)
                # Flipping the top bit subtracts 128 in two's complement.
                yield start, chunk.bitwise_xor_(128).view(torch.int8)

    def _copied(
        self, start: int, stop: int, slot: _Staging, stream: torch.cuda.Stream | None
    ) -> tuple[Tensor, torch.cuda.Event | None]:
        """Stored images start to stop on the device, uint8, and the event that says that they have arrived."""
        if slot.copied is not None:
            slot.copied.synchronize()
        staged = slot.buffer[: stop - start]
        np.copyto(staged.numpy(), self.images.read(start, stop))
        with torch.cuda.stream(stream) if stream is not None else contextlib.nullcontext():
            chunk = staged.to(self.device, non_blocking=True, copy=True)
            if stream is not None:
                slot.copied = stream.record_event()
        return chunk, slot.copied


def free_memory(device: torch.device) -> int:
    """Bytes that tensors on a device could still take, those included that PyTorch holds in reserve.

    On a processor that is what PyTorch's own memory may grow to, which nothing bounds: the answer is then 2⁶².
    """
    if device.type != "cuda":
        return 2**62
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
