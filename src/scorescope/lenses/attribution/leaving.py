"""What becomes of an estimate without one training image: in closed form, for the images with the largest share of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorescope.data.images import ImageSet
from scorescope.foundation import track
from scorescope.lenses.attribution.states import States
from scorescope.lenses.attribution.tracing import Traced, to_levels
from scorescope.posterior.contributions import whole_without, windows_without
from scorescope.posterior.units import LEVELS_PER_UNIT
from scorescope.posterior.windows import Window

Floats = npt.NDArray[np.float64]
Entries = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LeftOut:
    """One kind of estimate at S noise levels, E training images left out one at a time at each.

    Attributes:
        name: of the estimates, as `Traced` calls them at each level, (S,).
        entries: which images, int64 (S, E).
        without: the estimates, (S, E, C, H, W).
        moved: root mean square change of the estimate, (S, E).
    """

    name: list[str]
    entries: Entries
    without: Floats
    moved: Floats


def leave_out(
    images: ImageSet, states: States, estimates: list[Traced], count: int, description: str
) -> LeftOut | None:
    """Leave the images with the largest shares out, at every level from that level's estimate.

    Args:
        images: the training set.
        states: the noisy images.
        estimates: of whole images or windows, one a level.
        count: E, how many images at each; no more than there are beside one.
        description: of the progress bar.

    Returns:
        What is left; None if no image can be left out.
    """
    count = min(count, images.stored - 1)
    if count < 1:
        return None
    _, height, width = images.image_shape
    entries, without = [], []
    for level, one in track(list(enumerate(estimates)), description):
        largest = np.argsort(-one.share[level], kind="stable")[:count]
        noisy, spread = to_levels(states.noisy[level : level + 1])[0], float(states.sigmas[level] * LEVELS_PER_UNIT)
        side = int(one.side[level])
        if side:
            left = windows_without(images, noisy, spread, Window.inside(side, height, width), largest)
        else:
            left = whole_without(images, noisy, spread, largest)
        entries.append(largest)
        without.append(left.reshape(count, *images.image_shape))
    means = np.stack([one.mean[level] for level, one in enumerate(estimates)])
    changed = np.stack(without) - means[:, None]
    moved = np.sqrt((changed**2).mean((2, 3, 4)))
    return LeftOut([one.name for one in estimates], np.stack(entries), np.stack(without), moved)
