"""Rows of launches that are recorded once and started again with other arguments: CUDA graphs.

Starting thirty operations takes the processor longer than a device needs for them. A task that waits for nothing and gives
tensors of the same shape for arguments of the same shape is recorded at its second call and replayed from then on. Replaying
computes what the task computes, bit by bit.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from scorescope.foundation.devices import made_current

logger = logging.getLogger(__name__)

# Recordings kept: each holds the memory of its intermediate results.
MOST_KEPT = 4
# CUDA allows one recording at a time in a process.
_recording = threading.Lock()

Task = Callable[[Tensor, Tensor], Tensor]


class Replays:
    """Recordings of one task on one device, by what distinguishes its calls: shapes, and where what it reads lies.

    They share the memory of their intermediate results, as none runs beside another.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[Hashable, _Recording | None] = OrderedDict()
        self._lock = threading.Lock()
        self._works = True
        self._place: _Place | None = None

    def __call__(self, key: Hashable, task: Task, first: Tensor, second: Tensor) -> Tensor:
        """What the task gives, on a CUDA device replayed from the second call with the same key on.

        The task is not kept: who holds recordings may be held by it, and would otherwise never let go of a device's memory.
        """
        if first.device.type != "cuda" or not self._works:
            return task(first, second)
        with made_current(first.device), self._lock:
            if torch.cuda.is_current_stream_capturing():
                return task(first, second)
            if key not in self._seen:
                self._keep(key, None)
                return task(first, second)
            recording = self._seen[key]
            if recording is None:
                try:
                    self._place = self._place or _Place(first.device)
                    recording = _Recording(task, first, second, self._place)
                except Exception as error:  # whatever a driver or a library that cannot be recorded raises
                    self._works = False
                    logger.warning(
                        "launches cannot be recorded on %s (%s): they are started one by one", first.device, error
                    )
                    return task(first, second)
            self._keep(key, recording)
            return recording(first, second)

    def _keep(self, key: Hashable, recording: _Recording | None) -> None:
        self._seen[key] = recording
        self._seen.move_to_end(key)
        while len(self._seen) > MOST_KEPT:
            self._seen.popitem(last=False)


class _Place:
    """Where recordings are made, and what those of one task have in common.

    Attributes:
        stream: of its own. PyTorch would take one of the device that was current when it recorded first.
        pool: memory of intermediate results.
        done: after which it may be written to again.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle()
        self.done: torch.cuda.Event | None = None


class _Recording:
    """One recorded call, its arguments and its result."""

    def __init__(self, task: Task, first: Tensor, second: Tensor, place: _Place) -> None:
        self._place = place
        current = torch.cuda.current_stream(first.device)
        # What is made in inference mode could not be written to outside of it.
        with _recording, torch.inference_mode(False), torch.no_grad():
            self.arguments = torch.empty_like(first), torch.empty_like(second)
            self._give(first, second)
            place.stream.wait_stream(current)
            with torch.cuda.stream(place.stream):
                task(*self.arguments)  # what is compiled or allocated at a first call in a stream is not recorded
            current.wait_stream(place.stream)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, pool=place.pool, stream=place.stream, capture_error_mode="thread_local"):
                self.result = task(*self.arguments)

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        stream = torch.cuda.current_stream(first.device)
        if self._place.done is not None:  # another stream may still be at it
            stream.wait_event(self._place.done)
        self._give(first, second)
        self.graph.replay()
        result = self.result.clone()
        self._place.done = stream.record_event()
        return result

    def _give(self, first: Tensor, second: Tensor) -> None:
        for kept, given in zip(self.arguments, (first, second), strict=True):
            kept.copy_(given)
