"""One posterior average by several processes: each reads its part of the training set, and what they found is merged.

Under ``torchrun`` or ``accelerate launch`` every process calls the same denoiser on the same noisy images. The routines of
the engine go over `own_part` of the training images only and merge their accumulators here, so a result is the same
with any number of processes, up to rounding. Without a process group there is one part, and merging changes nothing.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.foundation.processes import check_agreement, process_count, process_index

__all__ = [
    "check_same_images",
    "from_first",
    "gather",
    "merge_maxima",
    "merge_normalizers",
    "merge_sums",
    "own_part",
    "process_count",
    "process_index",
]

Floats = npt.NDArray[np.float64]
# Images that are compared among processes, evenly spread.
COMPARED = 64


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
    own = _to_device(values)
    found = [torch.empty_like(own) for _ in range(process_count())]
    dist.all_gather(found, own)
    return [part.cpu().numpy() for part in found]


def from_first(values: Tensor) -> Tensor:
    """The tensor of process 0 in every process: inputs that differ in the last bit would not share one posterior."""
    if process_count() == 1:
        return values
    copy = _reachable(values.detach().contiguous().clone())
    dist.broadcast(copy, 0)
    return copy.to(values.device)


def check_same_images(images: ImageSet) -> None:
    """Raise UserError, in every process, if they do not all have the same training images before them.

    Compares number, shape and some of the images themselves: a host with another version of a store would otherwise
    contribute its part of another posterior, and nobody would notice.
    """
    if process_count() == 1:
        return
    rows = np.unique(np.linspace(0, len(images) - 1, COMPARED).round().astype(np.int64))
    digest = hashlib.sha256(np.ascontiguousarray(images.take(rows)).data).hexdigest()[:12]
    words = f"{len(images)} images of shape {images.image_shape} with checksum {digest}"
    check_agreement(words, f"as {images.name}")


def _reduced(values: npt.NDArray[Any], operation: Any) -> npt.NDArray[Any]:
    tensor = _to_device(values)
    dist.all_reduce(tensor, operation)
    result: npt.NDArray[Any] = tensor.cpu().numpy()
    return result


def _to_device(values: npt.NDArray[Any]) -> Tensor:
    """A copy where the process group can reach it."""
    return _reachable(torch.from_numpy(np.array(values)))


def _reachable(values: Tensor) -> Tensor:
    """Where the process group can reach it: a group that only has NCCL takes tensors on the device alone."""
    there = values.device.type == "cpu" and dist.get_backend() == "nccl"
    return values.to(torch.device("cuda", torch.cuda.current_device())) if there else values
