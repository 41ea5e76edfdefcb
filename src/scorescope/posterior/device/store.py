"""The training set where a device can reach it: its bytes resident there, or streamed while the device computes.

Bytes stay bytes: an image of d values takes d bytes on the device and on the way to it, and is widened only inside the
operation that uses it. What fits into a stated share of the device's free memory is copied once and stays (`placement`); the
rest is streamed while the device computes (`streaming`), in turn with what is there already. Mirror images are turned on the
device and are neither stored nor copied.

Under several processes each keeps or streams its own part of the images (`posterior.processes.own_part`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.posterior.device import placement
from scorescope.posterior.device.placement import Placement, free_host_memory, placed
from scorescope.posterior.device.streaming import Streaming
from scorescope.posterior.processes import own_part, process_count

# What intermediate results of a pass may take. Large enough that starting an operation costs little beside running it.
WORK_BYTES = 2**30
# What a pass may keep for the next one, of the free memory and at most.
SHARE_KEPT = 0.25
MOST_KEPT_BYTES = 4 * 2**30
# Chunks begin at multiples of so many images, which keeps them aligned for the device's byte products.
CHUNK_MULTIPLE = placement.FEWEST_STREAMED_IMAGES


class DeviceStore:
    """Training images as bytes on a device.

    Args:
        images: the training set.
        device: where to.
        resident_bytes: most bytes to keep there; half of the device's free memory, at the first use, by default. What is
            more is streamed.
        locked_bytes: most bytes of that to keep in page-locked memory; a quarter of the host's free memory by default, over all
            processes, and none where the device is the host.
        work_bytes: what intermediate results of one pass may take, in bytes.

    Attributes:
        images: the training set.
        device: where to.
        work_bytes: see above.
        placements: how often it was decided where the bytes are; what was recorded of them before holds no longer.
    """

    def __init__(
        self,
        images: ImageSet,
        device: torch.device | str,
        *,
        resident_bytes: int | None = None,
        locked_bytes: int | None = None,
        work_bytes: int = WORK_BYTES,
    ) -> None:
        self.images = images
        self.device = torch.device(device)
        self.work_bytes = work_bytes
        self._resident_bytes = resident_bytes
        self._locked_bytes = locked_bytes
        self._part: tuple[int, int] | None = None
        self._placement: Placement | None = None
        self.placements = 0
        self._resident: Tensor | None = None
        self._streaming: Streaming | None = None

    @property
    def part(self) -> tuple[int, int]:
        """The half-open range of stored images, mirror images not counted, that this process goes over."""
        return own_part(self.images.stored)

    @property
    def placement(self) -> Placement:
        """Where the bytes are; decided when first asked, and again if the part of the process changes."""
        if self._placement is None or self._part != self.part:
            self._resident = self._streaming = None
            self.placements += 1
            first, last = self._part = self.part
            on_host = self.device.type == "cpu"
            self._placement = placed(
                last - first,
                self._image_bytes,
                free_on_device=free_memory(self.device),
                # Every process may be on the same host, and asks before the others have taken any.
                free_on_host=0 if on_host else free_host_memory() // process_count(),
                work_bytes=self.work_bytes,
                flips=self.images.flips,
                resident_bytes=self._resident_bytes,
                locked_bytes=self._locked_bytes,
            )
        return self._placement

    @property
    def is_resident(self) -> bool:
        """Whether all bytes stay on the device."""
        return self.placement.is_resident

    def affordable_images(self, bytes_per_image: int) -> int:
        """How many images may be in work where each needs so many bytes of intermediate results: the same in every process."""
        return max(CHUNK_MULTIPLE, self.work_bytes // max(1, bytes_per_image))

    def chunk_images(self, bytes_per_image: int) -> int:
        """How many of them a chunk may have, at least 64; fewer where images are streamed, as some processes may do."""
        count = self.affordable_images(bytes_per_image)
        if not self.is_resident:
            count = min(count, max(CHUNK_MULTIPLE, placement.LARGEST_STREAMED_CHUNK // self._image_bytes))
        return count // CHUNK_MULTIPLE * CHUNK_MULTIPLE

    def chunks(self, count: int) -> Iterator[tuple[int, Tensor]]:
        """This process's images, at most `count` at a time, every chunk of stored ones followed by its mirror images.

        All passes with the same `count` see the same chunks in the same order.

        Returns:
            (entry of the first in the image set, grey levels centred at 128, int8 (n, C, H, W)) pairs. A chunk must not be
            written to.

        Raises:
            UserError: the store was changed on disk since it was opened.
        """
        self.check()
        first, last = self.part
        border = first + self.placement.resident
        streamed = -(-(last - border) // count)
        if self._streaming is None:
            self._streaming = Streaming(self.images, border, last, self.placement.locked, self.device)
        # Every streamed chunk is followed by its share of those on the device, while the next one is on its way.
        arriving, present = self._streaming.chunks(count), self._from_device(first, border, count)
        between = -(-(border - first) // count) // streamed if streamed else 0
        in_turn = (itertools.chain([one], itertools.islice(present, between)) for one in arriving)
        for start, chunk in itertools.chain(itertools.chain.from_iterable(in_turn), present):
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
            size = max(1, placement.LARGEST_STREAMED_CHUNK // self._image_bytes)
            for start, chunk in Streaming(self.images, first, last, 0, self.device).chunks(size):
                resident[start - first : start - first + len(chunk)] = chunk
            if self.device.type == "cuda":
                torch.cuda.current_stream(self.device).synchronize()  # later passes may run in other streams
            self._resident = resident
        for start in range(first, last, count):
            yield start, self._resident[start - first : min(start + count, last) - first]


def free_memory(device: torch.device) -> int:
    """Bytes that tensors on a device could still take, those included that PyTorch holds in reserve.

    On a processor that is what PyTorch's own memory may grow to, which nothing bounds: the answer is then 2⁶².
    """
    if device.type != "cuda":
        return 2**62
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
