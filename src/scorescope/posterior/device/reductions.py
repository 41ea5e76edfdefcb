"""The merges of `posterior.processes` for tensors that are on a device already."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from scorescope.posterior.processes import process_count, process_index


def merge_sums(values: Tensor) -> Tensor:
    """The sum over all processes of a tensor of the same shape in each."""
    return _reduced(values, dist.ReduceOp.SUM) if process_count() > 1 else values


def merge_maxima(values: Tensor) -> Tensor:
    """The elementwise maximum over all processes of a tensor of the same shape in each."""
    return _reduced(values, dist.ReduceOp.MAX) if process_count() > 1 else values


def merge_normalizers(maxima: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """Merge ``sums · exp(maxima)`` over all processes: their largest maxima, and the sums relative to those.

    Args:
        maxima: float64 of any shape; −inf where a process saw nothing.
        sums: of the same shape, 0 there.
    """
    if process_count() == 1:
        return maxima, sums
    largest = merge_maxima(maxima)
    return largest, merge_sums(rescaled(sums, maxima, largest))


def rescaled(sums: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Sums of exponentials counted from `old` counted from `new ≥ old` instead; 0 where old is −inf."""
    return sums * torch.where(torch.isfinite(old), old - new, -torch.inf).exp()


def gather(values: Tensor) -> list[Tensor]:
    """The tensors of all processes, in their order; of the same shape in each."""
    if process_count() == 1:
        return [values]
    stacked = values.new_zeros((process_count(), *values.shape))
    stacked[process_index()] = values
    return list(merge_sums(stacked))


def _reduced(values: Tensor, operation: Any) -> Tensor:
    result = values.contiguous().clone()
    dist.all_reduce(result, operation)
    return result
