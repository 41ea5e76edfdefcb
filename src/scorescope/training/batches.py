"""What a step is trained on, and how it gets to a device: drawn by a thread and copied while the device computes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What one step, or one part of it, is trained on.

    Attributes:
        noisy: (B, C, H, W).
        sigma: (B,).
        target: (B, C, H, W).
        class_labels: int64 (B,), `NO_CLASS` where it is hidden or there is none.
    """

    noisy: Tensor
    sigma: Tensor
    target: Tensor
    class_labels: Tensor

    def __len__(self) -> int:
        return len(self.sigma)

    def on(self, device: torch.device) -> Batch:
        """The same on a device; copied there while the processor goes on, where the device allows."""
        if device.type == "cpu":
            return self
        pinned = device.type == "cuda"
        moved = (value.pin_memory() if pinned else value for value in vars(self).values())
        return Batch(*(value.to(device, non_blocking=pinned) for value in moved))


class DrawnAhead:
    """Batches by number, the next one drawn while the one before is in use.

    A batch is a function of its number alone, so that what is drawn ahead is what would be drawn when it is needed.

    Args:
        draw: gives the batch of a step, on the device.
        device: where that is; a stream of its own copies to a CUDA device.
    """

    def __init__(self, draw: Callable[[int], Batch], device: torch.device) -> None:
        self._draw = draw
        self._device = device
        self._copying = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="draw")
        self._pending: tuple[int, Future[Batch]] | None = None

    def start(self, step: int) -> None:
        """Begin to draw the batch of a step."""
        self._pending = step, self._worker.submit(self._drawn, step)

    def take(self, step: int) -> Batch:
        """The batch of a step. Raises what drawing it raised."""
        pending, self._pending = self._pending, None
        if pending is None:
            return self._draw(step)
        batch = pending[1].result()  # also one that is not wanted: two draws never run side by side
        if pending[0] != step:
            return self._draw(step)
        if self._copying is not None:
            using = torch.cuda.current_stream(self._device)
            using.wait_stream(self._copying)
            for value in vars(batch).values():
                # The allocator must not hand its memory to the next copy before this stream is done with it.
                value.record_stream(using)
        return batch

    def _drawn(self, step: int) -> Batch:
        with contextlib.nullcontext() if self._copying is None else torch.cuda.stream(self._copying):
            return self._draw(step)


def split(batch: Batch, parts: int) -> list[Batch]:
    """A batch in at most `parts` parts of nearly equal size, in order."""
    pieces = (torch.tensor_split(values, min(parts, len(batch))) for values in vars(batch).values())
    return [Batch(*piece) for piece in zip(*pieces, strict=True)]
