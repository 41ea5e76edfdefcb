"""Training images on their way to a device: read, staged and copied while the device computes.

A thread prepares the next chunk in page-locked memory, several threads read into it, and a second stream of the device copies
it while the chunk before is in use, so that reading, copying and computing overlap. The first images stay in page-locked
memory as long as this object lives, and are copied from there without being read again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.posterior.device import placement

# A processor copies a few gigabytes a second with one thread, a device takes fifty.
_READERS = min(8, os.cpu_count() or 1)
# Fewer bytes are not worth a second thread.
_BYTES_A_READER = 2**22


@dataclass
class _Staging:
    """One of two page-locked buffers: its bytes, and the event after which they may be overwritten."""

    buffer: Tensor | None = None
    copied: torch.cuda.Event | None = None


class Streaming:
    """A range of stored images, streamed to a device as often as asked.

    Args:
        images: the training set.
        first: of the range.
        last: one after the range.
        locked: how many of the first ones stay in page-locked memory.
        device: where to.
    """

    def __init__(self, images: ImageSet, first: int, last: int, locked: int, device: torch.device) -> None:
        self.images, self.first, self.last, self.device = images, first, last, device
        self._image_bytes = int(np.prod(images.image_shape))
        self._block = max(1, placement.LARGEST_STREAMED_CHUNK // self._image_bytes)
        self._locked_end = first + locked
        self._blocks: dict[int, Tensor] = {}

    def chunks(self, count: int) -> Iterator[tuple[int, Tensor]]:
        """Chunks of at most `count`: entry of the first, and grey levels centred at 128, int8 (n, C, H, W), on the device."""
        starts = range(self.first, self.last, count)
        if not starts:
            return
        slots = [_Staging(), _Staging()]
        copying = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        with (
            ThreadPoolExecutor(_READERS, thread_name_prefix="store-read") as readers,
            ThreadPoolExecutor(1, thread_name_prefix="store") as worker,
        ):

            def fetch(number: int) -> tuple[Tensor, torch.cuda.Event | None]:
                start = starts[number]
                return self._copied(start, min(start + count, self.last), slots[number % 2], copying, readers)

            pending = worker.submit(fetch, 0)
            for number, start in enumerate(starts):
                chunk, arrived = pending.result()
                if number + 1 < len(starts):
                    pending = worker.submit(fetch, number + 1)
                if arrived is not None:
                    computing = torch.cuda.current_stream(self.device)
                    computing.wait_event(arrived)
                    # The allocator must not hand its memory to the next copy before this stream is done with it.
                    chunk.record_stream(computing)
                # Flipping the top bit subtracts 128 in two's complement.
                yield start, chunk.bitwise_xor_(128).view(torch.int8)

    def _copied(
        self,
        start: int,
        stop: int,
        slot: _Staging,
        stream: torch.cuda.Stream | None,
        readers: ThreadPoolExecutor,
    ) -> tuple[Tensor, torch.cuda.Event | None]:
        """Stored images start to stop on the device, uint8, and the event that says that they have arrived."""
        staged = [self._part_of_block(*piece, readers) for piece in self._pieces(start, min(stop, self._locked_end))]
        begin = max(start, self._locked_end)
        if begin < stop:
            if slot.copied is not None:
                slot.copied.synchronize()
            if slot.buffer is None or len(slot.buffer) < stop - begin:
                slot.buffer = self._page_locked(stop - start)
            buffer = slot.buffer[: stop - begin]
            self._read(buffer, begin, readers)
            staged.append(buffer)
        with torch.cuda.stream(stream) if stream is not None else contextlib.nullcontext():
            chunk = torch.empty((stop - start, *self.images.image_shape), dtype=torch.uint8, device=self.device)
            place = 0
            for part in staged:
                chunk[place : place + len(part)].copy_(part, non_blocking=True)
                place += len(part)
            if stream is not None:
                slot.copied = stream.record_event()
        return chunk, slot.copied

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """A range of locked images cut where blocks begin."""
        while start < stop:
            end = min(stop, start + self._block - (start - self.first) % self._block)
            yield start, end
            start = end

    def _part_of_block(self, start: int, stop: int, readers: ThreadPoolExecutor) -> Tensor:
        """Locked images of one block, which is read if it never was."""
        number = (start - self.first) // self._block
        begin = self.first + number * self._block
        block = self._blocks.get(number)
        if block is None:
            block = self._page_locked(min(self._block, self._locked_end - begin))
            self._read(block, begin, readers)
            self._blocks[number] = block
        return block[start - begin : stop - begin]

    def _page_locked(self, count: int) -> Tensor:
        shape = (count, *self.images.image_shape)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")

    def _read(self, into: Tensor, start: int, readers: ThreadPoolExecutor) -> None:
        """Stored images from `start` on, by as many threads as it is worth."""
        target, count = into.numpy(), len(into)
        share = -(-count // max(1, min(_READERS, count * self._image_bytes // _BYTES_A_READER)))

        def read(begin: int) -> None:
            end = min(begin + share, count)
            np.copyto(target[begin:end], self.images.read(start + begin, start + end))

        list(readers.map(read, range(0, count, share)))
