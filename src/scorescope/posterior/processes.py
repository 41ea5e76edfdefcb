"""One posterior average by several processes: each reads its part of the training set, and what they found is merged.

Under ``torchrun`` or ``accelerate launch`` every process calls the same denoiser on the same noisy images. The routines of
the engine go over `own_part` of the training images only and merge their accumulators here, so a result is the same
with any number of processes, up to rounding. Without a process group there is one part, and merging changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

Floats = npt.NDArray[np.float64]


def process_count() -> int:
    """How many processes share the work; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_index() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if process_count() > 1 else 0


def own_part(count: int, multiple: int = 1) -> tuple[int, int]:
    """The half-open range of ``range(count)`` that this process reads; inner edges are multiples of `multiple`.

    A process may get an empty range, if there are fewer multiples than processes.
    """
    index, processes = process_index(), process_count()
    blocks = -(-count // multiple)
    first, last = blocks * index // processes, blocks * (index + 1) // processes
    return min(first * multiple, count), min(last * multiple, count)


def merge_sums(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The sum over all processes of an array of the same shape in each, float64 or integer."""
    return _reduced(values, dist.ReduceOp.SUM) if process_count() > 1 else values


def merge_maxima(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The elementwise maximum over all processes of an array of the same shape in each."""
    return _reduced(values, dist.ReduceOp.MAX) if process_count() > 1 else values


def merge_normalizers(maxima: Floats, sums: Floats) -> tuple[Floats, Floats]:
    """Merge ``sums · exp(maxima)`` over all processes: their largest maxima, and the sums relative to those.

    Both float64 of any one shape; a process that saw nothing gives a maximum of −inf, or any very low one, and a sum of 0.
    """
    if process_count() == 1:
        return maxima, sums
    largest = merge_maxima(maxima)
    seen = np.isfinite(largest) & np.isfinite(maxima)
    scaled = sums * np.exp(np.where(seen, maxima - np.where(seen, largest, 0.0), -np.inf))
    return largest, merge_sums(scaled)


def gather(values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """The arrays of all processes, in their order; of the same shape in each."""
    if process_count() == 1:
        return [values]
    stacked = np.zeros((process_count(), *values.shape), dtype=values.dtype)
    stacked[process_index()] = values
    return list(merge_sums(stacked))


def from_first(values: Tensor) -> Tensor:
    """The tensor of process 0 in every process: inputs that differ in the last bit would not share one posterior."""
    if process_count() == 1:
        return values
    copy = values.detach().contiguous().clone()
    dist.broadcast(copy, 0)
    return copy


def _reduced(values: npt.NDArray[Any], operation: Any) -> npt.NDArray[Any]:
    tensor = torch.from_numpy(np.array(values))
    on_device = tensor.to(torch.device("cuda", torch.cuda.current_device())) if dist.get_backend() == "nccl" else tensor
    dist.all_reduce(on_device, operation)
    result: npt.NDArray[Any] = on_device.cpu().numpy()
    return result
