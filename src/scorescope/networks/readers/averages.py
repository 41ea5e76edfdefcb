"""Whether a file's averaged and raw weights are of one network: a note where they are far apart, or one is not finite.

An average over 10,000 steps that was saved after 2,000 is mostly the random start, and a run that diverged leaves averages
of before or none. Only some of the tensors are looked at, so that opening a large file stays cheap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from scorescope.foundation.inert.stored_tensor import StoredTensor

TENSORS, ELEMENTS = 16, 1 << 21
FAR_APART = 0.5


def note_on_other(taken: str, chosen: Mapping[str, StoredTensor], other: Mapping[str, StoredTensor]) -> str:
    """What the file's other weights say of the chosen ones, as a phrase; empty if there is nothing to say.

    Args:
        taken: ``averaged`` or ``raw``, what the chosen ones are.
        chosen: by name.
        other: the file's other set, by name.
    """
    rest = "raw" if taken == "averaged" else "averaged"
    apart = distance(chosen, other)
    if math.isnan(apart):
        return f"its {rest} weights are not finite"
    if apart > FAR_APART:
        return (
            f"its averaged and raw weights are far apart (by {apart:.0%} of their size), as where the average is younger"
            f" than its memory: compare with --weights {rest}"
        )
    return ""


def distance(chosen: Mapping[str, StoredTensor], other: Mapping[str, StoredTensor]) -> float:
    """``‖chosen − other‖ / ‖other‖`` over some of the tensors; NaN if the others are not finite, 0 if none can be compared."""
    common = [
        name
        for name, tensor in chosen.items()
        if name in other
        and other[name].shape == tensor.shape
        and tensor.dtype.is_floating_point
        and 1 < math.prod(tensor.shape) <= ELEMENTS
    ]
    apart = size = 0.0
    for name in common[:: max(1, len(common) // TENSORS)]:
        one, two = chosen[name].read().double(), other[name].read().double()
        if not bool(torch.isfinite(two).all()):
            return math.nan
        if bool(torch.isfinite(one).all()) and not torch.equal(one, two):  # tables are in both as they are
            apart += float((one - two).square().sum())
            size += float(two.square().sum())
    return math.sqrt(apart / size) if size else 0.0


def are_finite(tensors: Mapping[str, StoredTensor]) -> bool:
    """Whether all values are finite; reads them all."""
    return all(bool(torch.isfinite(tensor.read()).all()) for tensor in tensors.values())
