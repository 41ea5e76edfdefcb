"""The posterior of a few windows, each of a place and size of its own: for single pixels that somebody asks about.

`windows` answers for all windows of one size at once. Where a few dozen are wanted, naming the likeliest training images of all
is many times the work. Here the summed squared differences of every training image give the logits of those that are asked for
by four look-ups each, in float64 and one pass, in memory that does not grow with the set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorescope.data.images import ImageSet
from scorescope.posterior.processes import gather, merge_normalizers, merge_sums, own_part
from scorescope.posterior.units import centred

Floats = npt.NDArray[np.float64]
CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class ChosenWindows:
    """What the training set says of P windows of one noisy image.

    Attributes:
        entries: the k likeliest training images in descending order, int64 (P, k); −1 where there are fewer.
        weights: their posterior weights, (P, k).
        effective_number: exp of the entropy of the weights, (P,).
    """

    entries: npt.NDArray[np.int64]
    weights: Floats
    effective_number: Floats


def chosen_windows(
    images: ImageSet, noisy: Floats, sigma: float, boxes: Sequence[tuple[int, int, int, int]], top: int
) -> ChosenWindows:
    """Name the likeliest training images of some windows, and say how many share the weight.

    Args:
        images: the training set.
        noisy: one noisy image as centred grey levels, float64 (C, H, W).
        sigma: its noise level in grey levels.
        boxes: P windows: first row, first column, row and column after the last.
        top: k.
    """
    rows, columns, last_rows, last_columns = np.array(boxes).T
    _, height, width = images.image_shape
    first, last = own_part(len(images))
    step = max(1, CHUNK_BYTES // (8 * (height + 1) * (width + 1)))
    largest = np.full(len(boxes), -np.inf)
    total, mean_logit = (
        np.zeros(len(boxes)),
        np.zeros(len(boxes)),
    )  # Σ e^(l − L) and Σ e^(l − L) (l − L), L the largest logit
    tops, who = np.full((len(boxes), top), -np.inf), np.full((len(boxes), top), -1, dtype=np.int64)
    for start in range(first, last, step):
        stop = min(start + step, last)
        apart = np.zeros((stop - start, height + 1, width + 1))
        np.square(centred(images.read(start, stop)) - noisy).sum(1, out=apart[:, 1:, 1:])
        np.cumsum(apart, axis=1, out=apart)
        np.cumsum(apart, axis=2, out=apart)
        squared = apart[:, last_rows, last_columns] - apart[:, rows, last_columns]
        squared += apart[:, rows, columns] - apart[:, last_rows, columns]
        logits = squared / (-2 * sigma**2)  # (n, P)
        now = np.maximum(largest, logits.max(0))
        total, mean_logit = _counted_from(now, largest, total, mean_logit)
        from_now = logits - now
        weights = np.exp(from_now)
        total += weights.sum(0)
        mean_logit += (weights * from_now).sum(0)
        largest = now
        entries = np.broadcast_to(np.arange(start, stop), (len(boxes), stop - start))
        tops, who = _largest(np.hstack([tops, logits.T]), np.hstack([who, entries]), top)
    level, everything = merge_normalizers(largest, total)
    _, own = _counted_from(level, largest, total, mean_logit)
    entropy = np.log(everything) - merge_sums(own) / everything
    tops, who = _largest(np.hstack(gather(tops)), np.hstack(gather(who)), top)
    weights = np.exp(tops - (level + np.log(everything))[:, None])
    return ChosenWindows(who, weights, np.exp(np.maximum(entropy, 0.0)))


def _counted_from(level: Floats, before: Floats, total: Floats, mean_logit: Floats) -> tuple[Floats, Floats]:
    """Sums that were counted from one level, from another one."""
    shift = np.where(np.isfinite(before), before - level, 0.0)
    return np.exp(shift) * total, np.exp(shift) * (mean_logit + shift * total)


def _largest(logits: Floats, entries: npt.NDArray[np.int64], top: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The `top` largest in each row, in descending order, of equal ones the first, and whose they are."""
    order = np.argsort(-logits, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(logits, order, 1), np.take_along_axis(entries, order, 1)
