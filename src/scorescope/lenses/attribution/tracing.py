"""Whose weights the training-free estimates are made of at every noise level, and how well each is what the model answered.

Estimates: the optimal denoiser (whole images), composites of windows of every side at their own places, and the equivariant one
(windows from all places; its weights summed over positions are NDA). The *match* of an estimate M with the model's answer D,

    1 − ‖M − D‖² / min(‖y − D‖², ‖D − mean(D)‖²),

is 1 where they are the same and 0 where M is no better than the better of two trivial answers: the noisy image y as it is, and
one grey. An attribution by an estimate that does not match is an attribution of something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scorescope.data.images import ImageSet
from scorescope.denoisers.patch_schedule import WindowSchedule
from scorescope.foundation import track
from scorescope.lenses.attribution.settings import AttributionSettings, sides_for
from scorescope.lenses.attribution.states import States
from scorescope.posterior.contributions import anywhere_contributions, whole_contributions, window_contributions
from scorescope.posterior.gathered import Contributions
from scorescope.posterior.units import LEVELS_PER_UNIT, OFFSET
from scorescope.posterior.windows import Window

Floats = npt.NDArray[np.float64]
Entries = npt.NDArray[np.int64]
WHOLE, ANYWHERE = "whole images", "places anywhere"


@dataclass(frozen=True)
class Traced:
    """One kind of estimate at S noise levels.

    Attributes:
        name: `WHOLE`, `ANYWHERE` or "windows of N×N".
        side: of its windows at every level, (S,); 0 for whole images.
        share: of every training image at every level, (S, N).
        entries: images with the largest weight at each pixel, (S, H, W, k); −1 where there are fewer.
        weights: theirs, (S, H, W, k).
        effective_number: of images behind each pixel, (S, H, W).
        mean: the estimates, (S, C, H, W).
        match: with the model's answers, (S,).
    """

    name: str
    side: Entries
    share: Floats
    entries: Entries
    weights: Floats
    effective_number: Floats
    mean: Floats
    match: Floats

    @property
    def effective_images(self) -> Floats:
        """How many images the whole estimate is made of at every level, (S,): exp of the entropy of the shares."""
        share = self.share.astype(np.float64)
        return np.asarray(np.exp(-(share * np.log(np.where(share > 0, share, 1.0))).sum(1)))

    def arrays(self) -> dict[str, Any]:
        """As a cell of a run keeps it."""
        return vars(self) | {"share": self.share.astype(np.float32), "mean": self.mean.astype(np.float32)}


def trace(images: ImageSet, states: States, settings: AttributionSettings, nearest: Entries) -> list[Traced]:
    """All estimates at all levels.

    Args:
        images: the training set.
        states: the noisy images.
        settings: sides and numbers.
        nearest: the training images most like the sample, in which all places are looked at.

    Returns:
        Whole images, windows from the smallest, places anywhere.
    """
    _, height, width = images.image_shape
    noisy = to_levels(states.noisy)
    spread = states.sigmas * LEVELS_PER_UNIT
    top, count = settings.top, len(states.sigmas)
    none = np.zeros(count, dtype=np.int64)
    found = [_together(WHOLE, none, whole_contributions(images, noisy, spread, top), states)]
    for side in track(sides_for(settings, height, width), "windows of training images"):
        window = Window.inside(side, height, width)
        parts = window_contributions(images, noisy, spread, [window] * count, top)
        found.append(_together(window_name(side), none + side, parts, states))
    if len(nearest):
        sides = everywhere_sides(states.sigmas, settings, height, width)
        parts = []
        for row in track(range(count), "places anywhere in training images"):
            one = slice(row, row + 1)
            there = anywhere_contributions(images.subset(nearest), noisy[one], spread[one], [sides[row]], top)
            parts.append(_of_all(there[0], nearest, images))
        found.append(_together(ANYWHERE, np.array(sides), parts, states))
    return found


def match(estimate: npt.ArrayLike, answer: npt.ArrayLike, noisy: npt.ArrayLike) -> Floats:
    """How well estimates are a model's answers, see above: (S, C, H, W) three times -> (S,); at most 1."""
    m, d, y = (
        np.asarray(values, dtype=np.float64).reshape(len(np.asarray(values)), -1)
        for values in (estimate, answer, noisy)
    )
    trivial = np.minimum(((y - d) ** 2).sum(1), ((d - d.mean(1, keepdims=True)) ** 2).sum(1))
    return np.asarray(1 - ((m - d) ** 2).sum(1) / np.maximum(trivial, 1e-12))


def window_name(side: int) -> str:
    """What tables call windows of a side."""
    return f"windows of {side}×{side}"


def everywhere_sides(sigmas: Floats, settings: AttributionSettings, height: int, width: int) -> list[int]:
    """The odd side at every level of the windows that are looked for at all places."""
    schedule = WindowSchedule.for_images(height, width)
    most = settings.everywhere_side or max(1, min(height, width) // 2)
    sides = [min(most, schedule.side(float(sigma))) for sigma in sigmas]
    return [side - 1 + side % 2 for side in sides]


def to_levels(images: npt.ArrayLike) -> Floats:
    """Images (B, C, H, W) in [-1, 1] as centred grey levels, float64 (B, d)."""
    values = np.asarray(images, dtype=np.float64)
    return values.reshape(len(values), -1) * LEVELS_PER_UNIT - OFFSET


def _together(name: str, side: Entries, parts: list[Contributions], states: States) -> Traced:
    means = np.stack([part.mean for part in parts])
    return Traced(
        name,
        side,
        np.stack([part.share for part in parts]),
        np.stack([part.entries for part in parts]),
        np.stack([part.weights for part in parts]),
        np.stack([part.effective_number for part in parts]),
        means,
        match(means, states.denoised, states.noisy),
    )


def _of_all(part: Contributions, chosen: Entries, images: ImageSet) -> Contributions:
    """Contributions of a subset as those of the whole set, in which the others have none."""
    share = np.zeros(len(images))
    # A set with mirror images: entry i + n of the subset is the mirror image of entry i.
    entries = np.concatenate([chosen, chosen + images.stored]) if images.flips else chosen
    share[entries] = part.share
    named = np.where(part.entries < 0, -1, entries[np.maximum(part.entries, 0)])
    return Contributions(share, named, part.weights, part.effective_number, part.mean)
